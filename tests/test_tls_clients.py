"""Certificates of clients: who is asked, which are good, and what is told of them."""

import base64
import datetime
import hashlib
import ssl
import subprocess
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.http2 import END_HEADERS, END_STREAM, HEADERS, Http2, frame
from support.server import which
from support.tls import Authority, Certificate, TlsClient, context

SERVER = Authority("Server authority")
ROOT = Authority("Client authority")
BETWEEN = Authority("Between", ROOT)
BELOW = Authority("Below", BETWEEN)
STRANGER = Authority("Stranger")
NAMESAKE = Authority("Client authority")


def special(issuer=ROOT, subject=None, extensions=(), serial=None):
    """A certificate with a subject or extensions of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "special")])
    builder = (
        x509.CertificateBuilder().subject_name(subject)
        .issuer_name(issuer.x509.subject if issuer else subject).public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Certificate(key, builder.sign(issuer.private if issuer else key, hashes.SHA256()))


NAME = x509.Name([
    x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme, \"Ltd\""),
    x509.NameAttribute(NameOID.COMMON_NAME, " zoë#"),
    x509.NameAttribute(NameOID.EMAIL_ADDRESS, "z@a.example"),
])
KNOWN = {
    "good": ROOT.issue("good"),
    "named": special(subject=NAME, serial=0x8F01),
    "between": BETWEEN.issue("between"),
    "below": BELOW.issue("below"),
    "stranger": STRANGER.issue("stranger"),
    "namesake": NAMESAKE.issue("namesake"),
    "own": special(issuer=None),
    "old": ROOT.issue("old", days=(-3, -1)),
    "early": ROOT.issue("early", days=(1, 3)),
    "revoked": ROOT.issue("revoked"),
    "server only": special(extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]),
    "critical": special(extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]),
    "not by an authority": Certificate(
        *(lambda one: (one.private, one.x509, [KNOWN_LEAF]))(special(issuer=(KNOWN_LEAF := ROOT.issue("leaf"))))),
}
SITE = Authority("x").issue("a.example")
FILES = {
    "a.pem": SITE.chain, "a.key": SITE.key,
    "root.pem": ROOT.pem, "between.pem": BETWEEN.pem, "own.pem": KNOWN["own"].pem,
    "both.pem": STRANGER.pem + ROOT.pem, "stranger.pem": STRANGER.pem,
    "crl.pem": ROOT.revoke(KNOWN["revoked"]),
    "crls.pem": ROOT.revoke(KNOWN["revoked"]) + BETWEEN.revoke(),
    "foreign.crl": NAMESAKE.revoke(),
}
SHOW = ('"$ssl_client_verify|$ssl_client_s_dn|$ssl_client_s_dn_legacy|$ssl_client_i_dn|$ssl_client_i_dn_legacy|'
        '$ssl_client_serial|$ssl_client_fingerprint|$ssl_client_v_start|$ssl_client_v_end|$ssl_client_v_remain"')
CONF = """
    ssl_certificate a.pem;
    ssl_certificate_key a.key;
    ssl_client_certificate root.pem;
    default_type text/plain;
    server {
        listen 127.0.0.1:%PORT% ssl;
        http2 on;
        return 200 "default $ssl_client_verify";
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name on.example;
        http2 on;
        ssl_verify_client on;
        add_header X-Verify $ssl_client_verify always;
        location / { return 200 "$ssl_client_verify"; }
        location /show { return 200 %SHOW%; }
        location /raw { return 200 "$ssl_client_raw_cert"; }
        location /cert { return 200 "$ssl_client_cert"; }
        location /escaped { return 200 "$ssl_client_escaped_cert"; }
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name optional.example;
        ssl_verify_client optional;
        error_page 495 496 = /wrong;
        location / { return 200 "$ssl_client_verify"; }
        location = /wrong { return 403 "wrong: $ssl_client_verify"; }
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name anybody.example;
        ssl_client_certificate stranger.pem;
        ssl_verify_client optional_no_ca;
        return 200 "$ssl_client_verify";
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name deep.example;
        ssl_verify_client on;
        ssl_verify_depth 2;
        return 200 "$ssl_client_verify";
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name flat.example;
        ssl_verify_client on;
        ssl_verify_depth 0;
        ssl_trusted_certificate own.pem;
        return 200 "$ssl_client_verify";
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name partial.example;
        ssl_client_certificate between.pem;
        ssl_verify_client on;
        return 200 "$ssl_client_verify";
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name crl.example;
        ssl_crl crl.pem;
        ssl_verify_client on;
        error_page 495 = /wrong;
        location / { return 200 "$ssl_client_verify"; }
        location = /wrong { return 403 "$ssl_client_verify"; }
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name crls.example;
        ssl_crl crls.pem;
        ssl_verify_client on;
        return 200 "$ssl_client_verify";
    }
    server {
        listen 127.0.0.1:%PORT% ssl;
        server_name foreign.example;
        ssl_crl foreign.crl;
        ssl_verify_client optional;
        error_page 495 = /wrong;
        location / { return 200 "$ssl_client_verify"; }
        location = /wrong { return 403 "$ssl_client_verify"; }
    }
    server {
        listen 127.0.0.1:%PORT1% ssl;
        ssl_verify_client on;
        ssl_client_certificate stranger.pem;
        return 200 "first $ssl_client_verify";
    }
    server {
        listen 127.0.0.1:%PORT1% ssl;
        server_name other.example;
        ssl_verify_client on;
        return 200 "other $ssl_client_verify";
    }
""".replace("%SHOW%", SHOW)


@pytest.fixture(scope="module")
def site(serve_nginx_module):
    return serve_nginx_module(CONF, files=FILES)


def with_certificate(tmp_path, certificate, **options):
    made = context(**options)
    if certificate:
        path = tmp_path / "client.pem"
        path.write_bytes(certificate.chain + certificate.key)
        made.load_cert_chain(path)
    return made


@pytest.fixture
def ask(site, tmp_path):
    def ask(name, certificate=None, target="/", host=None, port="%PORT%", sni=True, **options):
        made = with_certificate(tmp_path, certificate and KNOWN[certificate], **options)
        with TlsClient(("127.0.0.1", site.ports[port]), made, name if sni else None) as client:
            return client.request(target=target, fields=[("Host", host or name)])
    return ask


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_needs_one(ask, version):
    assert ask("x.example", "good", version=version).text == "default NONE", "nobody has asked"
    assert ask("on.example", "good", version=version).text == "SUCCESS"
    missing = ask("on.example", version=version)
    assert missing.status == 400 and "No required SSL certificate was sent" in missing.text
    wrong = ask("on.example", "stranger", version=version)
    assert wrong.status == 400 and "The SSL certificate error" in wrong.text
    assert dict(wrong.fields)["X-Verify"].startswith("FAILED:unable")
    assert ask("optional.example", version=version).text == "NONE"
    assert ask("optional.example", "good", version=version).text == "SUCCESS"
    assert (ask("optional.example", "stranger", version=version).text
            == "wrong: FAILED:unable to verify the first certificate")


def test_somebody_else_looks_at_them(ask):
    assert ask("anybody.example").text == "NONE"
    assert ask("anybody.example", "stranger").text == "SUCCESS"
    assert ask("anybody.example", "good").text == "FAILED:unable to verify the first certificate"
    assert ask("anybody.example", "own").text == "FAILED:self-signed certificate"
    assert ask("anybody.example", "old").text.startswith("FAILED:unable")


def test_what_is_wrong_for_everybody(ask):
    for name, why in [
        ("old", "certificate has expired"),
        ("early", "certificate is not yet valid"),
        ("namesake", "certificate signature failure"),
        ("own", "self-signed certificate"),
        ("server only", "unsuitable certificate purpose"),
        ("critical", "unhandled critical extension"),
        ("not by an authority", "invalid CA certificate"),
        ("below", "certificate chain too long"),
    ]:
        answer = ask("optional.example", name)
        assert (answer.status, answer.text) == (403, f"wrong: FAILED:{why}"), name


def test_how_long_a_chain_may_be(ask):
    assert ask("optional.example", "between").text == "SUCCESS"
    assert ask("deep.example", "below").text == "SUCCESS"
    assert ask("flat.example", "good").text == "SUCCESS"
    assert ask("flat.example", "own").text == "SUCCESS", "trusted itself"
    assert ask("flat.example", "between").status == 400
    assert ask("partial.example", "between").status == 400, "who is trusted is not at the end of a chain"


def test_revoked_certificates(ask):
    assert ask("crl.example", "good").text == "SUCCESS"
    assert ask("crl.example", "revoked").text == "FAILED:certificate revoked"
    assert ask("crl.example", "between").text == "FAILED:unable to get certificate CRL"
    assert ask("crls.example", "between").text == "SUCCESS"
    assert ask("foreign.example", "good").text == "FAILED:CRL signature failure"
    assert ask("foreign.example").text == "NONE"


def test_what_is_told_of_a_certificate(ask):
    one = KNOWN["named"].x509
    der = ssl.PEM_cert_to_DER_cert(KNOWN["named"].pem.decode())

    def written(time):
        return time.strftime("%b %e %H:%M:%S %Y GMT")

    verify, subject, old_subject, issuer, old_issuer, serial, digest, start, end, remain = (
        ask("on.example", "named", "/show").text.split("|"))
    assert verify == "SUCCESS"
    assert subject == r'emailAddress=z@a.example,CN=\ zo\C3\AB#,O=Acme\, \"Ltd\",C=DE'
    assert old_subject == r'/C=DE/O=Acme, "Ltd"/CN= zo\xC3\xAB#/emailAddress=z@a.example'
    assert (issuer, old_issuer) == ("CN=Client authority", "/CN=Client authority")
    assert (serial, digest) == ("8F01", hashlib.sha1(der).hexdigest())
    assert (start, end) == (written(one.not_valid_before_utc), written(one.not_valid_after_utc))
    assert remain in ("29", "30")
    pem = ask("on.example", "named", "/raw").text
    assert pem == KNOWN["named"].pem.decode()
    assert ask("on.example", "named", "/cert").text == pem.strip().replace("\n", "\n\t")
    escaped = ask("on.example", "named", "/escaped").text
    assert urllib.parse.unquote(escaped) == pem and "+" not in escaped and "\n" not in escaped
    assert base64.b64decode("".join(pem.splitlines()[1:-1])) == der


def test_a_client_does_not_reach_another_server_by_the_name_in_its_request(ask, site, tmp_path):
    assert ask("x.example", "good", host="on.example").status == 421
    assert ask("optional.example", host="on.example").status == 421
    assert ask("on.example", "good", host="x.example").text == "default SUCCESS"
    # A head that is no good does not lead there either.
    for name, host, certificate, status in (
        ("x.example", "on.example", "good", 421), ("on.example", "on.example", None, 400), ("x.example", "x.example", None, 400)):
        made = with_certificate(tmp_path, certificate and KNOWN[certificate])
        with TlsClient(("127.0.0.1", site.ports["%PORT%"]), made, name) as client:
            client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: a=1\r\nFo o: x\r\n\r\n".encode())
            answer = client.response()
            assert answer.status == status
            assert ("No required SSL certificate" in answer.text) == (host == "on.example" and not certificate)
    # Without a name the default server's offer has been taken.
    assert ask("on.example", sni=False, host="on.example").status == 400
    assert ask("other.example", "stranger", port="%PORT1%", sni=False).status == 421
    assert ask("first.example", "stranger", port="%PORT1%", sni=False).text == "first SUCCESS"
    made = with_certificate(tmp_path, KNOWN["good"], alpn=["h2"])
    with Http2(("127.0.0.1", site.port), wrap=lambda raw: made.wrap_socket(raw, server_hostname="on.example")) as client:
        for stream, (name, status) in enumerate([("on.example", 200), ("optional.example", 421), ("x.example", 200)]):
            client.send(frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1,
                              client.block(client.fields(authority=name, scheme="https"))))
            assert client.answer(2 * stream + 1).status == status


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_that_goes_on_has_its_certificate(site, tmp_path, version):
    made = with_certificate(tmp_path, KNOWN["good"], version=version)
    address = ("127.0.0.1", site.ports["%PORT%"])

    def ask(name, session=None):
        with TlsClient(address, made, name, session=session) as client:
            text = client.request(fields=[("Host", name)]).text
            return text, client.socket.session_reused, client.socket.session

    text, _, session = ask("on.example")
    assert text == "SUCCESS"
    assert ask("on.example", session)[:2] == ("SUCCESS", True)
    # Others trust somebody else, or were not asked.
    assert ask("anybody.example", session)[:2] == ("FAILED:unable to verify the first certificate", False)
    assert ask("x.example", session)[:2] == ("default NONE", False)


def test_names_of_authorities_are_told(serve_nginx):
    site = serve_nginx("""
        ssl_certificate a.pem;
        ssl_certificate_key a.key;
        server {
            listen 127.0.0.1:%PORT% ssl;
            ssl_verify_client optional;
            ssl_client_certificate root.pem;
            ssl_trusted_certificate stranger.pem;
            return 204;
        }
    """, files=FILES)
    shown = subprocess.run([which("openssl"), "s_client", "-connect", f"127.0.0.1:{site.port}"], input="",
                           capture_output=True, text=True, timeout=20).stdout
    names = shown.split("Acceptable client certificate CA names\n")[1].split("\nRequested")[0].splitlines()
    assert names == ["CN = Client authority"]


def test_a_session_has_a_name_that_stays(serve_nginx):
    site = serve_nginx("""
        ssl_certificate a.pem;
        ssl_certificate_key a.key;
        server {
            listen 127.0.0.1:%PORT% ssl;
            listen 127.0.0.1:%PORT1%;
            return 200 "$ssl_session_id";
        }
    """, files=FILES)
    made = context()
    address = ("127.0.0.1", site.ports["%PORT%"])
    with TlsClient(address, made) as client:
        first, session = client.request().text, client.request() and client.socket.session
    with TlsClient(address, made, session=session) as client:
        assert client.request().text == first and client.socket.session_reused
    with TlsClient(address, made) as client:
        other = client.request().text
    assert len(first) == 64 and first != other
    with site.connect("%PORT1%") as client:
        assert client.request().text == ""


def test_what_is_wrong_with_the_configuration_is_told(serve_nginx):
    for words, message in [
        ("ssl_verify_client on;", "no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client"),
        ("ssl_verify_client maybe;", 'invalid value "maybe"'),
        ("ssl_verify_client on; ssl_client_certificate missing.pem;", "missing.pem"),
        ("ssl_verify_client on; ssl_client_certificate a.key;", "it holds no certificate"),
        ("ssl_verify_client on; ssl_client_certificate root.pem; ssl_crl root.pem;", "it holds no list of revocations"),
    ]:
        conf = ("server { listen 127.0.0.1:%PORT% ssl; ssl_certificate a.pem; ssl_certificate_key a.key; "
                + words + " }")
        site = serve_nginx(conf, files=FILES, wait=False)
        assert site.exit_code() != 0
        assert message in site.log() + site.out_path.read_text(), words


# gunicorn's command line

APP = """
    def application(environ, start_response):
        body = (environ["wsgi.url_scheme"] + " " + environ.get("HTTPS", "-")).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
"""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("needed, fine, refused", [
    ("0", [None, "good", "stranger"], []),
    ("1", [None, "good", "below"], ["stranger", "old", "server only"]),
    ("2", ["good", "below"], [None, "stranger"]),
])
def test_gunicorns_cert_reqs(serve, tmp_path, needed, fine, refused, version):
    server = serve(APP, "--certfile", "a.pem", "--keyfile", "a.key", "--cert-reqs", needed, "--ca-certs", "root.pem",
                   files=FILES)

    def ask(name):
        made = with_certificate(tmp_path, name and KNOWN[name], version=version)
        with TlsClient(server.address, made) as client:
            return client.request().text

    for name in fine:
        assert ask(name) == "https on"
    for name in refused:
        with pytest.raises((OSError, AssertionError)):
            ask(name)


def test_gunicorns_cert_reqs_that_cannot_be_met(serve):
    tls = ["--certfile", "a.pem", "--keyfile", "a.key"]
    for args, words in [
        ([*tls, "--cert-reqs", "2"], "there are no ca_certs"),
        ([*tls, "--cert-reqs", "2", "--ca-certs", "missing.pem"], "missing.pem cannot be used"),
        ([*tls, "--cert-reqs", "2", "--ca-certs", "a.key"], "it holds no certificate"),
        (["--cert-reqs", "1", "--ca-certs", "root.pem"], "there is no TLS"),
    ]:
        server = serve(APP, *args, files=FILES, wait=False)
        assert server.exit_code() != 0
        assert words in server.log() + server.out_path.read_text(), args
