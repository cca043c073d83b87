"""WebSockets on HTTP/2: Extended CONNECT (RFC 8441), passed on to a server that speaks HTTP/1."""

import base64
import socket
import struct

import pytest
from support.http2 import (
    CONNECT_ERROR,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PROTOCOL_ERROR,
    RST_STREAM,
    Http2,
    frame,
)
from support.server import wait_until
from support.upstream import Upstream

ENABLE_CONNECT_PROTOCOL = 8
CONF = """
    log_format all '"$request" $status $body_bytes_sent $http_upgrade';
    server {
        listen 127.0.0.1:%PORT%;
        http2 on;
        access_log %DIR%/access.log all;
        root %DIR%/root;
        location /ws/ {
            proxy_pass http://127.0.0.1:UPSTREAM;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout 3s;
        }
        location /dropped/ { proxy_pass http://127.0.0.1:UPSTREAM; }
        location /text { return 200 text; }
    }
"""
SWITCHING = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n")


def echo(seen, connection):
    """Greets, and says everything again in capitals until it hears `bye`."""
    if seen.get("Upgrade") != "websocket":
        return b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno"
    connection.sendall(SWITCHING + b"hello;")
    while True:
        data = connection.recv(65536)
        if not data:
            return None
        if data.endswith(b"break"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return None
        connection.sendall(data.upper())
        if data.endswith(b"bye"):
            return None


@pytest.fixture(scope="module")
def upstream():
    with Upstream(echo) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def site(serve_nginx_module, upstream):
    return serve_nginx_module(CONF.replace("UPSTREAM", str(upstream.port)), files={"root/file": "file"})


@pytest.fixture
def client(site):
    with Http2(site.address) as client:
        yield client


def begin(client, stream, path="/ws/chat", *more, protocol="websocket", method="CONNECT"):
    fields = [(":method", method), (":protocol", protocol), (":scheme", "http"), (":path", path),
              (":authority", "a.example"), ("sec-websocket-version", "13"), *more]
    client.send(frame(HEADERS, END_HEADERS, stream, client.block(fields)))
    return client.until(lambda f: f.stream == stream and f.kind in (HEADERS, RST_STREAM))


def hears(client, stream, wanted):
    got = b""
    while len(got) < len(wanted):
        data = client.until(lambda f: f.kind == DATA and f.stream == stream)
        got += data.payload
        client.window(0, len(data.payload) or 1)
        client.window(stream, len(data.payload) or 1)
        assert not data.flags & END_STREAM or got == wanted
    assert got == wanted


def test_the_setting_says_that_it_may(client):
    assert client.settings[ENABLE_CONNECT_PROTOCOL] == 1


def test_bytes_go_both_ways(client, upstream, site):
    head = begin(client, 1, "/ws/chat?a=1", ("origin", "http://a.example"))
    fields = dict(head.fields)
    assert fields[":status"] == "200" and not head.flags & END_STREAM
    assert fields["sec-websocket-protocol"] == "chat"
    for name in ("upgrade", "connection", "sec-websocket-accept", "content-length", "transfer-encoding"):
        assert name not in fields
    seen = upstream.seen[-1]
    assert (seen.method, seen.target) == ("GET", "/ws/chat?a=1")
    assert (seen.get("Upgrade"), seen.get("Connection")) == ("websocket", "upgrade")
    assert len(base64.b64decode(seen.get("sec-websocket-key"))) == 16
    assert seen.get("sec-websocket-version") == "13" and seen.get("origin") == "http://a.example"
    assert not seen.all("Content-Length") and not seen.all("Transfer-Encoding")
    hears(client, 1, b"hello;")
    client.data(1, b"one")
    hears(client, 1, b"ONE")
    # Other requests of the connection are answered meanwhile.
    assert client.get(3, "/text").body == b"text"
    big = b"x" * 60_000
    client.data(1, big[:16_000])
    client.data(1, big[16_000:32_000])
    hears(client, 1, big[:32_000].upper())
    client.data(1, b"bye")
    hears(client, 1, b"BYE")
    end = client.until(lambda f: f.stream == 1 and f.kind == DATA)
    assert end.flags & END_STREAM and not end.payload
    wait_until(lambda: '"GET /ws/chat?a=1 HTTP/2.0" 200 32012 websocket' in (site.directory / "access.log").read_text(),
               "the line in the log")


def test_a_client_that_ends_ends_the_other_side(client, upstream):
    begin(client, 1)
    hears(client, 1, b"hello;")
    open_before = len(upstream.open)
    client.data(1, b"", end=True)
    client.until(lambda f: f.stream == 1 and f.kind == DATA and f.flags & END_STREAM)
    upstream.wait_open(open_before - 1)


def test_a_client_that_cancels_ends_the_other_side(client, upstream):
    begin(client, 1)
    hears(client, 1, b"hello;")
    open_before = len(upstream.open)
    client.reset(1)
    upstream.wait_open(open_before - 1)
    assert client.get(3, "/text").status == 200


def test_a_connection_that_breaks_off_is_a_reset(client):
    begin(client, 1)
    hears(client, 1, b"hello;")
    client.data(1, b"break")
    assert client.reset_of(1) == CONNECT_ERROR
    assert client.get(3, "/text").status == 200


def test_silence_ends_it(client):
    begin(client, 1)
    hears(client, 1, b"hello;")
    client.until(lambda f: f.stream == 1 and f.kind == DATA and f.flags & END_STREAM)


def test_windows_hold_the_other_side_back(client):
    client.windows = False
    begin(client, 1)
    for _ in range(4):
        client.data(1, b"y" * 16_000)
    got = 0
    while got < 6 + 64_000:
        data = client.until(lambda f: f.kind == DATA and f.stream == 1)
        got += len(data.payload)
        client.window(0, len(data.payload))
        client.window(1, len(data.payload))
    assert got == 6 + 64_000


@pytest.mark.parametrize("path, status", [("/text", "501"), ("/file", "501"), ("/none", "404"), ("/dropped/", "426")])
def test_what_is_no_websocket_is_not_taken_for_one(client, path, status):
    head = begin(client, 1, path)
    assert dict(head.fields)[":status"] == status
    assert client.get(3, "/text").status == 200


def test_other_protocols_are_refused(client):
    assert dict(begin(client, 1, protocol="connect-udp").fields)[":status"] == "405"
    assert client.get(3, "/text").status == 200


def test_a_length_is_refused(client):
    assert dict(begin(client, 1, "/ws/", ("content-length", "5")).fields)[":status"] == "400"


def test_only_connect_has_a_protocol(client):
    refused = begin(client, 1, method="GET")
    assert (refused.kind, refused.code) == (RST_STREAM, PROTOCOL_ERROR)
