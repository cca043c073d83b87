"""Certificates for names that only clients name, each after somebody has been asked whether it may have one."""

import http.server
import os
import signal
import socket
import ssl
import stat
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.acme import Pebble, shown
from support.server import free_port, wait_until
from support.tls import TlsClient

LONG = 60

APP = """\
def application(environ, start_response):
    body = environ["HTTP_HOST"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


class Asked:
    """Somebody who knows which names may have certificates, and notes what it was asked."""

    def __init__(self, *allowed):
        self.allowed, self.questions = set(allowed), []
        asked = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path, _, query = self.path.partition("?")
                name = urllib.parse.parse_qs(query)["domain"][0]
                asked.questions.append((path, name))
                self.send_response(200 if name in asked.allowed else 404)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/may"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def count(self, name):
        return sum(1 for _, asked in self.questions if asked == name)


@pytest.fixture
def asked():
    one = Asked("one.example", "two.example")
    yield one
    one.close()


@pytest.fixture
def pebble(tmp_path):
    one = Pebble(tmp_path / "pebble")
    yield one
    one.close()


def arguments(pebble, tls, state):
    return ("-b", f"http://127.0.0.1:{pebble.http}", "-b", f"127.0.0.1:{tls}", "--acme-directory", pebble.uri,
            "--acme-ca-certs", pebble.trusted, "--acme-dir", state)


def signed(pebble, address, name):
    """The certificate, if clients that trust the authority take it."""
    try:
        return shown(address, name, pebble.root())
    except OSError:
        return None


def wait_signed(pebble, site, address, name):
    try:
        return wait_until(lambda: signed(pebble, address, name), f"a certificate for {name}", LONG)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.log()}\n{pebble.log()[-3000:]}") from None


def fails(address, name):
    try:
        shown(address, name)
    except ssl.SSLError:
        return True
    return False


def is_refused(address, name):
    try:
        shown(address, name)
    except ssl.SSLError as error:
        return "UNRECOGNIZED_NAME" in str(error).upper().replace(" ", "_")
    return False


@pytest.mark.timeout(180)
def test_a_name_gets_a_certificate_in_the_handshake(serve, pebble, asked, tmp_path):
    tls, state = free_port(), tmp_path / "state"
    options = (*arguments(pebble, tls, state), "--on-demand-ask", asked.url)
    site = serve(APP, *options, bind=[], wait=False)
    address = ("127.0.0.1", tls)
    site.wait_ready(("127.0.0.1", pebble.http))
    # All of them wait for one order, and one question.
    with ThreadPoolExecutor(8) as pool:
        certificates = list(pool.map(lambda _: signed(pebble, address, "one.example"), range(8)))
    first = wait_signed(pebble, site, address, "one.example")
    assert {c.serial_number for c in certificates if c} <= {first.serial_number}
    assert pebble.issued() == 1, pebble.log()
    # Once for the order; a client that came after its end is nothing new.
    assert asked.count("one.example") == 1 and asked.questions[0] == ("/may", "one.example")
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(cadata=pebble.root())
    with TlsClient(address, trusting, "one.example") as client:
        assert client.request(fields=[("Host", "one.example")]).text == "one.example"
    assert wait_signed(pebble, site, address, "two.example").serial_number != first.serial_number
    # Who may not have one is told at once, and not asked about again.
    for _ in range(5):
        assert is_refused(address, "other.example"), site.log()
    assert asked.count("other.example") == 1
    # What no authority issues for is nobody's business.
    before = len(asked.questions)
    for name in ("localhost", "a_b.example", "1.2.3.4.5", "x" * 63 + "." + "y" * 63 + ".local1.2"):
        assert fails(address, name), name
    with socket.create_connection(address, timeout=10) as plain, pytest.raises(ssl.SSLError):
        context = ssl._create_unverified_context()
        context.wrap_socket(plain)
    assert len(asked.questions) == before
    def kept():
        files = list((state / "on_demand").iterdir())
        return sorted(path.suffix for path in files) == [".lock", ".lock", ".pem", ".pem"] and files

    # Certificates are shown before the disk has them.
    files = wait_until(kept, "both certificates to be kept")
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    # An edge that starts anew finds it on the disk, without an authority, and whatever is said.
    asked.allowed.clear()
    pebble.stop()
    killed = site.edge()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: site.edge() not in (None, killed), "another edge", LONG)

    def again():
        try:
            return shown(address, "one.example")
        except OSError:
            return None

    assert wait_until(again, "the certificate", LONG).serial_number == first.serial_number


def conf(pebble, server):
    return f"""
error_log stderr info;
events {{}}
http {{
    access_log off;
    acme_issuer ca {{
        uri {pebble.uri};
        ssl_trusted_certificate {pebble.trusted};
        accept_terms_of_service;
        state_path %DIR%/state;
    }}
    server {{ listen 127.0.0.1:%PORT%; listen 127.0.0.1:{pebble.http}; return 403; }}
    {server}
}}
"""


def on_demand(words, *more):
    return f"""
    server {{
        listen 127.0.0.1:%PORT1% ssl;
        {" ".join(more)}
        acme_on_demand ca {words};
        ssl_certificate $acme_certificate;
        ssl_certificate_key $acme_certificate_key;
        return 200 "for $ssl_server_name";
    }}
    """


def program(tmp_path, text):
    path = tmp_path / "may"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.timeout(180)
def test_a_program_is_asked_and_names_are_bounded(serve_nginx, pebble, tmp_path):
    log = tmp_path / "asked"
    may = program(tmp_path, f'echo "$@" >> {log}; case $1 in *.example) exit 0;; esac; exit 1')
    site = serve_nginx(conf(pebble, on_demand(
        f"ask={may} names=1 key=ecdsa:384", "server_name own.example;", "acme_certificate ca;")))
    address = ("127.0.0.1", site.ports["%PORT1%"])
    certificate = wait_signed(pebble, site, address, "one.example")
    assert certificate.public_key().curve.name == "secp384r1"
    assert is_refused(address, "two.example"), site.log()
    assert "1 names have one already" in site.log()
    assert is_refused(address, "one.test")
    # Its own name has a certificate that was ordered without a question.
    wait_signed(pebble, site, address, "own.example")
    assert set(log.read_text().split()) == {"one.example", "two.example", "one.test"}
    # After a reload it is there still, and whoever is allowed now is asked about anew.
    site.configure(conf(pebble, on_demand(f"ask={may} names=3")))
    site.signal(signal.SIGHUP)
    wait_signed(pebble, site, address, "two.example")
    assert wait_signed(pebble, site, address, "one.example").public_key().curve.name == "secp256r1"


@pytest.mark.timeout(180)
def test_without_an_answer_there_is_none(serve_nginx, pebble, tmp_path):
    nobody = f"http://127.0.0.1:{free_port()}/"
    site = serve_nginx(conf(pebble, on_demand(f"ask={nobody}")))
    address = ("127.0.0.1", site.ports["%PORT1%"])
    wait_until(lambda: is_refused(address, "one.example"), "the refusal", LONG)
    wait_until(lambda: "does not say whether there may be one" in site.log(), "the log to say why", LONG)
    assert pebble.issued() == 0


@pytest.mark.timeout(240)
def test_a_flood_of_names_is_not_asked_about_and_others_go_on(serve_nginx, pebble, asked):
    site = serve_nginx(conf(pebble, on_demand(f"ask={asked.url}")))
    address = ("127.0.0.1", site.ports["%PORT1%"])
    wait_signed(pebble, site, address, "one.example")
    with ThreadPoolExecutor(16) as pool:
        refused = list(pool.map(lambda n: is_refused(address, f"{n}.flood.example"), range(600)))
    assert all(refused), f"{refused.count(False)} were not refused"
    begin = len(asked.questions)
    assert begin < 600, "every name was asked about"
    # Whoever has one does not notice.
    assert signed(pebble, address, "one.example")
    assert pebble.issued() == 1
    assert wait_signed(pebble, site, address, "two.example")


BAD = [
    ("acme_on_demand ca;", "invalid number of arguments"),
    ("acme_on_demand ca names=5;", "needs somebody to ask"),
    ("acme_on_demand ca ask=ftp://a.example/;", "cannot be asked"),
    ("acme_on_demand ca ask=http://a.example/ names=0;", "invalid parameter"),
    ("acme_on_demand cb ask=http://a.example/;", 'issuer "cb" is not defined'),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_is_wrong_is_told_before_the_start(serve_nginx, text, message):
    site = serve_nginx(
        "acme_issuer ca { uri https://ca.example/; accept_terms_of_service; } server { "
        f"listen 127.0.0.1:%PORT% ssl; {text} ssl_certificate $acme_certificate; "
        "ssl_certificate_key $acme_certificate_key; }", wait=False)
    assert site.exit_code() != 0
    assert message in site.log()


def test_a_name_of_the_dns_proves_nothing_on_demand(serve_nginx):
    site = serve_nginx(
        "acme_issuer ca { uri https://ca.example/; challenge dns-01; dns_hook /bin/true; } server { "
        "listen 127.0.0.1:%PORT% ssl; acme_on_demand ca ask=http://127.0.0.1/; ssl_certificate $acme_certificate; "
        "ssl_certificate_key $acme_certificate_key; }", wait=False)
    assert site.exit_code() != 0
    assert "shows control by the DNS" in site.log()


WRONG = [
    (["--on-demand-ask", "ftp://a.example/"], "only http:// and https:// are spoken"),
    (["--on-demand-ask", "/nowhere/may"], "is no file"),
    (["--on-demand-ask", "http://a.example/", "--acme-dns-hook", "/bin/true"], "not together with acme_dns_hook"),
    (["--on-demand-ask", "http://a.example/", "--on-demand-names", "0"], "on_demand_names"),
    (["--on-demand-ask", "http://a.example/", "--certfile", "/etc/hostname"], "comes from somewhere else"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_what_is_wrong_on_the_command_line_is_told(serve, arguments, message):
    site = serve(APP, *arguments, bind=[], wait=False)
    assert site.exit_code() != 0
    assert message in (site.log() + site.out_path.read_text()).replace("--on-demand-names", "on_demand_names")
