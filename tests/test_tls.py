"""TLS with an nginx.conf: certificates, names, versions, and the ends of connections."""

import contextlib
import datetime
import os
import signal
import socket
import ssl
import subprocess
import time

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from support.client import Client
from support.server import wait_until, which
from support.tls import Authority, TlsClient, context

AUTHORITY = Authority(kind="rsa")
INTERMEDIATE = Authority("Intermediate", AUTHORITY)
CERTIFICATES = {
    "a": AUTHORITY.issue("a.example"),
    "rsa": AUTHORITY.issue("b.example", "x.b.example", kind="rsa"),
    "ec": INTERMEDIATE.issue("b.example", "x.b.example"),
    "regex": AUTHORITY.issue("r1.example"),
}
BIG = os.urandom(1 << 20)
FILES = {
    **{f"{name}.pem": one.chain for name, one in CERTIFICATES.items()},
    **{f"{name}.key": one.key for name, one in CERTIFICATES.items()},
    "old.key": CERTIFICATES["regex"].locked_key(b"second", traditional=True),
    "locked.key": CERTIFICATES["rsa"].locked_key(b"second"),
    "passwords": "first\nsecond\n",
    "root/big": BIG,
    "root/small": "small",
}

CONF = """
    ssl_certificate a.pem;
    ssl_certificate_key a.key;
    root %DIR%/root;
    sendfile on;
    default_type text/plain;
    client_header_timeout 2s;
    keepalive_timeout 5s;

    server {
        listen 127.0.0.1:%PORT% ssl default_server;
        server_name a.example;
        location = / {
            return 200 "$ssl_protocol $ssl_server_name $ssl_session_reused $https $scheme $ssl_cipher $ssl_curve";
        }
        location = /offered { return 200 "$ssl_ciphers $ssl_curves"; }
        location = /redirect/ { return 301 /there; }
        location /slow/ { limit_rate 200k; alias %DIR%/root/; }
        location /chunks/ { sub_filter_types *; sub_filter nothing nothing; alias %DIR%/root/; }
        error_page 497 /plain;
        location = /plain { return 400 "plain on $server_port $scheme"; }
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name b.example *.b.example;
        ssl_certificate rsa.pem;
        ssl_certificate ec.pem;
        ssl_certificate_key locked.key;
        ssl_certificate_key ec.key;
        ssl_password_file passwords;
        ssl_prefer_server_ciphers on;
        ssl_ciphers ECDHE+CHACHA20:ECDHE+AESGCM;
        ssl_ecdh_curve secp384r1;
        return 200 "b $ssl_cipher $ssl_curve";
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name ~^r\\d\\.example$;
        ssl_certificate regex.pem;
        ssl_certificate_key old.key;
        ssl_password_file passwords;
        ssl_protocols TLSv1.2;
        return 200 "regex $ssl_protocol";
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name nobody.example;
        ssl_reject_handshake on;
    }
    server {
        listen 127.0.0.1:%PORT1% ssl;
        listen unix:%DIR%/tls.sock ssl;
        ssl_reject_handshake on;
    }
    server {
        listen 127.0.0.1:%PORT1% ssl;
        listen unix:%DIR%/tls.sock ssl;
        server_name a.example;
        return 200 "only by name";
    }
"""


@pytest.fixture(scope="module")
def site(serve_nginx_module):
    return serve_nginx_module(CONF, files=FILES)


def connect(site, name="a.example", port="%PORT%", **options):
    made = context(AUTHORITY, **options)
    return TlsClient(("127.0.0.1", site.ports[port]), made, name)


def test_both_versions_are_spoken(site):
    for version, text in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        with connect(site, version=version) as client:
            assert client.socket.version() == text
            answer = client.request()
            words = answer.text.split()
            assert words[:5] == [text, "a.example", ".", "on", "https"]
            assert words[5] == client.socket.cipher()[0]
            assert client.request().text == answer.text


def test_what_the_client_offers_is_told(site):
    with connect(site, version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") as client:
        suites, groups = client.request(target="/offered").text.split()
        assert suites == "ECDHE-ECDSA-AES128-GCM-SHA256"
        assert "X25519" in groups.split(":")


@pytest.mark.parametrize("name, shown", [
    ("a.example", "a.example"), ("unknown.example", "a.example"), (None, "a.example"),
    ("b.example", "b.example"), ("B.Example", "b.example"), ("x.b.example", "b.example"), ("r1.example", "r1.example"),
])
def test_the_certificate_is_that_of_the_name(site, name, shown):
    made = context(AUTHORITY)
    made.check_hostname = False
    with TlsClient(("127.0.0.1", site.port), made, name) as client:
        assert client.subject[0] == shown


def test_settings_are_those_of_the_name(site):
    with connect(site, "r1.example") as client:
        assert client.request(fields=[("Host", "r1.example")]).text == "regex TLSv1.2"
    with connect(site, "b.example", version=ssl.TLSVersion.TLSv1_2) as client:
        text = client.request(fields=[("Host", "b.example")]).text
        assert text == "b ECDHE-ECDSA-CHACHA20-POLY1305 secp384r1"
    with pytest.raises(ssl.SSLError):
        connect(site, "r1.example", version=ssl.TLSVersion.TLSv1_3)


def test_a_client_that_knows_only_rsa_gets_that_certificate(site):
    for ciphers, kind in (("ECDHE-RSA-AES128-GCM-SHA256", "rsa"), ("ECDHE-ECDSA-AES128-GCM-SHA256", "ec")):
        with connect(site, "b.example", version=ssl.TLSVersion.TLSv1_2, ciphers=ciphers) as client:
            assert client.key_type == kind
            assert client.request(fields=[("Host", "b.example")]).text.startswith(f"b {ciphers}")
    with connect(site, "b.example") as client:
        assert client.key_type == "ec", "the one that costs less is taken if both would do"


def test_rejected_handshakes(site):
    for name, port in (("nobody.example", "%PORT%"), (None, "%PORT1%"), ("other.example", "%PORT1%")):
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME|unrecognized name"):
            made = context()
            TlsClient(("127.0.0.1", site.ports[port]), made, name)
    with connect(site, port="%PORT1%") as client:
        assert client.request(fields=[("Host", "a.example")]).text == "only by name"


def test_tls_on_a_unix_socket(site):
    with TlsClient(str(site.directory / "tls.sock"), context(AUTHORITY)) as client:
        assert client.request(fields=[("Host", "a.example")]).text == "only by name"
    with Client(str(site.directory / "tls.sock")) as client:
        assert client.request().status == 400


def test_plain_http_is_told_that_it_is_wrong_here(site):
    with site.connect() as client:
        answer = client.request()
        assert (answer.status, answer.text) == (400, f"plain on {site.port} http")
        assert answer.get("connection") == "close"
    with site.connect("%PORT1%") as client:
        answer = client.request()
        assert answer.status == 400
        assert "The plain HTTP request was sent to HTTPS port" in answer.text


def test_redirects_stay_within_tls(site):
    with connect(site) as client:
        assert client.request(target="/redirect/").get("location") == f"https://test.example:{site.port}/there"


@pytest.mark.parametrize("target", ["/big", "/slow/big", "/chunks/big"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_bodies_arrive_whole(site, target, version):
    if target.startswith("/slow") and version == ssl.TLSVersion.TLSv1_2:
        pytest.skip("once is enough")
    with connect(site, version=version) as client:
        answer = client.request(target=target)
        assert answer.body == BIG
        assert client.request(target="/small").text == "small"


def test_a_client_that_reads_slowly_gets_everything(site):
    made = context(AUTHORITY)
    with TlsClient(("127.0.0.1", site.port), made, receive_buffer=4096) as client:
        client.send(b"GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n" * 2)
        time.sleep(0.5)
        for _ in range(2):
            assert client.response().body == BIG


def test_pipelined_requests_in_one_record_and_a_request_in_many(site):
    with connect(site) as client:
        client.send(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        assert [client.response().text for _ in range(10)] == ["small"] * 10
        for byte in b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n":
            client.send(bytes([byte]))
        assert client.response().text == "small"


def test_the_end_is_said(site):
    # What is cut off ends without close_notify, so an end with it can be told from one.
    with connect(site) as client:
        client.send(b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.response().text == "small"
        assert client.socket.recv(1) == b""
    with connect(site) as client:
        client.send(b"GET /small HTTP/1.0\r\n\r\n")
        assert client.response().text == "small"
        assert client.socket.recv(1) == b""


def test_a_client_that_only_stops_sending_gets_its_response(site):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context(AUTHORITY).wrap_bio(incoming, outgoing, server_hostname="a.example")
    with site.connect() as client:
        def until(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    client.send(outgoing.read())
                    data = client.socket.recv(65536)
                    incoming.write(data) if data else incoming.write_eof()

        until(session.do_handshake)
        session.write(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(ssl.SSLWantReadError):
            session.unwrap()
        received = bytearray()
        with pytest.raises(ssl.SSLZeroReturnError):
            while True:
                received += until(lambda: session.read(65536))
        assert received.endswith(BIG), "and the server says farewell behind it"


def test_garbage_instead_of_a_hello(site):
    for garbage in (b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"\x80\x2e\x01\x00\x02" + b"z" * 60,
                    b"\x16\x03\x01\x00\x00" * 1000, b"\x16\x00\x00\x00\x10" + bytes(16)):
        with site.connect() as client:
            try:
                client.send(garbage)
                while client.socket.recv(4096):
                    pass
            except (ConnectionResetError, BrokenPipeError):
                pass
    with connect(site) as client:
        assert client.request(target="/small").text == "small"


def test_a_handshake_that_does_not_end_is_given_up(site):
    begun = time.monotonic()
    with site.connect() as client:
        client.send(b"\x16\x03\x01")
        assert client.socket.recv(1) == b""
        assert time.monotonic() - begun >= 1.5, "client_header_timeout is the time for it"


def test_many_handshakes_that_do_not_end(site):
    idle = [site.connect() for _ in range(200)]
    try:
        for one in idle:
            one.send(b"\x16\x03\x01\x02\x00\x01")
        with connect(site) as client:
            assert client.request(target="/small").text == "small"
    finally:
        for one in idle:
            one.close()


def test_bytes_that_were_changed_end_the_connection(site):
    with connect(site) as client:
        assert client.request(target="/small").text == "small"
        raw = socket.socket(fileno=os.dup(client.socket.fileno()))
        with raw:
            raw.sendall(b"\x17\x03\x03\x00\x20" + os.urandom(32))
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                client.socket.recv(1)


def test_a_record_that_is_too_large_ends_the_connection(site):
    with connect(site) as client:
        assert client.request(target="/small").text == "small"
        with socket.socket(fileno=os.dup(client.socket.fileno())) as raw:
            raw.sendall(b"\x17\x03\x03\xff\xff" + os.urandom(1000))
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                client.socket.recv(1)


def records(message, size):
    """A message of the handshake, cut into records."""
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part
                    for part in (message[at:at + size] for at in range(0, len(message), size)))


@pytest.mark.parametrize("size", [1, 100, 16384])
def test_a_hello_without_an_end_is_not_gathered(site, size):
    """It says that 16 MiB will come."""
    memory = site.memory()
    for _ in range(5):
        with site.connect() as client:
            try:
                client.send(records(b"\x01\xff\xff\xff" + bytes(200_000), size))
                while client.socket.recv(4096):
                    pass
            except (ConnectionResetError, BrokenPipeError):
                pass
    assert site.memory() - memory < 4 << 20
    with connect(site) as client:
        assert client.request(target="/small").text == "small"


def test_half_handshakes_hold_little(site):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context().wrap_bio(incoming, outgoing, server_hostname="a.example").do_handshake()
    hello = outgoing.read()
    memory = site.memory()
    idle = [site.connect() for _ in range(300)]
    try:
        for one in idle:
            one.send(hello)
        for one in idle:
            assert one.socket.recv(1) == b"\x16", "the server's hello"
        with connect(site) as client:
            assert client.request(target="/small").text == "small"
        assert site.memory() - memory < 300 * (64 << 10)
    finally:
        for one in idle:
            one.close()


@pytest.mark.parametrize("version, letter, most", [("-tls1_2", "R", 1), ("-tls1_3", "K", 100)])
def test_a_client_that_begins_anew_again_and_again_is_sent_away(site, version, letter, most):
    """By renegotiation, which is refused, and by requests for new keys."""
    process = subprocess.Popen(
        [which("openssl"), "s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", "a.example", version],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        # Each line is read by itself, and is an order.
        for _ in range(2000):
            process.stdin.write(letter.encode() + b"\n")
            process.stdin.flush()
            if process.poll() is not None:
                break
            time.sleep(0.002)
        wait_until(lambda: process.poll() is not None, "the client to be sent away", 5)
    except BrokenPipeError:
        pass
    finally:
        process.kill()
    shown = process.stdout.read().decode("latin-1")
    process.stdin = None
    process.communicate()
    assert 0 < shown.count("RENEGOTIATING") + shown.count("KEYUPDATE") <= most, shown
    with connect(site) as client:
        assert client.request(target="/small").text == "small"


def test_an_idle_connection_is_ended_properly(site):
    with connect(site) as client:
        assert client.request(target="/small").text == "small"
        assert client.socket.recv(1) == b"", "after keepalive_timeout, with close_notify"


def test_curl_and_openssl_get_on_with_it(site, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_bytes(AUTHORITY.pem)
    url = f"https://a.example:{site.port}/big"
    done = subprocess.run(
        [which("curl"), "-sS", "--cacert", authority, "--resolve", f"a.example:{site.port}:127.0.0.1", url],
        capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == BIG
    done = subprocess.run(
        [which("openssl"), "s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", "b.example", "-CAfile",
         authority, "-verify_return_error", "-showcerts"], input=b"", capture_output=True, timeout=30)
    assert b"Verify return code: 0 (ok)" in done.stdout
    assert b"CN = Intermediate" in done.stdout, "the chain is sent"


@pytest.mark.parametrize("wishes", [
    ["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"],
    ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
    ["-tls1_2", "-sigalgs", "rsa_pss_rsae_sha256"],
    ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
    ["-tls1_2", "-cipher", "AES128-SHA"],
], ids=["1.3_signatures", "1.3_suite", "1.2_signatures", "1.2_suite_of_another_key", "1.2_suite"])
def test_a_client_that_can_check_no_certificate_is_told_that_the_handshake_failed(site, wishes):
    done = subprocess.run(
        [which("openssl"), "s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", "a.example", *wishes],
        input=b"", capture_output=True, timeout=30)
    assert b"alert handshake failure" in done.stderr, done.stderr


# Configurations

def test_a_reload_brings_a_new_certificate_and_a_broken_one_changes_nothing(serve_nginx):
    conf = """
        server {
            listen 127.0.0.1:%PORT% ssl;
            ssl_certificate a.pem;
            ssl_certificate_key a.key;
            location / { return 200 "here $connection_requests"; }
        }
    """
    first, second = AUTHORITY.issue("a.example"), AUTHORITY.issue("a.example")
    site = serve_nginx(conf, files={"a.pem": first.chain, "a.key": first.key})

    def serial():
        with connect(site) as client:
            return int(client.socket.getpeercert()["serialNumber"], 16)

    assert serial() == first.x509.serial_number
    with connect(site) as old:
        assert old.request().text == "here 1"
        site.write("a.pem", second.chain)
        site.write("a.key", second.key)
        site.signal(1)
        wait_until(lambda: serial() == second.x509.serial_number, "the new certificate")
        assert old.request().text == "here 2"
    site.write("a.key", first.key)
    site.signal(1)
    site.wait_log(r"cannot load certificate key .*mismatch")
    assert serial() == second.x509.serial_number


def test_keys_of_the_super_user_are_read_by_the_master_only(serve_nginx):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    one = AUTHORITY.issue("a.example")
    site = serve_nginx("""
        user nobody nogroup;
        events {}
        http {
            access_log off;
            server {
                listen 127.0.0.1:%PORT% ssl;
                ssl_certificate a.pem;
                ssl_certificate_key private/a.key;
                return 200 "here";
            }
        }
    """, files={"a.pem": one.chain, "private/a.key": one.key}, wait=False)
    os.chmod(site.directory / "private", 0o700)
    os.chmod(site.directory / "private/a.key", 0o600)
    site.wait_ready()
    with connect(site) as client:
        assert client.request().text == "here"
    assert one.key.decode().splitlines()[1] not in site.log()


def test_what_is_wrong_with_files_is_told_with_the_place(serve_nginx):
    one, other = AUTHORITY.issue("a.example"), AUTHORITY.issue("a.example")
    site = serve_nginx("server { listen 127.0.0.1:%PORT%; }", files={
        "a.pem": one.chain, "a.key": one.key, "other.key": other.key, "locked.key": one.locked_key(b"x"),
        "none": "nothing\n", "passwords": "wrong\n",
        "broken.pem": one.pem.replace(b"M", b"!", 3), "cut.pem": one.pem[:300],
    })
    cases = [
        ("ssl_certificate missing.pem; ssl_certificate_key a.key;", "missing.pem\": No such file or directory", 5),
        ("ssl_certificate a.pem; ssl_certificate_key other.key;", "key values mismatch", 5),
        ("ssl_certificate none; ssl_certificate_key a.key;", "holds no certificate", 5),
        ("ssl_certificate broken.pem; ssl_certificate_key a.key;", "not base64", 5),
        ("ssl_certificate cut.pem; ssl_certificate_key a.key;", "no END line", 5),
        ("ssl_certificate a.pem; ssl_certificate_key none;", "holds no private key", 5),
        ("ssl_certificate a.pem; ssl_certificate_key locked.key;", "there is no `ssl_password_file`", 5),
        ("ssl_certificate a.pem; ssl_certificate_key locked.key; ssl_password_file passwords;",
         "none of the passwords", 5),
    ]
    for directives, words, line in cases:
        site.write("bad.conf", f"events {{}}\nhttp {{\nserver {{\nlisten 127.0.0.1:1 ssl;\n{directives}\n}}\n}}\n")
        done = site.run("check", "-c", "bad.conf", "-p", f"{site.directory}/")
        assert done.returncode != 0 and words in done.stderr, (directives, done.stderr)
        assert f"bad.conf:{line}" in done.stderr


def first_flight(name, extension=b""):
    """A hello by OpenSSL, with one more extension at its end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context().wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    body = bytearray(outgoing.read()[9:])
    at = 2 + 32
    for width in (1, 2, 1):
        at += width + int.from_bytes(body[at:at + width])
    body[at:at + 2] = (int.from_bytes(body[at:at + 2]) + len(extension)).to_bytes(2)
    message = b"\x01" + (len(body) + len(extension)).to_bytes(3) + body + extension
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


@pytest.mark.parametrize("algorithm", [1, 2, 3])
def test_certificates_are_sent_compressed_to_whom_takes_them_so(serve_nginx, algorithm):
    """RFC 8879. What the server sends is encrypted, but its size tells."""
    one = AUTHORITY.issue("a.example", *(f"name-{n}.of-many.a.example" for n in range(200)))
    server = "server { listen 127.0.0.1:%s ssl; ssl_certificate a.pem; ssl_certificate_key a.key; %s return 200; }"
    site = serve_nginx(server % ("%PORT%", "ssl_certificate_compression on;") + server % ("%PORT1%", ""),
                       files={"a.pem": one.chain, "a.key": one.key})

    def size(port, extension):
        with site.connect(port) as client:
            client.send(first_flight("a.example", extension))
            received = b""
            # An alert makes the server end the connection behind all that it sends.
            client.half_close()
            while data := client.socket.recv(65536):
                received += data
        assert received[:1] == b"\x16"
        return len(received)

    extension = b"\x00\x1b\x00\x03\x02" + algorithm.to_bytes(2)
    whole = size("%PORT%", b"")
    assert whole > 5000
    assert size("%PORT%", extension) < whole - 3000
    assert size("%PORT1%", extension) > whole - 200, "off by default, as in nginx"


# Sessions that go on

SESSIONS = """
    ssl_certificate a.pem;
    ssl_certificate_key a.key;
    server {
        listen 127.0.0.1:%PORT% ssl;
        %FIRST%
        return 200 "$ssl_session_reused";
    }
    server {
        listen 127.0.0.1:%PORT1% ssl;
        %SECOND%
        return 200 "$ssl_session_reused";
    }
"""
SESSION_FILES = {"a.pem": CERTIFICATES["a"].chain, "a.key": CERTIFICATES["a"].key, "b.pem": CERTIFICATES["rsa"].chain,
                 "b.key": CERTIFICATES["rsa"].key, "one.key": os.urandom(48), "two.key": os.urandom(80)}


def goes_on(site, made, session, port="%PORT%"):
    with TlsClient(("127.0.0.1", site.ports[port]), made, "a.example", session=session) as client:
        text = client.request().text
        assert client.socket.session_reused == (text == "r")
        return text == "r"


def begin(site, made, port="%PORT%"):
    with TlsClient(("127.0.0.1", site.ports[port]), made, "a.example") as client:
        assert client.request().text == "."
        return client.socket.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("first, second, here, there", [
    ("", "", True, True),
    ("ssl_session_tickets off;", "", False, False),
    ("ssl_session_tickets off; ssl_session_cache shared:A:1m;", "ssl_session_tickets off; ssl_session_cache shared:A:1m;",
     True, True),
    ("ssl_session_tickets off; ssl_session_cache shared:A:1m;", "ssl_session_tickets off; ssl_session_cache shared:B:1m;",
     True, False),
    ("ssl_session_tickets off; ssl_session_cache builtin:100;", "ssl_session_cache none;", True, False),
    ("ssl_session_ticket_key one.key;", "ssl_session_ticket_key two.key; ssl_session_ticket_key one.key;", True, True),
    ("ssl_session_ticket_key one.key;", "ssl_session_ticket_key two.key;", True, False),
    ("", "ssl_certificate b.pem; ssl_certificate_key b.key;", True, False),
])
def test_sessions_go_on_where_they_may(serve_nginx, version, first, second, here, there):
    conf = SESSIONS.replace("%FIRST%", first).replace("%SECOND%", second)
    site = serve_nginx(conf, files=SESSION_FILES)
    made = context(version=version)
    assert goes_on(site, made, begin(site, made)) == here
    assert goes_on(site, made, begin(site, made), "%PORT1%") == there
    if not first:
        session = begin(site, made)
        site.configure(conf + "server { listen 127.0.0.1:%PORT2%; return 204; }")
        site.signal(1)

        def answers():
            try:
                with site.connect("%PORT2%") as client:
                    return client.request().status == 204
            except OSError:
                return False

        wait_until(answers, "the new configuration")
        assert goes_on(site, made, session), "also after a reload"


def kill_edge(site):
    """Ends the edge, and waits until another one serves."""
    old = site.edge()
    os.kill(old, signal.SIGKILL)

    def serves():
        try:
            with TlsClient(site.address, context()) as client:
                return site.edge() != old and client.request().status > 0
        except OSError:
            return False

    wait_until(serves, "another edge")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tickets_outlive_the_edge(serve_nginx, version):
    conf = SESSIONS.replace("%FIRST%", "").replace("%SECOND%", "ssl_verify_client optional_no_ca;")
    site = serve_nginx(conf, files=SESSION_FILES)
    made = context(version=version)
    session = begin(site, made)
    for _ in range(2):
        kill_edge(site)
        assert goes_on(site, made, session)
        assert not goes_on(site, made, session, "%PORT1%"), "clients are checked there"
        session = begin(site, made)


def test_what_tickets_are_made_of_is_not_in_the_environment_nor_on_the_command_line(serve_nginx):
    site = serve_nginx(SESSIONS.replace("%FIRST%", "").replace("%SECOND%", ""), files=SESSION_FILES)
    kill_edge(site)
    for pid in site.processes():
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert b"TICKETS" not in file.read()
        descriptors = []
        for number in os.listdir(f"/proc/{pid}/fd"):
            # One that is closed meanwhile is none.
            with contextlib.suppress(FileNotFoundError):
                descriptors.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        assert not [path for path in descriptors if "monoceros-tickets" in path]


def test_a_session_does_not_go_on_for_ever(serve_nginx):
    site = serve_nginx(SESSIONS.replace("%FIRST%", "ssl_session_timeout 1s;").replace("%SECOND%", ""),
                       files=SESSION_FILES)
    made = context(version=ssl.TLSVersion.TLSv1_2)
    session = begin(site, made)
    time.sleep(2.1)
    assert not goes_on(site, made, session)


def test_a_stapled_answer_is_sent(serve_nginx):
    now = datetime.datetime.now(datetime.timezone.utc)
    answer = ocsp.OCSPResponseBuilder().add_response(
        cert=CERTIFICATES["a"].x509, issuer=AUTHORITY.x509, algorithm=hashes.SHA256(),
        cert_status=ocsp.OCSPCertStatus.GOOD, this_update=now - datetime.timedelta(hours=1),
        next_update=now + datetime.timedelta(days=1), revocation_time=None, revocation_reason=None,
    ).responder_id(ocsp.OCSPResponderEncoding.NAME, AUTHORITY.x509).sign(AUTHORITY.private, hashes.SHA256())
    site = serve_nginx("""
        ssl_certificate a.pem;
        ssl_certificate_key a.key;
        server { listen 127.0.0.1:%PORT% ssl; ssl_stapling on; ssl_stapling_file a.ocsp; }
        server { listen 127.0.0.1:%PORT1% ssl; ssl_stapling_file a.ocsp; }
    """, files={**SESSION_FILES, "a.ocsp": answer.public_bytes(serialization.Encoding.DER)})
    for port, words in (("%PORT%", b"Cert Status: good"), ("%PORT1%", b"no response sent")):
        done = subprocess.run(
            [which("openssl"), "s_client", "-connect", f"127.0.0.1:{site.ports[port]}", "-servername", "a.example",
             "-status"], input=b"", capture_output=True, timeout=30)
        assert words in done.stdout


# gunicorn's command line

APP = """
    def application(environ, start_response):
        body = " ".join([environ["wsgi.url_scheme"], environ["SERVER_PORT"], environ["PATH_INFO"]]).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
"""


@pytest.mark.parametrize("both", [False, True])
def test_gunicorns_certfile(serve, both):
    one = AUTHORITY.issue("a.example")
    files = {"both.pem": one.chain + one.key} if both else {"a.pem": one.chain, "a.key": one.key}
    args = ["--certfile", "both.pem"] if both else ["--certfile", "a.pem", "--keyfile", "a.key"]
    server = serve(APP, *args, "--ciphers", "ECDHE+AES128", files=files)
    wait_until(lambda: "https://127.0.0.1" in server.log(), "the line that says where it listens", 30)
    with TlsClient(server.address, context(AUTHORITY, version=ssl.TLSVersion.TLSv1_2)) as client:
        assert client.request(target="/x").text == f"https {server.port} /x"
        assert client.socket.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
        assert client.request(target="/y").text == f"https {server.port} /y"
    with server.connect() as client:
        answer = client.request()
        assert answer.status == 400 and "The plain HTTP request was sent to HTTPS port" in answer.text


def test_tickets_of_gunicorns_certfile_outlive_the_edge(serve):
    one = AUTHORITY.issue("a.example")
    server = serve(APP, "--certfile", "both.pem", files={"both.pem": one.chain + one.key})
    made = context()

    def ask(session=None):
        with TlsClient(server.address, made, session=session) as client:
            assert client.request().status == 200
            return client.socket.session_reused, client.socket.session

    session = ask()[1]
    assert ask(session)[0]
    kill_edge(server)
    assert ask(session)[0]


def test_gunicorns_certfile_that_cannot_be_used(serve):
    one, other = AUTHORITY.issue("a.example"), AUTHORITY.issue("a.example")
    files = {"a.pem": one.chain, "other.key": other.key}
    for args, words in [
        (["--certfile", "missing.pem"], "missing.pem cannot be used: No such file"),
        (["--certfile", "a.pem"], "holds no private key"),
        (["--certfile", "a.pem", "--keyfile", "other.key"], "mismatch"),
        (["--keyfile", "other.key"], "there is no certfile"),
        (["--certfile", "a.pem", "--ciphers", "RC4"], "`RC4`"),
    ]:
        server = serve(APP, *args, files=files, wait=False)
        assert server.exit_code() != 0
        assert words in server.log() + server.out_path.read_text(), args
