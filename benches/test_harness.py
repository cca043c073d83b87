"""The harness measures what it says: a client that saw no failure would pass every bar."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from harness import outcome, processes, results
from harness.load import Client

import release

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# Requests that came, by port.
asked = {}


@pytest.fixture
def server():
    """Starts a server that hands each request's running number to `behave(number, connection)`."""
    listeners = []

    def start(behave):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        port = listener.getsockname()[1]
        asked[port] = 0
        count = iter(range(1 << 30))

        def serve(connection):
            with connection:
                try:
                    while connection.recv(65536):
                        asked[port] += 1
                        if behave(next(count), connection) == "close":
                            return
                except OSError:
                    return

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return port

    yield start
    for listener in listeners:
        # shutdown wakes the thread in accept; close alone would not.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def steady(port, **options):
    """The report of a client that has sent more than 20 requests."""
    with Client("steady", port, connections=1, pace=0.005, **options) as client:
        deadline = time.monotonic() + 30
        while asked[port] <= 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        return client.finish()


def test_good_answers_are_no_failures(server):
    report = steady(server(lambda number, connection: connection.sendall(GOOD)))
    assert report["failed"] == 0
    assert report["requests"] >= 20
    assert 0 < report["p50"] <= report["p99"] <= report["worst"]


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return "close"


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("503", lambda c: c.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")),
        ("closed before the answer", lambda c: "close"),
        ("closed within the answer", lambda c: c.sendall(GOOD[:-1]) or "close"),
        ("broken answer", lambda c: c.sendall(b"nonsense\r\n\r\n")),
        ("broken answer", lambda c: c.sendall(GOOD + b"more")),
        ("ECONNRESET", reset),
        ("no answer in time", lambda c: None),
    ],
)
def test_each_fault_is_counted_once(server, reason, fault):
    def behave(number, connection):
        return fault(connection) if number == 3 else connection.sendall(GOOD)

    report = steady(server(behave), patience=2)
    assert report["failures"] == {reason: 1}
    assert report["requests"] > 5


def test_a_connection_closed_between_requests_is_no_failure(server):
    def behave(number, connection):
        # MSG_MORE: the end travels with the answer, so that it cannot cross the next request.
        connection.sendall(GOOD, socket.MSG_MORE)
        return "close"

    report = steady(server(behave))
    assert report["failed"] == 0
    assert report["requests"] >= 20


def test_a_stall_counts_for_every_request_that_was_due(server):
    def behave(number, connection):
        if number == 3:
            time.sleep(0.2)
        connection.sendall(GOOD)

    with Client("steady", server(behave), connections=1, pace=0.01) as client:
        time.sleep(1)
        report = client.finish()
    # About twenty requests were due in those 0.2 s: a client that only counted one would have no such p99.
    assert report["failed"] == 0
    assert report["p99"] > 100_000


def test_idle_connections_that_are_closed_are_noticed(server):
    connections = []

    def behave(number, connection):
        connections.append(connection)
        connection.sendall(GOOD)

    with Client("idle", server(behave), connections=10) as client:
        assert client.message() == {"open": 10}
        connections[4].shutdown(socket.SHUT_RDWR)
        connections[7].shutdown(socket.SHUT_RDWR)
        time.sleep(0.1)  # loopback delivers at once; there is nothing to poll from here
        assert client.finish() == {"open": 8}


BURN = """
import os, sys, threading, time
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: pass
sys.stdin.readline()
thread = threading.Thread(target=burn, args=(0.2,)); thread.start()
if os.fork() == 0:
    burn(0.2); print("child", flush=True); time.sleep(60)
thread.join()
print("parent", flush=True); time.sleep(60)
"""


def test_cpu_time_of_children_and_of_ended_threads_counts():
    process = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        clock = processes.CpuClock([process.pid])
        clock.start()
        process.stdin.write("\n")
        process.stdin.flush()
        assert {process.stdout.readline(), process.stdout.readline()} == {"child\n", "parent\n"}
        assert len(processes.tree(process.pid)) == 2
        assert 0.35 < clock.stop() < 0.8
        child = processes.tree(process.pid)[1]
        clock.start()
        os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while processes.started(child) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match=str(child)):
            clock.stop()
    finally:
        processes.end(process)
        process.stdin.close()
        process.stdout.close()


def test_bars_and_tables():
    one = outcome.Outcome("work", "Work", ["server", "figure"], [["monoceros", "1"]])
    one.bar("small", 0.5, 0.5)
    one.bar("small", 0.51, 0.5)
    one.bar("many", 9, 10, least=True)
    one.bar("unknown", None, 1)
    assert [bar.passed for bar in one.bars] == [True, False, False, None]
    text = "\n".join(one.lines())
    assert "| monoceros |      1 |" in text
    assert "- **FAIL**: small: 0.51" in text


def test_results_keep_other_works(tmp_path):
    for name in ("kill", "hello"):
        data = {"title": name, "columns": ["server"], "rows": [["x"]], "bars": [], "notes": []}
        data |= {"work": name, "date": "2026-01-01", "machine": "m", "rounds": "7"}
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    results.write(tmp_path, tmp_path / "R.md", ["hello", "kill"])
    text = (tmp_path / "R.md").read_text()
    assert 0 < text.index("## hello") < text.index("## kill")


def fake(directory, name, text):
    """A program of that name on the path, which says `text`."""
    program = directory / name
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o755)


def test_a_trained_build_says_what_it_needs(tmp_path, monkeypatch):
    fake(tmp_path, "rustc", "LLVM version: 4711.1.2\nhost: here")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SystemExit, match="llvm-profdata of LLVM 4711: `rustup component add llvm-tools`"):
        release.find_profdata()
    fake(tmp_path, "llvm-profdata-4711", "")
    assert release.find_profdata() == str(tmp_path / "llvm-profdata-4711"), "another LLVM's may not read the counts"
