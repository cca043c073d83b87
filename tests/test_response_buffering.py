"""The worker is free when its last byte is in the edge's buffer, however slowly the client reads."""

import hashlib
import time

import pytest

from support import build, wait_until
from support.client import Broken

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


SIZES = """
from urllib.parse import parse_qs

def body(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]

def application(environ, start_response):
    asked = {name: int(values[0]) for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    size, piece = asked["size"], asked.get("piece")
    fields = [("Content-Type", "application/octet-stream")]
    if environ["PATH_INFO"] != "/unannounced":
        fields.append(("Content-Length", str(size)))
    start_response("200 OK", fields)
    if not piece:
        return [body(size)]
    whole = body(size)
    return (whole[at:at + piece] for at in range(0, size, piece))
"""
# Around what stays in the ring, what a frame holds and what a ring holds; then many rings.
AROUND = [n + d for n in (16 << 10, 64 << 10, 128 << 10, 256 << 10) for d in (-400, -17, -8, 0, 1, 300)]


def of_size(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def test_large_bodies_of_every_size_are_whole(serve):
    server = serve(SIZES, "--access-logfile", "access.log", "--access-logformat", "%(B)s", "-w", "2")
    sizes = [*AROUND, 1_000_003, 5_000_000]
    with server.connect() as client:
        for size in sizes:
            for query in ("", "&piece=40000", "&piece=100"):
                if query == "&piece=100" and size > 300_000:
                    continue
                response = client.request("GET", f"/?size={size}{query}")
                assert response.body == of_size(size), (size, query)
    # Its end tells the length, to a client of 1.0.
    for size in sizes[-6:]:
        with server.connect() as client:
            client.send(build("GET", f"/unannounced?size={size}&piece=100000", version="1.0"))
            response = client.response()
            assert response.get("content-length") is None and response.body == of_size(size), size
    logged = (server.directory / "access.log").read_text
    for size in sizes:
        wait_until(lambda: logged().split().count(str(size)) >= 2, f"{size} bytes in the log")


def test_who_reads_in_fits_and_starts_gets_every_byte(serve):
    server = serve(SIZES)
    for size, piece in ((262_144, 0), (700_001, 0), (700_001, 50_000)):
        with server.connect(receive_buffer=4096, timeout=30) as client:
            client.send(build("GET", f"/?size={size}&piece={piece}") * 2)
            for _ in range(2):
                head = client.head()
                got = bytearray()
                while len(got) < size:
                    got += client._exactly(min(9_973, size - len(got)))
                    if len(got) % 7 == 0:
                        time.sleep(0.002)
                assert bytes(got) == of_size(size)
                assert head.status == 200


def test_a_worker_that_dies_within_a_large_answer_leaves_no_whole_page(serve):
    app = """
import os, signal, time
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", str(400_000))])
    yield b"x" * 200_000
    if environ["PATH_INFO"] == "/dies":
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    yield b"y" * 200_000
"""
    server = serve(app, validate=False)
    with server.connect() as client:
        client.send(build("GET", "/dies"))
        head = client.head()
        assert client._exactly(200_000) == b"x" * 200_000
        assert head.get("content-length") == "400000"
        with pytest.raises((Broken, OSError)):
            client._exactly(1)
    server.wait_log(r"GET /dies.*died|died.*GET /dies")
    assert len(server.get("/").body) == 400_000
