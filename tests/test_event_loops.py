"""Connections are kept on as few event loops as can carry them, and move without anybody noticing."""

import os
import threading
import time
from pathlib import Path

import pytest
from support import wait_until

# The edge compresses each answer: work for its loops, and little for the worker.
APP = """
import random
rng = random.Random(7)
PAGE = b" ".join(b"%x" % rng.getrandbits(28) for _ in range(30000))
def application(environ, start_response):
    if environ["PATH_INFO"] == "/small":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [PAGE]
"""


def of_each_loop(server, read):
    """What `read` takes from the folder of each event loop's thread in /proc, by the loop's name."""
    found = {}
    for task in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        try:
            name = (task / "comm").read_text().strip()
            parent = (task.parent.parent / "stat").read_text().rpartition(")")[2].split()[1]
            if name.startswith("edge-") and int(parent) == server.process.pid:
                found[name] = read(task)
        except OSError:
            continue
    return found


def loops(server):
    """Processor time of each event loop in nanoseconds."""
    return of_each_loop(server, lambda task: int((task / "schedstat").read_text().split()[0]))


def awakenings(server):
    """How often each event loop has gone to sleep of its own accord."""
    field = "\nvoluntary_ctxt_switches:"
    return of_each_loop(server, lambda task: int((task / "status").read_text().partition(field)[2].split()[0]))


def test_loops_without_connections_sleep(serve):
    server = serve(APP, "--edge-threads", "2", validate=False)
    with server.connect() as client:
        assert client.request(target="/small").body == b"ok"

    def sleep():
        before = awakenings(server)
        assert set(before) == {"edge-0", "edge-1"}
        time.sleep(3)
        after = awakenings(server)
        # One look around a second, each of which may be in two parts.
        return all(after[name] - before[name] <= 10 for name in before)

    wait_until(sleep, "the loops to sleep", 30)


WAITING = """
import time
def application(environ, start_response):
    time.sleep(0.05)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""


def test_loops_are_patient_while_requests_wait_for_a_worker(serve):
    server = serve(WAITING, "-w", "1", "--edge-threads", "2", validate=False)

    def policies():
        return of_each_loop(server, lambda task: os.sched_getscheduler(int(task.name)))

    assert set(policies().values()) == {os.SCHED_OTHER}
    clients, stop = [server.connect() for _ in range(6)], threading.Event()
    failed = []

    def ask(client):
        while not stop.is_set():
            if client.request().status != 200:
                failed.append(client)

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        # The loop that has the connections; another looks around once a second.
        wait_until(lambda: os.SCHED_BATCH in policies().values(), "a patient loop", 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    wait_until(lambda: set(policies().values()) == {os.SCHED_OTHER}, "no loop to be patient", 20)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a full loop needs a processor of its own")
def test_a_second_loop_serves_when_the_first_is_full_and_rests_when_it_is_not_needed(serve):
    server = serve(APP, "--edge-threads", "2", "--keep-alive", "30", validate=False)
    clients = [server.connect() for _ in range(8)]
    answers, stop = [0] * len(clients), threading.Event()

    def load(index):
        client = clients[index]
        while not stop.is_set():
            response = client.request(target="/", fields=[("Accept-Encoding", "br")])
            assert response.status == 200 and response.get("Content-Encoding") == "br"
            answers[index] += 1

    threads = [threading.Thread(target=load, args=(index,)) for index in range(len(clients))]
    assert set(loops(server)) == {"edge-0", "edge-1"}
    for thread in threads:
        thread.start()
    def serves():
        # Half of what the first one has: not what a loop needs to look around.
        before = loops(server)
        time.sleep(1)
        used = {name: spent - before[name] for name, spent in loops(server).items()}
        return used["edge-1"] * 2 > used["edge-0"] > 100e6

    try:
        wait_until(serves, "the second loop to serve", 30)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(answers), "every connection went on"

    def rests():
        # A connection ends after a thousand requests.
        time.sleep(0.5)
        before = loops(server)
        for client in clients * 25:
            assert client.request(target="/small").body == b"ok"
        used = {name: time - before[name] for name, time in loops(server).items()}
        return used["edge-1"] * 10 < used["edge-0"]

    wait_until(rests, "the second loop to give its connections back", 30)
