"""Certificates that come by themselves, from a real authority: Debian's `pebble`."""

import base64
import datetime
import http.server
import json
import os
import pwd
import shutil
import signal
import ssl
import stat
import tempfile
import threading
import time
import urllib.request

import pytest
from support.acme import Pebble, shown
from support.client import Client
from support.server import Site, free_port, wait_until
from support.tls import TlsClient

LONG = 60


@pytest.fixture
def authority(tmp_path):
    """Starts authorities: `authority(env=…, settings…)`."""
    running = []

    def start(**options):
        running.append(Pebble(tmp_path / f"pebble{len(running)}", **options))
        return running[-1]

    yield start
    for pebble in running:
        pebble.close()


def conf(*parts, user=""):
    """A configuration whose log is the test's to read."""
    http = "\n".join(parts)
    return f"{user}\nerror_log stderr notice;\nevents {{}}\nhttp {{\naccess_log off;\n{http}\n}}\n"


def issuer(pebble, *more, name="ca"):
    return f"""
    acme_issuer {name} {{
        uri {pebble.uri};
        ssl_trusted_certificate {pebble.trusted};
        contact admin@shop.example;
        accept_terms_of_service;
        state_path %DIR%/state;
        {" ".join(more)}
    }}
    """


def server(pebble, names="shop.example www.shop.example", tls="%PORT1%", certificate="acme_certificate ca;"):
    return f"""
    server {{
        listen 127.0.0.1:{tls} ssl;
        server_name {names};
        {certificate}
        ssl_certificate $acme_certificate;
        ssl_certificate_key $acme_certificate_key;
        return 200 "hello";
    }}
    """


def plain(pebble, *more):
    """Port 80, as far as the authority knows, where everything is forbidden."""
    return f"""
    server {{
        listen 127.0.0.1:%PORT%;
        listen 127.0.0.1:{pebble.http};
        deny all;
        location / {{ return 403; }}
    }}
    """


def is_signed(pebble, address, name):
    """The certificate, once clients that trust the authority take it."""
    try:
        return shown(address, name, pebble.root())
    except (ssl.SSLError, OSError):
        return None


def wait_signed(pebble, site, name="shop.example", port="%PORT1%", timeout=LONG):
    address = ("127.0.0.1", site.ports.get(port, port))
    try:
        return wait_until(lambda: is_signed(pebble, address, name), f"a certificate for {name}", timeout)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.log()}\n{pebble.log()[-3000:]}") from None


def wait_kept(site):
    """All files of the state. A certificate is served, and told of, before the disk has it."""
    def kept():
        files = list((site.directory / "state").iterdir())
        return {path.suffix for path in files} == {".pem", ".json", ".lock"} and files

    return wait_until(kept, "the certificate to be kept")


def names_of(certificate):
    from cryptography import x509
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return extension.value.get_values_for_type(x509.DNSName)


@pytest.mark.timeout(120)
def test_a_certificate_comes_by_http(serve_nginx, authority):
    pebble = authority()
    site = serve_nginx(conf(issuer(pebble), server(pebble), plain(pebble)))
    # At once, even if nobody trusts it yet.
    assert names_of(shown(("127.0.0.1", site.ports["%PORT1%"]), "shop.example"))
    certificate = wait_signed(pebble, site)
    assert sorted(names_of(certificate)) == ["shop.example", "www.shop.example"]
    assert "until one is issued" in site.log()
    wait_until(lambda: "issued by ca" in site.log(), "the log to say so")
    # Whoever else looks there finds what the configuration says.
    assert site.request(target="/.well-known/acme-challenge/" + "x" * 43).status == 403
    files = wait_kept(site)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert stat.S_IMODE((site.directory / "state").stat().st_mode) == 0o700
    # It is there from the first handshake after a start, without asking anybody.
    pebble.stop()
    site.stop()
    site.start()
    again = shown(("127.0.0.1", site.ports["%PORT1%"]), "shop.example")
    assert again.serial_number == certificate.serial_number


@pytest.mark.timeout(120)
def test_a_certificate_comes_by_tls(serve_nginx, authority):
    pebble = authority(env={"PEBBLE_WFE_NONCEREJECT": "30", "PEBBLE_AUTHZREUSE": "50"})
    site = serve_nginx(conf(
        issuer(pebble, "challenge tls-alpn-01;"), server(pebble, tls=pebble.tls),
        "server { listen 127.0.0.1:%PORT%; return 200; }"))
    wait_signed(pebble, site, port=pebble.tls)
    # When there is nothing to be proved, nobody speaks that protocol.
    wait_until(lambda: "issued by ca" in site.log(), "the order's end")
    with pytest.raises(ssl.SSLError):
        shown(("127.0.0.1", pebble.tls), "shop.example", alpn=["acme-tls/1"])


@pytest.mark.timeout(120)
def test_a_wildcard_comes_by_a_hook(serve_nginx, authority):
    pebble = authority()
    hook, _, log = pebble.hook()
    site = serve_nginx(conf(
        issuer(pebble, f"dns_hook {hook};"), plain(pebble),
        server(pebble, names=".shop.example", certificate="acme_certificate ca key=ecdsa:384;")))
    certificate = wait_signed(pebble, site, "any.shop.example")
    assert sorted(names_of(certificate)) == ["*.shop.example", "shop.example"]
    assert certificate.public_key().curve.name == "secp384r1"
    # The apex is proved by HTTP, as the issuer says.
    wait_until(lambda: len(log.read_text().splitlines()) == 2, "the record to be taken away")
    assert log.read_text().splitlines() == ["present _acme-challenge.shop.example",
                                            "cleanup _acme-challenge.shop.example"]


@pytest.mark.timeout(120)
def test_a_reload_adds_and_keeps(serve_nginx, authority):
    pebble = authority()
    site = serve_nginx(conf(issuer(pebble), server(pebble), plain(pebble)))
    before = wait_signed(pebble, site)
    first = site.acme()
    site.configure(conf(
        issuer(pebble), server(pebble), plain(pebble), server(pebble, names="blog.example")))
    site.signal(signal.SIGHUP)
    wait_signed(pebble, site, "blog.example")
    assert wait_signed(pebble, site).serial_number == before.serial_number
    assert site.acme() == first and pebble.issued() == 2
    # Without any it is not needed.
    site.configure(conf("server { listen 127.0.0.1:%PORT%; return 200; }"))
    site.signal(signal.SIGHUP)
    wait_until(lambda: site.acme() is None, "the process to end")


@pytest.mark.timeout(180)
def test_certificates_are_renewed_in_time(serve_nginx, authority):
    pebble = authority(certificateValidityPeriod=20)
    site = serve_nginx(conf(issuer(pebble), server(pebble), plain(pebble)))
    first = wait_signed(pebble, site)
    serials = {first.serial_number}
    deadline = time.monotonic() + 100
    while len(serials) < 3:
        # At no moment is there one that has expired.
        serials.add(shown(("127.0.0.1", site.ports["%PORT1%"]), "shop.example", pebble.root()).serial_number)
        assert time.monotonic() < deadline, site.log()
        time.sleep(0.2)


class WithRenewalInformation:
    """pebble's directory, and beside it what RFC 9773 calls renewalInfo, which Debian's pebble has not."""

    def __init__(self, pebble):
        self.window, self.asked = None, []
        front, trusted = self, ssl.create_default_context(cafile=str(pebble.trusted))

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == "/dir":
                    text = urllib.request.urlopen(pebble.uri, timeout=10, context=trusted).read()
                    answer = {**json.loads(text), "renewalInfo": f"https://{self.headers['Host']}/renewal"}
                else:
                    front.asked.append(self.path)
                    start, end = front.window
                    answer = {"suggestedWindow": {"start": start, "end": end}}
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Retry-After", "21600")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secured.load_cert_chain(pebble.directory / "server.pem", pebble.directory / "server.key")
        self.server.socket = secured.wrap_socket(self.server.socket, server_side=True)
        self.uri = f"https://127.0.0.1:{self.server.server_address[1]}/dir"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def suggest(self, *days):
        now = datetime.datetime.now(datetime.timezone.utc)
        self.window = [(now + datetime.timedelta(days=n)).strftime("%Y-%m-%dT%H:%M:%SZ") for n in days]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.timeout(180)
def test_an_authority_may_want_an_earlier_renewal(serve_nginx, authority):
    pebble = authority()
    front = WithRenewalInformation(pebble)
    try:
        front.suggest(30, 31)
        text = conf(issuer(pebble).replace(pebble.uri, front.uri), server(pebble), plain(pebble))
        site = serve_nginx(text)
        first = wait_signed(pebble, site)
        wait_until(lambda: front.asked, "the authority to be asked", LONG)
        # RFC 9773 §4.1: the key's identifier of the issuer and the serial number.
        assert all(len(path.split("/")[2].split(".")) == 2 for path in front.asked), front.asked
        site.stop()
        front.suggest(-2, -1)
        site.start()

        def another():
            certificate = is_signed(pebble, ("127.0.0.1", site.ports["%PORT1%"]), "shop.example")
            return certificate and certificate.serial_number != first.serial_number

        # A window that has passed is a revocation that comes.
        try:
            front.suggest(-2, -1)
            wait_until(another, "a renewal", LONG)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{site.log()}") from None
    finally:
        front.close()


@pytest.mark.timeout(180)
def test_the_old_one_goes_on_while_the_authority_is_away(serve_nginx, authority):
    pebble = authority(certificateValidityPeriod=10)
    site = serve_nginx(conf(issuer(pebble), server(pebble), plain(pebble)))
    first = wait_signed(pebble, site)
    pebble.stop()
    wait_until(lambda: "the one in use has expired" in site.log(), "the log to warn", 60)
    assert "the one in use is valid for" in site.log() and "next attempt in" in site.log()
    last = shown(("127.0.0.1", site.ports["%PORT1%"]), "shop.example")
    assert last.issuer == first.issuer, "better than none"
    # It is back, and knows nobody any more.
    pebble.settings["certificateValidityPeriod"] = 3600
    pebble.start()
    assert wait_signed(pebble, site).serial_number != last.serial_number
    site.wait_log("a new one is made")


@pytest.mark.timeout(180)
def test_a_process_that_is_killed_in_the_middle_begins_again(serve_nginx, authority):
    pebble = authority()
    hook, stall, log = pebble.hook()
    stall.touch()
    site = serve_nginx(conf(
        issuer(pebble, "challenge dns-01;", f"dns_hook {hook};"), server(pebble, names="shop.example"),
        plain(pebble)))
    wait_until(lambda: log.read_text(), "the order to be under way", LONG)
    killed = site.acme()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: site.acme() not in (None, killed), "another process", LONG)
    stall.unlink()
    wait_signed(pebble, site)
    assert site.request().status == 403, "and clients were served all the time"


@pytest.mark.timeout(120)
def test_an_edge_that_starts_anew_has_the_certificate(serve_nginx, authority):
    pebble = authority()
    site = serve_nginx(conf(issuer(pebble), server(pebble), plain(pebble)))
    before = wait_signed(pebble, site)
    killed = site.edge()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: site.edge() not in (None, killed), "another edge", LONG)
    assert wait_signed(pebble, site).serial_number == before.serial_number
    assert pebble.issued() == 1


@pytest.mark.timeout(180)
def test_two_instances_with_one_directory_order_once(serve_nginx, authority, tmp_path):
    pebble = authority()
    hook, stall, log = pebble.hook()
    stall.touch()
    state = tmp_path / "shared"
    text = conf(issuer(pebble, "challenge dns-01;", f"dns_hook {hook};"), server(pebble, names="shop.example"),
                "server { listen 127.0.0.1:%PORT%; return 200; }").replace("%DIR%/state", str(state))
    sites = [serve_nginx(text), serve_nginx(text)]
    wait_until(lambda: any("somebody else is ordering" in site.log() for site in sites), "the second to wait", LONG)
    stall.unlink()
    serials = {wait_signed(pebble, site).serial_number for site in sites}
    assert len(serials) == 1 and pebble.issued() == 1
    assert log.read_text().count("present") == 1


@pytest.mark.timeout(120)
def test_the_next_authority_is_asked_when_one_fails(serve_nginx, authority):
    pebble = authority()
    dead = pebble.uri.replace(str(pebble.port), str(free_port()))
    first = issuer(pebble, "fallback second;").replace(pebble.uri, dead)
    site = serve_nginx(conf(first, issuer(pebble, name="second"), server(pebble), plain(pebble)))
    wait_signed(pebble, site)
    site.wait_log("ca has not issued it")
    site.wait_log("issued by second")


MAC_KEY = base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")


def with_accounts_elsewhere(authority):
    """An authority that knows its customers already."""
    return authority(externalAccountBindingRequired=True, externalAccountMACKeys={"kid-1": MAC_KEY})


@pytest.mark.timeout(120)
def test_an_authority_may_want_an_account_that_it_knows(serve_nginx, authority):
    pebble = with_accounts_elsewhere(authority)
    bound = issuer(pebble, "external_account_key kid-1 mac.key;")
    site = serve_nginx(conf(bound, server(pebble), plain(pebble)), files={"mac.key": MAC_KEY})
    wait_signed(pebble, site)


@pytest.mark.timeout(120)
def test_what_it_says_to_those_that_it_does_not_know_is_told(serve_nginx, authority):
    pebble = with_accounts_elsewhere(authority)
    site = serve_nginx(conf(issuer(pebble), server(pebble), plain(pebble)))
    wait_until(lambda: "externalAccountRequired" in site.log(), "the log to say why", LONG)


@pytest.mark.timeout(120)
def test_the_command_line_names_an_account_too(serve, authority, tmp_path):
    pebble = with_accounts_elsewhere(authority)
    tls = free_port()
    site = serve(APP, "-b", f"http://127.0.0.1:{pebble.http}", "-b", f"127.0.0.1:{tls}", "--domain", "shop.example",
                 "--acme-directory", pebble.uri, "--acme-ca-certs", pebble.trusted, "--acme-eab-kid", "kid-1",
                 "--acme-dir", tmp_path / "state", env={"ACME_EAB_HMAC": MAC_KEY}, bind=[], wait=False)
    site.wait_ready(("127.0.0.1", pebble.http))
    try:
        wait_until(lambda: is_signed(pebble, ("127.0.0.1", tls), "shop.example"), "a certificate", LONG)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.log()}") from None
    assert MAC_KEY not in site.log()


@pytest.mark.timeout(120)
def test_what_an_authority_refuses_is_told(serve_nginx, authority):
    pebble = authority(domainBlocklist=["shop.example"])
    site = serve_nginx(conf(issuer(pebble), server(pebble), plain(pebble)))
    wait_until(lambda: "rejectedIdentifier" in site.log(), "the log to say why", LONG)
    line = next(line for line in site.log().splitlines() if "rejectedIdentifier" in line)
    assert "there is none yet" in line and "next attempt in" in line
    time.sleep(3)
    assert site.log().count("rejectedIdentifier") == 1, "it waits"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.timeout(120)
def test_the_process_is_not_root_and_owns_its_directory(authority):
    pebble = authority()
    nobody = pwd.getpwnam("nobody").pw_uid
    # pytest's directories are for their owner only, and each run that begins makes them so for all others.
    with tempfile.TemporaryDirectory(prefix="monoceros-") as name:
        os.chmod(name, 0o755)
        trusted = shutil.copy(pebble.trusted, name)
        known = issuer(pebble).replace(str(pebble.trusted), trusted)
        text = conf(known, server(pebble), plain(pebble), user="user nobody;")
        site = Site(f"{name}/site", text).start()
        try:
            wait_signed(pebble, site)
            assert os.stat(f"/proc/{site.acme()}").st_uid == nobody
            assert {path.stat().st_uid for path in wait_kept(site)} == {nobody}
        finally:
            site.stop()


BAD = [
    ("acme_issuer a { contact x@y.example; }", '"uri" is missing'),
    ("acme_issuer a { uri http://ca.example/; }", "no URL that begins with https://"),
    ("acme_issuer a { uri https://ca.example/; challenge dns-01; }", "needs a program for records"),
    ("acme_issuer a { uri https://ca.example/; challenge email; }", "invalid value"),
    ("acme_issuer a { uri https://ca.example/; account_key rsa:2048; }", "not there for accounts"),
    ("acme_issuer a { uri https://ca.example/; state_path off; }", "not supported"),
    ("acme_issuer a { uri https://ca.example/; preferred_chain x; }", "not there yet"),
    ("acme_issuer a { uri https://ca.example/; listen 80; }", "is not allowed here"),
    ("server { acme_certificate b; server_name a.example; }", 'issuer "b" is not defined'),
    ("acme_issuer a { uri https://ca.example/; } server { acme_certificate a; }", "no name that a certificate"),
    ("acme_issuer a { uri https://ca.example/; } server { acme_certificate a *.x.example; }", "needs the DNS"),
    ("acme_issuer a { uri https://ca.example/; } server { acme_certificate a; server_name ~x; }", "such a name"),
    ("acme_issuer a { uri https://ca.example/; } server { acme_certificate a a..b; }", "no name of the DNS"),
    ("acme_issuer a { uri https://ca.example/; } server { acme_certificate a b key=dsa; }", "invalid parameter"),
    ("acme_issuer a { uri https://ca.example/; fallback b; } server { acme_certificate a c; }", "is not defined"),
    ("server { listen 1 ssl; ssl_certificate $acme_certificate; ssl_certificate_key $acme_certificate_key; }",
     "with `acme_certificate`"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_is_wrong_is_told_before_the_start(serve_nginx, text, message):
    site = serve_nginx(conf(text), wait=False)
    assert site.exit_code() != 0
    assert message in site.log()


APP = """\
def application(environ, start_response):
    body = environ["wsgi.url_scheme"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.timeout(120)
def test_a_domain_on_the_command_line_is_everything(serve, authority, tmp_path):
    pebble = authority()
    tls = free_port()
    site = serve(
        APP, "-b", f"http://127.0.0.1:{pebble.http}", "-b", f"127.0.0.1:{tls}", "--domain", "shop.example",
        "--domain", "www.shop.example", "--acme-directory", pebble.uri, "--acme-ca-certs", pebble.trusted,
        "--acme-email", "admin@shop.example", "--acme-dir", tmp_path / "state", bind=[], wait=False)
    plain_address, address = ("127.0.0.1", pebble.http), ("127.0.0.1", tls)
    site.wait_ready(plain_address)
    try:
        certificate = wait_until(lambda: is_signed(pebble, address, "www.shop.example"), "a certificate", LONG)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.log()}") from None
    assert sorted(names_of(certificate)) == ["shop.example", "www.shop.example"]
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(cadata=pebble.root())
    with TlsClient(address, trusting, "shop.example") as client:
        answer = client.request()
        assert (answer.status, answer.text) == (200, "https")
        assert answer.get("strict-transport-security") is None
    for method, status in (("GET", 301), ("POST", 308)):
        with Client(plain_address) as client:
            answer = client.request(method, "/a?b=c", [("Host", "shop.example:80")])
            assert (answer.status, answer.get("location")) == (status, f"https://shop.example:{tls}/a?b=c")
    assert "Certificate: for shop.example, www.shop.example from 127.0.0.1" in site.log()


@pytest.mark.timeout(120)
def test_development_has_an_authority_of_its_own(serve, tmp_path):
    state = tmp_path / "state"
    arguments = ("--tls", "self", "--domain", "shop.example", "--acme-dir", state)
    serials = set()
    for name in ("localhost", "shop.example"):
        site = serve(APP, *arguments, wait=False)
        wait_until(lambda: "To trust it: curl --cacert" in site.log(), "the start", 30)
        trusted = (state / "authority.crt").read_text()
        serials.add(shown(site.address, name, trusted).serial_number)
        site.stop()
    assert len(serials) == 1, "it is kept"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


WRONG = [
    (["--domain", "*.shop.example"], "needs the DNS"),
    (["--domain", "a..b"], "no name of the DNS"),
    (["--domain", "a.example", "-b", "http://127.0.0.1:8080"], "no address is left"),
    (["--domain", "a.example", "--acme-directory", "http://ca.example/"], "begins with https://"),
    (["--domain", "a.example", "--acme-eab-kid", "x"], "the key itself is missing"),
    (["--domain", "a.example", "--acme-ca-certs", "/nowhere"], "is no file"),
    (["--tls", "on"], "--tls"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_what_is_wrong_on_the_command_line_is_told(serve, arguments, message):
    site = serve(APP, *arguments, bind=[], wait=False)
    assert site.exit_code() != 0
    assert message in site.log() + site.out_path.read_text()
