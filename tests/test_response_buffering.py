"""The worker is free when its last byte is in the edge's buffer, however slowly the client reads."""

import hashlib
import time

from support import build, wait_until

SIZE = 20_000_000

APP = """
import hashlib
import os

SIZE = 20_000_000

def application(environ, start_response):
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(SIZE))])
        block = bytes(range(250)) * 80
        return (block for _ in range(SIZE // len(block)))
    if environ["PATH_INFO"] == "/whole":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return [bytes(range(250)) * (SIZE // 250)]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""

DIGEST = hashlib.sha256(bytes(range(250)) * (SIZE // 250)).hexdigest()


def slow_reader(server, path="/large"):
    client = server.connect(receive_buffer=4096, timeout=30)
    client.send(build("GET", path))
    return client


def test_slow_reader_does_not_hold_the_worker(serve):
    server = serve(APP)
    for path in ("/large", "/whole"):
        with slow_reader(server, path) as slow:
            assert slow.head().status == 200
            began = time.monotonic()
            for _ in range(20):
                assert server.get().text == "ok"
            assert time.monotonic() - began < 5


def test_what_was_buffered_arrives_intact(serve):
    server = serve(APP)
    for path in ("/large", "/whole"):
        with slow_reader(server, path) as slow:
            assert server.get().text == "ok"
            response = slow.response()
            assert hashlib.sha256(response.body).hexdigest() == DIGEST


def test_many_slow_readers_take_no_memory(serve):
    server = serve(APP)
    assert server.get().text == "ok"
    before = server.memory()
    clients = [slow_reader(server) for _ in range(10)]
    try:
        for client in clients:
            client.head()
        assert server.get(timeout=30).text == "ok"
        assert server.memory() - before < 100_000_000
    finally:
        for client in clients:
            client.close()


def test_past_the_cap_the_worker_is_slowed(serve):
    server = serve(APP, "--response-max-temp-file-size", "1m", "--timeout", "60s", "-w", "2")
    with slow_reader(server) as slow:
        head = slow.head()
        before = server.memory()
        for _ in range(5):
            assert server.get().text == "ok"
        assert server.memory() - before < 10_000_000
        slow.body(head)
        assert hashlib.sha256(head.body).hexdigest() == DIGEST
    assert server.get().text == "ok"


def test_without_temporary_files(serve):
    server = serve(APP, "--response-max-temp-file-size", "0", "-w", "2")
    with slow_reader(server) as slow:
        assert server.get().text == "ok"
        assert hashlib.sha256(slow.response().body).hexdigest() == DIGEST


def test_client_that_leaves_frees_the_worker(serve):
    server = serve(APP, "--response-max-temp-file-size", "1m")
    client = slow_reader(server)
    client.head()
    client.reset()
    began = time.monotonic()
    wait_until(lambda: server.get(timeout=5).text == "ok", "the worker")
    assert time.monotonic() - began < 5
