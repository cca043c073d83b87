"""What hooks of a settings file get, and what becomes of those that raise or call sys.exit: as with gunicorn."""

import json
import os
import signal
import textwrap

import pytest
from support import wait_until

APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Kind", "test"), ("Connection", "close")])
    return [b"ok"]
"""

NOTES = """
import json, os

def note(name, value):
    # Whatever is said last counts.
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "notes")
    with open(path, "a") as file:
        file.write(json.dumps([name, value]) + "\\n")

def refusal(thing, name):
    try:
        return repr(getattr(thing, name))
    except AttributeError as error:
        return str(error)
"""


def start(serve, conf, *args, app=APP, **options):
    return serve(app, "-c", "gunicorn.conf.py", *args, files={"gunicorn.conf.py": NOTES + textwrap.dedent(conf)}, **options)


def notes(server):
    path = server.directory / "notes"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def noted(server, name):
    def found():
        return [value for key, value in notes(server) if key == name]
    return wait_until(found, name)[-1]


def test_server_has_what_gunicorns_arbiter_has(serve):
    server = start(serve, """
    pidfile = "the.pid"
    def when_ready(server):
        note("server", {
            "address": server.address, "cfg.address": server.cfg.address, "text": str(server.cfg.address),
            "listeners": [str(l) for l in server.LISTENERS], "names": [l.getsockname() for l in server.LISTENERS],
            "master_pid": server.master_pid, "master_name": server.master_name, "systemd": server.systemd,
            "pid": server.pid == os.getpid(), "pidfile": [server.pidfile.fname, server.pidfile.pid == os.getppid()],
            "log.cfg": server.log.cfg is server.cfg, "app.cfg": server.app.cfg is server.cfg,
            "wsgi": callable(server.app.wsgi()), "callable": server.app.callable is server.app.wsgi(),
            "workers": [w.pid for w in server.WORKERS.values()] == list(server.WORKERS), "num": server.num_workers,
            "class": [server.worker_class.__name__, server.cfg.worker_class.__name__, server.cfg.worker_class_str],
            "boot": [server.WORKER_BOOT_ERROR, server.APP_LOAD_ERROR], "start": server.START_CTX["cwd"] == os.getcwd(),
            "signals": server.SIG_NAMES[15], "reexec": server.reexec_pid, "ssl": bool(server.cfg.is_ssl),
            "hook": callable(server.cfg.post_fork) and server.cfg.post_fork(server, None),
            "shown": "worker_class" in str(server.cfg), "prog": isinstance(server.cfg.prog, str),
            "options": "certfile" in server.cfg.ssl_options, "env": "PATH" in server.cfg.env_orig,
        })
        for name in ("halt", "spawn_worker", "handle_hup", "never_was"):
            note(name, refusal(server, name))
        note("socket", refusal(server.LISTENERS[0], "fileno"))
        note("log", refusal(server.log, "reopen_files"))
    """)
    address = ["127.0.0.1", server.port]
    assert noted(server, "server") == {
        "address": [address], "cfg.address": [address], "text": f"[('127.0.0.1', {server.port})]",
        "listeners": [f"http://127.0.0.1:{server.port}"], "names": [address],
        "master_pid": 0, "master_name": "Master", "systemd": False, "pid": True,
        "pidfile": ["the.pid", True], "log.cfg": True, "app.cfg": True, "wsgi": True, "callable": True, "workers": True,
        "num": 1, "class": ["SyncWorker", "SyncWorker", "sync"], "boot": [3, 4], "start": True, "signals": "term",
        "reexec": 0, "ssl": False, "hook": None, "shown": True, "prog": True, "options": True, "env": True,
    }
    assert "SIGTERM" in noted(server, "halt")
    assert "num_workers" in noted(server, "spawn_worker")
    assert "signals are answered there" in noted(server, "handle_hup")
    assert noted(server, "never_was") == "'Server' object has no attribute 'never_was'"
    assert "the edge has the listening sockets" in noted(server, "socket")
    assert "USR1" in noted(server, "log")


def test_worker_has_what_gunicorns_has(serve):
    server = start(serve, """
    timeout = 20
    threads = 2
    def pre_fork(server, worker):
        worker.number_of_mine = 7
    def post_worker_init(worker):
        worker.notify()
        worker.tmp.notify()
        note("worker", {
            "mine": worker.number_of_mine, "timeout": worker.timeout, "nr": worker.nr, "alive": worker.alive,
            "booted": worker.booted, "aborted": worker.aborted, "pid": worker.pid == os.getpid(),
            "ppid": worker.ppid == os.getppid(), "app": [worker.app.wsgi() is worker.wsgi, worker.app.app_uri],
            "sockets": [str(s) for s in worker.sockets], "text": str(worker) == "<Worker %s>" % os.getpid(),
            "class": [type(worker).__name__, type(worker) is worker.cfg.worker_class], "most": worker.max_requests > 1e9,
            "update": worker.tmp.last_update() > 0, "connections": worker.worker_connections,
        })
        for name in ("handle_request", "init_signals", "PIPE"):
            note(name, refusal(worker, name))
        note("tmp", refusal(worker.tmp, "fileno"))
    """)
    assert noted(server, "worker") == {
        "mine": 7, "timeout": 10.0, "nr": 0, "alive": True, "booted": False, "aborted": False, "pid": True, "ppid": True,
        "app": [True, "checked:application"], "sockets": [f"http://127.0.0.1:{server.port}"], "text": True,
        "class": ["ThreadWorker", True], "most": True, "update": True, "connections": 1000,
    }
    assert "the edge has the connections" in noted(server, "handle_request")
    assert "worker_abort" in noted(server, "init_signals")
    assert "the edge has the connections" in noted(server, "PIPE")
    assert "heartbeat" in noted(server, "tmp")


def test_request_and_response_have_what_gunicorns_have(serve):
    server = start(serve, """
    def pre_request(worker, req):
        req.started = 5
        note("req", {
            "peer": req.peer_addr[0], "remote": list(req.remote_addr) == list(req.peer_addr), "close": req.must_close,
            "proxy": req.proxy_protocol_info, "cfg": req.cfg is worker.cfg, "limits": [
                req.limit_request_line, req.limit_request_fields, req.limit_request_field_size],
            "line": [req.method, req.uri, req.path, req.query, req.fragment, list(req.version), req.scheme],
            "headers": dict(req.headers)["HOST"] == req.get_header("host"), "trailers": req.trailers,
        })
        note("number", refusal(req, "req_number"))
    def post_request(worker, req, environ, resp):
        note("resp", {
            "chunked": resp.chunked, "close": resp.must_close, "sent": resp.sent, "length": resp.response_length,
            "headers": resp.headers, "status": [resp.status, resp.status_code], "mine": req.started, "nr": worker.nr,
            "rest": [resp.headers_sent, resp.upgrade, resp.req is req, resp.cfg is worker.cfg, resp.is_chunked()],
        })
        note("force", refusal(resp, "force_close"))
    """)
    assert server.get("/a?b=c").status == 200
    assert noted(server, "req") == {
        "peer": "127.0.0.1", "remote": True, "close": False, "proxy": None, "cfg": True, "limits": [4094, 100, 8190],
        "line": ["GET", "/a?b=c", "/a", "b=c", "", [1, 1], "http"], "headers": True, "trailers": [],
    }
    assert "keepalive_requests" in noted(server, "number")
    assert noted(server, "resp") == {
        "chunked": True, "close": False, "sent": 2, "length": None, "nr": 1, "mine": 5, "status": ["200 OK", 200],
        "headers": [["Content-Type", "text/plain"], ["X-Kind", "test"]], "rest": [True, False, True, True, True],
    }
    assert "the edge has the client's connection" in noted(server, "force")


def test_middleware_of_post_worker_init_is_called(serve):
    server = start(serve, """
    def post_worker_init(worker):
        inner = worker.wsgi
        def outer(environ, start_response):
            environ["PATH_INFO"] = "/changed"
            return inner(environ, start_response)
        worker.wsgi = outer
    """, app="""
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode()]
    """, validate=False)
    assert server.get("/asked").text == "/changed"


def test_application_of_a_hook_is_taken(serve):
    server = start(serve, """
    def post_fork(server, worker):
        def other(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"another"]
        worker.app.callable = other
    """)
    assert server.get().text == "another"


@pytest.mark.parametrize("threads", [1, 2])
def test_worker_that_a_hook_lets_go_is_replaced_and_no_client_notices(serve, threads):
    server = start(serve, """
    def post_request(worker, req, environ, resp):
        if environ["PATH_INFO"] == "/enough":
            worker.alive = False
    """, "--threads", threads)
    before = server.workers()
    assert server.get("/enough").status == 200
    assert all(server.get("/").status == 200 for _ in range(20))
    wait_until(lambda: server.workers() and server.workers() != before, "another worker")
    assert server.get("/").status == 200


def test_number_of_workers_is_told_from_the_start_on(serve):
    server = start(serve, """
    workers = 2
    def on_starting(server): note("calls", ["on_starting", server.num_workers])
    def on_reload(server): note("calls", ["on_reload", server.num_workers])
    def when_ready(server): server.num_workers += 1
    def nworkers_changed(server, new, old): note("calls", ["changed", new, old, server.num_workers, server.cfg.workers])
    """)

    def calls():
        return [value for _, value in notes(server)]

    wait_until(lambda: len(server.workers()) == 3, "a third worker")
    assert calls() == [["changed", 2, None, 2, 2], ["on_starting", 2], ["changed", 3, 2, 3, 2]]
    server.signal(signal.SIGHUP)
    wait_until(lambda: len(calls()) == 5, "the reload")
    assert calls()[3:] == [["changed", 2, 3, 2, 2], ["on_reload", 2]]


def test_hook_reloads_the_server(serve):
    server = start(serve, """
    def child_exit(server, worker):
        if not os.path.exists("reloaded"):
            open("reloaded", "w").close()
            server.reload()
    """)
    os.kill(server.workers()[0], signal.SIGTERM)
    server.wait_log("Generation 2 serves")
    assert server.get().status == 200


def test_signals_of_a_worker_to_its_parent_are_for_the_master(serve):
    server = serve("""
    import os, signal

    def application(environ, start_response):
        os.kill(os.getppid(), getattr(signal, environ["PATH_INFO"][1:]))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]
    """, "--error-logfile", "error.log")
    path = server.directory / "error.log"
    assert server.get("/SIGTTIN").status == 200
    wait_until(lambda: len(server.workers()) == 2, "a second worker")
    assert server.get("/SIGTTOU").status == 200
    wait_until(lambda: len(server.workers()) == 1, "one worker")
    path.rename(server.directory / "error.log.1")
    assert server.get("/SIGUSR1").status == 200
    wait_until(path.exists, "the log to be opened again")
    assert server.get("/SIGHUP").status == 200
    wait_until(lambda: "Generation 2 serves" in path.read_text(), "the reload")


RAISES = "raise ValueError('of the hook')"
LEAVES = "import sys; sys.exit(7)"
FIRST = ["nworkers_changed(server, new, old)", "on_starting(server)", "when_ready(server)", "pre_fork(server, worker)"]


@pytest.mark.parametrize(("does", "code"), [(RAISES, 1), (LEAVES, 7)])
@pytest.mark.parametrize("hook", FIRST)
def test_hook_of_the_start_that_fails_ends_it(serve, hook, does, code):
    server = start(serve, f"def {hook}: {does}\n", wait=False)
    assert server.exit_code() == code
    name = hook.partition("(")[0]
    words = f"Exception in the hook {name}" if code == 1 else f"The hook {name} called sys.exit(7)"
    assert words in server.log()
    assert "Worker failed to boot" not in server.log()


@pytest.mark.parametrize("hook", ["post_fork(server, worker)", "post_worker_init(worker)"])
@pytest.mark.parametrize("does", [RAISES, LEAVES])
def test_hook_of_the_first_worker_that_fails_ends_the_start(serve, hook, does):
    server = start(serve, f"def {hook}: {does}\n", wait=False)
    assert server.exit_code() == 3


@pytest.mark.parametrize(("does", "code"), [(RAISES, 1), (LEAVES, 7)])
def test_hook_of_the_end_gives_its_code(serve, does, code):
    # A hook that called sys.exit was waited for as long as it may take.
    server = start(serve, f"def on_exit(server): {does}\n")
    server.signal(signal.SIGTERM)
    assert server.exit_code(5) == code


def test_hook_that_leaves_while_the_server_runs_ends_it_with_its_code(serve):
    server = start(serve, f"def child_exit(server, worker): {LEAVES}\n")
    os.kill(server.workers()[0], signal.SIGTERM)
    assert server.exit_code() == 7
    assert "The hook child_exit called sys.exit(7)" in server.log()


@pytest.mark.parametrize("hook", [
    "on_reload(server)", "child_exit(server, worker)", "worker_exit(server, worker)", "worker_int(worker)"])
def test_hook_that_raises_later_costs_no_request(serve, hook):
    server = start(serve, f"def {hook}: {RAISES}\n")
    before = server.workers()
    if "reload" in hook:
        server.signal(signal.SIGHUP)
    else:
        os.kill(before[0], signal.SIGINT)
    server.wait_log("of the hook")
    assert all(server.get().status == 200 for _ in range(5))


def test_pre_fork_that_raises_later_is_logged(serve):
    server = start(serve, """
    def pre_fork(server, worker):
        if worker.age > 1:
            raise ValueError("of the hook")
    """)
    before = server.workers()
    os.kill(before[0], signal.SIGTERM)
    server.wait_log("of the hook")
    wait_until(lambda: server.workers() and server.workers() != before, "another worker")
    assert server.get().status == 200


def test_pre_request_that_raises_is_500_and_post_request_is_told(serve):
    server = start(serve, """
    def pre_request(worker, req): raise ValueError("of the hook")
    def post_request(worker, req, environ, resp): note("post", [req.path, environ, resp])
    """)
    assert server.get("/x").status == 500
    assert noted(server, "post") == ["/x", {}, None]
    server.wait_log("Error handling request GET /x")


@pytest.mark.parametrize("headers", ["iter(FIELDS)", "[iter(field) for field in FIELDS]", "(iter(field) for field in FIELDS)"])
def test_post_request_gets_fields_that_could_be_read_once_only(serve, headers):
    server = start(serve, """
    def post_request(worker, req, environ, resp):
        note("resp", [resp.headers, resp.response_length])
    """, app=f"""
FIELDS = [("Content-Type", "text/plain"), ("Connection", "close"), ("X-Kind", " \\u00e9 "), ("Content-Length", "2")]

def application(environ, start_response):
    start_response("200 OK", {headers})
    return [b"ok"]
""", validate=False)
    assert server.get().body == b"ok"
    assert noted(server, "resp") == [[["Content-Type", "text/plain"], ["X-Kind", "\u00e9"], ["Content-Length", "2"]], 2]


def test_a_hook_that_nobody_runs_is_told_at_the_start(serve):
    server = start(serve, "def pre_exec(server): note('pre_exec', 1)\n")
    assert "warning: pre_exec changes nothing: by gunicorn's command line USR2 starts no new master" in server.log()
    server.signal(signal.SIGUSR2)
    server.wait_log("USR2: a new binary cannot take over yet")
    assert notes(server) == [] and server.get().status == 200


def test_the_clients_socket_is_a_key_error(serve):
    server = serve("""
    def application(environ, start_response):
        environ["gunicorn.socket"].close()
    """, validate=False)
    assert server.get().status == 500
    server.wait_log("KeyError: 'gunicorn.socket'")
