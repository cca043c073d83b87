"""Locations that are asked on behalf of a request: add_before_body, add_after_body, mirror, post_action."""

import hashlib
import re

import pytest
from support import wait_until
from support.upstream import Upstream

APP = """
import hashlib
import os

HERE = os.path.dirname(os.path.abspath(__file__))

def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    data = environ["wsgi.input"].read()
    with open(os.path.join(HERE, "notes"), "a") as file:
        word = hashlib.sha256(data).hexdigest()[:8]
        file.write(f"{environ['REQUEST_METHOD']} {path}?{query} {len(data)} {word}\\n")
    start_response("200 OK", [("Content-Type", "text/html")])
    if path == "/large":
        return (b"0123456789" * 1000 for _ in range(100))
    return [path.encode()]
"""

CONF = r"""
    log_format uri "$uri $status";
    # One worker: who waits for its own answer waits for ever.
    app one { wsgi app:application; directory %DIR%; workers 1; }
    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        root %DIR%/root;
        types { text/html html; text/plain txt; }
        error_log stderr info;

        location /app { app_pass one; }
        location /large { app_pass one; add_before_body /app/before; add_after_body /app/after; }
        location /before { return 200 "before "; }
        location /after { internal; return 200 " after"; }
        location /b.html { add_before_body /before; return 200 "body"; }
        location /a.html { add_after_body /after; return 200 "body"; }
        location /ba.html { add_before_body /before; add_after_body /after; return 200 "body"; }
        location /ba/ { add_before_body /before; add_after_body /after; etag on; }
        location /ba/none/ { add_before_body ""; add_after_body /after; }
        location /plain { add_before_body /before; return 200 "body"; }
        location /types { addition_types text/plain; default_type text/plain; add_before_body /before; return 200 "body"; }
        location /status.html { add_before_body /before; return 202 "body"; }
        location /self.html { add_after_body /self.html; return 200 "self"; }
        location /missing.html { add_after_body /none; return 200 "body "; }
        location /named.html { add_after_body /to-page; return 200 "body "; }
        location /to-page { error_page 404 = /page; return 404; }
        location /page { return 200 "page"; }
        location /closed.html { add_after_body /close; return 200 "body "; }
        location /close { return 444; }
        location /denied.html { add_after_body /deny; return 200 "body "; }
        location /deny { deny all; add_after_body /before; }
        location /gzip.html { gzip on; gzip_min_length 1; add_before_body /before; return 200 "body"; }

        location /mirror/ { mirror /copy; app_pass one; location /mirror/off/ { mirror off; app_pass one; } }
        location /mirror-two/ { mirror /copy/1; mirror /copy/2; }
        location /mirror-head/ { mirror /copy; mirror_request_body off; app_pass one; }
        location /mirror-large/ { mirror /copy; client_body_buffer_size 1k; client_max_body_size 0; }
        location /mirror-missing/ { mirror /none; }
        location /copy { internal; client_max_body_size 0; app_pass one; }

        location /post/ { post_action /posted; access_log %DIR%/post.log uri; return 200 "seen"; }
        location /post-named/ { post_action @posted; return 200 "seen"; }
        location /posted { internal; rewrite ^ /app/posted-$status-$body_bytes_sent-$request_completion last; }
        location @posted { app_pass one; }

        location /auth/ { auth_request /ask; return 200 "let in"; }
        location /auth-page/ { auth_request /to-page; }
        location /ask { return 204; }
    }
"""


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, python=True, files={
        "app.py": APP, "root/ba/x.html": "file", "root/ba/none/x.html": "file", "root/ba/large.html": "f" * 200000,
        "root/auth-page/x": "page", "root/mirror-two/x": "x", "root/mirror-missing/x": "x",
    })


def notes(server):
    path = server.directory / "notes"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def noted(server, pattern, count=1):
    """Waits until the application has seen such requests; what it saw of them."""
    def found():
        lines = [line for line in notes(server) if re.search(pattern, line)]
        return lines if len(lines) >= count else None
    return wait_until(found, f"{pattern} to be asked")


@pytest.mark.parametrize(("target", "text"), [
    ("/b.html", "before body"), ("/a.html", "body after"), ("/ba.html", "before body after"),
    ("/ba/x.html", "before file after"), ("/ba/none/x.html", "file after"), ("/plain", "body"),
    ("/types", "before body"), ("/status.html", "body"), ("/self.html", "selfself"), ("/named.html", "body page"),
    ("/closed.html", "body "),
])
def test_addition(server, target, text):
    assert server.get(target).text == text


def test_addition_of_what_is_not_there_is_its_page(server):
    assert "404 Not Found" in server.get("/missing.html").text


def test_addition_changes_the_fields(server):
    response = server.get("/ba/x.html", {"Range": "bytes=0-1"})
    assert (response.status, response.text) == (200, "before file after")
    assert response.get("ETag").startswith('W/"') and response.get("Accept-Ranges") is None
    assert response.get("Content-Length") == str(len(response.text))
    head = server.request("HEAD", "/ba/x.html")
    assert (head.status, head.get("Content-Length")) == (200, None)
    response = server.get("/ba/large.html")
    assert response.text == "before " + "f" * 200000 + " after"
    assert response.get("Content-Length") == str(len(response.text))


def test_addition_is_compressed_as_a_whole(server):
    import gzip
    response = server.get("/gzip.html", {"Accept-Encoding": "gzip"})
    assert gzip.decompress(response.body) == b"before body"


def test_what_is_added_needs_no_right_of_its_own(server):
    assert "404 Not Found" in server.get("/denied.html").text
    assert server.get("/deny").status == 403


def test_one_worker_makes_all_parts(server):
    response = server.get("/large")
    assert response.text == "/app/before" + "0123456789" * 100000 + "/app/after"


def test_mirror(server):
    body = b"the body"
    word = hashlib.sha256(body).hexdigest()[:8]
    response = server.request("POST", "/mirror/x?a=1", body=body)
    assert (response.status, response.text) == (200, "/mirror/x")
    assert noted(server, r" /copy\?a=1 ") == [f"POST /copy?a=1 8 {word}"]
    assert f"POST /mirror/x?a=1 8 {word}" in notes(server)


def test_mirror_off_and_many(server):
    server.get("/mirror/off/x?a=2")
    assert server.get("/mirror-two/x?a=3").text == "x"
    assert noted(server, r" /copy/2\?a=3 ") and len(noted(server, r" /copy/1\?a=3 ")) == 1
    assert not any("a=2" in line for line in notes(server) if "/copy" in line)


def test_mirror_without_the_body(server):
    assert server.request("PUT", "/mirror-head/?a=4", body=b"1234").status == 200
    assert noted(server, r"/copy\?a=4 ")[0].startswith("PUT /copy?a=4 0 ")


def test_mirror_of_a_body_in_a_file(server):
    body = b"x" * 300000
    assert server.request("POST", "/mirror-large/x?a=5", body=body).status == 404
    assert noted(server, r"/copy\?a=5 ") == [f"POST /copy?a=5 300000 {hashlib.sha256(body).hexdigest()[:8]}"]


def test_mirror_that_fails_is_nobody_s_problem(server):
    with server.connect() as client:
        for _ in range(3):
            response = client.request("GET", "/mirror-missing/x")
            assert (response.status, response.text) == (200, "x")


def test_post_action(server):
    with server.connect() as client:
        assert client.request("GET", "/post/x").text == "seen"
        assert client.request("GET", "/post-named/x").text == "seen"
    assert noted(server, r"/app/posted-200-4-OK\?")
    assert noted(server, r"GET /post-named/x\?")
    wait_until(lambda: (server.directory / "post.log").read_text() == "/post/x 200\n", "the line")


def test_auth_request_is_one_of_them(server):
    assert server.get("/auth/x").text == "let in"
    # As in nginx, a page for the status of the asked location answers in its place.
    assert server.get("/auth-page/x").text == "page"


def test_what_is_asked_within_a_request_leaves_it_its_captures(serve_nginx):
    # `try_files /$1` looked for what the location of `auth_request` had captured.
    site = serve_nginx(r"""
        map $uri $by_pattern { ~^/(asked)/(.*)$ $2; }
        server {
            listen 127.0.0.1:%PORT%;
            root %DIR%/www;
            location ~ ^/auth/(.*)$ { auth_request /asked/else$by_pattern; try_files /$1 =404; add_header X-1 $1; }
            location ~ ^/add/(.*)$ { add_before_body /asked/else; addition_types *; try_files /$1 =404; add_header X-1 $1; }
            location ~ ^/ssi/(.*)$ { ssi on; ssi_types *; try_files /$1 =404; add_header X-1 $1; }
            location ~ ^/asked/(.*)$ { internal; add_header X-Asked $1$by_pattern; return 200 "[$1]"; }
        }
    """, files={"www/f.txt": "text", "www/s.txt": "<!--#include virtual='/asked/more' -->|<!--#echo var='1' -->"})
    answer = site.get("/auth/f.txt")
    assert (answer.status, answer.text, answer.get("X-1")) == (200, "text", "f.txt")
    answer = site.get("/add/f.txt")
    assert (answer.status, answer.text, answer.get("X-1")) == (200, "[else]text", "f.txt")
    answer = site.get("/ssi/s.txt")
    assert (answer.status, answer.text.split("|")[0], answer.get("X-1")) == (200, "[more]", "s.txt")


INNER = r"""
    server {
        listen 127.0.0.1:%PORT%;
        root %DIR%/www;
        location = /guard { internal; if ($request_method = DELETE) { return 403; } return 204; }
        location /guarded/ { auth_request /guard; }
        location = /text { internal; return 200 "[$request_method|$content_length|$http_content_length|$http_range|$http_if_none_match]"; }
        location /add/ { addition_types *; add_before_body /text; add_after_body /asked; client_max_body_size 1k; }
        location /page/ { ssi on; ssi_types *; return 200 "<!--#include virtual='/text' -->"; }
        location = /asked {
            internal;
            proxy_pass http://127.0.0.1:%UP%;
            proxy_set_header X-Method $request_method;
            proxy_set_header X-Length $content_length;
            proxy_set_header Content-Length $content_length;
            proxy_set_header X-Range $http_range;
        }
        location /auth/ { auth_request /asked; }
        location /mirror/ { mirror /asked; mirror_request_body off; }
        location /known/ {
            auth_request /known-asked;
            auth_request_set $one $uri;
            auth_request_set $two "$one|$args|$is_args|$arg_a|$request_filename|$document_root";
            add_header X-Two $two;
            add_header X-Own "$uri|$args";
        }
        location /known-asked { internal; root %DIR%/else; rewrite ^ /known-inner?a=b&c last; }
        location /known-inner { internal; root %DIR%/else; return 204; }
    }
"""
FROM = {"Range": "bytes=0-1", "If-None-Match": '"x"', "If-Modified-Since": "Sun, 06 Nov 2033 08:49:37 GMT"}


@pytest.fixture
def inner(serve_nginx):
    with Upstream(lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup") as up:
        yield serve_nginx(INNER.replace("%UP%", str(up.port)), files={
            "www/add/x": "file", "www/mirror/x": "x",
            "www/known/x": "x", "www/auth/x": "x", "www/guarded/x": "x",
        }), up


def test_what_is_asked_within_a_request_has_its_method(inner):
    # As in nginx. It was GET, so that a guard let all methods in.
    site, up = inner
    assert site.get("/guarded/x").status == 200
    assert site.request("DELETE", "/guarded/x").status == 403
    # Who asks by another server tells it so; the request itself is GET.
    assert site.request("POST", "/auth/x", body=b"1234").status == 405
    (asked,) = up.seen
    assert (asked.line, asked.get("X-Method"), asked.get("X-Length")) == ("GET /asked HTTP/1.0", "POST", "4")
    # The body does not come along: nothing waits for it.
    assert (asked.get("Content-Length"), asked.body) == (None, b"")


def test_what_is_asked_within_a_request_has_its_fields(inner):
    site, up = inner
    site.get("/auth/x", FROM)
    (asked,) = up.seen
    assert [asked.get(name) for name in (*FROM, "X-Range")] == [*FROM.values(), "bytes=0-1"]
    assert site.get("/mirror/x", FROM).status == 206
    (_, asked) = wait_until(lambda: up.seen if len(up.seen) == 2 else None, "the copy")
    assert [asked.get(name) for name in FROM] == list(FROM.values())


def test_a_part_of_a_page_is_whole(inner):
    site, up = inner
    answer = site.get("/add/x", FROM)
    assert (answer.status, answer.text) == (200, '[GET|||bytes=0-1|"x"]fileup')
    (asked,) = up.seen
    assert [asked.get(name) for name in FROM] == [None] * 3 and asked.get("X-Range") == "bytes=0-1"
    answer = site.request("POST", "/page/x", FROM, b"1234")
    assert (answer.status, answer.text) == (200, '[POST|4|4|bytes=0-1|"x"]')


def test_auth_request_set_stores_what_the_asked_location_knows(inner):
    site, _ = inner
    answer = site.get("/known/x?a=own")
    root = site.directory
    assert answer.get("X-Two") == f"/known-inner|a=b&c|?|b|{root}/else/known-inner|{root}/else"
    assert answer.get("X-Own") == "/known/x|a=own"
