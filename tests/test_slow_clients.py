"""Slow and hostile clients in numbers: the others do not notice, and memory is bounded."""

import random
import threading
import time

import pytest
from support import Client, build, wait_until

APP = """
def application(environ, start_response):
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "250000")])
        return (b"x" * 50_000 for _ in range(5))
    environ["wsgi.input"].read(1 << 30)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""

COUNT = 300


@pytest.mark.timeout(90)
def test_slow_headers_bodies_and_readers_together(serve):
    server = serve(APP, "-w", "2", "--max-temp-space", "100m")
    assert server.get().status == 200
    before = server.memory()
    clients, stopping = [], threading.Event()
    for _ in range(COUNT):
        head = Client(server.address)
        head.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        body = Client(server.address)
        body.send(build("POST", "/", {"Content-Length": "100000"}) + b"x" * 20_000)
        reader = Client(server.address, receive_buffer=4096)
        reader.send(build("GET", "/large"))
        clients.append((head, body, reader))

    def trickle():
        while not stopping.wait(0.5):
            for head, body, reader in clients:
                head.send(b"A: b\r\n")
                body.send(b"x")
                reader.socket.recv(100)

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        # The readers' responses are made first; then the workers have nothing to do but serve us.
        wait_until(lambda: timed(server) < 0.2, "the workers to be free", 30)

        def hardly_notice():
            times = sorted(timed(server) for _ in range(300))
            return times[len(times) * 99 // 100] < 0.25

        # Others than our clients may keep the machine busy for a while.
        wait_until(hardly_notice, "answers as quick as without them", 20)
        assert server.memory() - before < 200_000_000
    finally:
        stopping.set()
        thread.join()
        for group in clients:
            for client in group:
                client.close()


def timed(server):
    began = time.monotonic()
    response = server.get()
    assert response.status == 200
    return time.monotonic() - began


def test_client_gone_at_every_stage(serve):
    server = serve(APP, "--client-max-body-size", "64m")
    raw = build("POST", "/large", {"A": "b" * 50}, b"y" * 40_000)
    cuts = [0, 1, 5, 20, 60, len(raw) - 40_000, len(raw) - 20_000, len(raw) - 1, len(raw)]
    random.seed(5)
    for cut in cuts + [random.randrange(len(raw)) for _ in range(60)]:
        for ending in ("close", "reset"):
            client = server.connect()
            client.send(raw[:cut])
            getattr(client, ending)()
    # And in the middle of an answer.
    for amount in (1, 100, 5_000, 200_000):
        client = server.connect(receive_buffer=4096)
        client.send(build("GET", "/large"))
        received = 0
        while received < amount:
            received += len(client.socket.recv(amount - received))
        client.reset()
    wait_until(lambda: server.get().text == "ok", "the worker")
    edge = server.edge()

    def sockets():
        import os
        links = []
        for name in os.listdir(f"/proc/{edge}/fd"):
            try:
                links.append(os.readlink(f"/proc/{edge}/fd/{name}"))
            except OSError:
                continue
        return links

    wait_until(lambda: not [link for link in sockets() if "(deleted)" in link and "memfd" not in link],
               "temporary files to be closed")
    wait_until(lambda: len(sockets()) < 60, "connections to be closed")


def test_garbage_does_not_hurt(serve):
    server = serve(APP)
    random.seed(7)
    good = build("POST", "/x", {"A": "b", "C": "d"}, b"hello", chunked=True)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(random.randrange(1, 6)):
            data[random.randrange(len(data))] = random.randrange(256)
        client = server.connect(timeout=5)
        client.send(bytes(data))
        client.half_close()
        client.socket.settimeout(5)
        try:
            while client.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        client.close()
    assert server.get().text == "ok"
    assert server.process.poll() is None
