"""--user and --group: who the processes are, and what they may still do."""

import grp
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support import Monoceros, wait_until
from support.server import binary
from support.upstream import Upstream

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

APP = """
import os

def application(environ, start_response):
    body = " ".join(map(str, [*os.getresuid(), *os.getresgid(), *sorted(set(os.getgroups()))])).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""


@pytest.fixture(scope="module")
def python():
    """An interpreter whose library others may read; one below root's home is not."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        probe = [path, "-c", "import sys, wsgiref.validate; sys.exit(sys.version_info < (3, 9))"]
        try:
            if subprocess.run(probe, user="nobody", group="daemon", cwd="/", capture_output=True).returncode == 0:
                return path
        except OSError:
            continue
    pytest.skip("no Python that another user may run")


@pytest.fixture
def serve(python):
    """As everywhere, but in a directory that others may enter too."""
    base = Path(tempfile.mkdtemp(prefix="monoceros-"))
    base.chmod(0o755)
    servers = []

    def start(*args, **options):
        site = base / f"site{len(servers)}"
        server = Monoceros(site, APP, "--python", python, *args, python=False, **options)
        servers.append(server)
        return server.start()

    try:
        yield start
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            if server.process is not None and server.process.poll() is None:
                server.process.kill()
        shutil.rmtree(base)


@pytest.mark.parametrize("closed", ["shop", "shop/wsgi.py", "."])
def test_an_application_that_its_user_may_not_read_names_the_user(python, closed):
    """`No module named …` alone has one look for what is there."""
    base = Path(tempfile.mkdtemp(prefix="monoceros-"))
    try:
        base.chmod(0o755)
        site = base / "site"
        (site / "shop").mkdir(parents=True)
        (site / "shop" / "__init__.py").write_text("")
        (site / "shop" / "wsgi.py").write_text(APP)
        for path in (site, *site.rglob("*")):
            path.chmod(0o755)
        (site / closed).chmod(0o600)
        for words in (["check"], []):
            done = subprocess.run(
                [binary(), *words, "shop.wsgi", "--python", python, "--user", "nobody", "-b", "127.0.0.1:0"],
                cwd=site, text=True, capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
            assert done.returncode != 0
            if closed == "shop/wsgi.py":
                assert "Permission denied" in done.stderr and "(as the user nobody)" in done.stderr, done.stderr
            else:
                words = f"{site}, which the user nobody may not read" if closed == "." else f"the user nobody may not read {site}/shop"
                assert "No module named" in done.stderr and words + ")" in done.stderr, done.stderr
    finally:
        shutil.rmtree(base)


def test_modules_of_a_python_that_its_user_may_not_reach_are_told(python, tmp_path):
    """A virtual environment below somebody's home: the mold has imported what it needs as root, and an application finds
    nothing."""
    base = Path(tempfile.mkdtemp(prefix="monoceros-"))
    try:
        base.chmod(0o755)
        home, site = base / "home", base / "site"
        home.mkdir()
        site.mkdir()
        subprocess.run([python, "-m", "venv", "--without-pip", home / "venv"], check=True)
        (found,) = (home / "venv" / "lib").glob("python*/site-packages")
        (found / "shop.py").write_text("")
        (site / "wsgi.py").write_text("import shop\n" + APP)
        for path in (site, *site.rglob("*")):
            path.chmod(0o755)
        home.chmod(0o700)
        for words in (["check"], []):
            done = subprocess.run(
                [binary(), *words, "wsgi", "--python", home / "venv/bin/python", "--user", "nobody", "-b", "127.0.0.1:0"],
                cwd=site, text=True, capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
            assert done.returncode != 0
            assert f"the user nobody may not read {home}, where this Python has its modules" in done.stderr, done.stderr
    finally:
        shutil.rmtree(base)


def identity(pid):
    """All four user and group numbers of a process, and its supplementary groups."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return [set(map(int, rows[name].split())) for name in ("Uid", "Gid", "Groups")]


def test_edge_and_workers_are_the_user_and_the_log_can_be_reopened(serve):
    user, group = pwd.getpwnam("nobody"), grp.getgrnam("daemon")
    server = serve("--user", "nobody", "--group", "daemon", "-w", "2", "--access-logfile", "access.log")
    numbers = server.get("/first").text.split()
    assert numbers[:6] == [str(user.pw_uid)] * 3 + [str(group.gr_gid)] * 3
    assert set(numbers[6:]) <= {str(group.gr_gid)}, "none of root's groups"
    for pid in [server.edge(), *server.workers()]:
        uids, gids, groups = identity(pid)
        assert (uids, gids) == ({user.pw_uid}, {group.gr_gid})
        assert groups <= {group.gr_gid}
    assert identity(server.process.pid)[0] == {0}, "the master stays root"
    log = server.directory / "access.log"
    wait_until(lambda: "/first" in log.read_text(), "the first line")
    log.rename(server.directory / "access.log.1")
    server.signal(signal.SIGUSR1)
    wait_until(log.exists, "the new log")
    wait_until(lambda: server.get("/later").status == 200 and "/later" in log.read_text(), "a line in the new log")
    assert log.stat().st_uid == user.pw_uid
    assert "can't be opened" not in server.log()


def test_a_user_whom_only_the_name_service_knows(serve, tmp_path):
    tmp_path.joinpath("getent").write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in\n'
        '"passwd far-away") echo "far-away:x:54321:54322::/:/bin/false" ;;\n'
        '"group far-group") echo "far-group:x:54323:" ;;\n'
        "*) exit 2 ;;\n"
        "esac\n")
    tmp_path.joinpath("getent").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    server = serve("--user", "far-away", env={"PATH": path})
    assert server.get().text.split()[:6] == ["54321"] * 3 + ["54322"] * 3
    server = serve("--user", "far-away", "--group", "far-group", env={"PATH": path})
    assert server.get().text.split()[:6] == ["54321"] * 3 + ["54323"] * 3
    assert identity(server.edge())[:2] == [{54321}, {54323}]


TRANSPARENT = """
    user nobody daemon;
    worker_processes 1;
    events {}
    http {
        access_log off;
        upstream kept { server 127.0.0.1:%BACK%; keepalive 8; }
        server {
            listen 127.0.0.1:%PORT%;
            location / { return 200 "ok"; }
            location /bound/ { %BIND% proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection ""; }
        }
    }
"""


def capabilities(pid):
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return [int(rows[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")]


def test_an_edge_that_connects_from_others_addresses_keeps_that_right_and_no_other(serve_nginx):
    def answer(_, connection):
        body = connection.getpeername()[0].encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    with Upstream(answer) as up:
        conf = TRANSPARENT.replace("%BACK%", str(up.port))
        server = serve_nginx(conf.replace("%BIND%", "proxy_bind $arg_from transparent;"))
        raw = 1 << 13
        assert capabilities(server.edge()) == [raw, raw, 0, 0]
        assert identity(server.edge())[0] == {pwd.getpwnam("nobody").pw_uid}
        for address in ("127.7.7.7", "127.8.8.8", "127.7.7.7"):
            assert server.get(f"/bound/?from={address}").text == address, "no kept connection of another"
        assert len({seen.connection for seen in up.seen}) == 2


def test_a_right_that_was_given_up_does_not_come_back_by_a_reload(serve_nginx):
    conf = TRANSPARENT.replace("%BACK%", "9")
    server = serve_nginx(conf.replace("%BIND%", "proxy_bind 127.0.0.1;"))
    edge = server.edge()
    assert capabilities(edge) == [0, 0, 0, 0]
    server.configure(conf.replace("%BIND%", "proxy_bind 127.0.0.1 transparent;"))
    server.signal(signal.SIGHUP)
    server.wait_log("needs a right that the running edge has given up")
    assert (server.get("/").text, server.edge()) == ("ok", edge)
