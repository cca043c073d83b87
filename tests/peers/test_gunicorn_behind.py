"""`proxy_pass` to a socket: a real gunicorn there, and an `app` of the same master that takes its place."""

import subprocess
import sys

import pytest
from support import wait_until
from support.client import Client

APP = """
def application(environ, start_response):
    if environ["PATH_INFO"] == "/missing":
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("X-App", "yes")])
        return [b"the application knows no such page"]
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SCRIPT_NAME", "SERVER_PROTOCOL", "wsgi.url_scheme",
             "CONTENT_LENGTH", "CONTENT_TYPE")
    told = {name: environ.get(name) for name in names}
    told.update((name, value) for name, value in environ.items() if name.startswith("HTTP_"))
    told["body"] = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(told).encode()]
"""

# What a team has. Only what stands in place of APP is added.
CONF = """
    APP
    upstream app_server { server unix:%DIR%/gunicorn.sock fail_timeout=0; }
    server {
        listen 127.0.0.1:%PORT%;
        location / {
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header Host $http_host;
            proxy_redirect off;
            proxy_pass http://app_server;
        }
    }
"""
OWN = "app shop { wsgi app:application; directory %DIR%; bind unix:gunicorn.sock; }"


@pytest.fixture
def gunicorn(tmp_path):
    started = []

    def start(directory):
        path = directory / "gunicorn.sock"
        process = subprocess.Popen([sys.executable, "-m", "gunicorn", "-b", f"unix:{path}", "app:application"],
                                   cwd=directory, stderr=subprocess.DEVNULL)
        started.append(process)

        def answers():
            assert process.poll() is None, "gunicorn has ended"
            try:
                with Client(str(path)) as client:
                    return client.request("GET", "/").status == 200
            except OSError:
                return False

        wait_until(answers, "gunicorn", 30)

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


def test_the_application_sees_the_same_whoever_runs_it(serve_nginx, gunicorn):
    behind = serve_nginx(CONF.replace("APP", ""), files={"app.py": APP})
    gunicorn(behind.directory)
    here = serve_nginx(CONF.replace("APP", OWN), python=True, files={"app.py": APP})
    for method, target, fields, body in (
        ("GET", "/a%20b/?c=d%20e", [("X-Thing", "1"), ("Cookie", "a=b")], None),
        ("POST", "/", [("Content-Type", "text/x")], b"body" * 5000),
        ("HEAD", "/", [], None),
        ("GET", "/missing", [], None),
        ("DELETE", "/x//y/../z", [("X-Forwarded-Proto", "http"), ("X-Forwarded-For", "192.0.2.1")], None),
    ):
        answers = [server.request(method, target, fields, body=body, host="shop.example") for server in (behind, here)]
        assert answers[0].status == answers[1].status
        assert answers[0].body == answers[1].body
        assert answers[0].get("X-App") == answers[1].get("X-App")
