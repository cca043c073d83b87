"""Programs that an application or a hook starts: signals mean to them what they mean to any program."""

import os
import signal
import subprocess

import pytest
from support import wait_until

REPORT = """
import subprocess

def signals(name):
    \"\"\"What a program has blocked and ignored that is started here.\"\"\"
    grep = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]
    words = subprocess.run(grep, capture_output=True, text=True, check=True).stdout.split()
    with open("signals.txt", "a") as file:
        file.write(" ".join([name, words[1], words[3]]) + "\\n")
"""

APP = """
import subprocess
from report import signals

signals("import")

def application(environ, start_response):
    signals("request")
    program = subprocess.Popen(["sleep", "60"])
    program.terminate()
    try:
        body = str(program.wait(5)).encode()
    except subprocess.TimeoutExpired:
        program.kill()
        body = b"it does not end"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

HOOKS = """
import sys
sys.path.insert(0, ".")
from report import signals

signals("file")

def on_starting(server): signals("on_starting")
def when_ready(server): signals("when_ready")
def pre_fork(server, worker): signals("pre_fork")
def post_fork(server, worker): signals("post_fork")
def post_worker_init(worker): signals("post_worker_init")
def worker_exit(server, worker): signals("worker_exit")
def on_exit(server): signals("on_exit")
"""


@pytest.mark.parametrize("more", [[], ["--threads", "4"], ["--preload"]], ids=["sync", "threads", "preload"])
def test_no_signal_is_blocked_or_ignored_in_a_program_that_is_started(serve, more):
    """In a worker with threads all were blocked: `terminate()` ended nothing, and `wait()` waited for ever."""
    server = serve(APP, "-c", "conf.py", *more, files={"report.py": REPORT, "conf.py": HOOKS})
    assert server.get("/").text == str(-signal.SIGTERM)
    server.signal(signal.SIGTERM)
    assert server.exit_code() == 0
    # What whoever runs the tests has ignored is ignored in all that they start.
    words = subprocess.run(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"], capture_output=True, text=True,
                           check=True).stdout.split()
    of_all = [int(words[1], 16), int(words[3], 16)]
    found = {}
    for line in (server.directory / "signals.txt").read_text().splitlines():
        where, *masks = line.split()
        found[where] = tuple(int(mask, 16) & ~known for mask, known in zip(masks, of_all))
    hooks = {"file", "on_starting", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_exit", "on_exit"}
    assert found == dict.fromkeys({"import", "request", *hooks}, (0, 0))


def test_a_crash_in_a_thread_of_a_worker_shows_where(serve):
    """With its signal blocked the kernel ends the process without a word."""
    app = """
        import faulthandler

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/crash":
                faulthandler._sigsegv()
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return [b""]
    """
    server = serve(app, "--threads", "2")
    assert server.request("POST", "/crash").status == 502
    server.wait_log("Fatal Python error: Segmentation fault")
    assert "in application" in server.log()


def test_a_hook_after_the_fork_that_hangs_is_shown(serve):
    """What ends it was held back until its handlers were there, and so was the word of where it hangs."""
    conf = """
        import time
        def post_fork(server, worker): time.sleep(60)
    """
    server = serve(APP, "-c", "conf.py", "--boot-timeout", "1", files={"report.py": REPORT, "conf.py": conf}, wait=False)
    assert server.exit_code() == 3
    assert "in post_fork" in server.log() and "did not end after SIGABRT" not in server.log(), server.log()


def test_threads_are_left_alone_by_the_orders_that_their_worker_gets(serve):
    app = """
        import time

        def application(environ, start_response):
            open("runs", "w").close()
            time.sleep(1)
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
            return [b"ok"]
    """
    server = serve(app, "--threads", "2")
    with server.connect(timeout=10) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until((server.directory / "runs").exists, "the request to run")
        for _ in range(20):
            server.signal(signal.SIGUSR1)
        server.signal(signal.SIGTERM)
        assert client.response().text == "ok"
    assert server.exit_code() == 0


def test_a_handler_of_a_preloaded_application_does_not_end_the_mold(serve):
    """TERM for every process of a service would have left nobody who forks workers for what waits."""
    app = """
        import signal
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)

        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
            return [b"ok"]
    """
    server = serve(app, "--preload")
    (mold,) = server.molds()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        os.kill(mold, number)
    # What it does next comes after what it was told by signals.
    server.signal(signal.SIGTTIN)
    wait_until(lambda: len(server.workers()) == 2, "another worker")
    assert list(server.molds()) == [mold]
