"""The life of workers: recycling that no client notices, preload, reload, boot failures."""

import os
import time

import pytest
from support import Load, wait_until

APP = """
import os

hoard = []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/grow":
        hoard.append(bytearray(os.urandom(1000)) * 3000)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


def test_max_requests(serve):
    server = serve(APP, "--max-requests", "20")
    pids = []

    def third():
        response = client.request()
        assert response.status == 200
        pids.append(response.text)
        return len(set(pids)) == 3

    with server.connect() as client:
        wait_until(third, "a third worker", 30)
    # Each serves until the next one is ready, but not less than it may.
    first, second, _ = dict.fromkeys(pids)
    assert pids.count(first) >= 20 and pids.count(second) >= 20


def test_max_requests_under_load_loses_nothing(serve):
    server = serve(APP, "-w", "2", "--max-requests", "200", "--max-requests-jitter", "50")
    with Load(server) as load:
        wait_until(lambda: len(set(load.bodies)) >= 5, "several generations of workers", 30)
    assert load.failures == []


def test_max_worker_rss(serve):
    server = serve(APP, "--max-worker-rss", "100m")
    pid = server.get().text
    with Load(server, clients=2) as load:
        for _ in range(60):
            server.get("/grow")
        wait_until(lambda: int(pid) not in server.workers(), "the fat worker to go", 20)
    assert load.failures == []
    assert server.get().status == 200


PRELOADED = """
import os

LOADED_BY = os.getpid()

def application(environ, start_response):
    body = (str(LOADED_BY) + " " + str(os.getpid())).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""


def test_preload_imports_once(serve):
    server = serve(PRELOADED, "-w", "2", "--preload")
    seen = {tuple(server.get().text.split()) for _ in range(50)}
    assert len({loader for loader, _ in seen}) == 1
    assert all(loader != worker for loader, worker in seen)


def test_without_preload_each_worker_imports(serve):
    loader, worker = serve(PRELOADED).get().text.split()
    assert loader == worker


def test_reload_after_a_change(serve):
    server = serve(APP, "--reload")
    first = server.get().text
    time.sleep(1.1)  # file systems with one-second times
    server.write("app.py", APP.replace("str(os.getpid())", '"changed"'))
    wait_until(lambda: server.get().text == "changed", "the new code", 20)
    assert first != "changed"
    server.write("app.py", "syntax error here\n")
    server.wait_log("SyntaxError", 20)
    assert server.get().text == "changed", "the old code goes on"
    time.sleep(1.1)  # as above
    server.write("app.py", APP.replace("str(os.getpid())", '"mended"'))
    wait_until(lambda: server.get().text == "mended", "the mended code", 20)


def test_reload_of_another_file_and_of_templates(serve):
    app = """
    def application(environ, start_response):
        body = (open("extra.txt").read() + str(__import__("os").getpid())).encode()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]
    """
    server = serve(app, "--reload", "--reload-extra-file", "extra.txt", "--reload-templates", "on",
                   files={"extra.txt": "x", "templates/a.html": "y"})
    for name in ("extra.txt", "templates/a.html"):
        before = server.get().text
        time.sleep(1.1)  # file systems with one-second times
        server.write(name, "z")
        wait_until(lambda old=before: server.get().text[1:] != old[1:], f"a new worker after {name}", 20)


def test_reload_waits_for_a_broken_application_to_be_mended(serve):
    server = serve("import nothing_of_that_name\n", "--reload", wait=False)
    server.wait_log("nothing_of_that_name", 20)
    time.sleep(1.1)  # file systems with one-second times
    server.write("app.py", APP)
    server.wait_ready(timeout=20)
    wait_until(lambda: server.get().status == 200, "the mended code", 20)


# Boot failures: the traceback, then gunicorn's exit codes.

def boot_failure(serve, app, code, *words, **options):
    server = serve(app, wait=False, **options)
    assert server.exit_code() == code
    for word in words:
        assert word in server.log()
    assert server.processes() == {}


def test_import_error_exits_3(serve):
    # In gunicorn an exception of the module is "Worker failed to boot", its own AppImportError is code 4.
    boot_failure(serve, "def f():\n    import nothing_of_that_name\nf()\n", 3, "Traceback", "nothing_of_that_name",
                 'app.py", line 2, in f', "Worker failed to boot")


def test_exception_in_the_module_exits_3(serve):
    boot_failure(serve, "raise RuntimeError('no database')\n", 3, "Traceback", "RuntimeError: no database")


def test_syntax_error_exits_3(serve):
    boot_failure(serve, "def application(:\n", 3, "SyntaxError", "app.py")


def test_missing_attribute_exits_4(serve):
    boot_failure(serve, "", 4, "Failed to find attribute", "nothing", spec=["app:nothing"])


def test_not_callable_exits_4(serve):
    boot_failure(serve, "application = 5\n", 4, "callable", spec=["app:application"])


def test_missing_module(serve):
    server = serve("", wait=False, spec=["no_such_module:application"])
    assert server.exit_code() in (3, 4)
    assert "No module named 'no_such_module'" in server.log()


def test_failing_preload_exits(serve):
    server = serve("raise RuntimeError('no database')\n", "--preload", wait=False)
    assert server.exit_code() == 1
    assert "RuntimeError: no database" in server.log()
    assert server.processes() == {}


@pytest.mark.parametrize("app, spec, preloaded, forked", [
    ("", "no_such_module:application", 1, 3),
    ("", "app:nothing", 1, 4),
    ("application = 5\n", "app:application", 1, 4),
    ("raise ValueError\n", "app:application", 1, 3),
    ("def :\n", "app:application", 1, 3),
    ("import sys\nsys.exit(7)\n", "app:application", 7, 3),
])
def test_what_cannot_be_loaded_ends_with_gunicorns_codes(serve, app, spec, preloaded, forked):
    """Of workers there are two codes; before there are workers the master ends as any program of Python's."""
    for code, *args in [(preloaded, "--preload"), (forked,)]:
        server = serve(app, *args, wait=False, validate=False, spec=[spec])
        assert server.exit_code() == code


def test_asgi_is_refused_with_a_sentence(serve):
    server = serve("async def application(scope, receive, send):\n    pass\n", wait=False, validate=False)
    assert server.exit_code() == 4
    assert "ASGI" in server.log()


def test_factory_with_arguments(serve):
    app = """
    def create_app(greeting, *, mark="."):
        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [(greeting + mark).encode()]
        return application
    """
    assert serve(app, spec=["app:create_app('hi', mark='!')"]).get().text == "hi!"
    assert serve(app.replace("greeting, *,", "greeting='hi', *,"), spec=["app:create_app()"]).get().text == "hi."


def test_module_alone_means_application(serve):
    assert serve(APP, spec=["app"]).get().status == 200


def test_a_worker_that_dies_in_a_loop_is_slowed_down(serve):
    app = """
    import os, threading, time

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    open("boots", "a").write("x")
    if os.path.exists("broken"):
        threading.Timer(0.05, os._exit, (7,)).start()
    """
    server = serve(app)
    server.write("broken", "")
    os.kill(server.workers()[0], 9)
    time.sleep(4)  # the time in which it may try
    boots = len((server.directory / "boots").read_text())
    assert 3 <= boots < 20, server.log()
    (server.directory / "broken").unlink()
    wait_until(lambda: server.get(timeout=40).status == 200, "service again", 40)


def test_threads_run_at_the_same_time(serve):
    app = """
    import threading
    together = threading.Barrier(4, timeout=10)

    def application(environ, start_response):
        together.wait()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(environ["wsgi.multithread"]).encode()]
    """
    from support import build
    server = serve(app, "--threads", "4")
    clients = [server.connect(timeout=20) for _ in range(4)]
    for client in clients:
        client.send(build())
    assert [client.response().text for client in clients] == ["True"] * 4


def test_requests_that_crash_workers_slow_nobody_else_down(serve):
    crashing = """
    if environ["PATH_INFO"] == "/exit":
        os._exit(9)
    body ="""
    server = serve(APP.replace("\n    body =", crashing), "-w", "4")
    assert server.get().status == 200
    for _ in range(10):
        # It is run a second time, and ends two workers.
        assert server.get("/exit").status == 502
        assert server.get().status == 200
    server.wait_log("exited with code 9; another one takes its place")
    assert "die as soon as they start" not in server.log()


def test_workers_that_die_as_soon_as_they_are_ready_are_slowed_down(serve):
    dying = """
import threading

if os.path.exists("die"):
    threading.Timer(0.1, os._exit, (7,)).start()
"""
    server = serve(APP + dying, "-w", "2")
    server.write("die", "")
    os.kill(server.workers()[0], 9)
    server.wait_log(r"Workers die as soon as they start \(3 in a row\)", 30)
    assert server.get().status == 200
