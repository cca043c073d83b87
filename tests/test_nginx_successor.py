"""An answer that breaks off is gone on with from another server, if that has the same; else it is seen to be cut."""

import random
import re
import threading
import time

import pytest
from support.client import Broken
from support.server import wait_until
from support.upstream import Upstream, reset

WHOLE = random.Random(7).randbytes(3_000_000)

CONF = r"""
    log_format f '$uri $upstream_addr $upstream_status $upstream_response_length $body_bytes_sent $upstream_cache_status';
    proxy_cache_path %DIR%/cache keys_zone=c:1m;
    upstream u {{ {servers} }}
    server {{
        listen 127.0.0.1:%PORT%;
        access_log %DIR%/access.log f;
        proxy_http_version 1.1;
        proxy_set_header Connection '';
        proxy_read_timeout 3s;
        location / {{ proxy_pass http://u; {more} }}
    }}
"""


def said(body, chunked=False, fields=(), status="200 OK"):
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields)]
    if not chunked:
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode(), body
    pieces = [body[at:at + 50_000] for at in range(0, len(body), 50_000)]
    data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode(), data


class Cut(Upstream):
    """It sends the first `part` of its answer, then breaks off in its way: only once the client has had some of it."""

    def __init__(self, answer, part=0.5, way="close"):
        self.head, self.data = answer
        self.part, self.way = part, way
        super().__init__(self.cut)

    def cut(self, _, connection):
        begin = len(self.data) // 100
        connection.sendall(self.head + self.data[:begin])
        time.sleep(0.2)
        connection.sendall(self.data[begin:int(len(self.data) * self.part)])
        time.sleep(0.2)
        if self.part == 1:
            return b""
        if self.way == "reset":
            return reset(connection)
        if self.way == "hang":
            time.sleep(5)
        return None


@pytest.fixture
def group(serve_nginx):
    """Starts a site in front of these, who are asked in this order."""
    opened = []

    def start(*ups, more=""):
        opened.extend(ups)
        servers = [f"server 127.0.0.1:{up.port} {'' if n == 0 else 'backup'} max_fails=0;" for n, up in enumerate(ups)]
        return serve_nginx(CONF.format(servers=" ".join(servers), more=more))

    yield start
    for up in opened:
        up.close()


def logged(site):
    lines = (site.directory / "access.log").read_text().splitlines()
    return "".join(line for line in lines[-1:] if line.startswith("/page "))


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("way", ["close", "reset", "hang"])
def test_another_server_goes_on_with_it(group, chunked, way):
    first, second = Cut(said(WHOLE, chunked), way=way), Cut(said(WHOLE, chunked), part=1)
    site = group(first, second)
    answer = site.get("/page")
    assert answer.status == 200
    assert answer.body == WHOLE
    wait_until(lambda: logged(site), "the request is logged")
    addresses = f"127.0.0.1:{first.port}, 127.0.0.1:{second.port}"
    assert re.fullmatch(rf"/page {addresses} 200, 200 \d+, {len(WHOLE)} {len(WHOLE)} -", logged(site)), logged(site)
    words = {"close": r"upstream prematurely closed connection", "reset": r"recv\(\) failed \(104: Connection reset by peer\)",
             "hang": r"upstream timed out \(110: Connection timed out\)"}[way]
    site.wait_log(rf'\[error\] .*{words} while reading upstream, client: .*"GET /page HTTP/1.1", '
                  rf'upstream: "http://127.0.0.1:{first.port}/page"')
    # The connection of a server that has answered to the end is an honest one.
    assert site.get("/page").body == WHOLE


def test_one_after_the_other_breaks_off(group):
    ups = [Cut(said(WHOLE), part=part) for part in (0.3, 0.2, 0.6, 1)]
    site = group(*ups)
    assert site.get("/page").body == WHOLE
    wait_until(lambda: logged(site), "the request is logged")
    addresses = ", ".join(f"127.0.0.1:{up.port}" for up in ups)
    assert logged(site).startswith(f"/page {addresses} 200, 200, 200, 200 ")


@pytest.mark.parametrize("other", [
    said(b"x" + WHOLE[1:]),
    said(WHOLE[:1_400_000] + b"x" + WHOLE[1_400_001:]),
    said(WHOLE + b"x"),
    said(WHOLE, chunked=True),
    said(WHOLE, fields=[("ETag", '"2"')]),
    said(WHOLE, fields=[("Content-Encoding", "gzip")]),
    said(WHOLE, status="203 Other"),
    said(b"no", status="500 Oh"),
    said(WHOLE, fields=[("Cache-Control", "private")]),
    said(WHOLE, fields=[("Set-Cookie", "a=b")]),
    said(WHOLE, fields=[("Vary", "Cookie")]),
    said(WHOLE, fields=[("X-Accel-Redirect", "/other")]),
], ids=["first", "middle", "longer", "chunks", "etag", "coding", "status", "error", "cache", "cookie", "vary", "accel"])
def test_another_answer_is_not_taken_for_the_rest(group, other):
    first, second = Cut(said(WHOLE)), Cut(other, part=1)
    site = group(first, second)
    with pytest.raises((Broken, ConnectionResetError)):
        site.get("/page")
    assert len(second.seen) == 1
    site.wait_log(rf'\[error\] .*upstream prematurely closed connection while reading upstream, .*:{first.port}/page"')
    site.wait_log(rf'\[error\] .*upstream sent another response than the one that broke off, .*:{second.port}/page"')
    site.wait_log(r"\[error\] .*no other upstream could go on with the response")


@pytest.mark.parametrize("more, fields, method", [
    ("proxy_next_upstream off;", [], "GET"),
    ("proxy_next_upstream timeout;", [], "GET"),
    ("proxy_next_upstream_tries 1;", [], "GET"),
    ("proxy_next_upstream_timeout 100ms;", [], "GET"),
    ("proxy_buffering off;", [], "GET"),
    ("proxy_limit_rate 100m;", [], "GET"),
    ("", [("X-Accel-Buffering", "no")], "GET"),
    ("", [("Content-Type", "Text/Event-Stream; charset=utf-8")], "GET"),
    ("", [], "POST"),
    ("", [], "PUT"),
])
def test_who_is_not_asked_again(group, more, fields, method):
    answer = said(WHOLE, fields=fields)
    first, second = Cut(answer), Cut(answer, part=1)
    site = group(first, second, more=more)
    with pytest.raises((Broken, ConnectionResetError)):
        site.request(method, "/page", body=b"x" if method != "GET" else b"")
    assert len(first.seen) == 1
    assert second.seen == []


def test_what_differs_from_server_to_server_is_no_other_answer(group):
    def fields(server):
        return [("Date", f"Mon, 30 Nov 2026 00:00:0{server} GMT"), ("Server", f"s{server}"), ("Age", str(server)),
                ("X-Served-By", f"s{server}"), ("Via", f"1.1 s{server}"), ("Vary", "Accept"), ("Cache-Control", "no-cache")]

    site = group(Cut(said(WHOLE, fields=fields(1))), Cut(said(WHOLE, fields=fields(2)), part=1))
    assert site.get("/page").body == WHOLE


def test_who_ends_without_saying_so_is_not_asked_to_go_on(group):
    """Should it break off too, half an answer would look like the whole."""
    half = b"HTTP/1.1 200 OK\r\n\r\n" + WHOLE[:2_000_000]
    first, second = Cut(said(WHOLE, chunked=True)), Upstream(lambda _, connection: connection.sendall(half))
    site = group(first, second)
    with pytest.raises((Broken, ConnectionResetError)):
        site.get("/page")
    assert len(second.seen) == 1


def test_nobody_else_is_there(group):
    first, second = Cut(said(WHOLE)), Cut(said(WHOLE))
    second.close()
    site = group(first, second)
    with pytest.raises((Broken, ConnectionResetError)):
        site.get("/page")
    site.wait_log(rf"\[error\] .*connect\(\) failed \(111: Connection refused\) while connecting to upstream, .*:{second.port}/page")


def test_a_stream_of_unknown_length_is_not_waited_for_long(group):
    """Who breaks off in a stream of things as they happen: the next one begins anew, and would be waited for for ever."""
    def events(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"3\r\nx\r\n\r\n")
            time.sleep(0.5)

    first, second = Cut(said(WHOLE, chunked=True)), Upstream(events)
    site = group(first, second)
    begun = time.monotonic()
    with site.connect(timeout=30) as client, pytest.raises((Broken, ConnectionResetError)):
        client.request("GET", "/page")
    assert time.monotonic() - begun > 9
    site.wait_log(rf"upstream took too long to come as far as the one that broke off, .*:{second.port}/page")


def test_what_is_kept_is_whole(group):
    first, second = Cut(said(WHOLE, fields=[("Cache-Control", "max-age=60")])), \
        Cut(said(WHOLE, fields=[("Cache-Control", "max-age=60")]), part=1)
    site = group(first, second, more="proxy_cache c;")
    assert site.get("/page").body == WHOLE
    assert site.get("/page").body == WHOLE
    wait_until(lambda: logged(site).endswith(" HIT"), "the cache has it")
    assert len(first.seen) == len(second.seen) == 1


def test_a_client_that_leaves_meanwhile_leaves_nothing(group):
    first, second = Cut(said(WHOLE)), Cut(said(WHOLE), way="hang", part=0.1)
    site = group(first, second)
    with site.connect() as client:
        client.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: second.seen, "the second is asked")
        client.reset()
    wait_until(lambda: logged(site), "the request is logged")
    second.wait_open(0)


def test_a_short_answer_that_drips_is_passed_on_in_the_end(group):
    """While another could be asked it is held back; each byte is a sign of life, so it was for ever."""
    go = threading.Event()

    def drips(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n")
        for _ in range(200):
            connection.sendall(b"x")
            go.wait(0.5)
        return b""

    first, second = Upstream(drips), Upstream()
    site = group(first, second)
    with site.connect(timeout=30) as client:
        client.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.head().status == 200
        go.set()
        assert client._exactly(200) == b"x" * 200
    assert second.seen == []


@pytest.mark.parametrize("size", [1000, 200_000])
@pytest.mark.parametrize("more", ["", "proxy_buffering off;", "proxy_next_upstream off;"])
def test_a_page_that_always_breaks_off_takes_no_server_out(serve_nginx, size, more):
    """It made a group's servers one after the other look as if they were down, and all else 502."""
    def answer(seen, connection):
        if seen.target == "/who":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nme"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * (size // 2))
        time.sleep(0.1)
        return None

    with Upstream(answer) as first, Upstream(answer) as second:
        servers = f"server 127.0.0.1:{first.port}; server 127.0.0.1:{second.port};"
        site = serve_nginx(CONF.format(servers=servers, more=more))
        for _ in range(3):
            try:
                assert site.get("/broken").status == 502
            except (Broken, ConnectionResetError):
                pass
            assert site.get("/who").text == "me"
