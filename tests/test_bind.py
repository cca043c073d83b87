"""Where it listens: several addresses, Unix sockets, inherited descriptors, systemd, $PORT."""

import os
import socket
import stat
import sys

from support import Client, free_port, wait_until

APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["SERVER_PORT"].encode()]
"""


def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(64)
    return listener


def test_several(serve, tmp_path):
    ports, path = [free_port(), free_port()], str(tmp_path / "sock")
    bind = [arg for port in ports for arg in ("-b", f"127.0.0.1:{port}")] + ["-b", f"unix:{path}"]
    server = serve(APP, bind=bind, wait=False)
    for address in (("127.0.0.1", ports[0]), ("127.0.0.1", ports[1]), path):
        server.wait_ready(address)
        with Client(address) as client:
            assert client.request().status == 200


def test_ipv6(serve):
    port = free_port()
    server = serve(APP, bind=["-b", f"[::1]:{port}"], wait=False)
    server.wait_ready(("::1", port))
    with Client(("::1", port)) as client:
        assert client.request().text == str(port)


def test_unix_socket_mode_follows_umask_and_a_stale_one_is_replaced(serve, tmp_path):
    path = str(tmp_path / "sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    server = serve(APP, "--umask", "0o177", bind=["-b", f"unix:{path}"], wait=False)
    server.wait_ready(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    server.stop()
    assert not os.path.exists(path)


def test_inherited_descriptor(serve):
    listener = listening()
    server = serve(APP, bind=["-b", f"fd://{listener.fileno()}"], pass_fds=[listener.fileno()], wait=False)
    address = listener.getsockname()
    server.wait_ready(address)
    with Client(address) as client:
        assert client.request().status == 200
    listener.close()


def test_systemd_activation(serve):
    listener = listening()
    # LISTEN_PID has to be the program's own pid: it is set by what then becomes the program.
    code = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); "
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])")
    wrap = [sys.executable, "-c", code, str(listener.fileno())]
    server = serve(APP, bind=[], wrap=wrap, pass_fds=[listener.fileno()], wait=False)
    address = listener.getsockname()
    server.wait_ready(address)
    with Client(address) as client:
        assert client.request().status == 200
    listener.close()


def test_systemd_descriptors_of_another_process_are_left_alone(serve):
    port = free_port()
    server = serve(APP, bind=["-b", f"127.0.0.1:{port}"], env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}, wait=False)
    server.wait_ready(("127.0.0.1", port))


def test_port_variable(serve):
    port = free_port()
    server = serve(APP, bind=[], env={"PORT": str(port)}, wait=False)
    server.wait_ready(("127.0.0.1", port))
    with Client(("127.0.0.1", port)) as client:
        assert client.request().status == 200


def test_address_in_use_is_said(serve):
    listener = listening()
    server = serve(APP, bind=["-b", f"127.0.0.1:{listener.getsockname()[1]}"], wait=False)
    assert server.exit_code() == 1
    assert "in use" in server.log().lower()
    assert str(listener.getsockname()[1]) in server.log()
    listener.close()


def test_clients_wait_in_the_backlog_while_it_boots(serve):
    app = "import time\ntime.sleep(2)\n"
    server = serve(app + "def application(environ, start_response):\n"
                   "    start_response('200 OK', [('Content-Type', 'text/plain')])\n    return [b'ok']\n", wait=False)

    def connected():
        try:
            return server.connect(timeout=20)
        except ConnectionRefusedError:
            return None

    with wait_until(connected, "the listener") as client:
        assert client.request().status == 200


def test_listener_survives_hup(serve):
    import signal
    server = serve(APP)

    def inode():
        lines = [line.split() for line in open("/proc/net/tcp")]
        return [line[9] for line in lines if line[1].endswith(f":{server.port:04X}") and line[3] == "0A"]

    before, workers = inode(), set(server.workers())
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.workers() and not workers & set(server.workers()), "new workers")
    assert inode() == before and len(before) >= 1
