"""Server-side includes."""

import gzip
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from support import build, wait_until
from support.upstream import Upstream

CONF = r"""
    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        root %DIR%/root;
        error_log stderr info;
        types { text/html html; text/plain txt; }
        ssi on;
        location / { }
        location /off/ { ssi off; }
        location /silent/ { ssi_silent_errors on; }
        location /types/ { ssi_types text/plain; }
        location /modified/ { ssi_last_modified on; }
        location /short/ { ssi_value_length 8; }
        location /raw { ssi off; return 200 "<raw $args>"; }
        location /empty { return 204; }
        location /arg { set $own "set by rewrite"; ssi_types *; default_type text/html; return 200 '<!--#echo var="own" -->'; }
        location /404 { return 404; }
        location /valued/ { ssi_value_length 3m; }
        location /sub/ { sub_filter_once off; sub_filter before after; }
        location /zip.html { gzip on; gzip_min_length 1; }
        location /pre/ { gzip_static on; gzip_vary on; }
        location /error/ { error_page 404 /error.html; }
    }
"""

PAGES = {
    "index.html": 'a<!--#include virtual="/raw?x" -->b',
    "relative/a.html": '<!--#include virtual="b.html" -->', "relative/b.html": "b of relative",
    "file.html": '<!--#include file="relative/b.html" -->',
    "two.html": '<!--#include virtual="/relative/a.html"--><!--#include virtual="/raw" wait="yes"-->',
    "climb.html": '<!--#include virtual="/relative/../../secret" -->|',
    "self.html": 'x<!--#include virtual="/self.html" -->',
    "stubs.html": '<!--#block name="b" -->x<!--#include virtual="/none" stub="b" --><!--#endblock -->'
                  '<!--#include virtual="/none" stub="b" -->|end',
    "shared-block.html": '<!--#block name="b" -->' + "x" * 300000 + "<!--#endblock -->"
                         + '<!--#include virtual="/none" stub="b" -->' * 900 + "end",
    "same-block.html": '<!--#block name="b" -->1<!--#endblock --><!--#block name="b" -->2<!--#endblock -->'
                       '<!--#include virtual="/none" stub="b" --><!--#include virtual="/open-block.html" -->'
                       '<!--#include virtual="/none" stub="o" -->',
    "open-block.html": 'o<!--#block name="o" -->pen<!--#echo var="arg_a" -->',
    "doubled.html": '<!--#set var="a" value="aaaaaaaaaaaaaaaa" -->' + '<!--#set var="a" value="$a$a" -->' * 24
                    + 'done<!--#echo var="a" -->' + '<!--#if expr="$a$a = x" -->' + "|"
                    + '<!--#include virtual="/raw?$a$a" -->',
    "valued/a.html": '<!--#set var="a" value="' + "v" * (1 << 20) + '" --><!--#echo var="a" -->|'
                     '<!--#set var="a" value="' + "w" * ((1 << 20) + 1) + '" --><!--#echo var="a" -->',
    "echoed.html": '<!--#set var="a" value="aaaaaaaaaaaaaaaa" -->' + '<!--#set var="a" value="$a$a" -->' * 15
                   + '<!--#echo var="a" -->' * 200,
    "many.html": '<!--#include virtual="/raw?1" -->' * 60,
    "echo.html": '<!--#echo var="arg_a" -->|<!--#echo var="arg_a" encoding="none" -->|'
                 '<!--#echo var="arg_a" encoding="url" -->|<!--#echo var="nothing" -->|'
                 '<!--#echo var="nothing" default="other" -->|<!--#echo var="nothing" default="" -->|',
    "set.html": '<!--#set var="a" value="1" --><!--#set var="B" value="${a}2 \\$a" --><!--#echo var="b" -->',
    "set-include.html": '<!--#include virtual="/raw?v" set="v" -->[<!--#echo var="v" encoding="none" -->]',
    "shared.html": '<!--#set var="a" value="outer" --><!--#include virtual="/inner.html" -->'
                   '<!--#echo var="a" -->',
    "inner.html": '<!--#echo var="a" --><!--#set var="a" value="inner" -->',
    "if.html": '<!--#if expr="$arg_a" -->yes<!--#else -->no<!--#endif -->',
    "equal.html": '<!--#if expr="$arg_a = one" -->1<!--#elif expr="$arg_a = two" -->2<!--#else -->0<!--#endif -->'
                  '<!--#if expr="$arg_a != one" -->!<!--#endif -->',
    "regex.html": '<!--#if expr="$arg_a = /^(?P<first>.)-(.*)\\$/" --><!--#echo var="first" -->,'
                  '<!--#echo var="2" --><!--#else -->none<!--#endif -->',
    "nested.html": '<!--#if expr="$arg_a" --><!--#include virtual="/if.html" --><!--#endif -->.',
    "block.html": '<!--#block name="one" -->the <b>block</b> <!--#echo var="arg_a" --><!--#endblock -->'
                  '<!--#include virtual="/empty" stub="one" -->|<!--#include virtual="/404" stub="one" -->|'
                  '<!--#include virtual="/raw?r" stub="one" -->',
    "stub-page.html": '<!--#block name="one" -->block<!--#endblock --><!--#include virtual="/error/x" stub="one" -->|'
                      '<!--#include virtual="/stub-inner.html" stub="one" -->',
    "stub-inner.html": 'inner <!--#include virtual="/404" stub="two" --><!--#include virtual="/404" set="x" -->',
    "time.html": '<!--#config timefmt="%s" --><!--#echo var="date_local" -->|<!--#config timefmt="%Y %Z" -->'
                 '<!--#echo var="date_gmt" -->',
    "errmsg.html": '<!--#none --><!--#config errmsg="E" --><!--#none --><!--#include -->'
                   '<!--#include virtual="/a" file="b" --><!--#echo var="a" x="y" --><!--#set var="a" -->'
                   '<!--#else -->|<!--#if expr="a ? b" -->',
    "silent/a.html": 'a<!--#none -->b',
    "off/a.html": '<!--#echo var="uri" -->', "types/a.txt": '<!--#echo var="uri" -->',
    "types/a.html": '<!--#echo var="uri" -->', "plain.txt": '<!--#echo var="uri" -->',
    "modified/a.html": "x<!--#echo var='uri' -->", "short/a.html": '<!--#echo var="123456789" -->.',
    "own.html": '<!--#include virtual="/arg" -->',
    "uri.html": '<!--#include virtual="/shown.html?b=c" -->', "shown.html":
        '<!--#echo var="uri" --> <!--#echo var="args" --> <!--#echo var="request_uri" -->',
    "sub/a.html": 'before <!--#echo var="arg_a" -->', "zip.html": 'x<!--#echo var="uri" -->' * 50,
    "pre/page.html": '<!--#include virtual="/pre/a.txt" -->.', "pre/a.txt": "as it is", "pre/a.txt.gz": gzip.compress(b"compressed"),
    "none.html": '[<!--#include virtual="$arg_a" -->]', "relative/own.html": '[<!--#include virtual="" -->]',
    "relative/index.html": "its directory",
    "error.html": 'error of <!--#echo var="request_uri" -->',
    "large.html": "t" * 100000 + '<!--#echo var="uri" -->' + "u" * 70000 + '<!--#include virtual="/big.txt" -->',
    "big.txt": "v" * 300000,
    "cut.html": "s" * 65534 + '<!--#echo var="uri" -->' + "s" * 65533 + "<!--x-->" + "e",
}


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, files={f"root/{name}": text for name, text in PAGES.items()} | {"secret": "s"})


ERROR = "[an error occurred while processing the directive]"


@pytest.mark.parametrize(("target", "text"), [
    ("/", "a<raw x>b"), ("/relative/a.html", "b of relative"), ("/file.html", "b of relative"),
    ("/two.html", "b of relative<raw >"), ("/climb.html", ERROR + "|"), ("/many.html", "<raw 1>" * 60),
    ("/echo.html?a=<b>&c", "&lt;b&gt;|<b>|%3Cb%3E|(none)|other||"), ("/set.html", "12 $a"),
    ("/set-include.html", "[<raw v>]"), ("/shared.html", "outerinner"),
    ("/if.html", "no"), ("/if.html?a=1", "yes"), ("/if.html?a=", "no"),
    ("/equal.html?a=one", "1"), ("/equal.html?a=two", "2!"), ("/equal.html?a=x", "0!"),
    ("/regex.html?a=a-bc", "a,bc"), ("/regex.html?a=abc", "none"), ("/nested.html?a=1", "no."), ("/nested.html", "."),
    ("/block.html?a=x", "the <b>block</b> x|the <b>block</b> x|<raw r>"),
    # A page of `error_page` is an error as well; an error within what is included is its own affair.
    ("/same-block.html?a=x", "1openx"),
    ("/doubled.html", ERROR * 8 + "done" + "a" * (1 << 20) + ERROR + "|" + ERROR),
    ("/valued/a.html", "v" * (1 << 20) + "|" + ERROR + "v" * (1 << 20)),
    ("/stub-page.html", f"block|inner {ERROR}"),
    ("/errmsg.html", ERROR + "EEEEEE|E"), ("/silent/a.html", "ab"), ("/off/a.html", PAGES["off/a.html"]),
    ("/types/a.txt", "/types/a.txt"), ("/types/a.html", "/types/a.html"), ("/plain.txt", PAGES["plain.txt"]),
    ("/short/a.html", ERROR + "."), ("/own.html", "set by rewrite"),
    ("/uri.html?x=y", "/shown.html b=c /uri.html?x=y"), ("/sub/a.html?a=before", "after before"),
    # Not the page's own directory.
    ("/none.html", f"[{ERROR}]"), ("/relative/own.html", "[its directory]"), ("/none.html?a=shown.html", "[/shown.html (none) /none.html?a=shown.html]"),
    ("/error/x?y", "error of /error/x?y"),
    ("/large.html", "t" * 100000 + "/large.html" + "u" * 70000 + "v" * 300000),
    ("/cut.html", "s" * 65534 + "/cut.html" + "s" * 65533 + "<!--x-->e"),
])
def test_pages(server, target, text):
    assert server.get(target).text == text


def test_what_includes_itself_ends(server):
    text = server.get("/self.html").text
    assert re.fullmatch(r"x{50,51}" + re.escape(ERROR), text)
    server.wait_log("subrequests cycle while processing \"/self.html\"")


def test_a_stub_that_includes_itself_ends(server):
    """It went on until the stack of the event loop was full."""
    text = server.get("/stubs.html").text
    assert text.startswith("xxx") and text.endswith("|end"), text[:200]
    assert server.get("/raw").status == 200


def peak(server):
    status = Path(f"/proc/{server.edge()}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.parametrize(("target", "length"), [
    ("/shared-block.html", 900 * 300000 + 3), ("/echoed.html", 200 << 19),
])
def test_what_is_put_in_often_is_there_once(serve_nginx, target, length):
    """A copy for each took the memory of all of them together, while the client waited."""
    server = serve_nginx(CONF, files={f"root/{target[1:]}": PAGES[target[1:]]})
    before = peak(server)
    received = 0
    with socket.create_connection(server.address, 60) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n".encode())
        while block := client.recv(1 << 20):
            received += len(block)
    assert length < received < length + 1000
    assert peak(server) - before < 32 << 20


def test_what_set_may_store_is_bounded(server):
    server.get("/doubled.html")
    server.wait_log(re.escape('too long value of "$a$a": more than 1048576 bytes'))


def test_time(server):
    before = int(time.time())
    second, year = server.get("/time.html").text.split("|")
    assert before <= int(second) <= int(time.time()) and year == time.strftime("%Y GMT", time.gmtime(before))


def test_fields(server):
    response = server.get("/")
    assert [response.get(name) for name in ("Last-Modified", "ETag", "Accept-Ranges")] == [None] * 3
    assert response.get("Content-Length") == "9"
    response = server.get("/modified/a.html")
    assert response.get("Last-Modified") and response.get("ETag").startswith('W/"')
    head = server.request("HEAD", "/")
    assert (head.status, head.get("Content-Length")) == (200, None)
    assert server.get("/", {"Range": "bytes=0-1"}).status == 200


def test_pages_are_compressed(server):
    response = server.get("/zip.html", {"Accept-Encoding": "gzip"})
    assert gzip.decompress(response.body) == b"x/zip.html" * 50


def test_what_is_included_is_not_taken_from_a_compressed_file(server):
    assert gzip.decompress(server.get("/pre/a.txt", {"Accept-Encoding": "gzip"}).body) == b"compressed"
    assert server.get("/pre/page.html", {"Accept-Encoding": "gzip"}).text == "as it is."


def test_conditions_and_included_files(server):
    """A condition of the client is about the page, not about what it includes."""
    date = server.get("/relative/b.html").get("Date")
    assert server.get("/file.html", {"If-Modified-Since": date, "If-None-Match": "*"}).text in ("b of relative", "")
    assert server.get("/file.html", {"If-Match": '"x"'}).status == 412


def test_errors_are_logged(server):
    server.get("/errmsg.html")
    for words in ("invalid SSI command: \"none\"", "no parameter in \"include\" SSI command",
                  "invalid parameter name: \"x\" in \"echo\" SSI command",
                  "mandatory \"value\" parameter is absent in \"set\" SSI command",
                  "invalid context of SSI command: \"else\"", "invalid expression in \"a ? b\""):
        server.wait_log(re.escape(words))


LEFT = r"""
    log_format short "$request_uri $status $body_bytes_sent";
    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        root %DIR%/root;
        access_log %DIR%/access.log short;
        error_log stderr info;
        location / { ssi on; }
        location /added/ { add_after_body /slow/1; default_type text/html; }
        location /asked/ { auth_request /slow/2; }
        location /mirrored/ { ssi on; mirror /copy; }
        location = /copy { internal; proxy_pass http://127.0.0.1:UP; }
        location /slow/ { proxy_pass http://127.0.0.1:UP; }
    }
"""


@pytest.mark.parametrize("target", ["/page.html", "/added/page.html", "/asked/page.html"])
def test_a_client_that_leaves_while_a_part_is_waited_for_gets_no_page_without_it(serve_nginx, target):
    leaves = threading.Event()

    def answer(seen, connection):
        assert leaves.wait(10)
        # Whoever is not waited for any more is cut off.
        connection.recv(1)

    page = 'before <!--#include virtual="/slow/0" --> between <!--#include virtual="/slow/3" --> after'
    with Upstream(answer) as up:
        files = {f"root{place}/page.html": page for place in ("", "/added", "/asked")}
        server = serve_nginx(LEFT.replace("UP", str(up.port)), files=files)
        with server.connect() as client:
            client.send(build("GET", target))
            wait_until(lambda: up.seen, "the part is asked for")
            client.half_close()
            leaves.set()
            assert client.end() == "eof"
        assert len(up.seen) == 1
    log = server.directory / "access.log"
    wait_until(lambda: f"{target} " in log.read_text(), "the request is logged")
    assert f"\n{target} 499 0\n" in "\n" + log.read_text()
    assert "the subrequest of an" not in server.log()


def test_what_follows_a_request_follows_one_whose_client_has_left(serve_nginx):
    with Upstream() as up:
        up.answer = lambda seen, connection: connection.recv(1) if "slow" in seen.target else up.hello(seen, None)
        page = '<!--#include virtual="/slow/0" -->'
        server = serve_nginx(LEFT.replace("UP", str(up.port)), files={"root/mirrored/page.html": page})
        with server.connect() as client:
            client.send(build("GET", "/mirrored/page.html"))
            wait_until(lambda: up.seen, "the part is asked for")
        wait_until(lambda: [seen.target for seen in up.seen] == ["/slow/0", "/copy"], "the mirror")
