"""OCSP stapling: answers about the server's own certificates, fetched in the background and sent along."""

import base64
import contextlib
import datetime
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from support.dns import Dns
from support.server import free_port, wait_until, which
from support.tls import Authority

AUTHORITY = Authority()
STRANGER = Authority("Stranger")


def access(url):
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))])


class Responder:
    """Answers by the rules that `answer` makes of a certificate; requests are counted."""

    def __init__(self, certificate=None):
        self.certificate = certificate
        self.answer = self.good
        self.requests = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/base"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(4096)
                if not more:
                    return
                head += more
            line = head.split(b"\r\n")[0].decode()
            method, target, _ = line.split(" ")
            assert (method, target[:6]) == ("GET", "/base/"), line
            asked = ocsp.load_der_ocsp_request(base64.b64decode(urllib.parse.unquote(target[6:])))
            assert asked.serial_number == self.certificate.x509.serial_number
            self.requests.append(head)
            answer = self.answer()
            if isinstance(answer, bytes):
                answer = b"HTTP/1.0 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: %d\r\n\r\n%s" % (
                    len(answer), answer)
                connection.sendall(answer)
            else:
                answer[0](connection)

    def build(self, status=ocsp.OCSPCertStatus.GOOD, about=None, signer=AUTHORITY, days=(0, 7), certificates=()):
        now = datetime.datetime.now(datetime.timezone.utc)
        revoked = status == ocsp.OCSPCertStatus.REVOKED
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=(about or self.certificate).x509, issuer=AUTHORITY.x509, algorithm=hashes.SHA1(), cert_status=status,
            this_update=now + datetime.timedelta(days=days[0], minutes=-1),
            next_update=now + datetime.timedelta(days=days[1]),
            revocation_time=now if revoked else None, revocation_reason=None,
        ).responder_id(ocsp.OCSPResponderEncoding.HASH, signer.x509)
        if certificates:
            builder = builder.certificates([one.x509 for one in certificates])
        return builder.sign(signer.private, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def good(self):
        return self.build()


def conf(more=""):
    return f"""
        server {{
            listen 127.0.0.1:%PORT% ssl;
            ssl_certificate a.pem;
            ssl_certificate_key a.key;
            ssl_stapling on;
            {more}
            return 200 "here";
        }}
    """


def issue(url, *more):
    return AUTHORITY.issue("a.example", more=(access(url), *more) if url else more)


def files(certificate, chain=None):
    whole = certificate.pem + AUTHORITY.pem if chain is None else chain
    return {"a.pem": whole, "a.key": certificate.key, "ca.pem": AUTHORITY.pem}


def shown(site, *more):
    return subprocess.run(
        [which("openssl"), "s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", "a.example", "-status", *more],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30).stdout


def status(site, *more):
    """The status that is stapled; `None` without an answer."""
    text = shown(site, *more)
    assert "OCSP response:" in text, text
    if "OCSP response: no response sent" in text:
        return None
    return re.search(r"Cert Status: (\w+)", text)[1]


@pytest.mark.parametrize("verify", ["on", "off"])
def test_an_answer_is_fetched_before_any_client_comes(serve_nginx, verify):
    with Responder() as responder:
        responder.certificate = issue(responder.url)
        site = serve_nginx(conf(f"ssl_stapling_verify {verify};"), files=files(responder.certificate))
        wait_until(lambda: responder.requests, "the request")
        assert b"\r\nHost: 127.0.0.1:%d\r\n" % responder.port in responder.requests[0]
        wait_until(lambda: status(site) == "good", "the answer")
        assert status(site, "-tls1_2") == "good"
        assert len(responder.requests) == 1
        site.signal(signal.SIGHUP)
        time.sleep(1.5)
        # What is known is known after a reload as well.
        assert status(site) == "good"
        assert len(responder.requests) == 1


def test_openssl_as_the_responder(serve_nginx, tmp_path):
    port = free_port()
    certificate = issue(f"http://127.0.0.1:{port}")
    serial = f"{certificate.x509.serial_number:X}"
    serial = serial if len(serial) % 2 == 0 else "0" + serial
    (tmp_path / "index.txt").write_text(f"V\t360101000000Z\t\t{serial}\tunknown\t/CN=a.example\n")
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    (tmp_path / "ca.key").write_bytes(AUTHORITY.key)
    process = subprocess.Popen(
        [which("openssl"), "ocsp", "-index", "index.txt", "-port", str(port), "-CA", "ca.pem", "-rsigner", "ca.pem",
         "-rkey", "ca.key", "-nmin", "10"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        site = serve_nginx(conf("ssl_stapling_verify on;"), files=files(certificate))
        wait_until(lambda: status(site) == "good", "the answer", 30)
    finally:
        process.kill()
        process.wait()


def test_a_responder_with_a_name_and_the_resolver(serve_nginx):
    with Responder() as responder, Dns({"ocsp.test": ["127.0.0.1"]}) as dns:
        responder.certificate = issue(f"http://ocsp.test:{responder.port}/base/")
        site = serve_nginx(conf(f"resolver 127.0.0.1:{dns.port};"), files=files(responder.certificate))
        wait_until(lambda: status(site) == "good", "the answer")
        assert b"\r\nHost: ocsp.test:%d\r\n" % responder.port in responder.requests[0]


def test_the_configuration_names_another_responder_and_the_issuer(serve_nginx):
    with Responder() as responder:
        responder.certificate = issue("http://127.0.0.1:1/nobody")
        site = serve_nginx(conf(f"ssl_stapling_responder {responder.url}; ssl_trusted_certificate ca.pem;"),
                           files=files(responder.certificate, chain=responder.certificate.pem))
        wait_until(lambda: status(site) == "good", "the answer")


def delegate(usage):
    return AUTHORITY.issue("responder.example", more=(x509.ExtendedKeyUsage([usage]),))


def slowly(connection):
    while True:
        connection.sendall(b"H")
        time.sleep(0.2)


def much(connection):
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        connection.sendall(bytes(65536))


BAD = {
    "revoked": (lambda r: r.build(ocsp.OCSPCertStatus.REVOKED), 'certificate status "revoked" in the OCSP response'),
    "unknown": (lambda r: r.build(ocsp.OCSPCertStatus.UNKNOWN), 'certificate status "unknown" in the OCSP response'),
    "expired": (lambda r: r.build(days=(-9, -2)), "OCSP response has expired"),
    "early": (lambda r: r.build(days=(2, 9)), "OCSP response is not valid yet"),
    "another": (lambda r: r.build(about=AUTHORITY.issue("other.example")), "certificate status not found"),
    "stranger": (lambda r: r.build(signer=STRANGER, certificates=[STRANGER]), "may not answer for the issuer"),
    "usage": (lambda r: (lambda d: r.build(signer=d, certificates=[d]))(delegate(ExtendedKeyUsageOID.SERVER_AUTH)),
              "may not answer for the issuer"),
    "broken": (lambda r: r.good()[:-1] + bytes([r.good()[-1] ^ 1]), "(signature|made out)"),
    "garbage": (lambda r: b"\x30\x84\xff\xff\xff\xff" * 100, "cannot be made out"),
    "empty": (lambda r: b"", "cannot be made out"),
    "later": (lambda r: ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(
        serialization.Encoding.DER), r"OCSP response not successful \(3: trylater\)"),
    "status": (lambda r: [lambda c: c.sendall(b"HTTP/1.0 503 No\r\n\r\n")], "status 503"),
    "cut": (lambda r: [lambda c: c.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nx")], "within its answer"),
    "closed": (lambda r: [lambda c: None], "closed the connection before"),
    "much": (lambda r: [much], "too large an answer"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_good_answer_is_not_sent_and_asked_for_again(serve_nginx, name):
    make, words = BAD[name]
    with Responder() as responder:
        responder.certificate = issue(responder.url)
        responder.answer = lambda: make(responder)
        site = serve_nginx(conf("ssl_stapling_verify on;"), files=files(responder.certificate))
        site.wait_log(f"\\[error\\].*{words}.* while requesting certificate status")
        assert status(site) is None
        responder.answer = responder.good
        wait_until(lambda: status(site) == "good", "the next answer", 20)


def test_a_delegate_may_answer(serve_nginx):
    with Responder() as responder:
        responder.certificate = issue(responder.url)
        signer = delegate(ExtendedKeyUsageOID.OCSP_SIGNING)
        responder.answer = lambda: responder.build(signer=signer, certificates=[signer])
        site = serve_nginx(conf("ssl_stapling_verify on;"), files=files(responder.certificate))
        wait_until(lambda: status(site) == "good", "the answer")


def test_a_responder_that_is_slow_or_gone_holds_nobody_up(serve_nginx):
    with Responder() as responder:
        responder.certificate = issue(responder.url)
        responder.answer = lambda: [slowly]
        site = serve_nginx(conf(), files=files(responder.certificate))
        wait_until(lambda: responder.requests, "the request")
        begun = time.monotonic()
        assert status(site) is None
        assert time.monotonic() - begun < 5
    gone = issue(f"http://127.0.0.1:{free_port()}/base")
    site = serve_nginx(conf(), files=files(gone))
    site.wait_log(r"connect to 127.0.0.1:\d+: .* while requesting certificate status")
    assert status(site) is None


def test_a_renewed_certificate_gets_an_answer_of_its_own(serve_nginx):
    with Responder() as responder:
        first, second = issue(responder.url), issue(responder.url)
        responder.certificate = first
        site = serve_nginx(conf("ssl_stapling_verify on;"), files=files(first))
        wait_until(lambda: status(site) == "good", "the answer")
        responder.certificate = second
        for name, text in files(second).items():
            site.write(name, text)
        site.signal(signal.SIGHUP)

        def is_new():
            text = shown(site)
            return f"Serial Number: {second.x509.serial_number:X}" in text.replace("Serial Number: 0", "Serial Number: ")

        wait_until(is_new, "an answer about the new one")
        assert status(site) == "good"


def said_by_check(site):
    done = site.run("check", "-c", "nginx.conf")
    return done.stdout + done.stderr


def test_what_cannot_be_asked_is_said_when_the_configuration_is_read(serve_nginx):
    certificate = issue("http://127.0.0.1:1/")
    site = serve_nginx(conf(), files=files(certificate, chain=certificate.pem))
    said = said_by_check(site)
    assert '"ssl_stapling" ignored, issuer certificate not found for certificate' in said
    silent = issue("")
    site = serve_nginx(conf(), files=files(silent))
    assert '"ssl_stapling" ignored, no OCSP responder URL in the certificate' in said_by_check(site)
    site = serve_nginx(conf(), files=files(issue("ldap://127.0.0.1/")))
    assert '"ssl_stapling" ignored, invalid URL prefix in OCSP responder "ldap://127.0.0.1/"' in said_by_check(site)
    must = issue("http://127.0.0.1:1/", x509.TLSFeature([x509.TLSFeatureType.status_request]))
    site = serve_nginx(conf().replace("ssl_stapling on;", ""), files=files(must))
    assert "asks for an OCSP answer in each handshake" in said_by_check(site)
