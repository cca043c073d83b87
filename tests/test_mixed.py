"""An application that is also asked at an address of its own, as gunicorn is: `bind` in an `app`."""

import os
import signal

import pytest
from support import build, wait_until
from support.client import Client

APP = """
import hashlib
import os
import time

HERE = os.path.dirname(os.path.abspath(__file__))

def note(word):
    with open(os.path.join(HERE, "notes"), "a") as file:
        file.write(word + "\\n")

def wait_for(name):
    deadline = time.monotonic() + 20
    while not os.path.exists(os.path.join(HERE, name)) and time.monotonic() < deadline:
        time.sleep(0.01)

def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    note(environ["REQUEST_METHOD"] + " " + path)
    status, fields, body = "200 OK", [("Content-Type", "text/plain")], b"app"
    if path == "/digest":
        data = environ["wsgi.input"].read()
        body = (hashlib.sha256(data).hexdigest() + " " + str(len(data))).encode()
    elif path == "/environ":
        body = repr({key: value for key, value in environ.items() if isinstance(value, str)}).encode()
    elif path.startswith("/status/"):
        status, body = path[8:] + " Of The App", b"the application's own page"
        fields += [("X-App", "yes"), ("Location", "/elsewhere")]
    elif path == "/accel":
        fields += [("X-Accel-Redirect", query), ("X-App", "yes")]
    elif path == "/wait":
        wait_for(query)
    elif path == "/pid":
        body = str(os.getpid()).encode()
    start_response(status, fields + [("Content-Length", str(len(body)))])
    return [body]
"""

BOUND = """
    app shop {
        wsgi app:application;
        directory %DIR%;
        workers 2;
        bind unix:gunicorn.sock, 127.0.0.1:%PORT1%;
    }
    server {
        listen 127.0.0.1:%PORT%;
        add_header X-Edge yes;
        location / { app_pass shop; }
    }
    add_header X-Http yes;
    client_max_body_size 10;
"""


def notes(server):
    path = server.directory / "notes"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def release(server, name):
    (server.directory / name).touch()


def at_socket(server, target, fields=(), method="GET", body=None, name="gunicorn.sock"):
    """A request to the application's own socket."""
    with Client(str(server.directory / name)) as client:
        return client.request(method, target, fields, body)


@pytest.fixture(scope="module")
def bound(serve_nginx_module):
    return serve_nginx_module(BOUND, python=True, files={"app.py": APP})


# The application's own addresses

def test_the_application_is_asked_at_its_own_addresses(bound):
    assert at_socket(bound, "/").text == "app"
    with bound.connect("%PORT1%") as client:
        assert client.request("GET", "/").text == "app"
    assert bound.get("/").text == "app"


def test_nothing_of_http_holds_there(bound):
    response = at_socket(bound, "/digest", method="POST", body=bytes(2_000_000))
    assert response.text.endswith(" 2000000")
    assert response.get("X-Http") is None and response.get("X-Edge") is None
    assert bound.request("POST", "/digest", body=bytes(11)).status == 413


def test_a_proxy_at_the_socket_is_believed(bound):
    said = [("Host", "shop.example"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "192.0.2.7"),
            ("SCRIPT_NAME", "/shop"), ("X_Odd", "1")]
    environ = eval(at_socket(bound, "/environ", said).text)
    assert (environ["wsgi.url_scheme"], environ["REMOTE_ADDR"]) == ("https", "192.0.2.7")
    assert (environ["SCRIPT_NAME"], environ["HTTP_HOST"]) == ("/shop", "shop.example")
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https" and "HTTP_X_ODD" not in environ
    # gunicorn's `forwarded_allow_ips` is the loopback's addresses.
    with bound.connect("%PORT1%") as client:
        environ = eval(client.request("GET", "/environ", [("X-Forwarded-Proto", "https")]).text)
    assert environ["wsgi.url_scheme"] == "https"
    # Elsewhere nginx's rules hold: what a client says is passed on, and nobody believes it.
    environ = eval(bound.get("/environ", said, host=None).text)
    assert (environ["wsgi.url_scheme"], environ["REMOTE_ADDR"]) == ("http", "127.0.0.1")
    assert environ["SCRIPT_NAME"] == ""


def test_a_proxy_that_contradicts_itself_is_refused(bound):
    fields = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")]
    assert at_socket(bound, "/", fields).status == 400


def test_what_the_application_says_to_nginx_reaches_whoever_asks(bound):
    response = at_socket(bound, "/accel?/private/x")
    assert (response.status, response.get("X-Accel-Redirect")) == (200, "/private/x")


def test_forwarded_allow_ips_of_the_app_counts(serve_nginx):
    server = serve_nginx("""
        app shop { wsgi app:application; directory %DIR%; bind 127.0.0.1:%PORT%; forwarded_allow_ips 192.0.2.1; }
    """, python=True, files={"app.py": APP})
    environ = eval(server.get("/environ", [("X-Forwarded-Proto", "https")]).text)
    assert environ["wsgi.url_scheme"] == "http" and "HTTP_X_FORWARDED_PROTO" not in environ


def test_a_reload_adds_and_removes_the_socket(serve_nginx):
    conf = """
        app shop { wsgi app:application; directory %DIR%; BIND }
        server { listen 127.0.0.1:%PORT%; location / { app_pass shop; } }
    """
    server = serve_nginx(conf.replace("BIND", ""), python=True, files={"app.py": APP})
    path = server.directory / "own.sock"
    assert not path.exists()
    server.configure(conf.replace("BIND", "bind unix:own.sock;"))
    server.signal(signal.SIGHUP)
    wait_until(path.exists, "the socket")
    wait_until(lambda: at_socket(server, "/", name="own.sock").text == "app", "an answer there")
    server.configure(conf.replace("BIND", ""))
    server.signal(signal.SIGHUP)
    wait_until(lambda: not path.exists(), "the socket to go")
    assert server.get("/").text == "app"


def test_bind_in_a_settings_file_is_told(serve_nginx):
    conf = """
        app shop { wsgi app:application; directory %DIR%; settings gunicorn.conf.py; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass shop; } }
    """
    server = serve_nginx(conf, python=True, files={
        "app.py": APP, "gunicorn.conf.py": "bind = 'unix:own.sock'\n",
    })
    assert not (server.directory / "own.sock").exists()
    checked = server.run("check", "-c", "nginx.conf", "-p", f"{server.directory}/")
    assert "bind changes nothing in the settings file of an `app`" in checked.stderr
    assert "write `bind unix:own.sock;` in the `app` block" in checked.stderr
