"""What the master does when a part of the program dies, and as a daemon."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from support import Load, free_port, wait_until

APP = """
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def answers(server):
    try:
        return server.get(timeout=5).status == 200
    except (OSError, AssertionError):
        return False


def mold(server):
    """The one that the workers are of; None while there are two."""
    processes, workers = server.processes(), server.workers()
    found = {processes[worker][0] for worker in workers if worker in processes}
    return found.pop() if len(found) == 1 else None


def test_killed_edge_is_replaced(serve):
    server = serve(APP)
    edge = server.edge()
    os.kill(edge, signal.SIGKILL)
    wait_until(lambda: server.edge() not in (None, edge) and answers(server), "service again", 20)
    assert server.process.poll() is None
    wait_until(lambda: len(server.workers()) == 1, "one worker")


def test_killed_mold_is_replaced_and_no_client_notices(serve):
    server = serve(APP, "-w", "2", validate=False)
    old = mold(server)
    with Load(server) as load:
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: old not in server.processes() and len(server.workers()) == 2
                   and mold(server) not in (None, old), "a new mold with its workers", 20)
        count = len(load.bodies)
        wait_until(lambda: len(load.bodies) > count + 50, "more answers")
    assert load.failures == []


@pytest.mark.parametrize("victim", ["edge", "mold", "worker"])
def test_all_end_with_the_master_whatever_died_before(serve, victim):
    server = serve(APP, "-w", "2")
    os.kill({"edge": server.edge, "mold": lambda: mold(server), "worker": lambda: server.workers()[0]}[victim](),
            signal.SIGKILL)
    server.signal(signal.SIGTERM)
    assert server.exit_code() == 0
    wait_until(lambda: server.processes() == {}, "all to be gone")


def test_daemon(serve):
    server = serve(APP, "-D", "-p", "server.pid", "--error-logfile", "error.log", wait=False)
    assert server.exit_code() == 0
    pid_file = server.directory / "server.pid"
    wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the pid file")
    pid = int(pid_file.read_text())
    try:
        wait_until(lambda: answers(server), "the daemon to answer", 20)
        assert os.getsid(pid) != os.getsid(0)
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: server.processes() == {}, "the daemon to end", 20)
    assert not pid_file.exists()


@pytest.mark.parametrize("log", [[], ["--error-logfile", "error.log"]], ids=["without a log", "with a log"])
def test_a_daemon_that_does_not_start_says_why_and_fails(serve, log):
    broken = serve("import no_such_module_at_all\n", "-D", *log, wait=False)
    assert broken.exit_code() == 3
    assert "No module named 'no_such_module_at_all'" in broken.log()
    assert ("the start failed; " in broken.log()) == bool(log)
    wait_until(lambda: broken.processes() == {}, "nothing to be left")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        bound = serve(APP, "-D", "-b", f"127.0.0.1:{port}", *log, wait=False)
        assert bound.exit_code() == 1
    assert f"Can't listen on 127.0.0.1:{port}: another program listens there" in bound.log()
    wait_until(lambda: bound.processes() == {}, "nothing to be left")


def test_a_daemon_leaves_the_terminal_once_it_serves(serve):
    server = serve(APP + "print('said at import', flush=True)\n", "-D", "-p", "server.pid", wait=False)
    assert server.exit_code() == 0
    assert answers(server), "it serves when its first process ends"
    pid = int((server.directory / "server.pid").read_text())
    try:
        log = server.log()
        assert "Logs: errors to nowhere (a daemon needs --error-logfile FILE)" in log
        wait_until(lambda: {os.readlink(f"/proc/{p}/fd/{fd}") for p in server.processes() for fd in (0, 1, 2)}
                   == {"/dev/null"}, "nobody to have the terminal")
        before = set(server.processes())
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: len(set(server.processes()) - before) == 2 and len(server.processes()) == len(before),
                   "the next generation's mold and worker in the place of the old", 20)
        assert answers(server)
        assert server.log() == log
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: server.processes() == {}, "the daemon to end", 20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_order_to_end_is_passed_on_to_a_daemon_that_starts(serve, number):
    server = serve("import time\ntime.sleep(60)\n", "-D", wait=False)
    wait_until(server.log, "a word of the start")
    server.wait_log("Booting worker")
    server.signal(number)
    assert server.exit_code() == 1
    wait_until(lambda: server.processes() == {}, "nothing to be left")


def test_an_end_in_the_middle_of_a_reload_says_nothing_of_what_is_within(serve):
    server = serve(APP, "-c", "conf.py", files={"conf.py": "workers = 1\n"})
    server.write("conf.py", "import os, time\nopen('read', 'w').close()\nwhile not os.path.exists('on'):\n    time.sleep(0.02)\n")
    server.signal(signal.SIGHUP)
    wait_until((server.directory / "read").exists, "the settings to be read")
    server.signal(signal.SIGTERM)
    server.wait_log("Shutting down")
    server.write("on", "")
    assert server.exit_code() == 0
    assert "the master sent" not in server.log(), server.log()


def test_a_reload_with_wrong_settings_says_nothing_of_what_is_within(serve):
    server = serve(APP, "-c", "conf.py", files={"conf.py": "workers = 1\n"})
    server.write("conf.py", "workers = 'lots'\n")
    server.signal(signal.SIGHUP)
    server.wait_log("Generation 2 did not boot")
    wait_until(lambda: len(server.molds()) == 1, "the new mold to be gone")
    assert answers(server)
    assert "the master sent" not in server.log(), server.log()


def test_pid_file_of_a_running_instance_is_respected(serve):
    first = serve(APP, "-p", "../shared.pid")
    second = serve(APP, "-p", "../shared.pid", wait=False)
    assert second.exit_code() != 0
    assert str(first.process.pid) in second.log()
    assert (first.directory.parent / "shared.pid").read_text().strip() == str(first.process.pid)


def test_stale_pid_file_is_replaced(serve, tmp_path):
    (tmp_path / "stale.pid").write_text("999999999\n")
    server = serve(APP, "-p", str(tmp_path / "stale.pid"))
    assert (tmp_path / "stale.pid").read_text().strip() == str(server.process.pid)


def test_a_reload_writes_a_pid_file_again_that_is_gone(serve):
    """As gunicorn's does."""
    server = serve(APP, "-p", "master.pid")
    path = server.directory / "master.pid"
    path.unlink()
    server.signal(signal.SIGHUP)
    server.wait_log("Generation 2 serves")
    wait_until(path.exists, "the pid file")
    assert path.read_text().strip() == str(server.process.pid)
    # What is another's is left alone, with a word.
    path.write_text("1\n")
    server.signal(signal.SIGHUP)
    server.wait_log("Already running with pid 1, says the pid file ")
    assert answers(server) and path.read_text() == "1\n"
    server.stop()
    assert path.read_text() == "1\n"


def test_two_instances_on_one_port(serve):
    port = free_port()
    servers = [serve(APP, "--reuse-port", bind=["-b", f"127.0.0.1:{port}"], wait=False) for _ in range(2)]
    for server in servers:
        server.port = port
        server.wait_log("Listening at", 20)
    wait_until(lambda: answers(servers[0]), "an answer", 20)
    workers = {pid for server in servers for pid in server.workers()}
    wait_until(lambda: {int(servers[0].get().text) for _ in range(20)} == workers, "both to be asked", 20)


def test_idle_instance_sleeps(serve):
    # Nothing polls: at rest the whole program may use a few ticks of a hundredth of a second, no more.
    server = serve(APP, "-w", "2")
    assert answers(server)

    def ticks():
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in server.processes()]
        return sum(int(stat[11]) + int(stat[12]) for stat in fields)

    def rests():
        before = ticks()
        time.sleep(3)  # the time at rest
        return ticks() - before <= 3

    # What belongs to the start may go on for a while.
    wait_until(rests, "it to rest", 20)
