"""The application sees a request only when its body has arrived; memory first, then a temporary file."""

import hashlib
import os
import time

import pytest
from support import build

APP = """
import hashlib, os

def application(environ, start_response):
    digest = hashlib.sha256()
    while True:
        piece = environ["wsgi.input"].read(65536)
        if not piece:
            break
        digest.update(piece)
    text = digest.hexdigest()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]
"""

SIZES = [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 65_536, 1_000_003, 30_000_000]


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APP, "--client-max-body-size", "64m")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunked", [False, True])
def test_body_arrives_intact(server, size, chunked):
    body = os.urandom(size)
    response = server.request("POST", "/", body=body, chunked=chunked, timeout=30)
    assert response.text == hashlib.sha256(body).hexdigest()


def test_slow_upload_does_not_hold_the_worker(server):
    body = os.urandom(100_000)
    with server.connect() as slow:
        slow.send(build("POST", "/", {"Content-Length": str(len(body))}) + body[:50_000])
        for _ in range(20):
            began = time.monotonic()
            assert server.get().status == 200
            assert time.monotonic() - began < 2
        slow.send(body[50_000:])
        assert slow.response().text == hashlib.sha256(body).hexdigest()


def test_a_body_in_single_bytes(server):
    body = b"0123456789" * 20
    with server.connect() as client:
        client.socket.setsockopt(6, 1, 1)
        client.send(build("POST", "/", {"Transfer-Encoding": "chunked"}))
        for byte in body:
            client.send(b"1\r\n" + bytes([byte]) + b"\r\n")
        client.send(b"0\r\n\r\n")
        assert client.response().text == hashlib.sha256(body).hexdigest()


def test_temporary_files_have_no_name_and_go_away(serve, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    server = serve(APP, "--client-max-body-size", "64m", env={"TMPDIR": str(spool)})
    body = os.urandom(3_000_000)
    with server.connect() as client:
        client.send(build("POST", "/", {"Content-Length": str(len(body))}) + body[:-1])

        def spilled():
            return [link for link in server.descriptors().values()
                    if link.startswith(str(spool)) and "(deleted)" in link]

        from support import wait_until
        wait_until(spilled, "a temporary file")
        assert list(spool.iterdir()) == []
        client.send(body[-1:])
        assert client.response().text == hashlib.sha256(body).hexdigest()
        wait_until(lambda: not spilled(), "the temporary file to be closed")


def test_a_temporary_directory_that_is_not_there_is_told_and_costs_no_upload(serve):
    server = serve(APP, env={"TMPDIR": "/nowhere"})
    server.wait_log(r"\[WARNING\] \$TMPDIR: /nowhere is no directory; temporary files are made in /tmp")
    assert server.request("POST", "/", body=b"x" * 500_000).status == 200


def test_cap_on_all_temporary_space(serve):
    server = serve(APP, "--client-max-body-size", "64m", "--max-temp-space", "1m")
    with server.connect() as client:
        client.send(build("POST", "/", {"Content-Length": "4000000"}))
        try:
            client.send(b"x" * 4_000_000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert client.response().status == 503
    # The space is given back.
    body = os.urandom(900_000)
    for _ in range(3):
        assert server.request("POST", "/", body=body).text == hashlib.sha256(body).hexdigest()


def test_client_that_leaves_during_its_upload_never_reaches_the_application(serve):
    app = """
    seen = []

    def application(environ, start_response):
        seen.append(environ["REQUEST_METHOD"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [" ".join(seen).encode()]
    """
    server = serve(app)
    for ending in ("close", "reset"):
        client = server.connect()
        client.send(build("POST", "/", {"Content-Length": "100000"}) + b"x" * 50_000)
        getattr(client, ending)()
    assert set(server.get().text.split()) == {"GET"}
    assert set(server.get().text.split()) == {"GET"}
