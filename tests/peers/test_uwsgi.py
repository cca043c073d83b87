"""`uwsgi_pass` before the real uWSGI, where there is such a program."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from support.server import Site, wait_until

UWSGI = shutil.which("uwsgi")
APP = '''
def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    said = "|".join([environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"],
                     environ["HTTP_HOST"], environ["wsgi.url_scheme"], str(len(body))])
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-App", "uwsgi")])
    if environ["PATH_INFO"] == "/large":
        return [b"x" * 10_000 for _ in range(100)]
    return [said.encode()]
'''
CONF = """
    server {
        listen 127.0.0.1:%PORT%;
        client_max_body_size 0;
        location / {
            uwsgi_pass unix:%DIR%/uwsgi.sock;
            uwsgi_param QUERY_STRING $query_string;
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_param CONTENT_TYPE $content_type;
            uwsgi_param CONTENT_LENGTH $content_length;
            uwsgi_param REQUEST_URI $request_uri;
            uwsgi_param PATH_INFO $document_uri;
            uwsgi_param DOCUMENT_ROOT $document_root;
            uwsgi_param SERVER_PROTOCOL $server_protocol;
            uwsgi_param UWSGI_SCHEME $scheme;
            uwsgi_param REMOTE_ADDR $remote_addr;
            uwsgi_param SERVER_PORT $server_port;
            uwsgi_param SERVER_NAME $server_name;
        }
    }
"""


def with_python():
    """A distribution's uwsgi has Python as a plugin, that of PyPI has it built in."""
    listed = subprocess.run([UWSGI, "--plugins-list"], capture_output=True, text=True, check=False, timeout=20)
    return [] if "python" in listed.stdout + listed.stderr else ["--plugin", "python3"]


@pytest.mark.skipif(not UWSGI, reason="there is no uwsgi")
def test_before_uwsgi(tmp_path):
    site = Site(tmp_path, CONF)
    site.write("app.py", APP)
    peer = subprocess.Popen(
        [UWSGI, *with_python(), "--socket", "uwsgi.sock", "--wsgi-file", "app.py", "--master", "--die-on-term", "--need-app"],
        cwd=site.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def listens():
            with socket.socket(socket.AF_UNIX) as one:
                return one.connect_ex(str(Path(site.directory) / "uwsgi.sock")) == 0

        wait_until(listens, "uwsgi listens")
        site.start()
        response = site.request("POST", "/a%20b?c=d", body=b"e" * 100_000)
        assert response.get("x-app") == "uwsgi"
        assert response.text == "POST|/a b|c=d|test.example|http|100000"
        assert site.request("POST", "/", body=b"f" * 5000, chunked=True).text.endswith("|5000")
        assert len(site.get("/large").body) == 1_000_000
        assert site.request("HEAD", "/").status == 200
    finally:
        site.stop()
        peer.terminate()
        peer.wait(20)
