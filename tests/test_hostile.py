"""What a hostile client tries against a configuration that uses variables, and what must come of it."""

import os
import threading

import pytest
from support import build, wait_until
from support.upstream import Upstream

CONF = """
    map $arg_b $bomb { default 0; "~^((a+)+)\\\\2b$" 1; }
    server {
        listen 127.0.0.1:%PORT%;
        root %DIR%/www;
        location /static { alias %DIR%/static/; }
        location /whole/ { alias %DIR%/static/; }
        location ~ "^/re/((a+)+)\\2b$" { return 200 "matched"; }
        location /text { return 200 "$arg_x $bomb"; }
        location /field { add_header X-A $arg_x; add_header X-U $uri; return 200 ok; }
        location /cookie { add_header Set-Cookie "u=$uri"; return 200 ok; }
        location /to { return 302 http://other.example$uri; }
        location /inside { internal; return 200 inside; }
        location /admin/ { auth_basic realm; auth_basic_user_file %DIR%/users; }
        location ~ \\.secret$ { deny all; }
        location /log { access_log "%DIR%/logs/$arg_x.log"; return 200 ok; }
    }
"""
BIG = bytes(range(256)) * 4096
FILES = {"static/a.txt": "public", "static/big": BIG, "secret.txt": "SECRET", "www/admin/x.txt": "SECRET", "www/x.secret": "SECRET",
         "users": "joe:{PLAIN}pw\n", "logs/kept": ""}
SMUGGLED = build(target="/text?x=smuggled")


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    server = serve_nginx_module(CONF, files=FILES)
    yield server
    assert "panicked" not in server.log()


@pytest.mark.parametrize("target", [
    "/static../secret.txt", "/static..", "/static%2e%2e/secret.txt", "/static..%2fsecret.txt", "/static..//secret.txt",
    "/static/../secret.txt", "/static/%2e%2e%2fsecret.txt", "/static/%252e%252e/secret.txt", "/static/..;/secret.txt",
    "/static/..\\secret.txt", "/whole../secret.txt", "/whole/../../secret.txt", "/static/a.txt%00", "/%00",
])
def test_no_path_leads_out_of_a_directory(server, target):
    response = server.get(target)
    assert response.status in (400, 404)
    assert "SECRET" not in response.text


def test_an_alias_still_serves_what_is_in_it(server):
    assert server.get("/static/a.txt").text == server.get("/whole/a.txt").text == "public"


@pytest.mark.parametrize("target", ["/inside", "//inside", "/%69nside", "/./inside", "/a/../inside", "/inside/x"])
def test_internal_locations_are_not_reached(server, target):
    fields = {"X-Accel-Redirect": "/inside", "X-Original-URL": "/inside"}
    assert server.get(target, fields).status == 404
    assert server.get("/text", fields).text == " 0"


@pytest.mark.parametrize("target", [
    "/admin/x.txt", "//admin/x.txt", "/admin//x.txt", "/admin/./x.txt", "/%61dmin/x.txt", "/admin%2fx.txt",
    "/x/%2e%2e/admin/x.txt", "/admin/x.txt/", "/admin/x.txt.", "http://other.example/admin/x.txt",
])
def test_no_spelling_gets_past_a_password(server, target):
    assert server.get(target).status == 401


@pytest.mark.parametrize("target", ["/x.secret", "//x.secret", "/x%2esecret", "/x.secre%74", "/a/../x.secret"])
def test_no_spelling_gets_past_deny(server, target):
    assert server.get(target).status == 403


@pytest.mark.parametrize("target, field, value", [
    ("/field/%0d%0aX-Injected:%20y", "X-U", "/field/  X-Injected: y"),
    ("/field/%0aX-Injected:y", "X-U", "/field/ X-Injected:y"),
    ("/field/%0dX-Injected:y", "X-U", "/field/ X-Injected:y"),
    ("/field/%01%09%7f%ff", "X-U", "/field/ \t \xff"),
    ("/cookie/%0d%0aX-Injected:%20y", "Set-Cookie", "u=/cookie/  X-Injected: y"),
])
def test_no_variable_splits_a_response(server, target, field, value):
    with server.connect() as client:
        client.send(build(target=target) + SMUGGLED)
        response = client.response()
        # The value of a field is put on one line.
        assert (response.status, response.text, response.get(field)) == (200, "ok", value)
        assert response.get("X-Injected") is None
        assert client.response().text == "smuggled 0", "the request behind it is the next"


def test_no_variable_splits_a_redirect(server):
    with server.connect() as client:
        client.send(build(target="/to/%0d%0aX-Injected:%20y") + SMUGGLED)
        response = client.response()
        # It leads to where the client has asked for.
        assert (response.status, response.get("X-Injected")) == (302, None)
        assert response.get("Location").endswith("/to/%0D%0AX-Injected:%20y")
        assert client.response().text == "smuggled 0", "the request behind it is the next"


def test_arguments_are_not_decoded_into_fields(server):
    assert server.get("/field?x=a%0d%0aB:c").get("X-A") == "a%0d%0aB:c"


@pytest.mark.parametrize("request_bytes", [
    b"GET /text HTTP/1.1\r\nHost: t\r\nA : b\r\n\r\n",
    b"GET /../x HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /%00 HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /text HTTP/1.1\r\nHost: ..\r\n\r\n",
    b"POST /text HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
], ids=["space before colon", "above the root", "NUL", "dots as Host", "length and encoding"])
def test_nothing_is_answered_after_a_400(server, request_bytes):
    with server.connect() as client:
        client.send(request_bytes + SMUGGLED)
        assert client.response().status == 400
        assert client.end() in ("eof", "reset")


def test_a_body_that_nobody_reads_is_no_request(server):
    with server.connect() as client:
        client.send(build("POST", "/text?x=first", body=SMUGGLED) + build(target="/text?x=last"))
        assert client.response().text == "first 0"
        assert client.response().text == "last 0"


@pytest.mark.parametrize("letters", [40, 5000])
def test_a_pattern_that_explodes_is_given_up(server, letters):
    # Without the last letter it would match, in one step.
    subject = "a" * letters + "bx"
    assert server.get("/text?b=" + "a" * 20 + "b").text == " 1"
    assert server.get(f"/text?b={subject}").text == " 0"
    server.wait_log(r'matching "\^\(\(a\+\)\+\)\\2b\$" was given up: .*match limit exceeded')
    assert server.get("/re/" + "a" * 20 + "b").text == "matched"
    assert server.get(f"/re/{subject}").status == 500
    server.wait_log(r'matching "\^/re/.*" was given up: .*match limit exceeded')


@pytest.mark.parametrize("ranges", ["0-," * 1000, "0-500000," * 3, "0-1048574," * 2, "-1000," * 1100])
def test_ranges_that_are_more_than_the_file_are_the_file(server, ranges):
    response = server.get("/static/big", {"Range": "bytes=" + ranges.rstrip(",")})
    assert (response.status, response.get("Content-Range")) == (200, None)
    assert response.body == BIG


def test_hundreds_of_ranges_have_their_bytes_and_no_more(server):
    ranges = ",".join(f"{2 * n}-{2 * n}" for n in range(600))
    response = server.get("/static/big", {"Range": f"bytes={ranges}"})
    assert response.status == 206
    boundary = response.get("Content-Type").partition("multipart/byteranges; boundary=")[2].encode()
    first, *parts, last = response.body.split(b"\r\n--" + boundary)
    assert (first, last, len(parts)) == (b"", b"--\r\n", 600)
    heads, bodies = zip(*(part.split(b"\r\n\r\n") for part in parts))
    assert bodies == tuple(BIG[2 * n:2 * n + 1] for n in range(600))
    assert heads[7].endswith(b"\r\nContent-Range: bytes 14-14/1048576")


def test_a_variable_does_not_lead_a_log_out_of_its_directory(server):
    assert server.get("/log?x=../../outside").status == 200
    server.wait_log("a variable made a `..` in it")
    assert not list(server.directory.parent.glob("outside*"))


def test_memory_and_descriptors_stay(server):
    def descriptors():
        return len(os.listdir(f"/proc/{server.edge()}/fd"))

    server.get("/text")
    before, memory = descriptors(), resident(server)
    for number in range(300):
        with server.connect() as client:
            client.send(b"GET /text?x=%d HTTP/1.1\r\nHost: t\r\nA: %s" % (number, b"a" * 6000))
            if number % 2:
                client.reset()
    wait_until(lambda: descriptors() <= before, "the descriptors to be closed")
    assert resident(server) - memory < 16 << 10


def resident(server):
    """Kibibytes of memory that the edge holds."""
    with open(f"/proc/{server.edge()}/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize("level", [6, 12, 19])
def test_compressing_answers_of_unknown_size_takes_little_memory(serve_nginx, level):
    """zstd would take tables for as much as there may come, up to 80 MB for each."""
    text, streams = os.urandom(30_000).hex().encode(), 8
    both = threading.Barrier(streams + 1, timeout=30)

    def answer(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + text)
        both.wait()
        both.wait()
        connection.sendall(b"end")

    with Upstream(answer) as up:
        server = serve_nginx(f"""
            zstd on; zstd_comp_level {level}; zstd_types *;
            server {{ listen 127.0.0.1:%PORT%; location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_buffering off; }} }}""")
        before = resident(server)
        clients = [server.connect() for _ in range(streams)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: zstd\r\n\r\n")
        both.wait()
        # Something of each has come: its compressor is there.
        heads = [client.head() for client in clients]
        assert all(client.chunk() for client in clients)
        grown = resident(server) - before
        both.wait()
        assert all(head.get("Content-Encoding") == "zstd" for head in heads)
        assert grown < streams * (4 << 10), f"{grown} KiB"
