"""`add_trailer`: fields behind the body, with what is known when it has been sent."""

import re

import pytest
from support import build
from support.grpc import GrpcServer
from support.http2 import Http2

CONF = """
    server {{
        listen 127.0.0.1:%PORT%;
        http2 on;
        error_log %DIR%/error.log info;
        {locations}
    }}
"""
# All of it is empty, or less, before the body has come.
FIELDS = """
    add_trailer X-Fixed "as it is";
    add_trailer X-Sum "$upstream_trailer_x_sum";
    add_trailer X-Bytes "$body_bytes_sent of $upstream_response_length, $status, $sent_http_x_own" always;
    add_trailer X-Before "<$sent_trailer_x_sum>";
    add_trailer X-None "$arg_none";
"""


def slowly(call, event):
    """Says what its body comes to behind it."""
    if event != "end":
        return
    call.answer(int(call.get(":path").rpartition("/")[2]), [("x-own", "own")])
    call.data(b"the body, ")
    call.data(b"and its end" * 1_000)
    call.end(("x-sum", "7"))


@pytest.fixture
def site(serve_nginx):
    return lambda locations, **more: serve_nginx(CONF.format(locations=locations), **more)


def of_http1(site, target):
    """The response, its body and its trailers."""
    with site.connect() as client:
        client.send(build("GET", target))
        response = client.response()
        assert response.framing == "chunked"
        return response, response.body, response.trailers


LONG = b"the body, " + b"and its end" * 1_000


@pytest.mark.parametrize("buffering", ["on", "off"])
def test_variables_have_the_values_of_the_end(site, buffering):
    with GrpcServer(slowly) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_http_version 2; "
                   f"proxy_buffering {buffering}; {FIELDS} }}")
        response, body, fields = of_http1(one, "/200")
        assert (response.status, response.get("Content-Length"), body) == (200, None, LONG)
        assert fields == [("X-Fixed", "as it is"), ("X-Sum", "7"), ("X-Bytes", f"{len(LONG)} of {len(LONG)}, 200, own"),
                          ("X-Before", "<7>")]
        # Only what is for all statuses.
        response, body, fields = of_http1(one, "/404")
        assert (response.status, body) == (404, LONG)
        assert fields == [("X-Bytes", f"{len(LONG)} of {len(LONG)}, 404, own")]


def test_clients_of_http2_have_them_too(site):
    with GrpcServer(slowly) as up:
        one = site(f"location / {{ proxy_pass http://127.0.0.1:{up.port}; proxy_http_version 2; {FIELDS} }}")
        with Http2(("127.0.0.1", one.port)) as client:
            answer = client.get(1, "/200")
            assert (answer.status, answer.body) == (200, LONG)
            assert answer.trailers == [("x-fixed", "as it is"), ("x-sum", "7"),
                                       ("x-bytes", f"{len(LONG)} of {len(LONG)}, 200, own"), ("x-before", "<7>")]
            assert client.get(3, "/404").trailers == [("x-bytes", f"{len(LONG)} of {len(LONG)}, 404, own")]


def test_files_and_texts(site):
    one = site("gzip_types text/plain; "
               "location / { add_trailer X-Bytes $body_bytes_sent/$request_time; } "
               "location /text { return 200 text; add_trailer X-Bytes $body_bytes_sent/$status; } "
               "location /none { return 200; add_trailer X-None $arg_none; } "
               "location /small/ { gzip on; gzip_min_length 1; alias %DIR%/html/; add_trailer X-Ratio $gzip_ratio; }",
               files={"html/file": "x" * 100_000, "html/empty": ""})
    for target, size in [("/file", 100_000), ("/empty", 0)]:
        response, body, [(name, value)] = of_http1(one, target)
        assert (response.status, body, name) == (200, b"x" * size, "X-Bytes")
        assert re.fullmatch(rf"{size}/\d+\.\d\d\d", value)
    assert of_http1(one, "/text")[1:] == (b"text", [("X-Bytes", "4/200")])
    assert of_http1(one, "/none")[1:] == (b"", [])
    with one.connect() as client:
        client.send(build("GET", "/small/file", {"Accept-Encoding": "gzip"}))
        response = client.response()
        assert response.get("Content-Encoding") == "gzip" and len(response.body) < 1000
        assert response.trailers == [("X-Ratio", f"{100_000 / len(response.body):.2f}")]
    # One connection goes on behind each of them, and a HEAD has no body that anything could stand behind.
    with one.connect() as client:
        for _ in range(3):
            client.send(build("GET", "/text"))
            assert client.response().body == b"text"
            client.send(build("HEAD", "/text"))
            assert client.response("HEAD").body == b""


def test_a_field_that_cannot_be_sent_is_a_whole_500(site):
    one = site(f"location / {{ charset $uri; {FIELDS} return 200 x; }}")
    with one.connect() as client:
        client.send(build("GET", "/%0a"))
        response = client.response()
        assert (response.status, response.framing, response.body) == (500, "length", b"Internal Server Error\n")
        assert client.end() == "eof"
    assert one.get("/a").status == 200
