"""Real sites: the Django and the Flask example, with their cookies, forms, uploads and downloads."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse

import pytest
from support import Monoceros, build
from support.server import ROOT

DJANGO = ROOT / "examples/django"
FLASK = ROOT / "examples/flask"


class Browser:
    """Cookies, forms and redirects, on one connection after another."""

    def __init__(self, server):
        self.server, self.cookies = server, {}

    def request(self, method, target, fields=(), body=None):
        fields = list(dict(fields).items())
        if self.cookies:
            fields.append(("Cookie", "; ".join(f"{k}={v}" for k, v in self.cookies.items())))
        # A password takes long to check, on a busy machine very long.
        response = self.server.request(method, target, fields, body, host="localhost", timeout=30)
        for value in response.all("Set-Cookie"):
            name, _, rest = value.partition("=")
            self.cookies[name] = rest.split(";")[0]
        return response

    def get(self, target, fields=()):
        return self.request("GET", target, fields)

    def token(self, page):
        return re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]

    def post_form(self, target, **values):
        values["csrfmiddlewaretoken"] = self.token(self.get(target).text)
        body = urllib.parse.urlencode(values).encode()
        return self.request("POST", target, {
            "Content-Type": "application/x-www-form-urlencoded", "Origin": "http://localhost"}, body)

    def upload(self, target, name, content):
        token = self.token(self.get(target).text)
        boundary = "boundary7MA4YWxk"
        part = "--{}\r\nContent-Disposition: form-data; name=\"{}\"{}\r\n\r\n"
        body = (part.format(boundary, "csrfmiddlewaretoken", "").encode() + token.encode() + b"\r\n"
                + part.format(boundary, "file", f'; filename="{name}"').encode() + content
                + f"\r\n--{boundary}--\r\n".encode())
        return self.request("POST", target, {
            "Content-Type": f"multipart/form-data; boundary={boundary}", "Origin": "http://localhost"}, body)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    data = tmp_path_factory.mktemp("shop")
    env = {**os.environ, "SHOP_DATA_DIR": str(data), "PYTHONDONTWRITEBYTECODE": "1"}
    for command in (["migrate", "-v0"], ["collectstatic", "--noinput", "-v0"], ["ensure_user", "admin", "secret"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=DJANGO, env=env, check=True)
    (data / "media").mkdir(exist_ok=True)
    server = Monoceros(
        data / "run", "", "--chdir", DJANGO, "-w", "2", "--static", f"/static/={data}/staticfiles",
        "--accel", f"/protected/={data}/media", "--client-max-body-size", "32m",
        spec=["shop.wsgi"], env={"SHOP_DATA_DIR": str(data)},
    ).start()
    yield server
    server.stop()


def test_pages_and_static_files(site):
    page = Browser(site).get("/")
    assert page.status == 200 and "Star chart" in page.text
    style = re.search(r'href="(/static/[^"]+\.css)"', page.text)[1]
    response = site.get(style)
    assert response.status == 200 and response.get("Content-Type").startswith("text/css")
    assert site.get("/static/admin/css/base.css").status == 200


def test_login_and_admin(site):
    browser = Browser(site)
    assert browser.get("/admin/").status == 302
    assert browser.post_form("/admin/login/?next=/admin/", username="admin", password="wrong").status == 200
    response = browser.post_form("/admin/login/?next=/admin/", username="admin", password="secret")
    assert (response.status, response.get("Location")) == (302, "/admin/")
    page = browser.get("/admin/")
    assert page.status == 200 and "Site administration" in page.text


def test_upload_and_protected_download(site):
    browser = Browser(site)
    browser.post_form("/admin/login/?next=/", username="admin", password="secret")
    content = os.urandom(5_000_000)
    response = browser.upload("/uploads/", "thing.bin", content)
    assert response.status == 302
    page = browser.get("/uploads/").text
    assert hashlib.sha256(content).hexdigest() in page
    target = re.search(r'href="(/uploads/\d+/)"', page)[1]
    download = browser.get(target)
    assert download.body == content
    assert "thing.bin" in download.get("Content-Disposition")
    assert browser.get(target, {"Range": "bytes=0-99"}).body == content[:100]
    assert site.get(target, host="localhost").status == 302, "not without a login"
    name = next((site.directory.parent / "media").rglob("*.bin")).relative_to(site.directory.parent / "media")
    assert site.get(f"/protected/{name}", host="localhost").status == 404


def test_csv_and_compression(site):
    response = site.get("/products.csv", host="localhost")
    assert response.get("Content-Type").startswith("text/csv")
    assert response.text.startswith("name,price,in_stock")
    assert site.get("/", {"Accept-Encoding": "gzip"}, host="localhost").get("Content-Encoding") == "gzip"


def test_streaming_page(site):
    with site.connect() as client:
        client.send(build("GET", "/stream/?lines=3&pause=1", host="localhost"))
        assert client.head().status == 200
        data = b""
        while b"line 1" not in data:
            data += client.chunk()
        # A response that had been held back would be there as a whole.
        began = time.monotonic()
        assert b"line 3" not in data
        while piece := client.chunk():
            data += piece
        assert time.monotonic() - began > 0.5
        assert b"line 3" in data and data.rstrip().endswith(b"</html>")


@pytest.fixture(scope="module")
def flask(tmp_path_factory):
    directory = tmp_path_factory.mktemp("flask")
    shutil.copytree(FLASK, directory / "site", ignore=shutil.ignore_patterns("__pycache__", ".venv"))
    server = Monoceros(directory / "site", "", spec=["site_app:create_app(greeting='Salut')"], files={
        "site_app.py": (FLASK / "app.py").read_text()}).start()
    yield server
    server.stop()


def test_flask(flask):
    assert json.loads(flask.get("/api/hello/Ada").body)["message"] == "Salut, Ada"
    answer = json.loads(flask.request(
        "POST", "/api/echo", {"Content-Type": "application/json", "X-Forwarded-For": "192.0.2.9",
                              "X-Forwarded-Proto": "https"}, b'{"a": [1, 2]}').body)
    assert answer == {"json": {"a": [1, 2]}, "client": "192.0.2.9", "scheme": "https", "host": "test.example"}
    page = flask.request("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, b"name=%3Cb%3E").text
    assert "&lt;b&gt;" in page
    assert flask.get("/api/none").status == 404


def test_flask_over_chunks(flask):
    response = flask.request("POST", "/api/echo", {"Content-Type": "application/json"}, b'{"x": "y"}', chunked=True)
    assert json.loads(response.body)["json"] == {"x": "y"}
