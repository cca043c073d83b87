"""What is done for the browsers of old: keepalive_disable, msie_padding, msie_refresh."""

import pytest

CONF = r"""
    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        default_type text/plain;
        absolute_redirect off;
        location / { return 200 x; }
        location /safari { keepalive_disable safari; return 200 x; }
        location /both { keepalive_disable msie6 safari; return 200 x; }
        location /none { keepalive_disable none; return 200 x; }
        location /told { keepalive_timeout 75s 20s; return 200 x; }
        location /refresh { msie_refresh on; return 301 "/to here"; }
        location /refresh/307 { msie_refresh on; return 307 /there; }
        location /refresh/off { return 302 /there; }
        location /missing { return 404; }
        location /missing/short { msie_padding off; return 404; }
    }
"""

MSIE6 = "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)"
MSIE6_MENDED = "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)"
SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) AppleWebKit/605 (KHTML, like no other) Safari/605"
CHROME = "Mozilla/5.0 (X11; Linux) Chrome/120.0 Safari/537"


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF)


@pytest.mark.parametrize(("method", "target", "agent", "closed"), [
    ("POST", "/", MSIE6, True), ("GET", "/", MSIE6, False), ("POST", "/", MSIE6_MENDED, False),
    ("POST", "/", SAFARI, False), ("POST", "/", "curl/8", False), ("POST", "/none", MSIE6, False),
    ("GET", "/safari", SAFARI, True), ("GET", "/safari", CHROME, False), ("POST", "/safari", MSIE6, False),
    ("POST", "/both", MSIE6, True), ("GET", "/both", SAFARI, True),
])
def test_keepalive_disable(server, method, target, agent, closed):
    with server.connect() as client:
        response = client.request(method, target, {"User-Agent": agent})
        assert (response.status, response.get("Connection") == "close") == (200, closed)
        if closed:
            client.end()
        else:
            assert client.request("GET", "/").status == 200


def test_the_second_number_of_keepalive_timeout_is_told(server):
    with server.connect() as client:
        response = client.request("GET", "/told")
        assert (response.get("Keep-Alive"), response.get("Connection")) == ("timeout=20", "keep-alive")
        assert client.request("GET", "/").get("Keep-Alive") is None


def test_msie_refresh(server):
    response = server.get("/refresh", {"User-Agent": MSIE6})
    assert (response.status, response.get("Location"), response.get("Content-Type")) == (200, None, "text/html")
    assert 'http-equiv="Refresh" content="0; URL=/to%20here"' in response.text
    assert server.get("/refresh", {"User-Agent": CHROME}).status == 301
    assert server.get("/refresh/307", {"User-Agent": MSIE6}).status == 307
    assert server.get("/refresh/off", {"User-Agent": MSIE6}).status == 302


def test_msie_padding(server):
    plain = len(server.get("/missing", {"User-Agent": "curl/8"}).body)
    for agent in (CHROME, MSIE6):
        assert len(server.get("/missing", {"User-Agent": agent}).body) >= 512
        assert len(server.get("/missing/short", {"User-Agent": agent}).body) == plain
