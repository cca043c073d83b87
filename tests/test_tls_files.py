"""Certificates whose files change while they are used, and those whose names only the handshake tells."""

import json
import os
import ssl

import pytest
from support.server import wait_until
from support.tls import Authority, TlsClient, context

AUTHORITY = Authority()
FIRST, SECOND, THIRD = (AUTHORITY.issue("a.example") for _ in range(3))
WATCHED = """
    error_log stderr notice;
    events {}
    http {
        access_log off;
        server {
            listen 127.0.0.1:%PORT% ssl;
            ssl_certificate live/chain.pem;
            ssl_certificate_key live/key.pem;
            location / { return 200 "here"; }
        }
    }
"""


def connect(site, name="a.example", port="%PORT%"):
    return TlsClient(("127.0.0.1", site.ports[port]), context(AUTHORITY), name)


def serial(site, name="a.example", port="%PORT%"):
    with connect(site, name, port) as client:
        return int(client.socket.getpeercert()["serialNumber"], 16)


def is_shown(site, certificate):
    wait_until(lambda: serial(site) == certificate.x509.serial_number, "the certificate", timeout=30)


def test_a_renewed_certificate_is_used_without_an_order(serve_nginx):
    site = serve_nginx(WATCHED, files={"live/chain.pem": FIRST.chain, "live/key.pem": FIRST.key})
    is_shown(site, FIRST)
    with connect(site) as old:
        assert old.request().text == "here"
        site.write("live/chain.pem", SECOND.chain)
        site.write("live/key.pem", SECOND.key)
        is_shown(site, SECOND)
        assert old.request().text == "here", "nobody's connection ends for it"
    site.wait_log(r'\[notice\].*the certificate "\S+/live/chain.pem" has changed and is used from now on')
    # An edge that starts anew has it too.
    os.kill(site.edge(), 9)

    def is_there():
        try:
            return serial(site) == SECOND.x509.serial_number
        except OSError:
            return False

    wait_until(is_there, "the new edge", timeout=30)


def test_until_when_certificates_are_good_is_shown(serve_nginx):
    soon, later = (AUTHORITY.issue("a.example", days=(-1, days)) for days in (2.5, 60))
    page = 'location / { return 200 "here"; } location = /status { upstream_status; }'
    site = serve_nginx(WATCHED.replace('location / { return 200 "here"; }', page),
                       files={"live/chain.pem": soon.chain, "live/key.pem": soon.key})

    def shown():
        with connect(site) as client:
            return json.loads(client.request(target="/status?format=json").text)["certificates"]

    def end(certificate):
        return int(certificate.x509.not_valid_after_utc.timestamp())

    [(name, known)] = shown().items()
    assert name.endswith("live/chain.pem") and known == {"not_after": end(soon)}
    with connect(site) as client:
        assert f"certificate {name} not_after={end(soon)} days=2\n" in client.request(target="/status").text
        figures = client.request(target="/status?format=prometheus").text
    assert f'\nmonoceros_certificate_not_after_seconds{{certificate="{name}"}} {end(soon)}\n' in figures
    site.write("live/chain.pem", later.chain)
    site.write("live/key.pem", later.key)
    wait_until(lambda: shown()[name]["not_after"] == end(later), "the new one", timeout=30)


def test_a_pair_that_does_not_fit_changes_nothing(serve_nginx):
    site = serve_nginx(WATCHED, files={"live/chain.pem": FIRST.chain, "live/key.pem": FIRST.key})
    site.write("live/chain.pem", SECOND.chain)
    site.wait_log(r'\[error\].*files of a certificate have changed, but "\S+/live/key.pem" cannot be used: key values mismatch',
                  timeout=30)
    assert serial(site) == FIRST.x509.serial_number
    site.write("live/chain.pem", SECOND.chain[:len(SECOND.chain) // 2])
    site.wait_log(r'\[error\].*"\S+/live/chain.pem" cannot be used', timeout=30)
    (site.directory / "live/chain.pem").unlink()
    site.wait_log(r'\[error\].*"\S+/live/chain.pem" cannot be used: No such file', timeout=30)
    assert serial(site) == FIRST.x509.serial_number
    site.write("live/chain.pem", THIRD.chain)
    site.write("live/key.pem", THIRD.key)
    is_shown(site, THIRD)


def test_a_link_that_leads_elsewhere_is_a_change(serve_nginx):
    """As certbot renews: the names are links, and the files that they lead to keep their times."""
    site = serve_nginx(WATCHED, files={
        "live/none": "", "one/chain": FIRST.chain, "one/key": FIRST.key, "two/chain": SECOND.chain, "two/key": SECOND.key,
        "live/chain.pem": FIRST.chain, "live/key.pem": FIRST.key})
    for name in ("chain", "key"):
        for at in ("one", "two"):
            os.utime(site.directory / at / name, (1, 1))
        (site.directory / "live/new").symlink_to(site.directory / "two" / name)
        (site.directory / "live/new").rename(site.directory / f"live/{name}.pem")
    is_shown(site, SECOND)


def test_gunicorns_certfile_is_watched(serve, tmp_path):
    for name, text in (("a.pem", FIRST.chain), ("a.key", FIRST.key)):
        (tmp_path / name).write_bytes(text)
    server = serve("""
        def application(environ, start_response):
            start_response("200 OK", [("Content-Length", "0")])
            return []
    """, "--certfile", str(tmp_path / "a.pem"), "--keyfile", str(tmp_path / "a.key"))

    def shown():
        with TlsClient(server.address, context(AUTHORITY), "a.example") as client:
            return int(client.socket.getpeercert()["serialNumber"], 16)

    assert shown() == FIRST.x509.serial_number
    (tmp_path / "a.pem").write_bytes(SECOND.chain)
    (tmp_path / "a.key").write_bytes(SECOND.key)
    wait_until(lambda: shown() == SECOND.x509.serial_number, "the new certificate", timeout=30)


# Names with variables

NAMES = ("a.example", "b.example", "c.example")
ISSUED = {name: AUTHORITY.issue(name, kind="rsa" if name == "b.example" else "ec") for name in NAMES}
FILES = {
    **{f"certificates/{name}.pem": one.chain for name, one in ISSUED.items()},
    **{f"certificates/{name}.key": one.key for name, one in ISSUED.items()},
    "certificates/c.example.key": ISSUED["c.example"].locked_key(b"open"),
    "certificates/static.pem": FIRST.chain,
    "certificates/static.key": FIRST.key,
    "passwords": "wrong\nopen\n",
}
VARIABLES = """
    map $ssl_server_name $directory { default certificates; "" nowhere; }
    server {
        listen 127.0.0.1:%PORT% ssl;
        ssl_certificate $directory/$ssl_server_name.pem;
        ssl_certificate_key %DIR%/$directory/$ssl_server_name.key;
        ssl_password_file passwords;
        return 200 "$ssl_server_name $ssl_session_reused";
    }
    server {
        listen 127.0.0.1:%PORT1% ssl;
        ssl_certificate_cache max=2 inactive=1h valid=2s;
        ssl_certificate $directory/$ssl_server_name.pem;
        ssl_certificate_key $directory/$ssl_server_name.key;
        return 200 cached;
    }
    server {
        listen 127.0.0.1:%PORT1% ssl;
        server_name ~^(?<owner>[a-z]+)\\.owners\\.example$;
        ssl_certificate certificates/$owner.example.pem;
        ssl_certificate_key certificates/$owner.example.key;
        return 200 "of $owner";
    }
"""


@pytest.fixture(scope="module")
def variable(serve_nginx_module):
    return serve_nginx_module(VARIABLES, files=FILES)


@pytest.mark.parametrize("name", NAMES)
def test_the_handshake_names_the_file(variable, name):
    with connect(variable, name) as client:
        assert client.request().text == f"{name} ."
        assert client.subject == [name]


def test_what_is_not_there_ends_the_handshake(variable):
    with pytest.raises((ssl.SSLError, OSError)):
        connect(variable, "d.example")
    variable.wait_log(r'\[error\].*cannot load certificate "\S+/certificates/d.example.pem": No such file')
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, OSError)):
        TlsClient(("127.0.0.1", variable.ports["%PORT%"]), unverified, None)
    with connect(variable, "a.example") as client:
        assert client.request().text == "a.example ."


def test_groups_of_a_servers_name_are_variables(variable):
    made = context(AUTHORITY)
    made.check_hostname = False
    with TlsClient(("127.0.0.1", variable.ports["%PORT1%"]), made, "a.owners.example") as client:
        assert client.subject == ["a.example"]
        assert client.request().status == 200


def test_a_session_does_not_go_on_under_another_name(variable):
    made = context(AUTHORITY, version=ssl.TLSVersion.TLSv1_2)

    def begun(name, session=None):
        return TlsClient(("127.0.0.1", variable.ports["%PORT%"]), made, name, session=session)

    with begun("a.example") as client:
        client.request()
        session = client.socket.session
    for name, goes_on in (("a.example", "r"), ("b.example", ".")):
        with begun(name, session) as client:
            assert client.request().text == f"{name} {goes_on}"
            assert client.subject == [name]


def test_kept_certificates_are_read_again_in_time(serve_nginx):
    site = serve_nginx(VARIABLES, files=FILES)
    assert serial(site, port="%PORT1%") == ISSUED["a.example"].x509.serial_number
    site.write("certificates/a.example.pem", SECOND.chain)
    site.write("certificates/a.example.key", SECOND.key)
    assert serial(site, port="%PORT%") == SECOND.x509.serial_number, "not kept"
    wait_until(lambda: serial(site, port="%PORT1%") == SECOND.x509.serial_number, "the new one", timeout=20)
    # More names than are kept.
    for _ in range(3):
        for name in NAMES[:2]:
            with connect(site, name, "%PORT1%") as client:
                assert client.subject == [name]


@pytest.mark.parametrize("lines, words", [
    ("ssl_certificate $host.pem;", 'no "ssl_certificate_key" is defined'),
    ("ssl_certificate_cache inactive=1m;", 'must have the "max" parameter'),
    ("ssl_certificate_cache max=0;", 'invalid parameter "max=0"'),
    ("ssl_certificate $a.pem; ssl_certificate_key $a.key;", 'unknown "a" variable'),
    ("ssl_certificate $host.pem; ssl_certificate_key $host.key; ssl_password_file nowhere;", "cannot load passwords"),
])
def test_what_is_wrong_is_told(serve_nginx, lines, words):
    site = serve_nginx("server { listen 127.0.0.1:%PORT% ssl; " + lines + " }", wait=False)
    assert site.exit_code() != 0
    assert words in site.log() + site.out_path.read_text()


def test_a_pipe_of_passwords_that_no_key_needs_is_not_read(serve_nginx, tmp_path):
    os.mkfifo(tmp_path / "passwords")
    site = serve_nginx(f"server {{ listen 127.0.0.1:%PORT%; ssl_password_file {tmp_path}/passwords; return 200 here; }}")
    assert site.get("/").body == b"here"
