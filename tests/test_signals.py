"""Signals on the master: gunicorn's meanings, and no client notices."""

import contextlib
import os
import signal
import socket
import time

import pytest
from support import Load, build, free_port, wait_until

APP = """
import os, time

VERSION = "one"

def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        open("runs", "w").close()
        time.sleep(1)
    body = (VERSION + " " + str(os.getpid())).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


def begin_slow(server, client):
    """Returns when the application runs the request."""
    client.send(build("GET", "/slow"))
    wait_until((server.directory / "runs").exists, "the request to run")


def test_term_finishes_what_runs(serve):
    server = serve(APP, "-w", "2")
    with server.connect() as idle, server.connect() as busy:
        assert idle.request().status == 200
        begin_slow(server, busy)
        server.signal(signal.SIGTERM)
        assert busy.response().status == 200
        assert idle.end() in ("eof", "reset")
    assert server.exit_code() == 0
    assert server.processes() == {}


def test_term_is_bounded_by_graceful_timeout(serve):
    server = serve(APP.replace("time.sleep(1)", "time.sleep(50)"), "--graceful-timeout", "1s")
    with server.connect() as busy:
        begin_slow(server, busy)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
        assert time.monotonic() - began < 8
    wait_until(lambda: server.processes() == {}, "all to be gone")
    assert "000 GET /slow: the request was cut at the end, after " in server.log()
    assert "1 connection was cut at the end" in server.log()


def test_who_comes_while_all_ends_is_refused(serve):
    """The kernel took connections in that nobody would ever answer, and reset them in the end."""
    server = serve(APP)
    with server.connect() as busy:
        begin_slow(server, busy)
        server.signal(signal.SIGTERM)
        wait_until(lambda: is_refused(server), "connections to be refused")
        assert busy.response().status == 200
    assert server.exit_code() == 0


def is_refused(server):
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # The socket was closed between the system's first answer and our last: the next one is refused.
        return False
    return False


LATE = """
import atexit, time

def late():
    time.sleep(3)
    open("late", "w").close()

def application(environ, start_response):
    atexit.register(late)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""


def test_what_ends_with_a_worker_has_the_rest_of_graceful_timeout(serve):
    server = serve(LATE, "--graceful-timeout", "20")
    assert server.get("/").status == 200
    server.signal(signal.SIGTERM)
    assert server.exit_code() == 0
    assert (server.directory / "late").exists()


def test_a_worker_that_does_not_end_within_graceful_timeout_is_killed_with_a_word(serve):
    server = serve(LATE.replace("time.sleep(3)", "time.sleep(60)"), "--graceful-timeout", "3")
    assert server.get("/").status == 200
    server.signal(signal.SIGTERM)
    assert server.exit_code() == 0
    assert "did not end within graceful_timeout; killing it" in server.log()
    assert not (server.directory / "late").exists()


def test_term_for_every_process_finishes_what_runs_and_what_waits(serve):
    """As systemd sends it with its default `KillMode=control-group`."""
    server = serve(APP, "-w", "1")
    with server.connect(timeout=30) as busy, server.connect(timeout=30) as waiting:
        begin_slow(server, busy)
        waiting.send(build("GET", "/"))
        server.wait_taken(waiting)
        for pid in [server.process.pid, *server.processes()]:
            os.kill(pid, signal.SIGTERM)
        assert busy.response().status == 200
        assert waiting.response().status == 200
    assert server.exit_code() == 0
    assert server.processes() == {}
    assert "ERROR" not in server.log()


def test_what_waits_for_an_application_that_is_dead_does_not_hold_up_the_end(serve_nginx):
    """Nobody starts another mold while all ends: requests waited until graceful_timeout, to be cut. What needs no
    application goes on."""
    conf = """
        error_log stderr notice;
        events {}
        http {
            app shop { wsgi app:application; workers 1; graceful_timeout 60; }
            server {
                listen 127.0.0.1:%PORT%;
                location /files/ { alias %DIR%/; limit_rate 100k; }
                location / { app_pass shop; }
            }
        }
    """
    server = serve_nginx(conf, python=True, files={"app.py": APP, "large": b"x" * 200_000})
    with server.connect(timeout=30) as download, server.connect(timeout=30) as waiting:
        download.send(build("GET", "/files/large"))
        (worker,), (mold,) = server.workers(), server.molds()
        os.kill(mold, signal.SIGSTOP)
        os.kill(worker, signal.SIGSTOP)
        waiting.send(build("GET", "/"))
        server.wait_taken(waiting)
        server.signal(signal.SIGQUIT)
        server.wait_log("Shutting down: finishing requests first")
        began = time.monotonic()
        os.kill(mold, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        assert waiting.response().status == 503
        assert len(download.response().body) == 200_000
    assert server.exit_code() == 0
    assert time.monotonic() - began < 15
    assert "all ends, and no process of its application is left" in server.log()


@pytest.mark.parametrize("where", ["app", "hook"])
def test_a_worker_that_boots_when_term_comes_ends_without_a_traceback(serve, where):
    """The edge is gone by the time it is ready, or before it asked for it."""
    wait = """
import os, time

def wait():
    if os.path.exists("wait"):
        open("waits", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
"""
    hooks = {"hook": "post_fork = lambda server, worker: wait()", "app": ""}
    loads = {"hook": "", "app": "wait()"}
    files = {"wait.py": wait, "gunicorn.conf.py": "from wait import wait\n" + hooks[where]}
    server = serve("from wait import wait\n" + loads[where] + APP, "-w", "1", files=files)
    with server.connect() as client:
        pid = int(client.request().text.split()[1])
    server.write("wait", "")
    os.kill(pid, signal.SIGKILL)
    wait_until((server.directory / "waits").exists, "another worker to boot")
    edge = server.edge()
    server.signal(signal.SIGTERM)
    wait_until(lambda: not os.path.exists(f"/proc/{edge}"), "the edge to end")
    server.write("go", "")
    assert server.exit_code() == 0
    assert server.processes() == {}
    log = server.log()
    assert "Traceback" not in log and log.count("ERROR") == log.count("SIGKILL") == 1, log


def test_a_second_term_does_not_break_off_what_the_first_lets_finish(serve):
    wait = "while not os.path.exists('go'):\n            time.sleep(0.01)"
    server = serve(APP.replace("time.sleep(1)", wait))
    with server.connect() as busy:
        begin_slow(server, busy)
        server.signal(signal.SIGTERM)
        server.wait_log("Shutting down: finishing requests first")
        server.signal(signal.SIGTERM)
        server.wait_log("INT or QUIT ends at once")
        server.write("go", "")
        assert busy.response().status == 200
    assert server.exit_code() == 0
    assert server.processes() == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_after_term_ends_at_once(serve, number):
    server = serve(APP.replace("time.sleep(1)", "time.sleep(50)"))
    with server.connect() as busy:
        begin_slow(server, busy)
        server.signal(signal.SIGTERM)
        server.wait_log("Shutting down: finishing requests first")
        began = time.monotonic()
        server.signal(number)
        assert server.exit_code() == 0
        assert time.monotonic() - began < 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_end_at_once(serve, number):
    server = serve(APP.replace("time.sleep(1)", "time.sleep(50)"))
    with server.connect() as busy:
        begin_slow(server, busy)
        began = time.monotonic()
        server.signal(number)
        assert server.exit_code() == 0
        assert time.monotonic() - began < 5
    wait_until(lambda: server.processes() == {}, "all to be gone")


def test_killed_master_leaves_nothing(serve):
    server = serve(APP, "-w", "2")
    server.signal(signal.SIGKILL)
    server.process.wait()
    wait_until(lambda: server.processes() == {}, "all to be gone", 10)


def test_hup_under_load_loses_nothing(serve):
    server = serve(APP, "-w", "2")
    with Load(server) as load:
        before = set(server.workers())
        for generation in range(3):
            server.write("app.py", APP.replace('"one"', f'"generation{generation}"'))
            server.signal(signal.SIGHUP)
            expected = f"generation{generation} "
            wait_until(lambda word=expected: load.bodies[-1].startswith(word), "the new code", 20)
        wait_until(lambda: len(server.workers()) == 2 and not before & set(server.workers()), "old workers to go")
    assert load.failures == []


def test_hup_lets_running_requests_end(serve):
    server = serve(APP)
    with server.connect() as busy:
        begin_slow(server, busy)
        server.write("app.py", APP.replace('"one"', '"two"'))
        server.signal(signal.SIGHUP)
        assert busy.response().text.startswith("one ")
    wait_until(lambda: server.get().text.startswith("two "), "the new code")


def test_hup_with_a_broken_application_keeps_serving(serve):
    server = serve(APP, "-w", "2")
    old = set(server.workers())
    with Load(server) as load:
        server.write("app.py", "import nothing_of_that_name\n" + APP)
        server.signal(signal.SIGHUP)
        server.wait_log("ModuleNotFoundError")
        server.wait_log("did not boot; the old one goes on serving")
        time.sleep(1)  # whatever it might still do
    assert load.failures == []
    assert server.get().text.startswith("one ")
    wait_until(lambda: old == set(server.workers()), "what did not boot to be gone")
    server.write("app.py", APP.replace('"one"', '"two"'))
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.get().text.startswith("two "), "the mended code")


# In a function, so that the stack has its name; until the file is gone.
HANGING = """
import os, time

def wait_for_the_database():
    while os.path.exists("hang"):
        time.sleep(0.01)

wait_for_the_database()
"""


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_an_import_that_hangs_blocks_no_reload_for_ever(serve, preload):
    server = serve(HANGING + APP, "--boot-timeout", "3s", *preload)
    old = server.workers()
    server.write("hang", "")
    server.write("app.py", HANGING + APP.replace('"one"', '"two"'))
    server.signal(signal.SIGHUP)
    server.wait_log(r"not ready within boot_timeout \(3 s\)")
    server.wait_log("in wait_for_the_database")
    server.wait_log("did not boot; the old one goes on serving")
    assert server.get().text.startswith("one ")
    wait_until(lambda: server.workers() == old, "what did not boot to be gone")
    (server.directory / "hang").unlink()
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.get().text.startswith("two "), "the mended code")


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_a_first_import_that_hangs_ends_the_start(serve, preload):
    server = serve(HANGING + APP, "--boot-timeout", "3s", *preload, files={"hang": ""}, wait=False)
    assert server.exit_code() == 3
    assert "in wait_for_the_database" in server.log()
    assert "Worker failed to boot" in server.log()
    assert server.processes() == {}


def test_hup_reads_the_settings_file_again(serve):
    server = serve(APP, "-c", "gunicorn.conf.py", files={"gunicorn.conf.py": "workers = 1\n"})
    [old] = server.workers()
    server.write("gunicorn.conf.py", "workers = 3\n")
    server.signal(signal.SIGHUP)
    wait_until(lambda: len(server.workers()) == 3 and old not in server.workers(), "three workers")
    server.write("gunicorn.conf.py", "workers = )\n")
    server.signal(signal.SIGHUP)
    server.wait_log("SyntaxError")
    assert server.get().status == 200
    wait_until(lambda: len(server.workers()) == 3, "the three alone")


def test_hup_says_what_it_has_changed_and_warns_again(serve):
    settings = "workers = 1\ntimeot = 3\nbind = ['127.0.0.1:%d']\n"
    first, second = free_port(), free_port()
    server = serve(APP, "-c", "conf.py", bind=[], files={"conf.py": settings % first}, wait=False)
    server.wait_ready(("127.0.0.1", first))
    server.wait_log(r"Listening at: http://127.0.0.1:%d" % first)
    before = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_log("Generation 2 serves")
    assert "`timeot` is no setting" in server.log()[before:]
    assert "Listening at" not in server.log()[before:], "nothing of it has changed"
    server.write("conf.py", settings.replace("= 1", "= 2") % second)
    before = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_log("Generation 3 serves")
    server.wait_log(r"Application: .* in 2 workers")
    news = server.log()[before:]
    assert f"Listening at: http://127.0.0.1:{second}" in news and "Static files" not in news and "Logs:" not in news


def test_hup_under_hup(serve):
    server = serve(APP)
    with Load(server) as load:
        for _ in range(5):
            server.signal(signal.SIGHUP)
        server.write("app.py", APP.replace('"one"', '"two"'))
        server.signal(signal.SIGHUP)
        wait_until(lambda: load.bodies[-1].startswith("two "), "the newest code", 20)
    assert load.failures == []
    wait_until(lambda: len(server.workers()) == 1, "one worker to be left")


def test_ttin_and_ttou(serve):
    server = serve(APP, "-w", "1")
    server.signal(signal.SIGTTIN)
    wait_until(lambda: len(server.workers()) == 2, "a second worker")
    server.signal(signal.SIGTTIN)
    wait_until(lambda: len(server.workers()) == 3, "a third")
    server.signal(signal.SIGTTOU)
    wait_until(lambda: len(server.workers()) == 2, "one to go")
    for _ in range(5):
        server.signal(signal.SIGTTOU)
        time.sleep(0.1)  # signals of one kind merge
    wait_until(lambda: len(server.workers()) == 1, "all but one to go")
    assert server.get().status == 200


def test_one_worker_is_no_plural(serve):
    server = serve(APP, "-w", "2")
    server.signal(signal.SIGTTOU)
    server.wait_log("1 worker instead of 2")


def test_usr1_reopens_the_logs(serve):
    server = serve(APP, "--access-logfile", "access.log", "--error-logfile", "error.log")
    access, error = server.directory / "access.log", server.directory / "error.log"
    server.get("/before")
    wait_until(lambda: "/before" in access.read_text(), "the access line")
    access.rename(server.directory / "access.log.1")
    error.rename(server.directory / "error.log.1")
    server.signal(signal.SIGUSR1)
    wait_until(lambda: access.exists() and error.exists(), "the new files")
    # The master makes them; until the edge has opened its own anew, it writes to the old one, as nginx's workers do.
    old = server.directory / "access.log.1"
    wait_until(lambda: not server.edge_has_open(old), "the edge to let go of the old file")
    server.get("/after")
    wait_until(lambda: "/after" in access.read_text(), "the access line in the new file")
    assert "/after" not in (server.directory / "access.log.1").read_text()


def test_usr1_loses_no_line(serve):
    server = serve(APP, "--access-logfile", "access.log", "--access-logformat", "%(U)s")
    with Load(server) as load:
        for number in range(5):
            (server.directory / "access.log").rename(server.directory / f"old.{number}")
            server.signal(signal.SIGUSR1)
            wait_until((server.directory / "access.log").exists, "the new file")
    assert load.failures == []
    server.stop()
    lines = [line for path in server.directory.glob("*") if path.name.startswith(("old.", "access.log"))
             for line in path.read_text().split("\n") if line == "/"]
    assert len(lines) == len(load.bodies)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_a_signal_to_a_worker_does_not_hurt(serve, number):
    # Without the validator a short response is published at once, so that no worker dies in the middle of one.
    server = serve(APP, "-w", "2", validate=False)
    with Load(server) as load:
        for pid in server.workers():
            os.kill(pid, number)
            time.sleep(0.5)  # one after the other
        wait_until(lambda: len(server.workers()) == 2, "two workers")
    assert load.failures == []


SLOW = "import time\nprint('it runs', flush=True)\ntime.sleep(60)\n"


def told_while_starting(server, number, where):
    """Waits until the user's code runs, and tells the master alone to end. Its exit code, and what was there."""
    wait_until(lambda: "it runs" in server.out_path.read_text() + server.log(), f"{where} to run")
    began = time.monotonic()
    server.signal(number)
    code = server.exit_code()
    assert time.monotonic() - began < 10, "it waited for the code"
    wait_until(lambda: server.processes() == {}, "all to be gone")
    return code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_an_order_to_end_while_the_settings_file_is_read_is_obeyed_with_a_word(serve, number):
    server = serve(APP, files={"gunicorn.conf.py": SLOW}, wait=False)
    code = told_while_starting(server, number, "the settings file")
    # As without a handler, for whoever started it; QUIT without a dump of the memory.
    assert code == (0 if number == signal.SIGQUIT else -number)
    said = {signal.SIGTERM: "Told to end (TERM)", signal.SIGINT: "Interrupted", signal.SIGQUIT: "Told to end (QUIT)"}
    line = next(line for line in server.log().splitlines() if line.startswith("monoceros: "))
    assert line.startswith(f"monoceros: {said[number]} while {server.directory}/gunicorn.conf.py was read, for ")
    assert line.endswith("; nothing was started")
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_an_order_to_end_while_the_application_is_imported_is_obeyed_with_a_word(serve, preload):
    server = serve(SLOW + APP, *preload, validate=False, wait=False)
    assert told_while_starting(server, signal.SIGTERM, "the application") == 0
    assert "Shutting down" in server.log() and "Shut down" in server.log(), server.log()
    assert "Traceback" not in server.log()


def test_an_order_to_end_while_another_program_has_the_address_is_obeyed(serve):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = serve(APP, bind=["-b", f"127.0.0.1:{other.getsockname()[1]}"], wait=False)
        wait_until(lambda: "trying for 4 seconds" in server.log(), "the address to be found in use")
        began = time.monotonic()
        server.signal(signal.SIGINT)
        assert server.exit_code() == 1
        assert time.monotonic() - began < 2.5, "it went on trying"
    assert "another program listens there" in server.log()
    wait_until(lambda: server.processes() == {}, "all to be gone")


def test_a_master_killed_while_the_settings_file_is_read_leaves_no_traceback(serve):
    server = serve(APP, files={"gunicorn.conf.py": SLOW.replace("60", "1")}, wait=False)
    told_while_starting(server, signal.SIGKILL, "the settings file")
    assert "Traceback" not in server.log(), server.log()


BUSY_HOOK = """
import os, time

def nworkers_changed(server, new, old):
    while old and os.path.exists("busy"):
        open("is-busy", "w").close()
        time.sleep(0.01)
"""


def test_a_signal_to_every_process_counts_once_however_busy_a_hook_is(serve):
    """What the mold passed on a second late was another signal."""
    server = serve(APP, "-w", "1", files={"gunicorn.conf.py": BUSY_HOOK, "busy": ""})
    server.signal(signal.SIGTTIN)
    wait_until((server.directory / "is-busy").exists, "the hook to run")
    for pid in [server.process.pid, *server.molds()]:
        os.kill(pid, signal.SIGHUP)
    server.wait_log("Hang up: reloading")
    time.sleep(1.5)  # the hook is busy for longer than what comes together may take
    (server.directory / "busy").unlink()
    server.wait_log("Generation 2 serves")
    time.sleep(0.5)
    assert server.log().count("Hang up: reloading") == 1, server.log()


def test_ttin_while_the_first_workers_boot_counts(serve):
    wait = "open('boots', 'w').close()\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n"
    server = serve(APP.replace("VERSION =", wait + "VERSION ="), "-w", "1", wait=False)
    wait_until((server.directory / "boots").exists, "a worker to boot")
    server.signal(signal.SIGTTIN)
    server.wait_log("2 workers instead of 1")
    server.write("go", "")
    wait_until(lambda: len(server.workers()) == 2, "two workers")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_a_reload_that_fails_while_all_ends_is_not_told(serve, preload, number):
    boot = "if os.path.exists('slow'):\n    open('boots', 'w').close()\n    time.sleep(1)\n    raise ValueError\n"
    server = serve(APP.replace("VERSION =", boot + "VERSION =").replace("time.sleep(1)\n    body", "time.sleep(2)\n    body"),
                   "-w", "1", "--threads", "2", *preload)
    server.write("slow", "")
    with server.connect() as busy:
        begin_slow(server, busy)
        server.signal(signal.SIGHUP)
        wait_until((server.directory / "boots").exists, "the reload to boot")
        began = time.monotonic()
        server.signal(number)
        assert server.exit_code() == 0
        assert time.monotonic() - began < 3.5
    assert server.processes() == {}
    assert "ERROR" not in server.log() and "Traceback" not in server.log(), server.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_to_every_process_while_an_interpreter_starts_is_answered_by_the_master_alone(serve, number):
    """Ctrl-C printed the stack of the interpreter, which was still on its way to our own code."""
    slow = "import time\nopen('starts', 'w').close()\ntime.sleep(1)\n"
    server = serve(APP, wait=False, files={"site/sitecustomize.py": slow}, env={"PYTHONPATH": "site"},
                   before_exec=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    wait_until((server.directory / "starts").exists, "the interpreter to start")
    os.killpg(server.process.pid, number)
    assert server.exit_code() in (0, -number)
    wait_until(lambda: server.processes() == {}, "all to end")
    assert "Traceback" not in server.log() and "ERROR" not in server.log(), server.log()


def test_a_signal_to_every_process_counts_once(serve):
    server = serve(APP, "-w", "1", "--access-logfile", "access.log")

    def tell_all(number):
        # As kill does with a process group; the workers' default for HUP and USR2 would be their end, as gunicorn's.
        wait_until(lambda: len(server.molds()) == 1, "one mold")
        for pid in [server.process.pid, server.edge(), *server.molds(), *server.workers()]:
            # Of workers, TTOU to the master may have ended one by now.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    tell_all(signal.SIGTTIN)
    wait_until(lambda: len(server.workers()) == 2, "a second worker")
    time.sleep(1.2)  # what came twice would have been seen by now; a sender that goes on is another event
    assert len(server.workers()) == 2
    tell_all(signal.SIGTTIN)
    wait_until(lambda: len(server.workers()) == 3, "a third worker")
    tell_all(signal.SIGTTOU)
    wait_until(lambda: len(server.workers()) == 2, "one to go")
    tell_all(signal.SIGUSR1)
    time.sleep(1.2)
    assert len(server.workers()) == 2
    assert server.get().status == 200, "somebody was stopped"
    for pid in [server.process.pid, *server.molds()]:
        os.kill(pid, signal.SIGHUP)
    server.wait_log("Generation 2 serves")
    time.sleep(1)
    assert "Generation 3" not in server.log()
