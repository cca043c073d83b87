"""`grpc_pass`: HTTP/2 to servers, whose answers go on while the request still comes."""

import os
import ssl
import time

import pytest
from support.grpc import GrpcServer
from support.http2 import DATA, END_STREAM, HEADERS, Closed, Http2
from support.server import wait_until
from support.tls import Authority

GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


def unary(call, event):
    """Answers with what came, and the status in trailers."""
    if event == "end":
        call.answer(fields=[("content-type", "application/grpc"), ("x-authority", call.get(":authority"))])
        call.data(b"got " + call.body)
        call.end(("grpc-status", "0"), ("grpc-message", "fine"))


@pytest.fixture
def site(serve_nginx):
    before = "server { listen 127.0.0.1:%PORT%; http2 on; client_max_body_size 0;"
    return lambda text, http="": serve_nginx(f"{http}\n{before}\n{text}\n}}")


def client(site, **options):
    return Http2(("127.0.0.1", site.port), **options)


def until_data(one, stream):
    frame = one.until(lambda f: f.stream == stream and f.kind == DATA and f.payload)
    one.window(0, len(frame.payload))
    if not frame.flags & END_STREAM:
        one.window(stream, len(frame.payload))
    return frame.payload


def test_a_call(site):
    with GrpcServer(unary) as up:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; grpc_set_header X-Set $arg_a; "
                   "grpc_set_header X-Gone ''; }")
        with client(one) as h2:
            h2.request(1, "/pkg.Service/Method?a=1", "POST", *GRPC, ("x-gone", "1"), ("x-mine", "2"), end=False)
            h2.data(1, b"\0\0\0\0\2hi", end=True)
            answer = h2.answer(1)
        assert answer.status == 200 and answer.body == b"got \0\0\0\0\2hi"
        assert dict(answer.trailers) == {"grpc-status": "0", "grpc-message": "fine"}
        call = up.calls[0]
        assert (call.get(":method"), call.get(":path"), call.get(":scheme")) == ("POST", "/pkg.Service/Method?a=1", "http")
        assert answer["x-authority"] == f"127.0.0.1:{up.port}"
        assert (call.get("te"), call.get("x-set"), call.get("x-mine")) == ("trailers", "1", "2")
        assert call.get("x-gone") is None and call.get("connection") is None


def test_the_last_piece_of_a_body_says_so(site):
    with GrpcServer(unary) as up:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; }}")
        with client(one) as h2:
            h2.request(1, "/", "POST", *GRPC, end=False)
            h2.data(1, b"one", end=True)
            assert h2.answer(1).body == b"got one"
        assert one.request("POST", "/", body=b"two").text == "got two"
        assert [call.pieces for call in up.calls] == [[3], [3]]


def test_fields_only(site):
    """An answer that is trailers only has its status in the head."""
    def refuse(call, event):
        if event == "head":
            call.answer(fields=[("grpc-status", "5"), ("grpc-message", "none")], end=True)

    with GrpcServer(refuse) as up:
        one = site(f"location / {{ grpc_pass grpc://127.0.0.1:{up.port}; }}")
        with client(one) as h2:
            h2.request(1, "/a", "POST", *GRPC, end=True)
            answer = h2.answer(1)
            assert (answer.status, answer["grpc-status"], answer.body) == (200, "5", b"")


def test_both_ways_at_once(site):
    def echo(call, event):
        if event == "head":
            call.answer(fields=[("content-type", "application/grpc")])
        elif event == "data":
            call.data(b"<" + call.body + b">")
            call.body = b""
        elif event == "end":
            call.end(("grpc-status", "0"))

    with GrpcServer(echo) as up:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; }}")
        with client(one) as h2:
            h2.request(1, "/chat", "POST", *GRPC, end=False)
            head = h2.until(lambda f: f.kind == HEADERS and f.stream == 1)
            assert dict(head.fields)[":status"] == "200", "the head comes before the request has ended"
            for number in range(5):
                h2.data(1, b"%d" % number)
                assert until_data(h2, 1) == b"<%d>" % number
            h2.data(1, b"", end=True)
            last = h2.until(lambda f: f.kind == HEADERS and f.stream == 1)
            assert last.flags & END_STREAM and dict(last.fields)["grpc-status"] == "0"


def test_large_bodies_both_ways(site):
    size = 600_000

    def large(call, event):
        if event == "end":
            call.answer()
            call.data(bytes(size))
            call.end(("grpc-status", "0")) if not call.server.pending else None

    def answer(call, event):
        if event == "end":
            call.answer()
            call.data(b"%d" % len(call.body), end=True)

    with GrpcServer(answer) as up, GrpcServer(lambda call, event: (
            event == "end" and (call.answer(), call.data(bytes(size), end=True)))) as down:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; }} location /down {{ grpc_pass 127.0.0.1:{down.port}; }}")
        assert one.request("POST", "/", body=bytes(size)).body == b"%d" % size
        assert one.request("POST", "/", body=bytes(size), chunked=True).body == b"%d" % size
        assert one.get("/down").body == bytes(size)
        with client(one) as h2:
            assert h2.get(1, "/down").body == bytes(size)


def test_connections_are_kept(site):
    with GrpcServer(unary) as up:
        one = site("location / { grpc_pass u; }", f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 2; }}")
        with client(one) as h2:
            for stream in (1, 3, 5):
                h2.request(stream, "/", "POST", *GRPC, end=False)
                h2.data(stream, b"x", end=True)
                assert h2.answer(stream).body == b"got x"
        assert up.connections == 1 and [call.stream for call in up.calls] == [1, 3, 5]
        assert up.calls[0].get(":authority") == "u"


def test_a_server_that_closed_a_kept_connection_is_asked_anew(site):
    def once(call, event):
        unary(call, event)
        if event == "end":
            call.connection.close_connection()

    with GrpcServer(once) as up:
        one = site("location / { grpc_pass u; }", f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 2; }}")
        with client(one) as h2:
            for stream in (1, 3, 5):
                assert h2.get(stream, "/").body == b"got "
        assert up.connections == 3


@pytest.mark.parametrize("size", [0, 40_000, 200_000])
def test_a_call_that_a_kept_connection_refuses_is_made_anew(site, size):
    """As every server does it now and then that lets no connection grow old."""
    seen = []

    def second(call, event):
        if event == "head":
            seen.append(call.number)
        if seen.count(call.number) == 1:
            unary(call, event)
        elif event == ("data" if size == 40_000 else "end"):
            call.connection.close_connection(last_stream_id=call.stream - 2)

    with GrpcServer(second) as up:
        one = site("location / { grpc_pass u; }", f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 2; }}")
        body = os.urandom(size)
        with client(one) as h2:
            assert h2.get(1, "/").body == b"got "
            h2.request(3, "/", "POST", end=False)
            for at in range(0, size, 16_000):
                h2.data(3, body[at:at + 16_000])
                if size == 200_000:
                    # No more than the window has room for.
                    wait_until(lambda: len(up.calls) > 1 and len(up.calls[1].body) >= at, "the server to get it")
            h2.data(3, b"", end=True)
            answer = h2.answer(3)
        if size == 200_000:
            # So much of what comes only once nobody has kept.
            assert (answer.status, len(seen)) == (502, 2)
        else:
            assert (answer.status, answer.body, len(seen)) == (200, b"got " + body, 3)
            assert up.connections == 2


def test_errors(site):
    def bad(call, event):
        if event != "head":
            return
        path = call.get(":path")
        if path == "/reset":
            call.reset(7)
        elif path == "/cut":
            call.answer()
            call.data(b"half")
            call.reset(2)
        elif path == "/goaway":
            call.connection.close_connection(1)

    with GrpcServer(bad) as up:
        fallback = "error_page 502 504 = @failed; location @failed { default_type application/grpc; " \
                   "add_header grpc-status 14 always; return 204; }"
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; grpc_read_timeout 2s; }}\n"
                   f"location /page {{ grpc_pass 127.0.0.1:1; }} {fallback}")
        with client(one) as h2:
            for stream, path in enumerate(["/reset", "/goaway", "/silent", "/page"]):
                answer = h2.get(2 * stream + 1, path)
                assert (answer.status, answer["grpc-status"]) == (204, "14"), path
            h2.request(21, "/cut", "GET")
            assert h2.reset_of(21) is not None
        one.wait_log("upstream rejected request with error 7")


def test_another_is_asked(site):
    def refuse(call, event):
        if event == "head":
            call.reset(7)

    with GrpcServer(refuse) as bad, GrpcServer(unary) as good:
        http = f"upstream u {{ server 127.0.0.1:{bad.port}; server 127.0.0.1:{good.port} backup; }}"
        one = site("location / { grpc_pass u; grpc_next_upstream error invalid_header; }", http)
        with client(one) as h2:
            assert h2.get(1, "/").body == b"got "


def test_a_client_that_leaves(site):
    with GrpcServer(lambda call, event: event == "head" and call.answer()) as up:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; }}")
        with client(one) as h2:
            h2.request(1, "/", "POST", *GRPC, end=False)
            h2.until(lambda f: f.kind == HEADERS and f.stream == 1)
            h2.reset(1)
            wait_until(lambda: up.calls[0].was_reset is not None or not up.open, "the server is told")
            h2.request(3, "/", "POST", *GRPC, end=False)
            h2.until(lambda f: f.kind == HEADERS and f.stream == 3)


def test_in_tls(site, tmp_path):
    ca = Authority()
    certificate = ca.issue("up.example")
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    (tmp_path / "up.pem").write_bytes(certificate.chain + certificate.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "up.pem")
    context.set_alpn_protocols(["h2"])
    with GrpcServer(unary, context=context) as up:
        one = site(f"location / {{ grpc_pass grpcs://127.0.0.1:{up.port}; grpc_ssl_verify on; "
                   f"grpc_ssl_trusted_certificate {tmp_path}/ca.pem; grpc_ssl_name up.example; }}")
        with client(one) as h2:
            h2.request(1, "/", "POST", *GRPC, end=False)
            h2.data(1, b"x", end=True)
            assert h2.answer(1).body == b"got x"
        assert up.calls[0].get(":scheme") == "https"


def test_what_is_no_http2_is_a_502(site):
    from support.upstream import Upstream
    with Upstream(lambda seen, connection: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as up:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; grpc_read_timeout 2s; }}")
        begun = time.monotonic()
        assert one.get("/").status in (502, 504)
        assert time.monotonic() - begun < 10


def test_heads_that_are_too_large_or_wrong(site):
    def bad(call, event):
        if event == "end":
            if call.get(":path") == "/large":
                call.answer(fields=[("x-a", "a" * 30_000)], end=True)
            else:
                call.answer(status=200, fields=[("content-length", "5")])
                call.data(b"two", end=True)

    with GrpcServer(bad) as up:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; }}")
        assert one.get("/large").status == 502
        with client(one) as h2:
            h2.request(1, "/short", "GET")
            with pytest.raises((AssertionError, Closed)):
                h2.answer(1)
