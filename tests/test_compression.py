"""Compression of responses by Accept-Encoding."""

import gzip
import json
import os
import zlib
from pathlib import Path

import brotli
import pytest
import zstandard
from support import build, wait_until

APP = """
import os, time

TEXT = b"the quick brown fox jumps over the lazy dog\\n" * 200

def application(environ, start_response):
    path = environ["PATH_INFO"]
    fields = [("Content-Type", "text/html; charset=utf-8")]
    body = TEXT
    if path == "/length":
        fields.append(("Content-Length", str(len(TEXT))))
    elif path == "/short":
        body = b"short"
        fields.append(("Content-Length", "5"))
    elif path == "/picture":
        fields = [("Content-Type", "image/png")]
    elif path == "/done":
        fields.append(("Content-Encoding", "x-done"))
    elif path == "/untouchable":
        fields.append(("Cache-Control", "public, No-Transform"))
    elif path == "/tagged":
        fields += [("ETag", '"strong"'), ("Vary", "Cookie")]
    elif path == "/partial":
        start_response("206 Partial Content", fields + [("Content-Range", "bytes 0-8999/9000")])
        return [body]
    elif path == "/pieces":
        start_response("200 OK", fields)
        return iter([TEXT[i:i + 1000] for i in range(0, len(TEXT), 1000)])
    elif path == "/slow":
        start_response("200 OK", fields + [("X-Accel-Buffering", "no")])
        def slow():
            yield TEXT
            deadline = time.monotonic() + 20
            while not os.path.exists("go") and time.monotonic() < deadline:
                time.sleep(0.01)
            yield b"end"
        return slow()
    start_response("200 OK", fields)
    return [body]
"""

TEXT = b"the quick brown fox jumps over the lazy dog\n" * 200

DECODERS = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APP, "--static", "/s/=files", "--threads", "2", files={"files/a.html": TEXT})


@pytest.mark.parametrize("path", ["/", "/length", "/pieces", "/s/a.html"])
@pytest.mark.parametrize("coding", DECODERS)
def test_each_coding(server, path, coding):
    response = server.get(path, {"Accept-Encoding": coding})
    assert response.get("Content-Encoding") == coding
    assert "accept-encoding" in response.get("Vary").lower()
    assert len(response.body) < len(TEXT) / 3
    assert DECODERS[coding](response.body) == TEXT


@pytest.mark.parametrize(("accept", "coding"), [
    ("gzip, br, zstd", "zstd"), ("gzip, br", "br"), ("br;q=0.5, gzip", "gzip"), ("zstd;q=0, *", "br"),
    ("*", "zstd"), ("*;q=0", None), ("identity", None), ("gzip;q=0", None), ("deflate", None), ("x-unknown", None),
    ("GZIP", "gzip"), ("gzip;q=0.001", "gzip"), ("gzip;Q=1.000", "gzip"), ("identity;q=1, gzip;q=0.5", None),
    ("gzip ; q=0.8 , br ; q=0.9", "br"), ("", None),
])
def test_preference(server, accept, coding):
    response = server.get("/", {"Accept-Encoding": accept})
    assert response.get("Content-Encoding") == coding
    body = DECODERS[coding](response.body) if coding else response.body
    assert body == TEXT


def test_not_asked_for(server):
    response = server.get("/")
    assert response.get("Content-Encoding") is None
    assert "accept-encoding" in response.get("Vary", "").lower(), "a cache must know"


@pytest.mark.parametrize("path", ["/short", "/picture", "/untouchable", "/partial"])
def test_what_is_left_alone(server, path):
    response = server.get(path, {"Accept-Encoding": "gzip, br, zstd"})
    assert response.get("Content-Encoding") is None


def test_never_twice(server):
    response = server.get("/done", {"Accept-Encoding": "gzip"})
    assert response.get("Content-Encoding") == "x-done"
    assert response.body == TEXT


def test_etag_is_weakened_and_vary_kept(server):
    response = server.get("/tagged", {"Accept-Encoding": "gzip"})
    assert response.get("ETag") == 'W/"strong"'
    vary = {name.strip().lower() for value in response.all("Vary") for name in value.split(",")}
    assert vary == {"cookie", "accept-encoding"}
    assert server.get("/tagged").get("ETag") == '"strong"'


def test_head(server):
    with server.connect() as client:
        response = client.request("HEAD", "/length", {"Accept-Encoding": "gzip"})
        assert response.get("Content-Encoding") in ("gzip", None)
        assert response.get("Content-Length") != str(len(TEXT)) or response.get("Content-Encoding") is None
        assert client.request("GET", "/short").body == b"short"


def test_streaming_is_flushed(server):
    with server.connect() as client:
        client.send(build("GET", "/slow", {"Accept-Encoding": "gzip"}))
        head = client.head()
        assert head.get("Content-Encoding") == "gzip"
        inflate, data = zlib.decompressobj(31), b""
        while len(data) < len(TEXT):
            data += inflate.decompress(client.chunk())
        # The last part is not made before the first has been read.
        server.write("go", "")
        while chunk := client.chunk():
            data += inflate.decompress(chunk)
        assert data == TEXT + b"end" and inflate.eof


def test_http_1_0_and_keep_alive_framing(server):
    with server.connect() as client:
        for _ in range(3):
            response = client.request("GET", "/length", {"Accept-Encoding": "br"})
            assert brotli.decompress(response.body) == TEXT
    response = server.get("/", {"Accept-Encoding": "br"}, version="1.0")
    assert brotli.decompress(response.body) == TEXT


def test_options(serve):
    server = serve(APP, "--compress", "gzip", "--compress-types", "image/png", "--compress-min-length", "1")
    assert server.get("/", {"Accept-Encoding": "gzip, br"}).get("Content-Encoding") is None
    assert server.get("/picture", {"Accept-Encoding": "br, gzip"}).get("Content-Encoding") == "gzip"
    assert serve(APP, "--compress", "off").get("/", {"Accept-Encoding": "gzip"}).get("Content-Encoding") is None


def test_a_range_of_a_file_is_not_compressed(server):
    response = server.get("/s/a.html", {"Accept-Encoding": "gzip", "Range": "bytes=0-9"})
    assert response.get("Content-Encoding") is None or response.status == 200
    if response.status == 206:
        assert response.body == TEXT[:10]


@pytest.mark.parametrize("coding", DECODERS)
def test_a_file_is_compressed_once(serve, coding):
    text = TEXT * 30
    server = serve(APP, "--static", "/s/=files", "--edge-threads", "1", files={"files/a.js": text})
    path = server.directory / "files" / "a.js"
    os.utime(path, (784111777, 784111777))
    with server.connect() as client:
        first = client.request("GET", "/s/a.js", {"Accept-Encoding": coding})
        assert first.get("Transfer-Encoding") == "chunked"
        again = client.request("GET", "/s/a.js", {"Accept-Encoding": coding})
        assert int(again.get("Content-Length")) == len(again.body)
        assert again.body == first.body and DECODERS[coding](again.body) == text
        for name in ("ETag", "Last-Modified", "Vary", "Content-Type", "Content-Encoding"):
            assert again.get(name) == first.get(name)
        assert again.get("ETag").startswith("W/")
        unchanged = client.request("GET", "/s/a.js", {"Accept-Encoding": coding, "If-None-Match": again.get("ETag")})
        assert unchanged.status == 304
        part = client.request("GET", "/s/a.js", {"Accept-Encoding": coding, "Range": "bytes=5-9"})
        assert (part.status, part.body) == (206, text[5:10])
        assert client.request("GET", "/s/a.js").body == text
        # The same length and date: only the time that nobody can set tells.
        path.write_bytes(text.upper())
        os.utime(path, (784111777, 784111777))
        wait_until(lambda: DECODERS[coding](client.request(
            "GET", "/s/a.js", {"Accept-Encoding": coding}).body) == text.upper(), "the new content")


@pytest.mark.parametrize("level", [1, 2, 4, 6, 9])
def test_a_level_of_gzip_is_worth_what_zlibs_is(serve_nginx, level):
    rows = [{"id": number, "name": f"user{number}", "mail": f"u{number}@example.com", "v": number * 7919 % 1000} for number in range(1000)]
    for text in (json.dumps(rows).encode(), Path(__file__).read_bytes()):
        server = serve_nginx(f"""
            gzip on; gzip_comp_level {level}; gzip_types *; default_type text/plain;
            server {{ listen 127.0.0.1:%PORT%; root %DIR%; }}""", files={"text": text})
        with server.connect() as client:
            answer = client.request("GET", "/text", [("Host", "a"), ("Accept-Encoding", "gzip")])
        assert gzip.decompress(answer.body) == text
        assert len(answer.body) <= len(zlib.compress(text, level)) * 1.05
