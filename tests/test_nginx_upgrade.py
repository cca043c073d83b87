"""USR2 and WINCH: a new program takes the sockets over, and the old one stays until it is told to end."""

import os
import signal

import pytest
from support import Load, Site, wait_until

CONF = """
    pid %DIR%/x.pid;
    error_log %DIR%/error.log notice;
    events {}
    http {
        access_log off;
        server { listen 127.0.0.1:%PORT%; listen unix:%DIR%/s; return 200 one; }
    }
"""


class Daemon:
    """A daemon by nginx's name, of which only the pid file tells."""

    def __init__(self, directory):
        self.site = Site(directory, CONF, name="nginx")
        self.args = ["-p", f"{directory}/", "-c", "nginx.conf"]
        self.path, self.old_path = directory / "x.pid", directory / "x.pid.oldbin"
        result = self.site.run(*self.args)
        assert (result.returncode, result.stderr) == (0, "")

    def pid(self):
        """None while there is no pid file: it may go between two looks."""
        try:
            return int(self.path.read_text())
        except FileNotFoundError:
            return None

    def old_pid(self):
        return int(self.old_path.read_text())

    def edges(self, master):
        return [pid for pid, (parent, _) in self.site.processes().items() if parent == master]

    def upgrade(self):
        old = self.pid()
        os.kill(old, signal.SIGUSR2)
        wait_until(lambda: self.pid() not in (None, old), "the new program's pid file")
        assert self.old_pid() == old
        return old, self.pid()


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path / "site")
    yield daemon
    for pid in list(daemon.site.processes()):
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGTERM)
    wait_until(lambda: daemon.site.processes() == {}, "all to be gone")


def gone(pid):
    return not os.path.exists(f"/proc/{pid}")


def test_a_new_program_takes_over_without_a_failed_request(daemon):
    with Load(daemon.site, close=True) as load:
        old, new = daemon.upgrade()
        assert daemon.edges(old) and wait_until(lambda: daemon.edges(new), "the new edge")
        os.kill(old, signal.SIGWINCH)
        wait_until(lambda: new not in daemon.edges(old) or len(daemon.edges(old)) == 1, "the old edge to end")
        count = len(load.bodies)
        wait_until(lambda: len(load.bodies) > count + 50, "answers of the new one")
        os.kill(old, signal.SIGQUIT)
        wait_until(lambda: gone(old), "the old master to end")
        count = len(load.bodies)
        wait_until(lambda: len(load.bodies) > count + 50, "more answers of the new one")
    assert load.failures == []
    assert daemon.pid() == new and not daemon.old_path.exists()
    assert (daemon.site.directory / "s").is_socket(), "the socket's file is the new program's"


def test_the_old_program_goes_on_when_the_new_one_is_given_up(daemon):
    old, new = daemon.upgrade()
    os.kill(old, signal.SIGWINCH)
    wait_until(lambda: daemon.edges(old) == [new], "the old edge to end")
    os.kill(new, signal.SIGQUIT)
    wait_until(lambda: gone(new), "the new program to end")
    wait_until(lambda: daemon.pid() == old, "the pid file to be back")
    assert not daemon.old_path.exists()
    with daemon.site.connect() as client:
        assert client.request().text == "one"


def test_hup_brings_the_old_edge_back_beside_the_new_program(daemon):
    old, new = daemon.upgrade()
    os.kill(old, signal.SIGWINCH)
    wait_until(lambda: daemon.edges(old) == [new], "the old edge to end")
    os.kill(old, signal.SIGHUP)
    wait_until(lambda: len(daemon.edges(old)) == 2, "another edge")
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: daemon.pid() == old, "the pid file to be back")


def test_a_new_program_that_does_not_start_changes_nothing(daemon):
    old = daemon.pid()
    daemon.site.write("nginx.conf", "retrun;")
    os.kill(old, signal.SIGUSR2)
    log = daemon.site.directory / "error.log"
    wait_until(lambda: "the new binary has ended; the old one goes on" in log.read_text(), "its end in the log")
    assert daemon.pid() == old and not daemon.old_path.exists()
    with daemon.site.connect() as client:
        assert client.request().text == "one"


def test_in_the_foreground_winch_is_news_of_a_window(serve_nginx):
    server = serve_nginx("server { listen 127.0.0.1:%PORT%; return 200 one; }")
    edge = server.edge()
    server.signal(signal.SIGWINCH)
    server.signal(signal.SIGHUP)
    with server.connect() as client:
        assert client.request().text == "one"
    assert server.edge() == edge
