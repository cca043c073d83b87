"""`proxy_pass`: what another server is asked, and what becomes of its answer."""

import re
import threading
import time

import pytest
from support import wait_until
from support.client import Broken
from support.upstream import Upstream, reset, response

CONF = r"""
    log_format up '$request_uri $status $upstream_addr $upstream_status $upstream_response_length '
                  '$upstream_bytes_received $upstream_bytes_sent [$upstream_trailer_x_sum]';
    error_log %DIR%/error.log info;
    server {
        listen 127.0.0.1:%PORT%;
        access_log %DIR%/access.log up;
        absolute_redirect off;
        proxy_read_timeout 1500ms;
        client_body_buffer_size 1k;

        location / { proxy_pass http://127.0.0.1:UP; }
        location /path/ { proxy_pass http://127.0.0.1:UP/other/; }
        location /cut { proxy_pass http://127.0.0.1:UP/; }
        location = /exact { proxy_pass http://127.0.0.1:UP/to?x=1; }
        location ~ ^/regex/ { proxy_pass http://127.0.0.1:UP; }
        location /rewritten/ { rewrite ^/rewritten/(.*)$ /new/$1 break; proxy_pass http://127.0.0.1:UP/dropped; }
        location /args/ { set $args "a=b"; proxy_pass http://127.0.0.1:UP; }
        location /named/ { try_files /nowhere @up; }
        location @up { proxy_pass http://127.0.0.1:UP; }
        location /variable/ { proxy_pass http://127.0.0.1:$arg_port/fixed?q=$arg_q; }
        location /variable-plain/ { proxy_pass http://127.0.0.1:$arg_port; }
        location /unix/ { proxy_pass http://unix:%DIR%/up.sock:/u/; }
        location /if/ { if ($arg_up) { proxy_pass http://127.0.0.1:UP; } root %DIR%; }
        location /slash/ { proxy_pass http://127.0.0.1:UP; }

        location /fields/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Proxy "$proxy_host $proxy_port";
            proxy_set_header Accept-Encoding "";
            proxy_set_header Connection "";
        }
        location /no-fields/ { proxy_pass http://127.0.0.1:UP; proxy_pass_request_headers off; }
        location /no-body/ { proxy_pass http://127.0.0.1:UP; proxy_pass_request_body off; proxy_method GET; }
        location /set-body/ { proxy_pass http://127.0.0.1:UP; proxy_set_body "body of $request_method"; }
        location /inject/ { proxy_pass http://127.0.0.1:UP/$uri; }
        location /inject-field/ { proxy_pass http://127.0.0.1:UP; proxy_set_header X-A $uri; }

        location /hide/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_hide_header X-Secret;
            proxy_pass_header Server;
        }
        location /redirects/ {
            proxy_pass http://127.0.0.1:UP/to/;
            proxy_redirect default;
            proxy_redirect http://old.example/ https://new.example/;
            proxy_redirect ~^http://(\w+)\.re\.example/(.*)$ /$1/$2;
        }
        location /implicit/ { proxy_pass http://127.0.0.1:UP/to/; }
        location /cookies/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cookie_domain old.example new.example;
            proxy_cookie_path /app/ /;
            proxy_cookie_flags session secure samesite=strict nohttponly;
        }
        location /intercept/ { proxy_pass http://127.0.0.1:UP; proxy_intercept_errors on; error_page 404 500 = /page; }
        location = /page { return 200 "the page"; }
        location /failed/ { proxy_pass http://127.0.0.1:UP; error_page 502 504 = /page; }
        location /files/ { internal; alias %DIR%/files/; }
        location /ignored/ { proxy_pass http://127.0.0.1:UP; proxy_ignore_headers X-Accel-Redirect; }
        location /small/ { proxy_pass http://127.0.0.1:UP; proxy_buffer_size 1k; }
        location /stream/ { proxy_pass http://127.0.0.1:UP; proxy_buffering off; }
        location /upload/ {
            proxy_pass http://127.0.0.1:UP; proxy_request_buffering off; proxy_http_version 1.1;
            add_header X-Body $request_body;
        }
        location /trailers/ { proxy_pass http://127.0.0.1:UP; proxy_http_version 1.1; proxy_pass_trailers on; }
        location /ws/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
        }
        location /stays/ { proxy_pass http://127.0.0.1:UP; proxy_ignore_client_abort on; }
        location /auth/ { auth_request /who; auth_request_set $who $upstream_http_x_user;
                          proxy_pass http://127.0.0.1:UP; proxy_set_header X-Who $who; }
        location = /who { proxy_pass http://127.0.0.1:UP; proxy_pass_request_body off; }
        location /gone/ { proxy_pass http://127.0.0.1:%PORT9%; }
    }
"""


class Scripted:
    """Answers by what a test has said for the target, else with the target."""

    def __init__(self):
        self.answers = {}

    def __call__(self, seen, connection):
        answer = self.answers.get(seen.target.split("?")[0])
        if answer is None:
            return response(f"{seen.method} {seen.target}".encode(), fields=[("Content-Type", "text/plain")])
        return answer(seen, connection) if callable(answer) else answer


class Place:
    def __init__(self, site, up, script):
        self.site, self.up, self.script = site, up, script
        self.get, self.request, self.connect = site.get, site.request, site.connect

    def says(self, target, answer):
        """The server's answer for a target; then what it got counts from the beginning."""
        self.script.answers[target] = answer
        self.up.seen.clear()

    @property
    def last(self):
        return self.up.seen[-1]


@pytest.fixture(scope="module")
def place(serve_nginx_module, tmp_path_factory):
    script = Scripted()
    with Upstream(script) as up:
        site = serve_nginx_module(CONF.replace("UP", str(up.port)), files={
            "files/secret.txt": "a secret file", "files/folder/x": ""})
        with Upstream(script, address=site.directory / "up.sock") as local:
            place = Place(site, up, script)
            place.local = local
            yield place


# What is asked


@pytest.mark.parametrize("target, asked", [
    ("/plain?a=b", "/plain?a=b"),
    ("/a%20b/%2e/c//d", "/a%20b/%2e/c//d"),
    ("/path/x/y?z", "/other/x/y?z"),
    ("/path/a%20b%3fc", "/other/a%20b%3Fc"),
    ("/path/../path/x", "/other/x"),
    ("/cuttings", "/tings"),
    ("/exact?y=2", "/to?x=1?y=2"),
    ("/regex/%41", "/regex/%41"),
    ("/rewritten/x%20y?a", "/new/x%20y?a"),
    ("/args/%41?x", "/args/A?a=b"),
    ("/named/%41?x", "/named/%41?x"),
    ("/if/%41?up=1", "/if/%41?up=1"),
    ("/inject/x%0d%0aX-A:%20b", "//inject/x%0D%0AX-A:%20b"),
])
def test_the_target(place, target, asked):
    place.up.seen.clear()
    place.get(target)
    assert place.last.target == asked


def test_a_target_with_variables(place):
    port = place.up.port
    assert place.get(f"/variable/x?port={port}&q=1").text == "GET /fixed?q=1"
    assert place.get(f"/variable-plain/%41?port={port}").text == f"GET /variable-plain/%41?port={port}"
    assert place.get("/variable/x?port=x").status == 500
    assert "invalid port in upstream" in place.site.log() + (place.site.directory / "error.log").read_text()


def test_a_unix_socket(place):
    answer = place.get("/unix/x")
    assert answer.text == "GET /u/x"
    assert place.local.seen[-1].get("Host") == "localhost"


def test_a_location_with_a_slash_is_redirected_to(place):
    answer = place.get("/slash?x")
    assert (answer.status, answer.get("Location")) == (301, "/slash/?x")


def test_the_fields_by_default(place):
    place.up.seen.clear()
    place.request("GET", "/f", [("X-A", "1"), ("X-A", "2"), ("Accept-Encoding", "gzip"), ("Connection", "keep-alive"),
                                ("Keep-Alive", "5"), ("TE", "trailers"), ("Upgrade", "h2c"), ("Cookie", "a=b")])
    seen = place.last
    assert (seen.version, seen.get("Host"), seen.get("Connection")) == ("HTTP/1.0", f"127.0.0.1:{place.up.port}", "close")
    assert (seen.all("X-A"), seen.get("Accept-Encoding"), seen.get("Cookie")) == (["1", "2"], "gzip", "a=b")
    for name in ("Keep-Alive", "TE", "Upgrade", "Content-Length", "Transfer-Encoding", "Expect"):
        assert seen.all(name) == [], name


def test_set_fields(place):
    place.up.seen.clear()
    place.request("GET", "/fields/", [("X-Forwarded-For", "192.0.2.9"), ("Accept-Encoding", "gzip"), ("X-B", "c")])
    seen, port = place.last, place.up.port
    assert (seen.version, seen.get("Host"), seen.get("X-Forwarded-For")) == ("HTTP/1.1", "test.example",
                                                                            "192.0.2.9, 127.0.0.1")
    assert (seen.get("X-Proxy"), seen.get("X-B")) == (f"127.0.0.1:{port} {port}", "c")
    assert seen.all("Connection") == seen.all("Accept-Encoding") == []


def test_a_value_that_would_end_its_line_is_not_sent(place):
    place.up.seen.clear()
    assert place.get("/inject-field/x%0d%0aX-B:%20c").status == 400
    assert place.up.seen == []


def test_no_fields(place):
    place.up.seen.clear()
    place.get("/no-fields/", [("X-A", "1")])
    assert [name for name, _ in place.last.fields] == ["Host", "Connection"]


@pytest.mark.parametrize("size", [0, 5, 1000, 100_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body(place, size, chunked):
    place.up.seen.clear()
    body = bytes(range(256)) * (size // 256 + 1)
    answer = place.request("POST", "/post", body=body[:size], chunked=chunked)
    assert (answer.text, place.last.body) == ("POST /post", body[:size])
    assert (place.last.all("Content-Length"), place.last.all("Transfer-Encoding")) == ([str(size)], [])


def test_other_bodies(place):
    place.up.seen.clear()
    place.request("POST", "/no-body/", body=b"x" * 10)
    assert (place.last.method, place.last.body, place.last.all("Content-Length")) == ("GET", b"", [])
    place.request("POST", "/set-body/", body=b"x" * 10)
    assert (place.last.body, place.last.get("Content-Length")) == (b"body of POST", "12")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_as_it_comes(place, chunked):
    def answer(seen, _):
        return response(seen.body[-10:])

    place.says("/upload/x", answer)
    with place.connect() as client:
        head = "Transfer-Encoding: chunked" if chunked else "Content-Length: 200000"
        client.send(f"POST /upload/x HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n".encode())
        # It is asked before the body is there.
        place.up.wait_open(1)
        for n in range(20):
            piece = b"%010d" % n * 1000
            client.send(b"2710\r\n" + piece + b"\r\n" if chunked else piece)
        if chunked:
            client.send(b"0\r\n\r\n")
        assert client.response().text == "0000000019"
    assert len(place.last.body) == 200_000
    # What fits into memory is known all the same.
    assert place.request("POST", "/upload/small", body=b"0123456789").get("X-Body") == "0123456789"
    assert place.request("POST", "/upload/large", body=b"0123456789" * 200).get("X-Body") is None
    place.up.seen.pop()
    place.up.seen.pop()
    assert place.last.get("Transfer-Encoding") == ("chunked" if chunked else None)


# What is answered


def test_status_fields_and_body(place):
    place.says("/a", response(b"x" * 70_000, "299 Very Well", [("X-A", "1"), ("X-A", "2"), ("Date", "then"),
                                                             ("Server", "old"), ("X-Pad", "x"), ("Keep-Alive", "9"),
                                                             ("Connection", "close")]))
    answer = place.get("/a")
    assert (answer.status, answer.reason, answer.body) == (299, "Very Well", b"x" * 70_000)
    assert answer.all("X-A") == ["1", "2"]
    assert answer.get("Date") != "then" and "monoceros" in answer.get("Server")
    assert answer.all("X-Pad") == answer.all("Keep-Alive") == []


def test_an_empty_type_is_none_as_in_nginx(place):
    place.says("/untyped", response(b"abc", fields=[("Content-Type", ""), ("X-Empty", "")]))
    answer = place.get("/untyped")
    assert (answer.body, answer.all("Content-Type"), answer.all("X-Empty")) == (b"abc", [], [""])


def test_hidden_fields(place):
    place.says("/hide/", response(b"", fields=[("X-Secret", "s"), ("X-Open", "o"), ("Server", "own")]))
    answer = place.get("/hide/")
    assert (answer.all("X-Secret"), answer.all("X-Open"), answer.all("Server")) == ([], ["o"], ["own"])


@pytest.mark.parametrize("body", [
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\nContent-Length: 5\n\nabcde",
    b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nabcde",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
])
@pytest.mark.parametrize("cut", [0, 1, 20])
def test_framings(place, body, cut):
    def answer(_, connection):
        if cut:
            for start in range(0, len(body), cut):
                connection.sendall(body[start:start + cut])
                time.sleep(0.001)
        else:
            connection.sendall(body)

    place.says("/framing", answer)
    answer = place.get("/framing")
    assert (answer.status, answer.body) == (200, b"abcde")


@pytest.mark.parametrize("status, method", [("204 No Content", "GET"), ("304 Not Modified", "GET"), ("200 OK", "HEAD")])
def test_answers_without_a_body(place, status, method):
    place.says("/none", f"HTTP/1.1 {status}\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n".encode())
    with place.connect() as client:
        client.send(f"{method} /none HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = client.response(method)
        assert (answer.status, answer.body, answer.get("ETag")) == (int(status[:3]), b"", '"x"')
        if method == "HEAD":
            assert answer.get("Content-Length") == "5"
        assert client.request("GET", "/after").text == "GET /after"


def test_trailers(place):
    place.says("/trailers/", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                             b"3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n")
    answer = place.get("/trailers/")
    assert (answer.body, answer.trailers, answer.get("Trailer")) == (b"abc", [("X-Sum", "6")], "X-Sum")
    wait_line(place, "/trailers/", "[6]")


@pytest.mark.parametrize("location, becomes", [
    ("http://127.0.0.1:UP/to/x", "/redirects/x"),
    ("http://old.example/x", "https://new.example/x"),
    ("http://sub.re.example/a/b", "/sub/a/b"),
    ("http://other.example/x", "http://other.example/x"),
    ("/relative", "/relative"),
])
def test_redirects(place, location, becomes):
    location = location.replace("UP", str(place.up.port))
    place.says("/to/", response(b"", "302 Found", [("Location", location), ("Refresh", f"5; url={location}")]))
    answer = place.get("/redirects/")
    assert (answer.get("Location"), answer.get("Refresh")) == (becomes, f"5; url={becomes}")
    if "/to/" in location:
        assert place.get("/implicit/").get("Location") == "/implicit/x"


def test_cookies(place):
    place.says("/cookies/", response(b"", fields=[
        ("Set-Cookie", "session=1; domain=.old.example; Path=/app/x; HttpOnly"),
        ("Set-Cookie", "other=2; Domain=else.example; path=/"),
    ]))
    assert place.get("/cookies/").all("Set-Cookie") == [
        "session=1; domain=.new.example; Path=/x; Secure; SameSite=Strict",
        "other=2; Domain=else.example; path=/",
    ]


def test_errors_are_passed_on_or_intercepted(place):
    for target in ("/plain-404", "/intercept/404"):
        place.says(target, response(b"theirs", "404 Not Found"))
    assert (place.get("/plain-404").status, place.get("/plain-404").text) == (404, "theirs")
    answer = place.get("/intercept/404")
    assert (answer.status, answer.text) == (200, "the page")
    place.says("/intercept/403", response(b"theirs", "403 Forbidden"))
    assert place.get("/intercept/403").text == "theirs"


def test_x_accel(place):
    place.says("/accel", response(b"body", fields=[("X-Accel-Redirect", "/files/secret.txt"), ("Set-Cookie", "a=b"),
                                                   ("Content-Type", "text/x-own"), ("X-Other", "o")]))
    answer = place.get("/accel")
    assert (answer.text, answer.get("Content-Type"), answer.all("Set-Cookie")) == ("a secret file", "text/x-own", ["a=b"])
    assert answer.all("X-Other") == answer.all("X-Accel-Redirect") == []
    place.says("/ignored/", response(b"body", fields=[("X-Accel-Redirect", "/files/secret.txt")]))
    assert (place.get("/ignored/").text, place.get("/ignored/").all("X-Accel-Redirect")) == ("body", [])
    assert place.get("/files/secret.txt").status == 404
    for target in "/files/missing", "unsafe":
        place.says("/accel", response(b"", fields=[("X-Accel-Redirect", target), ("Content-Type", "text/x-own")]))
        answer = place.get("/accel")
        assert (answer.status, answer.all("Content-Type")) == (404, ["text/html"]), "a page for an error is the edge's"


def test_the_last_if_that_holds_decides_who_is_asked(serve_nginx):
    with Upstream(name="one") as one, Upstream(name="two") as two:
        site = serve_nginx(f"""
            server {{
                listen 127.0.0.1:%PORT%;
                location / {{
                    proxy_pass http://127.0.0.1:{one.port};
                    if ($arg_a) {{ proxy_pass http://127.0.0.1:{two.port}; }}
                    if ($arg_b) {{ expires 1h; }}
                }}
            }}
        """)
        for target, who in (("/", "one"), ("/?a=1", "two"), ("/?b=1", "one"), ("/?a=1&b=1", "one")):
            answer = site.get(target)
            assert (answer.text, answer.get("Cache-Control")) == (
                f"{who} {target}", "max-age=3600" if "b=1" in target else None)


def test_ranges_of_head_need_a_length(serve_nginx):
    def answer(seen, _):
        length = b"Content-Length: 10\r\n" if seen.target == "/length" else b""
        return (b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + length + b"\r\n"
                + (b"" if seen.method == "HEAD" else b"0123456789"))

    with Upstream(answer) as up:
        site = serve_nginx(f"""
            server {{
                listen 127.0.0.1:%PORT%;
                location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_force_ranges on; }}
            }}
        """)
        for spec, status, length in (("bytes=2-4", 206, "3"), ("bytes=20-", 416, None)):
            head = site.request("HEAD", "/length", {"Range": spec})
            assert head.status == status
            assert length is None or head.get("Content-Length") == length
            unknown = site.request("HEAD", "/", {"Range": spec})
            assert (unknown.status, unknown.get("Content-Range")) == (200, None)


def test_x_accel_to_another_server_has_that_ones_type(place):
    def answer(path, target):
        place.says(path, response(b"", fields=[("X-Accel-Redirect", target), ("Content-Type", "text/x-own"),
                                               ("Set-Cookie", "session=1; Path=/app/x; Domain=old.example")]))

    answer("/first", "/second")
    place.script.answers["/second"] = response(b"image", fields=[("Content-Type", "image/x-theirs")])
    assert place.get("/first").all("Content-Type") == ["image/x-theirs"]
    place.script.answers["/second"] = response(b"what")
    assert place.get("/first").all("Content-Type") == ["text/x-own"], "that one says nothing of it"
    # What ends in a circle is a page for an error.
    answer("/second", "/second")
    circle = place.get("/first")
    assert (circle.status, circle.all("Content-Type")) == (500, ["text/html"])
    answer("/first", "/files/folder")
    moved = place.get("/first")
    assert (moved.status, moved.all("Content-Type")) == (301, ["text/html"])
    # Cookies are changed on this way, too.
    answer("/cookies/x", "/files/secret.txt")
    assert place.get("/cookies/x").all("Set-Cookie") == [
        "session=1; Path=/x; Domain=new.example; Secure; SameSite=Strict"]


def test_what_another_server_says_of_ranges_is_passed_on(place):
    place.says("/ranges", response(b"body", fields=[("Accept-Ranges", "bytes")]))
    assert place.get("/ranges").all("Accept-Ranges") == ["bytes"]
    place.says("/ranges", response(b"body", status="404 Not Found", fields=[("Accept-Ranges", "none")]))
    assert place.get("/ranges").all("Accept-Ranges") == ["none"]
    # Of a file that stands in its place, ranges can be had once.
    place.says("/accel-ranges", response(b"", fields=[("X-Accel-Redirect", "/files/secret.txt"),
                                                      ("Accept-Ranges", "bytes")]))
    assert place.get("/accel-ranges").all("Accept-Ranges") == ["bytes"]


def test_auth_request_asks_another_server(place):
    place.says("/who", response(b"", "204 No Content", [("X-User", "ada")]).replace(b"Content-Length: 0\r\n", b""))
    assert place.request("POST", "/auth/", body=b"x" * 5000).text == "POST /auth/"
    asked, passed = place.up.seen
    assert (asked.method, asked.all("Content-Length"), asked.body) == ("GET", [], b"")
    assert (passed.get("X-Who"), passed.body) == ("ada", b"x" * 5000)
    place.says("/who", response(b"", "403 Forbidden"))
    assert place.get("/auth/").status == 403


# Faults


SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsmuggle"


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX\x00: y\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    b"\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + SMUGGLED,
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 5000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: y",
    b"",
])
def test_what_is_no_answer_is_502(place, answer):
    place.says("/fields/bad", lambda _, connection: connection.sendall(answer))
    with place.connect() as client:
        assert client.request("GET", "/fields/bad").status == 502
        assert client.request("GET", "/fields/next").text == "GET /fields/next"


def test_a_head_larger_than_its_buffer(place):
    place.says("/small/", response(b"x", fields=[("X-A", "y" * 900)]))
    assert place.get("/small/").status == 200
    place.says("/small/", response(b"x", fields=[("X-A", "y" * 1100)]))
    assert place.get("/small/").status == 502
    assert "upstream sent too big header while reading response header from upstream" in error_log(place)


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nxyz\r\n",
])
@pytest.mark.parametrize("prefix", ["/", "/stream/"])
def test_an_answer_that_breaks_off_is_seen_to(place, answer, prefix):
    place.says(f"{prefix}broken", lambda _, connection: connection.sendall(answer))
    with pytest.raises((Broken, ConnectionResetError)):
        place.get(f"{prefix}broken")


@pytest.mark.parametrize("answer, words", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcde", "upstream prematurely closed connection"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "upstream prematurely closed connection"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n",
     "upstream sent invalid chunked response"),
])
@pytest.mark.parametrize("prefix", ["/path/", "/stream/"])
def test_who_broke_off_is_told(place, answer, words, prefix):
    asked = f"{prefix}cut-{len(place.script.answers)}?q"
    target = asked.replace("/path/", "/other/")
    place.says(target[:-2], lambda _, connection: connection.sendall(answer))
    with pytest.raises((Broken, ConnectionResetError)):
        place.get(asked)
    line = (f'[error] {words} while reading upstream, client: 127.0.0.1, server: , request: "GET {asked} HTTP/1.1", '
            f'upstream: "http://127.0.0.1:{place.up.port}{target}", host: "test.example"')
    wait_until(lambda: line in re.sub(r"\d+#\d+: \*\d+ ", "", error_log(place)), line)


def test_who_was_asked_is_told_of_what_comes_after(place):
    place.says("/unsafe", response(b"", fields=[("X-Accel-Redirect", "/../../x")]))
    assert place.get("/unsafe").status == 404
    assert ('unsafe URI "/../../x" was detected while reading response header from upstream, client: 127.0.0.1, '
            f'server: , request: "GET /unsafe HTTP/1.1", upstream: "http://127.0.0.1:{place.up.port}/unsafe"'
            ) in error_log(place)

    def answer(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
        time.sleep(0.3)
        reset(connection)

    place.says("/reset", answer)
    with pytest.raises((Broken, ConnectionResetError)):
        place.get("/reset")
    words = "recv() failed (104: Connection reset by peer) while reading upstream, client: 127.0.0.1"
    wait_until(lambda: words in error_log(place), words)


def test_a_socket_that_is_not_there_is_critical(serve_nginx):
    site = serve_nginx("""
        server { listen 127.0.0.1:%PORT%; location / { proxy_pass http://unix:%DIR%/none.sock; } }
    """)
    assert site.get("/x").status == 502
    site.wait_log(r"\[crit\] .*connect\(\) to unix:[^ ]*/none.sock failed \(2: No such file or directory\) while connecting to "
                  r'upstream, .*upstream: "http://unix:[^ ]*/none.sock:/x"')


def test_a_server_that_is_not_there(place):
    assert place.get("/gone/").status == 502
    port = place.site.ports["%PORT9%"]
    assert ("connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: , "
            f'request: "GET /gone/ HTTP/1.1", upstream: "http://127.0.0.1:{port}/gone/", host: "test.example"'
            ) in error_log(place)
    wait_line(place, "/gone/", f"502 127.0.0.1:{port} 502")


@pytest.mark.parametrize("how, status, words", [
    (lambda c: None, 502, "upstream prematurely closed connection while reading response header from upstream"),
    (reset, 502, "recv() failed (104: Connection reset by peer) while reading response header from upstream"),
    (lambda c: time.sleep(4), 504, "upstream timed out (110: Connection timed out) while reading response header"),
])
def test_a_server_that_does_not_answer(place, how, status, words):
    place.says("/mute", lambda _, connection: how(connection))
    assert place.get("/mute").status == status
    assert words in error_log(place)
    place.says("/failed/mute", lambda _, connection: how(connection))
    answer = place.get("/failed/mute")
    assert (answer.status, answer.text) == (200, "the page")


def test_a_client_that_leaves(place):
    entered, left = threading.Event(), threading.Event()

    def answer(_, connection):
        entered.set()
        connection.settimeout(10)
        assert connection.recv(1) == b""
        left.set()

    place.says("/leave", answer)
    with place.connect() as client:
        client.send(b"GET /leave HTTP/1.1\r\nHost: a\r\n\r\n")
        assert entered.wait(10)
    assert left.wait(10)
    wait_line(place, "/leave", "499")


def test_a_client_that_leaves_and_an_answer_that_is_awaited(place):
    done = threading.Event()

    def answer(_, connection):
        time.sleep(0.5)
        done.set()
        return response(b"late")

    place.says("/stays/", answer)
    with place.connect() as client:
        client.send(b"GET /stays/ HTTP/1.1\r\nHost: a\r\n\r\n")
        place.up.wait_open(1)
    assert done.wait(10)
    wait_line(place, "/stays/", "200 127.0.0.1")


def test_a_client_that_leaves_in_the_middle(place):
    left = threading.Event()

    def answer(_, connection):
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                connection.sendall(b"x" * 65536)
        except OSError:
            left.set()

    place.says("/stream/leave", answer)
    with place.connect() as client:
        client.send(b"GET /stream/leave HTTP/1.1\r\nHost: a\r\n\r\n")
        client.head()
    assert left.wait(10)


# Pace


def test_a_server_is_free_before_a_slow_client_is_done(place):
    sent = threading.Event()
    size = 8_000_000

    def answer(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        sent.set()

    place.says("/large", answer)
    with place.connect(receive_buffer=4096, timeout=30) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sent.wait(20)
        place.up.wait_open(0)
        assert client.response().body == b"x" * size


@pytest.mark.parametrize("target, fields", [("/stream/x", ""), ("/x", "X-Accel-Buffering: no\r\n"), ("/x", "")])
def test_what_comes_leaves_at_once(place, target, fields):
    go = threading.Event()

    def answer(_, connection):
        connection.sendall(f"HTTP/1.1 200 OK\r\n{fields}Content-Length: 10\r\n\r\nfirst".encode())
        assert go.wait(10)
        connection.sendall(b"other")

    place.says(target, answer)
    with place.connect() as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = client.head()
        assert head.get("X-Accel-Buffering") is None
        assert client._exactly(5) == b"first"
        go.set()
        assert client._exactly(5) == b"other"


# Other protocols


def test_an_upgrade_becomes_a_tunnel(place):
    def answer(seen, connection):
        assert (seen.get("Upgrade"), seen.get("Connection")) == ("websocket", "upgrade")
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                           b"X-A: b\r\n\r\nhello")
        while data := connection.recv(65536):
            connection.sendall(data.upper())

    place.says("/ws/", answer)
    with place.connect() as client:
        client.send(b"GET /ws/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nearly")
        head = client.head()
        assert (head.status, head.get("Upgrade"), head.get("X-A")) == (101, "websocket", "b")
        assert (head.get("Connection").lower(), head.all("Transfer-Encoding")) == ("upgrade", [])
        assert client._exactly(10) == b"helloEARLY"
        for size in (1, 1000, 300_000):
            threading.Thread(target=client.send, args=(b"x" * size,)).start()
            assert client._exactly(size) == b"X" * size
        client.half_close()
        assert client.end() in ("eof", "reset")
    place.up.wait_open(0)


def test_an_upgrade_that_is_refused_is_a_response(place):
    place.says("/ws/", response(b"no", "426 Upgrade Required"))
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    with place.connect() as client:
        assert client.request("GET", "/ws/", fields).status == 426
        assert client.request("GET", "/after").text == "GET /after"


def test_connect_is_refused(place):
    with place.connect() as client:
        client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        assert client.response().status == 405


def error_log(place):
    return (place.site.directory / "error.log").read_text()


def wait_line(place, target, words, timeout=10):
    """Until the access log has a line for the target with these words."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        path = place.site.directory / "access.log"
        lines = [line for line in path.read_text().splitlines() if line.split("?")[0].split(" ")[0] == target]
        if any(words in line for line in lines):
            return
        time.sleep(0.05)
    raise AssertionError(f"no line for {target} with {words!r}: {lines}")
