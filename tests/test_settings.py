"""The command line, the settings file with its hooks, and the variables around them."""

import json
import os
import re
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from support import Monoceros, wait_until

APP = """
import json, os, sys

def application(environ, start_response):
    text = json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "umask": os.umask(0o22),
                       "uid": os.getuid(), "gid": os.getgid(), "pid": os.getpid()}).encode()
    os.umask(0o22)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]
"""


def seen(server):
    return json.loads(server.get().body)


HOOKS = """
import os

def note(*words):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "hooks.log"), "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

workers = 1

def on_starting(server): note("on_starting", server.cfg.workers)
def on_reload(server): note("on_reload")
def when_ready(server): note("when_ready")
def pre_fork(server, worker): note("pre_fork", worker.age)
def post_fork(server, worker): note("post_fork", worker.pid == os.getpid())
def post_worker_init(worker): note("post_worker_init", worker.pid == os.getpid())
def worker_int(worker): note("worker_int")
def worker_abort(worker): note("worker_abort")
def pre_request(worker, req): note("pre_request", req.method, req.path)
def post_request(worker, req, environ, resp): note("post_request", environ["PATH_INFO"], resp.status)
def child_exit(server, worker): note("child_exit", worker.pid != os.getpid())
def worker_exit(server, worker): note("worker_exit", worker.pid == os.getpid())
def nworkers_changed(server, new, old): note("nworkers_changed", new, old)
def on_exit(server): note("on_exit")
"""


def test_hooks(serve):
    import signal
    server = serve(APP, "-c", "gunicorn.conf.py", files={"gunicorn.conf.py": HOOKS})

    def hooks():
        path = server.directory / "hooks.log"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    assert server.get("/a").status == 200
    wait_until(lambda: any(line.startswith("post_request") for line in hooks()), "post_request")
    # Requests are taken at the same time: it may be told of one sooner.
    wait_until(lambda: "when_ready" in hooks(), "when_ready")
    first = hooks()
    order = ["on_starting 1", "pre_fork 1", "post_fork True", "post_worker_init True", "pre_request GET /a"]
    assert [line for line in first if line in order] == order, first
    assert first.index("post_worker_init True") < first.index("when_ready"), first
    assert any(re.fullmatch(r"post_request /a 200.*", line) for line in first), first
    server.signal(signal.SIGTTIN)
    wait_until(lambda: "nworkers_changed 2 1" in hooks(), "nworkers_changed")
    server.signal(signal.SIGHUP)
    wait_until(lambda: "on_reload" in hooks(), "on_reload")
    wait_until(lambda: "worker_exit True" in hooks() and "child_exit True" in hooks(), "the old workers' end")
    server.stop()
    assert hooks()[-1] == "on_exit"
    assert hooks().count("on_exit") >= 1


def test_worker_abort_hook(serve):
    app = """
    import time
    def application(environ, start_response):
        time.sleep(60)
    """
    server = serve(app, "-c", "gunicorn.conf.py", "--timeout", "1s", files={"gunicorn.conf.py": HOOKS})
    assert server.get(timeout=20).status == 504
    wait_until(lambda: "worker_abort" in (server.directory / "hooks.log").read_text(), "worker_abort")


def test_settings_file_is_found_by_its_name(serve):
    server = serve(APP, files={"gunicorn.conf.py": "workers = 2\nraw_env = ['FROM_FILE=yes']\n"})
    assert len(server.workers()) == 2
    assert seen(server)["env"]["FROM_FILE"] == "yes"


def test_precedence(serve):
    files = {"gunicorn.conf.py": "workers = 2\nraw_env = ['A=file']\n"}
    server = serve(APP, "-e", "A=line", files=files, env={"GUNICORN_CMD_ARGS": "--workers 3 --env B=args"})
    assert len(server.workers()) == 3
    assert seen(server)["env"]["A"] == "line"
    server = serve(APP, "-w", "1", files=files, env={"GUNICORN_CMD_ARGS": "--workers 3", "WEB_CONCURRENCY": "4"})
    assert len(server.workers()) == 1
    server = serve(APP, env={"WEB_CONCURRENCY": "2"})
    assert len(server.workers()) == 2


def test_errors_of_the_settings_file_are_told_together_with_their_lines(serve):
    server = serve(APP, "-c", "gunicorn.conf.py", wait=False, files={
        "gunicorn.conf.py": "workers = 'many'\ntimeout = -1\nkeepalive = 5\n"})
    assert server.exit_code() == 1
    assert "workers" in server.log() and "timeout" in server.log()
    assert re.search(r"gunicorn\.conf\.py:1\b", server.log()), server.log()


def test_an_exception_in_the_settings_file(serve):
    server = serve(APP, "-c", "gunicorn.conf.py", wait=False, files={"gunicorn.conf.py": "\n\n1 / 0\n"})
    assert server.exit_code() != 0
    assert "ZeroDivisionError" in server.log() and "line 3" in server.log()


@pytest.mark.parametrize(("args", "words"), [
    (["--no-such-flag"], ["--no-such-flag"]),
    (["-k", "gevent"], ["gevent"]),
    (["--certfile", "x.pem"], ["certfile"]),
    (["--cert-reqs", "2"], ["cert-reqs"]),
    (["--statsd-host", "localhost:8125"], ["statsd"]),
    (["-w", "0"], ["-w: 0"]),
    (["--workers", "x"], ["x"]),
    (["-b", "nonsense:port"], ["nonsense:port"]),
    (["--chdir", "/nonexistent"], ["/nonexistent"]),
    (["-c", "missing.py"], ["missing.py"]),
    (["--user", "no-such-user"], ["no-such-user"]),
    (["--static", "nonsense"], ["nonsense"]),
    (["--access-logformat", "%(h)s %(nonsense)s"], ["nonsense"]),
    (["--forwarded-allow-ips", "nonsense"], ["nonsense"]),
])
def test_what_is_wrong_is_named(serve, args, words):
    server = serve(APP, *args, wait=False)
    assert server.exit_code() != 0
    text = server.log() + server.out_path.read_text()
    for word in words:
        assert word in text
    assert "panicked" not in text
    assert server.processes() == {}


def test_chdir_pythonpath_env_umask_name(serve):
    server = serve("", "--chdir", "inner", "--pythonpath", "lib,other", "-e", "A=1", "-e", "B=x=y", "--umask", "0o027",
                   "-n", "the-shop", spec=["inside:application"], files={"inner/inside.py": APP, "inner/lib/x.py": ""})
    values = seen(server)
    assert values["cwd"] == str(server.directory / "inner")
    assert (values["env"]["A"], values["env"]["B"]) == ("1", "x=y")
    assert values["umask"] == 0o027
    assert [Path(path).name for path in values["path"][:2]] == ["other", "lib"], "as gunicorn has them"
    commands = " ".join(command for _, command in server.processes().values())
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in server.processes()}
    assert "the-shop" in commands or any("the-shop" in name for name in names), (commands, names)


def test_modules_beside_chdir_and_where_the_program_was_started_are_found(serve):
    server = serve("", "--chdir", "inner", spec=["inside:application"],
                   files={"inner/inside.py": "import outside\n" + textwrap.dedent(APP), "outside.py": "", "inner/app.py": ""})
    assert [Path(path).name for path in seen(server)["path"][:2]] == ["inner", server.directory.name], "as gunicorn has them"


def test_processes_are_named_by_what_they_are(serve):
    server = serve(APP, "-n", "the shop", "-w", "2")
    processes = server.processes()
    workers = server.workers()
    assert len(workers) == 2
    for pid in workers:
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"monoceros: worker [the shop]\0"
        assert Path(f"/proc/{pid}/comm").read_text() == "monoceros: work\n"
        mold = processes[pid][0]
        assert Path(f"/proc/{mold}/cmdline").read_bytes() == b"monoceros: mold [the shop]\0"


def test_pid_file(serve):
    server = serve(APP, "-p", "server.pid")
    path = server.directory / "server.pid"
    assert path.read_text().strip() == str(server.process.pid)
    server.stop()
    assert not path.exists()


def public(path):
    """Whether everybody may read what is there."""
    path = Path(path).resolve()
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in [path, *path.parents])


def public_python():
    for candidate in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        if candidate and public(candidate):
            return candidate
    return None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(not public_python(), reason="every Python here is in a private directory")
def test_user_and_group(serve):
    with tempfile.TemporaryDirectory() as name:  # pytest's directories are for their owner only
        os.chmod(name, 0o755)
        server = Monoceros(f"{name}/site", APP, "--user", "65534", "--group", "65534",
                           "--python", public_python(), python=False).start()
        try:
            values = seen(server)
            assert (values["uid"], values["gid"]) == (65534, 65534)
            assert os.stat(f"/proc/{server.edge()}").st_uid == 65534
        finally:
            server.stop()


def test_check_config(serve):
    good = serve(APP, "--check-config", wait=False)
    assert good.exit_code() == 0
    bad = serve("raise RuntimeError('broken')\n", "--check-config", wait=False)
    assert bad.exit_code() == 1
    assert "broken" in bad.log()


def test_print_config(serve):
    server = serve(APP, "--print-config", "-w", "3", wait=False)
    assert server.exit_code() == 0
    assert re.search(r"workers\s*=\s*3", server.out_path.read_text())


def test_no_application_named(serve):
    server = serve(APP, wait=False, spec=[])
    assert server.exit_code() != 0
    assert "application" in (server.log() + server.out_path.read_text()).lower()


def test_help_and_version(serve):
    for flag in ("--help", "--version"):
        server = serve(wait=False, spec=[flag], bind=[], python=False)
        assert server.exit_code() == 0
        assert "monoceros" in server.out_path.read_text().lower()


def test_start_up_lines_say_what_is_served(serve):
    server = serve(APP, "-w", "2", "--static", "/static/=files", files={"files/a.txt": "x"})
    # They are written when it answers already.
    server.wait_log(f"127.0.0.1:{server.port}")
    server.wait_log("/static/")
    log = server.log()
    stamp = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000\] "
    assert re.search(stamp + rf"\[{server.process.pid}\] \[INFO\] ", log)
