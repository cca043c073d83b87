"""HTTP/2 by gunicorn's command line."""

import pytest
from support.http2 import END_HEADERS, END_STREAM, HEADERS, Http2, frame
from support.tls import Authority, TlsClient, context

AUTHORITY = Authority()
ONE = AUTHORITY.issue("a.example")
FILES = {"a.pem": ONE.chain, "a.key": ONE.key}
TLS = ["--certfile", "a.pem", "--keyfile", "a.key"]
APP = """
    def application(environ, start_response):
        length = len(environ["wsgi.input"].read(100))
        names = ("SERVER_PROTOCOL", "wsgi.url_scheme", "HTTP_HOST", "REQUEST_METHOD", "PATH_INFO", "QUERY_STRING")
        body = " ".join([*(environ.get(name, "-") for name in names), str(length)]).encode() + b" " * 200_000
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-App", "yes")])
        return [body[:100], body[100:]]
"""


def within_tls(server, **values):
    made = context(AUTHORITY, alpn=("h2", "http/1.1"))
    return Http2(("127.0.0.1", server.port), wrap=lambda raw: made.wrap_socket(raw, server_hostname="a.example"), **values)


def test_the_application_is_asked_by_http2(serve):
    server = serve(APP, *TLS, "--http-protocols", "h2,h1", "--http2-max-concurrent-streams", "7",
                   "--http2-initial-window-size", "100000", "--http2-max-frame-size", "20000", files=FILES)
    with within_tls(server) as client:
        assert (client.settings[3], client.settings[4], client.settings[5]) == (7, 100_000, 20_000)
        client.window(0, 1 << 20)
        for stream in (1, 3):
            fields = client.fields("/x?q=1", "POST", scheme="https")
            client.send(frame(HEADERS, END_HEADERS, stream, client.block(fields)))
            client.data(stream, b"12345", end=True)
        for stream in (1, 3):
            answer = client.answer(stream)
            assert (answer.status, answer["x-app"]) == (200, "yes")
            assert bytes(answer.body).decode().rstrip() == "HTTP/2.0 https test.example POST /x q=1 5"
            assert len(answer.body) > 200_000
    with TlsClient(server.address, context(AUTHORITY)) as client:
        assert client.request().text.startswith("HTTP/1.1 https")
    with server.connect() as client:
        assert client.request().status == 400, "nothing without TLS"


def test_without_a_word_it_is_not_offered(serve):
    server = serve(APP, *TLS, files=FILES)
    with TlsClient(server.address, context(AUTHORITY, alpn=("h2", "http/1.1"))) as client:
        assert client.socket.selected_alpn_protocol() == "http/1.1"


def test_with_a_certificate_that_comes_by_itself_it_is_offered(serve, tmp_path):
    server = serve(APP, "--tls", "self", "--acme-dir", str(tmp_path / "state"))
    with TlsClient(server.address, context(alpn=("h2", "http/1.1"))) as client:
        assert client.socket.selected_alpn_protocol() == "h2"


def test_prior_knowledge(serve):
    server = serve(APP, "--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge")
    with Http2(server.address) as client:
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(client.fields("/y"))))
        assert bytes(client.answer(1).body).decode().rstrip() == "HTTP/2.0 http test.example GET /y  0"
    with server.connect() as client:
        assert client.request(target="/z").text.startswith("HTTP/1.1 http")


def test_without_it_the_preface_is_no_request(serve):
    server = serve(APP, "--http-protocols", "h2,h1")
    with server.connect() as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.response().status in (400, 505)


@pytest.mark.parametrize("args, words", [
    (["--http-protocols", "h2"], "HTTP/1 is always offered"),
    (["--http-protocols", "h3,h2,h1"], "HTTP/3 is not there yet"),
    (["--http-protocols", "spdy"], "`spdy` is no version of HTTP"),
    (["--http2-cleartext", "prior-knowledge"], "not among http_protocols"),
    (["--http-protocols", "h2,h1", "--http2-cleartext", "both"], "there is no `both`"),
    (["--http-protocols", "h2,h1", "--http2-initial-window-size", "1"], "it may be from 1024"),
])
def test_what_cannot_be(serve, args, words):
    server = serve(APP, *args, wait=False)
    assert server.exit_code() != 0
    assert words in server.log() + server.out_path.read_text()
