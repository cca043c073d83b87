"""USR2 and WINCH: a new program takes the sockets over, and the old one stays until it is told to end."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess

import pytest
from support import Client, Load, Site, wait_until
from support.tls import Authority, TlsClient, context

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

    def __init__(self, directory, conf=CONF, files=None):
        self.site = Site(directory, conf, name="nginx", files=files)
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


    def end_old(self, old):
        os.kill(old, signal.SIGQUIT)
        wait_until(lambda: gone(old), "the old master to end")


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path / "site")
    yield daemon
    end(daemon)


def end(daemon):
    for pid in list(daemon.site.processes()):
        with contextlib.suppress(ProcessLookupError):
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
    with Client(str(daemon.site.directory / "s")) as client:
        assert client.request().text == "one", "the socket's file is the old program's"


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
    conf = (daemon.site.directory / "nginx.conf").read_text()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        daemon.site.write("nginx.conf", conf.replace("listen unix", f"listen 127.0.0.1:{port}; listen unix"))
        os.kill(old, signal.SIGUSR2)
        log = daemon.site.directory / "error.log"
        wait_until(lambda: "the new binary has ended" in log.read_text(), "its end in the log")
    with Client(str(daemon.site.directory / "s")) as client:
        assert client.request().text == "one"
    log.write_text("")
    daemon.site.write("nginx.conf", "retrun;")
    os.kill(old, signal.SIGUSR2)
    wait_until(lambda: "the new binary has ended; the old one goes on" in log.read_text(), "its end in the log")
    assert daemon.pid() == old and not daemon.old_path.exists()
    with daemon.site.connect() as client:
        assert client.request().text == "one"


TLS_CONF = """
    pid %DIR%/x.pid;
    error_log %DIR%/error.log notice;
    events {}
    http {
        access_log off;
        ssl_certificate a.pem;
        ssl_certificate_key a.key;
        server { listen 127.0.0.1:%PORT% ssl; return 200 "$ssl_session_reused"; }
        server { listen 127.0.0.1:%PORT1% ssl; ssl_verify_client optional_no_ca; return 200 "$ssl_session_reused"; }
    }
"""


@pytest.fixture
def tls_daemon(tmp_path):
    certificate = Authority().issue("a.example")
    daemon = Daemon(tmp_path / "site", TLS_CONF, {"a.pem": certificate.chain, "a.key": certificate.key})
    yield daemon
    end(daemon)


def edge_of(daemon, master):
    """The new program's edge, once it serves alone."""
    wait_until(lambda: daemon.edges(master), "the new edge")
    return daemon.edges(master)[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_sessions_go_on_with_the_new_program(tls_daemon, version):
    daemon, made = tls_daemon, context(version=version)

    def ask(session=None, port="%PORT%"):
        with TlsClient(("127.0.0.1", daemon.site.ports[port]), made, session=session) as client:
            client.request()
            return client.socket.session_reused, client.socket.session

    first = ask()[1]
    for _ in range(2):
        old, new = daemon.upgrade()
        edge_of(daemon, new)
        daemon.end_old(old)
        assert ask(first)[0]
        assert not ask(first, "%PORT1%")[0], "clients are checked there"
    edge = edge_of(daemon, new)
    os.kill(edge, signal.SIGKILL)
    wait_until(lambda: daemon.edges(new) not in ([], [edge]), "another edge")
    assert ask(first)[0]


def test_nobody_inherits_what_tickets_are_made_of(tls_daemon):
    old, new = tls_daemon.upgrade()
    edge_of(tls_daemon, new)

    def has_begun():
        """The new edge is no copy of its master any more: it is a program of its own, and has begun."""
        processes = tls_daemon.site.processes()
        edges = [pid for pid, (_, command) in processes.items() if command.split()[1:2] == ["edge"]]
        threads = [len(os.listdir(f"/proc/{pid}/task")) for pid in edges]
        return len(processes) == 4 and len(edges) == 2 and min(threads) > 1 and processes

    processes = wait_until(has_begun, "two masters with their edges")
    for pid in processes:
        targets = []
        for number in os.listdir(f"/proc/{pid}/fd"):
            # One that is closed meanwhile is none.
            with contextlib.suppress(FileNotFoundError):
                targets.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        assert targets and not [target for target in targets if "monoceros-tickets" in target]
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert (b"MONOCEROS_TICKETS_FD=" in file.read()) == (pid == new)


@pytest.mark.parametrize("value", ["", "x", "-1", "2", "99999", "%FILE%"])
def test_what_is_no_secret_of_a_program_before_is_refused(tls_daemon, tmp_path, value):
    """Whoever starts the program so has sockets for it, and something that is no sealed secret."""
    file = os.open(tls_daemon.site.write("secret", b"0" * 40), os.O_RDONLY)
    daemon, old = tls_daemon, tls_daemon.pid()
    os.kill(old, signal.SIGTERM)
    wait_until(lambda: gone(old), "the first program to end")
    with socket.create_server(("127.0.0.1", daemon.site.port)) as one, \
            socket.create_server(("127.0.0.1", daemon.site.ports["%PORT1%"])) as two:
        env = {**daemon.site.env, "NGINX": f"{one.fileno()};{two.fileno()};",
               "MONOCEROS_TICKETS_FD": value.replace("%FILE%", str(file))}
        process = subprocess.Popen([daemon.site.program, *daemon.args], env=env, cwd=daemon.site.directory,
                                   pass_fds=[one.fileno(), two.fileno(), file], stderr=subprocess.PIPE, text=True)
    os.close(file)
    try:
        wait_until(lambda: daemon.pid() == process.pid, "the pid file")
        with TlsClient(("127.0.0.1", daemon.site.port), context()) as client:
            assert client.request().text == "."
    finally:
        process.terminate()
        assert "MONOCEROS_TICKETS_FD names nothing" in process.communicate(timeout=20)[1]


def test_in_the_foreground_winch_is_news_of_a_window(serve_nginx):
    server = serve_nginx("server { listen 127.0.0.1:%PORT%; return 200 one; }")
    edge = server.edge()
    server.signal(signal.SIGWINCH)
    server.signal(signal.SIGHUP)
    with server.connect() as client:
        assert client.request().text == "one"
    assert server.edge() == edge
