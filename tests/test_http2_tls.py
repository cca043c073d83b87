"""HTTP/2 within TLS: who chooses it, and that nothing else changes."""

import os
import shutil
import ssl
import subprocess

import h2.config
import h2.connection
import h2.events
import pytest
from support.http2 import Http2
from support.server import which
from support.tls import Authority, TlsClient, context

AUTHORITY = Authority()
ONE = AUTHORITY.issue("a.example", "b.example")
BIG = os.urandom(3 << 20)
CONF = """
    ssl_certificate a.pem;
    ssl_certificate_key a.key;
    root %DIR%/root;
    server {
        listen 127.0.0.1:%PORT% ssl default_server;
        server_name a.example;
        http2 on;
        location = / { return 200 "$http2 $server_protocol $scheme $ssl_alpn_protocol"; }
        location = /echo { client_max_body_size 8m; client_body_in_single_buffer on; return 200 "$request_length"; }
        location = /kept { client_max_body_size 8m; dav_methods PUT; }
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name b.example;
        location / { return 200 "$http2|$server_protocol|$ssl_alpn_protocol"; }
    }
    server {
        listen 127.0.0.1:%PORT1% ssl http2;
        location / { return 200 "$http2"; }
    }
"""


@pytest.fixture(scope="module")
def site(serve_nginx_module):
    return serve_nginx_module(CONF, files={"a.pem": ONE.chain, "a.key": ONE.key, "root/big": BIG})


def connect(site, name="a.example", alpn=("h2", "http/1.1"), port="%PORT%", **options):
    return TlsClient(("127.0.0.1", site.ports[port]), context(AUTHORITY, alpn=alpn, **options), name)


def test_alpn_chooses(site):
    for name, alpn, chosen in [
        ("a.example", ("h2", "http/1.1"), "h2"), ("a.example", ("http/1.1", "h2"), "h2"), ("a.example", ("http/1.1",), "http/1.1"),
        ("a.example", ("http/1.0",), "http/1.0"), ("a.example", (), None),
        ("b.example", ("h2", "http/1.1"), "http/1.1"),
    ]:
        with connect(site, name, alpn) as client:
            assert client.socket.selected_alpn_protocol() == chosen
            if chosen != "h2":
                answer = client.request(fields=[("Host", name)])
                assert answer.status == 200
                if name == "b.example":
                    assert answer.text == "|HTTP/1.1|http/1.1"
    with connect(site, alpn=("h2",), port="%PORT1%", name="a.example") as client:
        assert client.socket.selected_alpn_protocol() == "h2"


def test_a_client_with_other_protocols_only_is_refused(site):
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        connect(site, alpn=("spdy/3",))
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        connect(site, "b.example", alpn=("h2",))


def wrap(site):
    return lambda raw: context(AUTHORITY, alpn=("h2",)).wrap_socket(raw, server_hostname="a.example")


def test_variables_tell(site):
    with Http2(("127.0.0.1", site.port), wrap=wrap(site)) as client:
        answer = client.get(1, "/")
        assert answer.status == 200
        assert bytes(answer.body).decode() == "h2 HTTP/2.0 https h2"


def test_without_alpn_the_preface_of_http2_is_no_request(site):
    with connect(site, alpn=()) as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.response().status in (400, 505)


def test_large_bodies_both_ways_by_another_implementation(site):
    config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
    with connect(site, alpn=("h2",)) as client:
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        fields = [(":scheme", "https"), (":authority", "a.example")]
        for stream in (1, 3, 5):
            connection.send_headers(stream, [(":method", "GET"), (":path", "/big"), *fields], end_stream=True)
        bodies = {1: bytearray(), 3: bytearray(), 5: bytearray()}
        ended = set()
        client.send(connection.data_to_send())
        while len(ended) < 3:
            data = client.socket.recv(65536)
            assert data
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    ended.add(event.stream_id)
            client.send(connection.data_to_send())
        assert all(bytes(body) == BIG for body in bodies.values())


def test_curl_speaks_it(site, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_bytes(AUTHORITY.pem)
    done = subprocess.run(
        [which("curl"), "-sS", "--http2", "-w", "%{http_version}", "-o", tmp_path / "out", "--cacert", authority,
         "--resolve", f"a.example:{site.port}:127.0.0.1", f"https://a.example:{site.port}/big"],
        capture_output=True, timeout=30, text=True)
    assert (done.returncode, done.stdout) == (0, "2"), done.stderr
    assert (tmp_path / "out").read_bytes() == BIG


def test_httpx_speaks_it(site):
    import httpx
    trusting = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    url, extra = f"https://127.0.0.1:{site.port}", {"sni_hostname": "a.example"}
    with httpx.Client(http2=True, verify=trusting, headers={"Host": "a.example"}, timeout=30) as client:
        answer = client.get(f"{url}/", extensions=extra)
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        assert answer.text.split()[:2] == ["h2", "HTTP/2.0"]
        answers = [client.get(f"{url}/big", extensions=extra) for _ in range(3)]
        assert all(answer.content == BIG and answer.http_version == "HTTP/2" for answer in answers)
        assert client.put(f"{url}/kept", content=BIG, extensions=extra).status_code in (201, 204)
        assert client.get(f"{url}/kept", extensions=extra).content == BIG
    with httpx.Client(http2=False, verify=trusting, headers={"Host": "a.example"}, timeout=30) as client:
        assert client.get(f"{url}/big", extensions=extra).http_version == "HTTP/1.1"


@pytest.mark.skipif(not shutil.which("nghttp"), reason="needs nghttp")
def test_nghttp_speaks_it(site):
    done = subprocess.run(
        [which("nghttp"), "-nv", "--no-verify-peer", f"https://127.0.0.1:{site.port}/big", "-H", ":authority: a.example"],
        capture_output=True, timeout=60, text=True)
    assert done.returncode == 0, done.stderr
    assert ":status: 200" in done.stdout and f"content-length: {len(BIG)}" in done.stdout
    assert "error_code=NO_ERROR" in done.stdout and "RST_STREAM" not in done.stdout
