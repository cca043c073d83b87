"""Static files: validators, ranges, precompressed twins, and no way out of the directory."""

import gzip
import os
import re
import socket

import pytest
from support import build

APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"application " + environ["PATH_INFO"].encode("latin-1")]
"""

DATA = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def server(serve_module):
    server = serve_module(APP, "--static", "/static/=files", files={
        "files/a.txt": "hello static\n", "files/data.bin": DATA, "files/style.css": "a{}" * 400,
        "files/style.css.br": b"BROTLI", "files/style.css.gz": gzip.compress(b"a{}" * 400),
        "files/style.css.zst": b"ZSTD", "files/page/index.html": "<p>index</p>", "files/sub/x y+.txt": "spaced",
        "files/empty": b"", "files/.hidden": "dot", "files/bare/x.txt": "x",
        "secret.txt": "secret", "files2/secret.txt": "secret",
    })
    directory = server.directory
    (directory / "files/inside.txt").symlink_to("a.txt")
    (directory / "files/outside.txt").symlink_to("../secret.txt")
    (directory / "files/outside-absolute.txt").symlink_to(directory / "secret.txt")
    (directory / "files/outside-dir").symlink_to("../files2")
    os.mkfifo(directory / "files/fifo")
    listener = socket.socket(socket.AF_UNIX)
    cwd = os.getcwd()
    os.chdir(directory / "files")
    listener.bind("socket")
    os.chdir(cwd)
    listener.close()
    return server


def test_file(server):
    response = server.get("/static/a.txt")
    assert (response.status, response.body) == (200, b"hello static\n")
    assert response.get("Content-Type").startswith("text/plain")
    assert response.get("Content-Length") == "13"
    assert response.get("Accept-Ranges") == "bytes"
    assert re.fullmatch(r'"[^"]+"', response.get("ETag")), "strong"
    assert response.get("Last-Modified").endswith(" GMT")


def test_other_paths_are_the_applications(server):
    assert server.get("/static").text == "application /static"
    assert server.get("/staticx/a.txt").text.startswith("application")
    assert server.get("/").text == "application /"


def test_large_file_is_whole(server):
    assert server.get("/static/data.bin").body == DATA


def test_empty_file(server):
    response = server.get("/static/empty")
    assert (response.status, response.body, response.get("Content-Length")) == (200, b"", "0")


def test_encoded_name(server):
    assert server.get("/static/sub/x%20y%2B.txt").text == "spaced"
    assert server.get("/static/sub/x%20y+.txt").text == "spaced"


def test_query_is_not_part_of_the_name(server):
    assert server.get("/static/a.txt?v=1").status == 200


def test_head(server):
    with server.connect() as client:
        get = client.request("GET", "/static/data.bin")
        head = client.request("HEAD", "/static/data.bin")
        for name in ("Content-Length", "Content-Type", "ETag", "Last-Modified"):
            assert head.get(name) == get.get(name)
        assert client.request("GET", "/static/a.txt").body == b"hello static\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_405(server, method):
    response = server.request(method, "/static/a.txt", body=b"x")
    assert response.status == 405
    assert {name.strip() for name in response.get("Allow").split(",")} == {"GET", "HEAD"}


def test_missing(server):
    assert server.get("/static/none").status == 404
    assert server.get("/static/a.txt/none").status == 404


def test_index_and_directory(server):
    assert server.get("/static/page/").text == "<p>index</p>"
    response = server.get("/static/page")
    assert response.status == 301
    assert response.get("Location").endswith("/static/page/")
    assert server.get("/static/bare/").status in (403, 404), "no listing"


def test_directory_redirect_is_no_open_redirect(server):
    response = server.get("//static/page")
    assert not (response.get("Location") or "").startswith("//")
    response = server.get("/static/page?x=1")
    assert response.status == 301 and not response.get("Location").startswith("//")


@pytest.mark.parametrize("name", ["fifo", "socket"])
def test_what_is_no_file_does_not_block(server, name):
    assert server.get("/static/" + name, timeout=3).status in (403, 404)


ESCAPES = [
    "/static/../secret.txt", "/static/%2e%2e/secret.txt", "/static/.%2e/secret.txt", "/static/..%2fsecret.txt",
    "/static/%2e%2e%2fsecret.txt", "/static/..%5csecret.txt", "/static/..\\secret.txt", "/static//../secret.txt",
    "/static/sub/../../secret.txt", "/static/%252e%252e/secret.txt", "/static/....//secret.txt",
    "/static/outside.txt", "/static/outside-absolute.txt", "/static/outside-dir/secret.txt",
    "/static/../files2/secret.txt", "/static/a.txt%00.html", "/static/%c0%ae%c0%ae/secret.txt",
    "/static//etc/passwd", "/static/%2fetc/passwd", "/static/..;/secret.txt", "/static/sub/%2e%2e/%2e%2e/secret.txt",
]


@pytest.mark.parametrize("target", ESCAPES)
def test_no_way_out(server, target):
    response = server.get(target)
    assert b"secret" not in response.body.replace(b"/secret.txt", b"").replace(b"/files2", b"")
    assert b"root:" not in response.body
    assert response.status in (400, 403, 404) or response.text.startswith("application")


def test_links_inside_are_followed(server):
    assert server.get("/static/inside.txt").text == "hello static\n"


def test_link_options(serve):
    files = {"files/a.txt": "a", "secret.txt": "secret"}
    denying = serve(APP, "--static", "/s/=files", "--static-symlinks", "deny", files=files)
    following = serve(APP, "--static", "/s/=files", "--static-symlinks", "follow", files=files)
    for server in (denying, following):
        (server.directory / "files/in.txt").symlink_to("a.txt")
        (server.directory / "files/out.txt").symlink_to("../secret.txt")
    assert denying.get("/s/in.txt").status in (403, 404)
    assert denying.get("/s/a.txt").text == "a"
    assert following.get("/s/out.txt").text == "secret"


# Conditional requests (RFC 9110 section 13)

def test_if_none_match(server):
    tag = server.get("/static/a.txt").get("ETag")
    for value in (tag, f'"x", {tag}', "*", "W/" + tag):
        response = server.get("/static/a.txt", {"If-None-Match": value})
        assert (response.status, response.body) == (304, b"")
        assert response.get("ETag") == tag
    assert server.get("/static/a.txt", {"If-None-Match": '"x"'}).status == 200


def test_if_modified_since(server):
    when = server.get("/static/a.txt").get("Last-Modified")
    assert server.get("/static/a.txt", {"If-Modified-Since": when}).status == 304
    assert server.get("/static/a.txt", {"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}).status == 200
    assert server.get("/static/a.txt", {"If-Modified-Since": "nonsense"}).status == 200
    # If-None-Match decides alone where both stand (section 13.1.3).
    assert server.get("/static/a.txt", {"If-None-Match": '"x"', "If-Modified-Since": when}).status == 200


def test_if_match_and_if_unmodified_since(server):
    response = server.get("/static/a.txt")
    tag, when = response.get("ETag"), response.get("Last-Modified")
    assert server.get("/static/a.txt", {"If-Match": tag}).status == 200
    assert server.get("/static/a.txt", {"If-Match": "*"}).status == 200
    assert server.get("/static/a.txt", {"If-Match": '"x"'}).status == 412
    assert server.get("/static/a.txt", {"If-Match": "W/" + tag}).status == 412, "strong comparison"
    assert server.get("/static/a.txt", {"If-Unmodified-Since": when}).status == 200
    assert server.get("/static/a.txt", {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}).status == 412


def test_a_changed_file_is_seen(serve):
    from support import wait_until
    server = serve(APP, "--static", "/s/=files", files={"files/a.txt": "one"})
    assert server.get("/s/a.txt").text == "one"
    tag = server.get("/s/a.txt").get("ETag")
    server.write("files/a.txt", "two!")
    # Each event loop has a cache of its own and looks again after a second at most.
    wait_until(lambda: all(server.get("/s/a.txt").text == "two!" for _ in range(10)), "the new contents", 5)
    assert server.get("/s/a.txt").get("ETag") != tag
    server.write("files/new.txt", "new")
    wait_until(lambda: server.get("/s/new.txt").status == 200, "the new file", 5)
    (server.directory / "files/new.txt").unlink()
    wait_until(lambda: server.get("/s/new.txt").status == 404, "the file to be gone", 5)


# Ranges (RFC 9110 section 14)

@pytest.mark.parametrize(("value", "start", "end"), [
    ("bytes=0-0", 0, 1), ("bytes=0-99", 0, 100), ("bytes=100-", 100, len(DATA)), ("bytes=-5", len(DATA) - 5, len(DATA)),
    ("bytes=10-999999999", 10, len(DATA)), ("bytes=-999999999", 0, len(DATA)),
])
def test_single_range(server, value, start, end):
    response = server.get("/static/data.bin", {"Range": value})
    assert response.status == 206
    assert response.body == DATA[start:end]
    assert response.get("Content-Range") == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert response.get("Content-Length") == str(end - start)


def test_several_ranges(server):
    response = server.get("/static/data.bin", {"Range": "bytes=0-9, 1000-1009,-10"})
    assert response.status == 206
    kind, boundary = response.get("Content-Type").split("; boundary=")
    assert kind == "multipart/byteranges"
    boundary = boundary.strip('"').encode()
    parts = response.body.split(b"--" + boundary)
    assert parts[-1].strip() == b"--"
    found = []
    for part in parts[1:-1]:
        head, _, body = part[2:].partition(b"\r\n\r\n")
        assert b"content-type: " in head.lower()
        found.append((re.search(rb"(?i)content-range: bytes ([0-9-]+)/", head)[1].decode(), body[:-2]))
    size = len(DATA)
    assert found == [("0-9", DATA[:10]), ("1000-1009", DATA[1000:1010]), (f"{size - 10}-{size - 1}", DATA[-10:])]


@pytest.mark.parametrize("value", ["bytes=999999999-", "bytes=-0"])
def test_range_that_cannot_be(server, value):
    response = server.get("/static/data.bin", {"Range": value})
    assert response.status == 416
    assert response.get("Content-Range") == f"bytes */{len(DATA)}"


@pytest.mark.parametrize("value", ["bytes=9-1", "bytes=a-b", "lines=1-2", "bytes=", "bytes 0-1"])
def test_malformed_ranges_are_ignored(server, value):
    response = server.get("/static/data.bin", {"Range": value})
    assert response.status in (200, 416)
    if value in ("lines=1-2", "bytes 0-1"):
        assert response.status == 200 and response.body == DATA


def test_many_overlapping_ranges_do_not_amplify(server):
    value = "bytes=" + ",".join(["0-"] * 1000)
    response = server.get("/static/data.bin", {"Range": value})
    assert response.status in (200, 206, 416)
    assert len(response.body) <= 2 * len(DATA)


def test_if_range(server):
    tag = server.get("/static/data.bin").get("ETag")
    assert server.get("/static/data.bin", {"Range": "bytes=0-0", "If-Range": tag}).status == 206
    assert server.get("/static/data.bin", {"Range": "bytes=0-0", "If-Range": '"x"'}).status == 200
    assert server.get("/static/data.bin", {"Range": "bytes=0-0", "If-Range": "W/" + tag}).status == 200


def test_head_with_range(server):
    with server.connect() as client:
        response = client.request("HEAD", "/static/data.bin", {"Range": "bytes=0-9"})
        assert response.status in (200, 206), "RFC 9110 section 14.2: Range is for GET only"
        assert client.request("GET", "/static/a.txt").status == 200


# Precompressed twins

@pytest.mark.parametrize(("accept", "coding"), [
    ("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("gzip;q=0.5, br;q=1", "br"), ("br;q=0, gzip", "gzip"),
    ("br;q=0.1, gzip;q=0.9", "gzip"), ("identity", None), ("gzip;q=0", None), ("", None),
])
def test_twin_by_accept_encoding(server, accept, coding):
    response = server.get("/static/style.css", {"Accept-Encoding": accept})
    assert response.status == 200
    assert response.get("Content-Encoding") == coding
    assert response.get("Content-Type").startswith("text/css")
    assert "accept-encoding" in response.get("Vary", "").lower()
    if coding == "gzip":
        assert gzip.decompress(response.body) == b"a{}" * 400
    elif coding is None:
        assert response.body == b"a{}" * 400


def test_twins_have_validators_of_their_own(server):
    tags = {server.get("/static/style.css", {"Accept-Encoding": a}).get("ETag") for a in ("br", "gzip", "zstd", "")}
    assert len(tags) == 4
    plain = server.get("/static/style.css").get("ETag")
    assert server.get("/static/style.css", {"Accept-Encoding": "br", "If-None-Match": plain}).status == 200


def test_pipelined_files(server):
    with server.connect() as client:
        client.send(b"".join(build("GET", target) for target in ("/static/data.bin", "/static/a.txt") * 10))
        for _ in range(10):
            assert client.response().body == DATA
            assert client.response().body == b"hello static\n"


def test_without_sendfile(serve):
    server = serve(APP, "--static", "/s/=files", "--no-sendfile", files={"files/data.bin": DATA})
    assert server.get("/s/data.bin").body == DATA
    assert server.get("/s/data.bin", {"Range": "bytes=5-9"}).body == DATA[5:10]
