"""The system's nginx in front of Monoceros, as a site that moves over step by step has it."""

import hashlib
import json
import os
import subprocess
import time

import pytest
from support import Client, build, free_port, wait_until
from support.server import which

APP = """
import hashlib, json, os, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        def events():
            for n in range(3):
                yield b"data: %d\\n\\n" % n
                deadline = time.monotonic() + 20
                while not os.path.exists("go") and time.monotonic() < deadline:
                    time.sleep(0.01)
        return events()
    if path == "/large":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (bytes(range(250)) * 400 for _ in range(100))
    body = environ["wsgi.input"].read(1 << 30)
    names = ("REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST", "SERVER_PROTOCOL")
    text = json.dumps({**{n: environ.get(n) for n in names}, "sha256": hashlib.sha256(body).hexdigest()}).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [text]
"""

CONFIGURATION = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 64m;
    upstream shop {{ server {upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://shop;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
            {more}
        }}
    }}
}}
"""


@pytest.fixture(params=["tcp", "unix"])
def chain(request, serve, tmp_path):
    """(address of nginx, the server behind it)"""
    nginx = which("nginx")
    if request.param == "tcp":
        server = serve(APP, "--client-max-body-size", "64m", "--threads", "4")
        upstream = f"127.0.0.1:{server.port}"
    else:
        path = str(tmp_path / "s")
        server = serve(APP, "--client-max-body-size", "64m", "--threads", "4", bind=["-b", f"unix:{path}"], wait=False,
                       limits={})
        server.wait_ready(path)
        os.chmod(path, 0o666)
        os.chmod(tmp_path, 0o755)
        upstream = f"unix:{path}"
    directory = tmp_path / "nginx"
    directory.mkdir()
    port = free_port()
    (directory / "nginx.conf").write_text(
        CONFIGURATION.format(directory=directory, upstream=upstream, port=port, more="proxy_request_buffering off;")
        + ("" if os.getuid() else "user root;\n"))
    process = subprocess.Popen(
        [nginx, "-e", str(directory / "error.log"), "-p", str(directory), "-c", str(directory / "nginx.conf")])

    def answers():
        assert process.poll() is None, (directory / "error.log").read_text()
        try:
            with Client(("127.0.0.1", port), timeout=1) as client:
                return client.request().status == 200
        except OSError:
            return False

    wait_until(answers, "nginx")
    yield ("127.0.0.1", port), server
    process.terminate()
    process.wait(10)


def test_nginx_in_front(chain):
    address, server = chain
    with Client(address) as client:
        for _ in range(20):
            response = client.request("GET", "/", host="shop.example")
            seen = json.loads(response.body)
            assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("127.0.0.1", "https")
            assert (seen["HTTP_HOST"], seen["SERVER_PROTOCOL"]) == ("shop.example", "HTTP/1.1")
        response = client.request("GET", "/", {"X-Forwarded-For": "6.6.6.6"})
        assert json.loads(response.body)["REMOTE_ADDR"] in ("127.0.0.1", "6.6.6.6")
    for chunked in (False, True):
        body = os.urandom(3_000_000)
        with Client(address, timeout=30) as client:
            response = client.request("POST", "/", body=body, chunked=chunked)
            assert json.loads(response.body)["sha256"] == hashlib.sha256(body).hexdigest()
    with Client(address, timeout=30) as client:
        assert client.request("GET", "/large").body == bytes(range(250)) * 400 * 100
    with Client(address) as client:
        client.send(build("GET", "/stream"))
        client.head()
        # Before the second is made: text/event-stream carries X-Accel-Buffering: no for nginx, or passes.
        assert client.chunk() == b"data: 0\n\n"
        server.write("go", "")


def test_reload_behind_nginx_fails_no_request(chain):
    import signal
    address, server = chain
    before = set(server.workers())
    server.signal(signal.SIGHUP)
    with Client(address) as client:
        deadline = time.monotonic() + 20
        while not server.workers() or before & set(server.workers()):
            assert client.request().status == 200
            assert time.monotonic() < deadline
        for _ in range(50):
            assert client.request().status == 200
