"""Certificates made for a test, and clients that speak TLS."""

import datetime
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from .client import Client


class Certificate:
    """A certificate with its key; `chain` and `key` are PEM."""

    def __init__(self, key, certificate, issuers=()):
        self.private, self.x509, self.issuers = key, certificate, list(issuers)

    @property
    def pem(self):
        return self.x509.public_bytes(serialization.Encoding.PEM)

    @property
    def chain(self):
        return self.pem + b"".join(issuer.pem for issuer in self.issuers)

    @property
    def key(self):
        return self._key(serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    @property
    def traditional_key(self):
        return self._key(serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())

    def locked_key(self, password, traditional=False):
        form = serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
        return self._key(form, serialization.BestAvailableEncryption(password))

    def _key(self, form, encryption):
        return self.private.private_bytes(serialization.Encoding.PEM, form, encryption)


def _key(kind):
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority(Certificate):
    """Issues certificates; itself signed by itself, or by `parent`."""

    def __init__(self, name="Test authority", parent=None, kind="ec"):
        key = _key(kind)
        certificate = self._make(name, key, parent, ca=True)
        super().__init__(key, certificate, [parent] if parent and parent.issuers else [])
        self.parent = parent
        if parent:
            self.issuers = [self.parent, *self.parent.issuers] if self.parent.parent else []

    def _make(self, name, key, issuer, ca=False, names=(), days=(-1, 30), serial=None, more=()):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(issuer.x509.subject if issuer else _name(name))
            .public_key(key.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if ca:
            usage = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment",
                                   "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)
            builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        if names:
            alternatives = []
            for each in names:
                try:
                    alternatives.append(x509.IPAddress(ipaddress.ip_address(each)))
                except ValueError:
                    alternatives.append(x509.DNSName(each))
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        signer = issuer.private if issuer else key
        return builder.sign(signer, hashes.SHA256())

    def issue(self, *names, kind="ec", days=(-1, 30), serial=None, more=()):
        key = _key(kind)
        issuers = [self, *self.issuers] if self.parent else []
        return Certificate(key, self._make(names[0], key, self, names=names, days=days, serial=serial,
                                           more=more), issuers)

    def revoke(self, *certificates):
        """A list of revoked certificates, PEM."""
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.x509.subject)
            .last_update(now - datetime.timedelta(days=1))
            .next_update(now + datetime.timedelta(days=1))
        )
        for certificate in certificates:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.x509.serial_number)
                .revocation_date(now - datetime.timedelta(hours=1))
                .build())
        builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        return builder.sign(self.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def context(authority=None, alpn=(), version=None, ciphers=None):
    """What a client trusts and offers; without an authority it trusts everybody."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        made.load_verify_locations(cadata=authority.pem.decode())
    else:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if version:
        made.minimum_version = made.maximum_version = version
    if ciphers:
        made.set_ciphers(ciphers)
    return made


class TlsClient(Client):
    """A `Client` within TLS."""

    def __init__(self, address, context, name="a.example", session=None, **options):
        super().__init__(address, **options)
        self.socket = context.wrap_socket(self.socket, server_hostname=name, session=session,
                                          suppress_ragged_eofs=False)

    @property
    def subject(self):
        """Names of the certificate that the server has shown."""
        der = self.socket.getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(der)
        return certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)

    @property
    def key_type(self):
        der = self.socket.getpeercert(binary_form=True)
        key = x509.load_der_x509_certificate(der).public_key()
        return "rsa" if isinstance(key, rsa.RSAPublicKey) else "ec"

    def half_close(self):
        raise NotImplementedError
