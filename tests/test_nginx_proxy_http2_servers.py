"""`proxy_http_version 2`: servers are asked by HTTP/2, whatever the client speaks."""

import socket
import ssl
import time

import pytest
from support import build
from support.client import Broken
from support.grpc import GrpcServer
from support.http2 import Http2
from support.server import wait_until
from support.tls import Authority

CONF = """
    {http}
    server {{
        listen 127.0.0.1:%PORT%;
        client_max_body_size 0;
        http2 on;
        proxy_http_version 2;
        error_log %DIR%/error.log info;
        {locations}
    }}
"""


def echo(call, event):
    """Answers with the body."""
    if event != "end":
        return
    if call.get(":path") == "/reset":
        call.reset(2)
        return
    fields = [("content-type", "text/plain"), ("x-host", call.get(":authority")), ("date", "once"), ("accept-ranges", "none")]
    if call.get(":path") == "/trailers":
        call.answer(fields=fields)
        call.data(b"body")
        call.end(("x-sum", "7"))
        return
    if call.get(":path") == "/trailers/odd":
        call.answer(fields=fields)
        call.data(b"body")
        call.end(("x-sum", "7"), ("host", "evil.example"), ("set-cookie", "a=b"), ("x_own", "1"))
        return
    call.answer(int(call.get(":path").partition("?")[0].rpartition("/")[2] or 200), fields)
    call.data(call.get(":method").encode() + b" " + call.body, end=True)


@pytest.fixture
def site(serve_nginx):
    return lambda locations, http="": serve_nginx(CONF.format(http=http, locations=locations))


def test_requests_of_http1(site):
    with GrpcServer(echo) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_set_header X-Own $arg_a; "
                   "proxy_set_header Connection upgrade; proxy_set_header Upgrade $http_upgrade; }")
        answer = one.get("/200?a=1", {"X-Mine": "2", "Connection": "keep-alive, upgrade", "Upgrade": "websocket",
                                      "Keep-Alive": "timeout=5", "Proxy-Connection": "x", "TE": "trailers"})
        assert (answer.status, answer.text) == (200, "GET ")
        assert (answer.get("X-Host"), answer.get("Accept-Ranges")) == (f"127.0.0.1:{up.port}", "none")
        assert answer.get("Date") != "once"
        fields = dict(up.calls[0].fields)
        assert fields == {":method": "GET", ":scheme": "http", ":authority": f"127.0.0.1:{up.port}", ":path": "/200?a=1",
                          "x-own": "1", "x-mine": "2"}
        assert one.get("/404").status == 404


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_bodies(site, size):
    with GrpcServer(echo) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; }}")
        body = b"b" * size
        assert one.request("POST", "/200", body=body).body == b"POST " + body
        assert up.calls[0].get("content-length") == str(size)


def test_a_body_of_unknown_length_is_passed_on_as_it_comes(site):
    with GrpcServer(echo) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_request_buffering off; "
                   "add_header X-Body $request_body; }")
        with one.connect() as client:
            client.send(b"POST /200 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            wait_until(lambda: up.calls and up.calls[0].body == b"one", "the first piece")
            client.send(b"3\r\ntwo\r\n0\r\n\r\n")
            answer = client.response()
        assert (answer.text, answer.get("X-Body")) == ("POST onetwo", "onetwo")
        assert up.calls[0].get("content-length") is None and up.calls[0].get("transfer-encoding") is None


def test_the_time_of_a_body_that_comes_slowly_is_between_its_pieces(site):
    # It was that for all of the body.
    with GrpcServer(echo) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_request_buffering off; "
                   "proxy_send_timeout 1s; proxy_read_timeout 5s; }")
        with one.connect(timeout=20) as client:
            client.send(build("POST", "/200", {"Content-Length": "4"}))
            # While it is the client that is waited for, its own time passes (`client_body_timeout`).
            for wait in (0.1, 2, 0.1, 0.1):
                time.sleep(wait)
                client.send(b"x")
            assert client.response().body == b"POST xxxx"
        with Http2(("127.0.0.1", one.port), timeout=20) as h2:
            h2.request(1, "/200", "POST", end=False)
            for _ in range(6):
                h2.data(1, b"x")
                time.sleep(0.4)
            h2.data(1, b"", end=True)
            assert h2.answer(1).body == b"POST xxxxxx"


def test_who_has_answered_and_takes_no_more_of_the_body_is_heard(site):
    """RFC 9113 §8.1. It was waited for until it had taken too long."""
    def refuse(call, event):
        if event == "head":
            call.connection.acknowledge_received_data = lambda *_: None
            call.answer(413, [("content-type", "text/plain")])
            call.data(b"too much", end=True)

    with GrpcServer(refuse) as up:
        one = site("location / { proxy_pass http://u; proxy_request_buffering off; }",
                   f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 2; }}")
        for _ in range(2):
            with one.connect(timeout=10) as client:
                client.send(build("POST", "/", {"Content-Length": "1000000"}) + b"x" * 200_000)
                answer = client.response()
                assert (answer.status, answer.body) == (413, b"too much")
        assert up.connections == 2, "on the first the request has no end"


@pytest.mark.parametrize("place", ["/", "/grpc"])
@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize("size", [1_000, 1_000_000])
@pytest.mark.parametrize("then", ["stays", "closes", "goes away"])
def test_a_whole_answer_is_handed_on_while_the_client_still_sends(site, place, status, size, then):
    """It was thrown away for a 502 when the connection closed, or held until a time-out where it did not."""
    def answer(call, event):
        if event != "head":
            return
        call.connection.acknowledge_received_data = lambda *_: None
        call.answer(status, [("content-type", "text/plain")])
        call.data(b"all of it", end=True)
        if then == "goes away":
            call.connection.close_connection(last_stream_id=call.stream)
        call.flush()
        if then != "stays":
            call.socket.shutdown(socket.SHUT_WR)

    with GrpcServer(answer) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_request_buffering off; }} "
                   f"location /grpc {{ grpc_pass 127.0.0.1:{up.port}; }}")
        for _ in range(2):
            with one.connect(timeout=10) as client:
                client.send(build("POST", place, {"Content-Length": str(size)}) + b"x" * (size // 2))
                got = client.response()
                assert (got.status, got.body) == (status, b"all of it")
        assert up.connections == 2, "on the first the request has no end"


@pytest.mark.parametrize("known", [True, False])
def test_half_an_answer_is_none_though_the_client_still_sends(site, known):
    def answer(call, event):
        if event == "head":
            call.answer(200, [("content-length", "10")] if known else [])
            call.data(b"half")
            call.flush()
            call.socket.shutdown(socket.SHUT_WR)

    with GrpcServer(answer) as up:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; }}")
        with one.connect(timeout=10) as client:
            client.send(build("POST", "/", {"Content-Length": "1000"}) + b"x" * 500)
            head = client.head()
            assert head.status == 200
            with pytest.raises((Broken, ConnectionError)):
                client.body(head)


def test_a_whole_answer_is_one_though_its_connection_ends_with_it(site):
    """The codec takes it for broken where the request has no end yet. The client's HTTP/2 has a body to go on with."""
    def answer(call, event):
        if event == "head":
            call.answer(200)
            call.data(b"all of it")
            call.end(("x-sum", "7"))
            call.flush()
            call.socket.shutdown(socket.SHUT_WR)

    with GrpcServer(answer) as up:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; }}")
        for _ in range(5):
            with Http2(("127.0.0.1", one.port)) as client:
                client.request(1, "/", "POST", end=False)
                client.data(1, b"x" * 500)
                got = client.answer(1)
                assert (got.status, got.body, dict(got.trailers)) == (200, b"all of it", {"x-sum": "7"})


def test_an_answer_that_depends_on_all_of_a_slow_body_is_whole(site):
    """What is answered piece by piece while the body still comes, by HTTP/1."""
    def mirror(call, event):
        if event == "head":
            call.answer(200, [("content-type", "text/plain")])
        elif event == "data":
            call.data(b"<" + call.body + b">")
            call.body = b""
        else:
            call.data(b"end", end=True)

    with GrpcServer(mirror) as up:
        one = site(f"location / {{ grpc_pass 127.0.0.1:{up.port}; }}")
        with one.connect(timeout=10) as client:
            client.send(build("POST", "/", {"Content-Length": "5"}))
            for _ in range(5):
                time.sleep(0.1)
                client.send(b"x")
            got = client.response()
            assert (got.status, got.body) == (200, b"<x>" * 5 + b"end")
            client.send(build("POST", "/", {"Content-Length": "100000"}) + b"y" * 100_000)
            got = client.response()
            assert got.body.replace(b"><", b"") == b"<" + b"y" * 100_000 + b">end"
        assert all(call.ended for call in up.calls)


def test_a_short_answer_that_breaks_off_is_replaced_by_anothers(site):
    def half(call, event):
        if event == "end":
            call.answer(200, [("content-length", "2000")])
            call.data(b"a" * 1500)
            call.flush()
            time.sleep(0.3)
            call.reset(2)

    with GrpcServer(half) as bad, GrpcServer(echo) as good:
        one = site("location / { proxy_pass http://u; add_header X-S $upstream_status; }",
                   f"upstream u {{ server 127.0.0.1:{bad.port} max_fails=0; server 127.0.0.1:{good.port} backup; }}")
        answer = one.get("/200")
        assert (answer.body, answer.get("x-s")) == (b"GET ", "502, 200")


@pytest.mark.parametrize("known", [True, False], ids=["length", "no length"])
def test_the_rest_of_a_long_answer_comes_from_another(site, known):
    body = bytes(n * n % 251 for n in range(200_000))
    fields = [("content-type", "a/b"), *([("content-length", str(len(body)))] if known else [])]

    def cut(call, event):
        if event == "end":
            call.answer(200, fields)
            call.data(body[:50_000])
            call.flush()
            time.sleep(0.3)
            call.data(body[50_000:60_000])
            call.flush()
            time.sleep(0.3)
            call.reset(2)

    def whole(call, event):
        if event == "end":
            call.answer(200, fields)
            call.data(body, end=True)

    with GrpcServer(cut) as bad, GrpcServer(whole) as good:
        one = site("location / { proxy_pass http://u; }",
                   f"upstream u {{ server 127.0.0.1:{bad.port} max_fails=0; server 127.0.0.1:{good.port} backup; }}")
        answer = one.get("/200")
        assert (answer.status, answer.body) == (200, body)
        with Http2(("127.0.0.1", one.port), timeout=20) as h2:
            h2.request(1, "/200", "GET")
            assert h2.answer(1).body == body


def test_connections_are_kept(site):
    with GrpcServer(echo) as up:
        one = site("location / { proxy_pass http://u; }", f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 2; }}")
        for _ in range(5):
            assert one.get("/").status == 200
        assert len({call.number for call in up.calls}) == 1 and len(up.calls) == 5


def test_versions_do_not_share_connections(site):
    with GrpcServer(echo) as up:
        one = site("location / { proxy_pass http://u; } location /old { proxy_pass http://u; proxy_http_version 1.1;"
                   " proxy_set_header Connection ''; }",
                   f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 2; }}")
        assert one.get("/").status == 200
        # To a server of HTTP/2 it is no request.
        assert one.get("/old").status == 502
        assert one.get("/").status == 200


def test_within_tls(site, tmp_path):
    authority = Authority()
    own = authority.issue("up.example")
    (tmp_path / "up.pem").write_bytes(own.chain + own.key)
    (tmp_path / "root.pem").write_bytes(authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "up.pem")
    context.set_alpn_protocols(["h2"])
    with GrpcServer(echo, context=context) as up:
        one = site(f"location / {{ proxy_pass https://127.0.0.1:{up.port}; proxy_ssl_verify on; "
                   f"proxy_ssl_name up.example; proxy_ssl_trusted_certificate {tmp_path}/root.pem; }}")
        assert one.get("/").text == "GET "
        assert up.calls[0].get(":scheme") == "https"


def test_requests_of_http2_and_trailers(site):
    with GrpcServer(echo) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_pass_trailers on; }}")
        with Http2(("127.0.0.1", one.port)) as h2:
            h2.request(1, "/trailers")
            answer = h2.answer(1)
        assert (answer.status, answer.body, dict(answer.trailers)) == (200, b"body", {"x-sum": "7"})


@pytest.mark.parametrize("how", ["goaway", "reset"])
@pytest.mark.parametrize("more", ["", "proxy_request_buffering off;", "client_body_buffer_size 1k;"])
def test_what_a_kept_connection_refuses_is_asked_anew(site, how, more):
    """RFC 9113 §6.8 and §8.7: nothing was done with it, so that also a POST can be sent once more."""
    seen = []

    def second(call, event):
        number = seen.count(call.number)
        if event == "head":
            seen.append(call.number)
        if number < (1 if event == "head" else 2):
            echo(call, event)
        elif event == "end" and how == "reset":
            call.reset(7)
        elif event == "end":
            call.connection.close_connection(last_stream_id=call.stream - 2)

    with GrpcServer(second) as up:
        one = site(f"location / {{ proxy_pass http://u; {more} }}",
                   f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 2; }}")
        for body in (b"one", b"two" * 10_000, None):
            for _ in range(2):
                method = "GET" if body is None else "POST"
                answer = one.request(method, "/200", body=body)
                assert (answer.status, answer.body) == (200, method.encode() + b" " + (body or b""))
    assert len(set(seen)) < len(seen), "connections were kept"


def test_what_a_new_connection_refuses_is_not_asked_for_ever(site):
    with GrpcServer(lambda call, event: event == "end" and call.reset(7)) as up:
        one = site("location / { proxy_pass http://u; }", f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 2; }}")
        assert one.request("POST", "/", body=b"x").status == 502
        assert len(up.calls) == 1


def test_trailers_that_may_not_be_are_left_out_alone(site):
    """RFC 9110 §6.5.1. A client of HTTP/1 got none of the others either, one of HTTP/2 got all."""
    with GrpcServer(echo) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_pass_trailers on; }}")
        with Http2(("127.0.0.1", one.port)) as h2:
            assert dict(h2.get(1, "/trailers/odd").trailers) == {"x-sum": "7", "x_own": "1"}
        with one.connect() as client:
            client.send(build(target="/trailers/odd", fields={"TE": "trailers", "Connection": "TE"}))
            answer = client.response()
            assert (answer.body, dict(answer.trailers)) == (b"body", {"x-sum": "7"})


def test_what_goes_wrong(site):
    with GrpcServer(echo) as gone:
        pass
    with GrpcServer(echo) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; }} "
                   f"location /gone {{ proxy_pass http://127.0.0.1:{gone.port}; }}")
        assert one.get("/reset").status == 502
        assert "rejected request with error 2" in (one.directory / "error.log").read_text()
        assert one.get("/gone").status == 502
        with one.connect() as client:
            client.send(build(target="/200") + build(target="/404"))
            assert [client.response().status for _ in range(2)] == [200, 404]
