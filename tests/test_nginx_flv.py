"""Flash videos: flv."""

import pytest

HEAD = b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"
LARGE = "".join(f"{number:09}\n" for number in range(10000))

CONF = r"""
    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        root %DIR%/root;
        location / { flv; }
    }
"""


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, files={"root/small.flv": "0123456789", "root/large.flv": LARGE})


@pytest.mark.parametrize(("target", "body"), [
    ("/small.flv", b"0123456789"), ("/small.flv?start=4", HEAD + b"456789"), ("/small.flv?start=0", b"0123456789"),
    ("/small.flv?start=10", b"0123456789"), ("/small.flv?start=x", b"0123456789"),
    ("/small.flv?start=-1", b"0123456789"), ("/large.flv?start=99995", HEAD + b"9999\n"),
    ("/large.flv?start=5", HEAD + LARGE[5:].encode()),
])
def test_from_where_it_is_asked_to(server, target, body):
    response = server.get(target)
    assert (response.status, response.body, response.get("Content-Length")) == (200, body, str(len(body)))
    assert server.request("HEAD", target).get("Content-Length") == str(len(body))


def test_ranges(server):
    response = server.get("/small.flv?start=4", {"Range": "bytes=-3"})
    assert (response.status, response.body, response.get("Content-Range")) == (206, b"789", "bytes 16-18/19")
    response = server.get("/large.flv?start=5", {"Range": "bytes=0-1"})
    assert response.status == 200 and response.get("Accept-Ranges") is None


def test_only_what_reads(server):
    assert server.request("POST", "/small.flv", body=b"x").status == 405
    assert server.get("/none.flv").status == 404
