"""A full disk: uploads are refused with words, responses fall back on pressure, logs lose lines and nothing else."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess

import pytest
from support import build, wait_until

APP = """
import hashlib

def application(environ, start_response):
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (bytes(range(250)) * 400 for _ in range(200))
    digest = hashlib.sha256(environ["wsgi.input"].read(1 << 30)).hexdigest()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [digest.encode()]
"""

SIZE = 1024 * 1024
LARGE = hashlib.sha256(bytes(range(250)) * 400 * 200).hexdigest()


def namespaces():
    """How to run something with a small file system of its own, or None where the kernel refuses."""
    for flags in (["-m"], ["-r", "-m"]):
        probe = shutil.which("unshare") and subprocess.run(
            ["unshare", *flags, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"], capture_output=True)
        if probe and probe.returncode == 0:
            return flags
    return None


@pytest.fixture
def cramped(serve, tmp_path):
    """A server whose temporary files (and the directory `small`) have room for 1 MiB."""
    def start(*args):
        small = tmp_path / "small"
        small.mkdir()
        flags = namespaces()
        if flags:
            script = f'mount -t tmpfs -o size={SIZE},mode=1777 tmpfs "$0" && exec "$@"'
            return serve(APP, "--client-max-body-size", "64m", *args, env={"TMPDIR": str(small)},
                         wrap=["unshare", *flags, "sh", "-c", script, str(small)])
        # A limit on the size of each file has the same effect on temporary files: EFBIG for ENOSPC.
        return serve(APP, "--client-max-body-size", "64m", *args, env={"TMPDIR": str(small)},
                     limits={resource.RLIMIT_FSIZE: SIZE},
                     before_exec=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
    return start


def test_upload_that_finds_no_room(cramped):
    server = cramped()
    for _ in range(3):
        with server.connect() as client:
            client.send(build("POST", "/", {"Content-Length": "8000000"}))
            try:
                client.send(b"x" * 8_000_000)
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert client.response().status in (503, 507)
    server.wait_log(r"(?i)space|too large")
    body = os.urandom(500_000)
    assert server.request("POST", "/", body=body).text == hashlib.sha256(body).hexdigest(), "what fits goes through"
    assert server.request("POST", "/", body=b"small").status == 200


def test_response_that_finds_no_room(cramped):
    server = cramped("-w", "2")
    with server.connect(receive_buffer=4096, timeout=30) as slow:
        slow.send(build("GET", "/large"))
        head = slow.head()
        assert head.status == 200
        for _ in range(5):
            assert server.request("POST", "/", body=b"x").status == 200
        slow.body(head)
        assert hashlib.sha256(head.body).hexdigest() == LARGE
    assert server.request("POST", "/", body=b"x").status == 200


def test_access_log_on_a_full_disk(serve):
    server = serve(APP, "--access-logfile", "/dev/full")
    for _ in range(5):
        assert server.get().status == 200
    server.wait_log(r"(?i)access log.*no space")
    assert server.get().status == 200
    wait_until(lambda: server.log().lower().count("no space") == 1, "one line about it, not one per request")


def test_a_limit_on_file_sizes_ends_no_process(serve):
    # Past RLIMIT_FSIZE the kernel sends SIGXFSZ, which ends whoever does not ignore it.
    server = serve(APP, "--access-logfile", "access.log", "--client-max-body-size", "64m")
    edge = server.edge()
    resource.prlimit(edge, resource.RLIMIT_FSIZE, (50_000, 50_000))
    for _ in range(2):
        assert server.request("POST", "/", body=b"x" * 1_000_000).status == 507
    with server.connect() as client:
        for _ in range(50):
            assert client.request("POST", "/" + "y" * 2000, body=b"x").status == 200
    server.wait_log(r"(?i)access log.*too large")
    assert (server.directory / "access.log").stat().st_size <= 50_000
    # The master's own log is at its limit: what it says of the signal finds no room.
    size = server.log_path.stat().st_size
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, size))
    worker = server.workers()[0]
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.workers() and worker not in server.workers(), "the reload")
    assert server.request("POST", "/", body=b"x").status == 200
    assert (server.edge(), server.process.poll()) == (edge, None)
