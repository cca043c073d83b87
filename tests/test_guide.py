"""docs/guide.md: every configuration in it is good as it stands, and does what is said of it."""

import re

import pytest
from support import wait_until
from support.server import ROOT, Site
from support.tls import Authority, TlsClient, context

TEXT = (ROOT / "docs/guide.md").read_text()
CONFIGURATIONS = dict(re.findall(r"```nginx\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))

APP = """
import itertools
counter = itertools.count(1)

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"answer %d" % next(counter)]
"""
AUTHORITY = Authority("The guide's authority")
SERVER = AUTHORITY.issue("shop.example")
CLIENT = AUTHORITY.issue("client")


@pytest.fixture
def guide(tmp_path):
    running = []

    def start(name):
        files = {"code/shop/__init__.py": "", "code/shop/wsgi.py": APP, "static/a.txt": "static", "static/a.css": "a {}", "media/b.txt": "media",
                 "shop.crt": SERVER.chain, "shop.key": SERVER.key, "authority.crt": AUTHORITY.pem}
        site = Site(tmp_path / "site", "", files=files, python=True)
        text = CONFIGURATIONS[name].replace("workers   4;", "workers   1;")
        text = re.sub(r"\b8000\b", f"127.0.0.1:{site.port}", text)
        text = re.sub(r"listen 8443\b", f"listen 127.0.0.1:{site._port('%PORT1%')}", text)
        text = text.replace("/srv/shop/", f"{site.directory}/")
        site.write("nginx.conf", text)
        # Without -p: relative paths start where the file lies.
        site.argv = [site.program, "-c", "nginx.conf"]
        done = site.run("check", "-c", "nginx.conf")
        assert done.returncode == 0, done.stderr
        assert "error" not in done.stderr
        running.append(site)
        site.start(wait=False)
        # A request in the clear is refused by TLS's listener as well.
        site.wait_ready(("127.0.0.1", site.ports["%PORT1%" if "8443 ssl" in CONFIGURATIONS[name] else "%PORT%"]))
        return site

    yield start
    for site in running:
        site.stop()


def tls(site, certificate=None):
    trusting = context(AUTHORITY)
    if certificate:
        path = site.write("client.pem", certificate.chain + certificate.key)
        trusting.load_cert_chain(path)
    return TlsClient(("127.0.0.1", site.ports["%PORT1%"]), trusting, name="shop.example")


def test_all_of_them_are_tested():
    assert set(CONFIGURATIONS) == {"site.conf", "moved.conf", "tls.conf", "clients.conf", "cache.conf"}


def test_a_site(guide):
    site = guide("site.conf")
    assert site.get("/").body == b"answer 1"
    assert site.get("/static/a.css").get("Content-Type") == "text/css"
    assert site.get("/static/a.txt").body == b"static"
    assert site.get("/media/b.txt").status == 404
    wait_until(lambda: "GET /static/a.txt" in (site.directory / "access.log").read_text(), "the log")


def test_from_nginx_and_gunicorn(guide):
    site = guide("moved.conf")
    assert site.get("/").body == b"answer 1"
    assert site.get("/static/a.txt").body == b"static"
    checked = site.run("check", "-c", "nginx.conf")
    assert "requests go straight into the queue of the app `shop`" in checked.stderr
    assert (site.directory / "code/gunicorn.sock").exists()


def test_tls(guide):
    site = guide("tls.conf")
    assert site.get("/x").status == 301
    with tls(site) as client:
        assert client.request("GET", "/", [("Host", "shop.example")]).body == b"answer 1"


def test_client_certificates(guide):
    site = guide("clients.conf")
    with tls(site) as client:
        assert client.request("GET", "/", [("Host", "shop.example")]).status == 200
        assert client.request("GET", "/office/", [("Host", "shop.example")]).status == 403
    with tls(site, CLIENT) as client:
        assert client.request("GET", "/office/", [("Host", "shop.example")]).status == 200
    wait_until(lambda: '"CN=client" "GET /office/' in (site.directory / "access.log").read_text(), "the log")


def test_the_cache(guide):
    site = guide("cache.conf")
    first, second = site.get("/page"), site.get("/page")
    assert (first.get("X-Cache"), second.get("X-Cache")) == ("MISS", "HIT")
    assert first.body == second.body == b"answer 1"
    assert site.get("/page", [("Cookie", "sessionid=1")]).body == b"answer 2"
    assert site.get("/page").body == b"answer 1"


def test_each_licence_that_is_named_is_there():
    named = re.search(r'^license = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    beginnings = {"MIT": "MIT License\n\nCopyright (c)", "Apache-2.0": "Apache License\n"}
    for name in named.split(" OR "):
        text = (ROOT / f"LICENSE-{name.split('-')[0].upper()}").read_text()
        assert text.lstrip().startswith(beginnings[name])
