"""Files by an nginx.conf: ranges, conditions, listings, try_files, links, precompressed forms, types."""

import email.utils
import gzip
import json
import os
import re
import time
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pytest
from support import build, wait_until

TEXT = "".join(f"line {n:04}\n" for n in range(1000))
CONF = """
    types { text/html html; text/css css; text/plain txt; }
    default_type application/octet-stream;
    server {
        listen 127.0.0.1:%PORT%;
        root %DIR%/www;
        location / { }
        location /ranges/off/ { alias %DIR%/www/; max_ranges 0; }
        location /ranges/two/ { alias %DIR%/www/; max_ranges 2; }
        location /before/ { alias %DIR%/www/; if_modified_since before; }
        location /ims-off/ { alias %DIR%/www/; if_modified_since off; }
        location /no-etag/ { alias %DIR%/www/; etag off; }
        location /list/ { autoindex on; }
        location /list-json/ { alias %DIR%/www/list/; autoindex on; autoindex_format json; }
        location /list-xml/ { alias %DIR%/www/list/; autoindex on; autoindex_format xml; }
        location /list-jsonp/ { alias %DIR%/www/list/; autoindex on; autoindex_format jsonp; }
        location /list-round/ { alias %DIR%/www/list/; autoindex on; autoindex_exact_size off; autoindex_localtime on; }
        location /hidden/ { }
        location /try/ { try_files $uri $uri/ $uri.html /fallback.txt; }
        location /try-status/ { try_files $uri =410; }
        location /try-named/ { try_files $uri @named; }
        location /try-args/ { try_files /none /echo?from=$uri; }
        location @named { return 200 "named $uri"; }
        location /echo { return 200 "$uri $args"; }
        location /no-type { default_type ""; return 200 "x"; }
        location /links/deny/ { alias %DIR%/www/links/; disable_symlinks on; }
        location /links/from/ { alias %DIR%/www/links/; disable_symlinks on from=%DIR%/www; }
        location /links/owner/ { alias %DIR%/www/links/; disable_symlinks if_not_owner; }
        location /links/owner-from/ { alias %DIR%/www/links/; disable_symlinks if_not_owner from=%DIR%/www/links; }
        location /links/owner-try/ { alias %DIR%/www/links/; disable_symlinks if_not_owner; try_files $uri =410; }
        location /links/ { }
        location /pre/ { gzip_static on; }
        location /pre-always/ { alias %DIR%/www/pre/; gzip_static always; }
        location /pre-gunzip/ { alias %DIR%/www/pre/; gzip_static always; gunzip on; }
        location /pre-br/ { alias %DIR%/www/pre/; brotli_static on; gzip_static on; }
        location /index/ { alias %DIR%/www/index/; index none.html $arg_i.html last.html; }
    }
"""
PAGE = "<p>plain</p>"
FILES = {
    "www/text.txt": TEXT, "www/style.css": "a{}", "www/noext": "?", "www/empty.txt": "", "www/fallback.txt": "fallback",
    "www/a b&c<.txt": "odd", "www/list/a.txt": "12345", "www/list/B&<>.txt": "x" * 50_000, "www/list/sub/x": "",
    "www/list/.dot": "", "www/hidden/x": "", "www/try/there.txt": "there", "www/try/page.html": "page",
    "www/try/dir/index.html": "index of dir", "www/index/last.html": "last", "www/index/one.html": "one",
    "www/pre/page.html": PAGE, "www/pre/page.html.gz": gzip.compress(b"<p>gzip</p>"), "www/pre/page.html.br": b"brotli",
    "www/pre/only.html.gz": gzip.compress(b"<p>only</p>"), "www/links/target.txt": "target", "outside.txt": "outside",
}
BODY = TEXT.encode()


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    server = serve_nginx_module(CONF, files=FILES)
    links = server.directory / "www/links"
    (links / "inner").symlink_to("target.txt")
    (links / "outer").symlink_to(server.directory / "outside.txt")
    (links / "loop").symlink_to("loop")
    (links / "dangling").symlink_to("none")
    (links / "directory").symlink_to("..")
    for name, target in ("foreign", "target.txt"), ("foreign-directory", ".."):
        if os.geteuid() == 0:
            (links / name).symlink_to(target)
            os.lchown(links / name, 1, -1)
        else:
            (links / name).symlink_to("/etc/passwd" if target == "target.txt" else "/etc")
    # Not of this second, so that what is kept of them is believed.
    old = time.time() - 1000
    for path in (server.directory / "www").rglob("*"):
        if not path.is_symlink():
            os.utime(path, (old, old))
    return server


# Ranges.

@pytest.mark.parametrize("value, first, last", [
    ("0-0", 0, 0), ("0-9", 0, 9), ("9990-", 9990, 9999), ("9990-20000", 9990, 9999), ("-10", 9990, 9999),
    ("-20000", 0, 9999), ("0-9999", 0, 9999), (" 5 - 6 ", 5, 6),
])
def test_one_range(server, value, first, last):
    response = server.get("/text.txt", {"Range": f"bytes={value}"})
    assert response.status == 206
    assert response.get("Content-Range") == f"bytes {first}-{last}/{len(BODY)}"
    assert response.get("Content-Length") == str(last - first + 1)
    assert response.body == BODY[first:last + 1]


@pytest.mark.parametrize("value", ["10000-", "20000-30000", "5-4", "-0", "x-1", "1-x", "--1", "1", ","])
def test_a_range_that_cannot_be(server, value):
    response = server.get("/text.txt", {"Range": f"bytes={value}"})
    assert (response.status, response.get("Content-Range")) == (416, f"bytes */{len(BODY)}")


@pytest.mark.parametrize("field", ["items=0-1", "bytes 0-1", "byte=0-1", "bytes="])
def test_another_unit_is_no_range(server, field):
    response = server.get("/text.txt", {"Range": field})
    assert (response.status, response.body) == (200, BODY)


def test_several_ranges(server):
    response = server.get("/text.txt", {"Range": "bytes=0-4,10-14,-5"})
    assert response.status == 206
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", response.get("Content-Type"))[1]
    expected = "".join(
        f"\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {first}-{first + 4}/10000\r\n\r\n"
        + TEXT[first:first + 5]
        for first in (0, 10, 9995)
    ) + f"\r\n--{boundary}--\r\n"
    assert response.text == expected
    assert response.get("Content-Length") == str(len(expected))


def test_max_ranges(server):
    assert server.get("/ranges/off/text.txt", {"Range": "bytes=0-1"}).body == BODY
    assert server.get("/ranges/off/text.txt").get("Accept-Ranges") is None
    assert server.get("/ranges/two/text.txt", {"Range": "bytes=0-1,3-4"}).status == 206
    assert server.get("/ranges/two/text.txt", {"Range": "bytes=0-1,3-4,6-7"}).body == BODY


def test_head_of_an_empty_file_has_a_length(server):
    response = server.request("HEAD", "/empty.txt")
    assert (response.status, response.all("Content-Length")) == (200, ["0"])
    assert server.get("/empty.txt").all("Content-Length") == ["0"]
    tag = response.get("ETag")
    assert server.request("HEAD", "/empty.txt", {"If-None-Match": tag}).all("Content-Length") == []


def test_a_range_of_a_head_and_of_nothing(server):
    response = server.request("HEAD", "/text.txt", {"Range": "bytes=0-9"})
    assert (response.status, response.body, response.get("Content-Length")) == (206, b"", "10")
    assert server.get("/empty.txt", {"Range": "bytes=0-0"}).status == 200


def test_if_range(server):
    whole = server.get("/text.txt")
    modified, etag = whole.get("Last-Modified"), whole.get("ETag")
    older = email.utils.formatdate(time.time() - 5000, usegmt=True)
    for condition, status in ((etag, 206), (modified, 206), ('"other"', 200), (older, 200), ("W/" + etag, 200)):
        response = server.get("/text.txt", {"Range": "bytes=0-9", "If-Range": condition})
        assert response.status == status, condition
        assert response.body == (BODY[:10] if status == 206 else BODY)


# Conditions.

def test_modified_since(server):
    modified = server.get("/text.txt").get("Last-Modified")
    at = email.utils.parsedate_to_datetime(modified).timestamp()
    date = [email.utils.formatdate(at + offset, usegmt=True) for offset in (-1, 0, 1)]
    for prefix, statuses in (("", (200, 304, 200)), ("/before", (200, 304, 304)), ("/ims-off", (200, 200, 200))):
        found = [server.get(f"{prefix}/text.txt", {"If-Modified-Since": one}).status for one in date]
        assert tuple(found) == statuses, prefix
    assert server.get("/text.txt", {"If-Modified-Since": "yesterday"}).status == 200
    found = [server.get("/text.txt", {"If-Unmodified-Since": one}).status for one in date]
    assert found == [412, 200, 200]


def test_none_match_and_match(server):
    etag = server.get("/text.txt").get("ETag")
    for value, status in ((etag, 304), (f'"a", {etag}', 304), (f"W/{etag}", 304), ("*", 304), ('"a"', 200)):
        response = server.get("/text.txt", {"If-None-Match": value})
        assert response.status == status, value
        assert response.get("ETag") == etag
    for value, status in ((etag, 200), (f'"a", {etag}', 200), ("*", 200), ('"a"', 412), (f"W/{etag}", 412)):
        assert server.get("/text.txt", {"If-Match": value}).status == status, value


def test_a_304_is_short(server):
    whole = server.get("/text.txt")
    with server.connect() as client:
        client.send(build(target="/text.txt", fields={"If-None-Match": whole.get("ETag")}) + build(target="/style.css"))
        response = client.response()
        assert (response.status, response.get("Content-Length"), response.get("Content-Type")) == (304, None, None)
        assert client.response().text == "a{}"


def test_without_etag(server):
    response = server.get("/no-etag/text.txt")
    assert response.get("ETag") is None
    assert server.get("/no-etag/text.txt", {"If-Modified-Since": response.get("Last-Modified")}).status == 304


# Types and names.

@pytest.mark.parametrize("target, kind", [
    ("/text.txt", "text/plain"), ("/style.css", "text/css"), ("/noext", "application/octet-stream"),
    ("/a%20b%26c%3C.txt", "text/plain"),
])
def test_types_and_escaped_names(server, target, kind):
    response = server.get(target)
    assert (response.status, response.get("Content-Type")) == (200, kind)


def test_methods(server):
    assert server.request("POST", "/text.txt", body=b"").status == 405
    assert server.request("PUT", "/text.txt", body=b"x").status == 405
    head = server.request("HEAD", "/text.txt")
    assert (head.status, head.body, head.get("Content-Length")) == (200, b"", str(len(BODY)))


def test_a_directory_has_a_slash(server):
    response = server.get("/try-status/../list?x=1")
    assert (response.status, response.get("Location")) == (301, f"http://test.example:{server.port}/list/?x=1")
    assert server.get("/text.txt/").status == 404
    assert server.get("/hidden/").status == 403


def test_index(server):
    assert server.get("/index/").text == "last"
    assert server.get("/index/?i=one").text == "one"


# Listings.

def test_a_listing_in_html(server):
    text = server.get("/list/").text
    # Directories first; dot files are not shown.
    assert re.findall(r'<a href="([^"]*)">', text) == ["../", "sub/", "B%26%3C%3E.txt", "a.txt"]
    assert re.search(r'<a href="a.txt">a.txt</a> +\d\d-\w{3}-\d{4} \d\d:\d\d +5\r?\n', text)
    assert ">B&amp;&lt;&gt;.txt</a>" in text and ".dot" not in text


def test_a_listing_rounds_sizes(server):
    assert re.search(r"B&amp;&lt;&gt;.txt</a> +\S+ \S+ +49K\r?\n", server.get("/list-round/").text)


def entries(server):
    found = {}
    for name in ("sub", "B&<>.txt", "a.txt"):
        at = (server.directory / "www/list" / name).stat()
        found[name] = (at.st_mtime, at.st_size)
    return found


def test_a_listing_in_json(server):
    response = server.get("/list-json/")
    assert response.get("Content-Type") == "application/json"
    listed = json.loads(response.text)
    assert [(one["name"], one["type"]) for one in listed] == [("sub", "directory"), ("B&<>.txt", "file"), ("a.txt", "file")]
    for one in listed:
        modified, size = entries(server)[one["name"]]
        assert one["mtime"] == email.utils.formatdate(modified, usegmt=True)
        assert one.get("size") == (size if one["type"] == "file" else None)


def test_a_listing_in_xml(server):
    response = server.get("/list-xml/")
    assert response.get("Content-Type") == "text/xml; charset=utf-8"
    root = ElementTree.fromstring(response.text)
    assert [(one.tag, one.text, one.get("size")) for one in root] == [
        ("directory", "sub", None), ("file", "B&<>.txt", "50000"), ("file", "a.txt", "5"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one.get("mtime")) for one in root)


def test_a_listing_for_a_script(server):
    response = server.get("/list-jsonp/?callback=show")
    assert response.get("Content-Type") == "application/javascript"
    match = re.fullmatch(r"(?:/\* callback \*/\s*)?show\((.*)\);", response.text, re.DOTALL)
    assert [one["name"] for one in json.loads(match[1])] == ["sub", "B&<>.txt", "a.txt"]
    # What would be another script is no name of a function.
    assert "alert" not in server.get("/list-jsonp/?callback=alert(1)").text


# try_files.

@pytest.mark.parametrize("target, status, text", [
    ("/try/there.txt", 200, "there"), ("/try/page", 200, "page"), ("/try/dir/", 200, "index of dir"),
    ("/try/none", 200, "fallback"), ("/try-status/none", 410, None), ("/try-named/none", 200, "named /try-named/none"),
    ("/try-args/x?y", 200, "/echo from=/try-args/x"),
])
def test_try_files(server, target, status, text):
    response = server.get(target)
    assert response.status == status
    assert text is None or response.text == text


def test_try_files_finds_a_directory_and_sends_it_on(server):
    response = server.get("/try/dir")
    assert (response.status, response.get("Location")) == (301, f"http://test.example:{server.port}/try/dir/")


def test_no_type_is_no_field(server):
    response = server.get("/no-type")
    assert (response.text, response.get("Content-Type")) == ("x", None)


# Links.

@pytest.mark.parametrize("target, status", [
    ("/links/inner", 200), ("/links/outer", 200), ("/links/directory/text.txt", 200), ("/links/dangling", 404),
    ("/links/loop", 403), ("/links/deny/inner", 403), ("/links/deny/outer", 403), ("/links/deny/target.txt", 200),
    ("/links/from/inner", 403), ("/links/from/target.txt", 200), ("/links/deny/directory/text.txt", 404),
])
def test_links(server, target, status):
    assert server.get(target).status == status


@pytest.mark.parametrize("name, status", [
    ("inner", 200), ("outer", 200), ("directory/text.txt", 200), ("target.txt", 200), ("dangling", 404), ("loop", 403),
    ("foreign", 403), ("foreign-directory/passwd" if os.geteuid() else "foreign-directory/text.txt", 403),
])
def test_links_that_have_the_owner_of_what_they_lead_to(server, name, status):
    assert server.get(f"/links/owner/{name}").status == status
    assert server.get(f"/links/owner-from/{name}").status == status
    # What may not be opened is not there to try_files.
    assert server.get(f"/links/owner-try/{name}").status == (200 if status == 200 else 410)
    assert server.get(f"/links/{name}").status != 403 or name == "loop"


# Precompressed forms.

def test_a_precompressed_form_for_who_takes_it(server):
    plain = server.get("/pre/page.html")
    assert (plain.text, plain.get("Content-Encoding")) == (PAGE, None)
    packed = server.get("/pre/page.html", {"Accept-Encoding": "gzip"})
    assert (packed.get("Content-Encoding"), packed.get("Content-Type")) == ("gzip", "text/html")
    assert zlib.decompress(packed.body, 31) == b"<p>gzip</p>"
    assert packed.get("ETag") != plain.get("ETag")
    assert server.get("/pre/page.html", {"Accept-Encoding": "gzip;q=0"}).text == PAGE
    assert server.get("/pre/only.html", {"Accept-Encoding": "gzip"}).get("Content-Encoding") == "gzip"
    assert server.get("/pre/only.html").status == 404


def test_no_ranges_are_taken_of_what_is_made_or_precompressed(server):
    # As in nginx: of a listing and of a file beside the one that was asked for.
    for target, fields in (("/pre/page.html", {"Accept-Encoding": "gzip"}), ("/pre-always/only.html", {}),
                           ("/list/", {})):
        for more in ({}, {"Range": "bytes=0-1"}):
            response = server.get(target, {**fields, **more})
            assert (response.status, response.get("Accept-Ranges")) == (200, None), target
    assert server.get("/pre/page.html").get("Accept-Ranges") == "bytes"
    assert server.get("/pre/page.html", {"Range": "bytes=0-1"}).status == 206


def test_a_page_for_an_error_has_no_date_of_its_file(serve_nginx):
    site = serve_nginx("""
        server { listen 127.0.0.1:%PORT%; root %DIR%; error_page 404 /page.html; error_page 410 =200 /page.html;
                 location /gone { return 410; } }
    """, files={"page.html": "a page"})
    for target, status in (("/none", 404), ("/gone", 200), ("/page.html", 200)):
        response = site.get(target)
        assert (response.status, response.text) == (status, "a page")
        assert (response.get("Last-Modified") is not None) == (status == 200) and response.get("ETag")


def test_always_precompressed_and_unpacked(server):
    assert server.get("/pre-always/only.html").get("Content-Encoding") == "gzip"
    unpacked = server.get("/pre-gunzip/only.html")
    assert (unpacked.text, unpacked.get("Content-Encoding")) == ("<p>only</p>", None)
    packed = server.get("/pre-gunzip/only.html", {"Accept-Encoding": "gzip"})
    assert zlib.decompress(packed.body, 31) == b"<p>only</p>"


def test_brotli_goes_first(server):
    response = server.get("/pre-br/page.html", {"Accept-Encoding": "gzip, br"})
    assert (response.get("Content-Encoding"), response.body) == ("br", b"brotli")
    assert server.get("/pre-br/page.html", {"Accept-Encoding": "gzip"}).get("Content-Encoding") == "gzip"


# What changes while it is served.

def test_a_file_that_changes_is_seen_at_once(server):
    path = server.directory / "www/changing.txt"
    for number in range(5):
        path.write_text(f"version {number}")
        assert server.get("/changing.txt").text == f"version {number}"
    path.unlink()
    assert server.get("/changing.txt").status == 404


# The kernel says of its own files that they have 4096 bytes, whatever is in them: as if they became shorter between a
# look at them and their reading.
SHRINKING = Path("/sys/kernel/uevent_seqnum")


@pytest.mark.skipif(not SHRINKING.exists() or SHRINKING.stat().st_size < 100, reason="the kernel shows no such file")
@pytest.mark.parametrize("how", ["nginx", "gunicorn"])
def test_a_small_file_that_becomes_shorter_is_a_500_and_not_the_connections_end(serve, serve_nginx, how):
    if how == "nginx":
        server = serve_nginx(f"""
            log_format short '$request $status';
            server {{ listen 127.0.0.1:%PORT%; access_log access.log short; location /s/ {{ alias {SHRINKING.parent}/; }} }}
        """)
    else:
        server = serve("def application(e, s):\n    s('200 OK', [])\n    return []\n", "--static",
                       f"/s/={SHRINKING.parent}", "--access-logfile", "access.log", validate=False)
    for method in ("GET", "POST", "GET"):
        with server.connect() as client:
            answer = client.request(method, f"/s/{SHRINKING.name}")
            assert answer.status == (500 if method == "GET" else 405)
            if method == "GET":
                assert answer.get("Connection") == "close" and b"Internal Server Error" in answer.body
                assert client.end() == "eof"
    log = server.directory / "access.log"
    wait_until(lambda: len(re.findall(r"GET .* 500", log.read_text())) == 2, "both to be logged with their status")
    server.wait_log("the file became shorter while it was sent")
