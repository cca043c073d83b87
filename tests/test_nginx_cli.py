"""nginx's command line by nginx's name, and the program's own for an nginx.conf: flags, words, exit codes."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from support import Site, free_port, wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
beside_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

CONF = "server { listen 127.0.0.1:%PORT%; return 200 one; }"


@pytest.fixture
def site(tmp_path):
    """One that is not started: for calls that end by themselves."""
    return Site(tmp_path / "site", CONF, name="nginx")


def by_nginx(site, *args):
    return subprocess.run([NGINX, *args], cwd=site.directory, text=True, capture_output=True, timeout=30)


@beside_nginx
@pytest.mark.parametrize("args", [
    ["-x"], ["--help"], ["site.conf"], ["-tx"], ["-p"], ["-c"], ["-tc"], ["-g"], ["-s"], ["-s", "restart"], ["-e"],
], ids=" ".join)
def test_a_wrong_option_is_told_as_nginx_tells_it(site, args):
    ours, theirs = site.run(*args), by_nginx(site, *args)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


@beside_nginx
@pytest.mark.parametrize("args", [
    ["-v"], ["-V"], ["-h"], ["-?"], ["-t"], ["-tq"], ["-T"], ["-qT"], ["-tv"], ["-s", "reload"], ["-sstop"],
], ids=" ".join)
def test_the_exit_code_is_nginxs(site, args):
    place = ["-p", f"{site.directory}/", "-c", "nginx.conf", "-g", f"pid {site.directory}/none.pid;"]
    ours, theirs = site.run(*args, *place), by_nginx(site, *args, *place)
    assert ours.returncode == theirs.returncode, (ours, theirs)
    assert bool(ours.stdout) == bool(theirs.stdout)


@beside_nginx
@pytest.mark.parametrize("flag", ["-t", "-T", "-qT"])
def test_checked_and_dumped_as_by_nginx(site, flag):
    site.configure("include more.conf;" + CONF)
    site.write("more.conf", "# nothing\n")
    args = [flag, "-p", f"{site.directory}/", "-c", "nginx.conf", "-g", f"pid {site.directory}/x.pid;"]
    ours, theirs = site.run(*args), by_nginx(site, *args)
    assert ours.returncode == theirs.returncode == 0
    assert ours.stdout == theirs.stdout
    assert ours.stderr == theirs.stderr


@beside_nginx
@pytest.mark.parametrize("path", ["none/x.pid", ".", "nginx.conf/x.pid"])
def test_a_pid_file_that_cannot_be_written_fails_the_check(site, path):
    site.configure(CONF)
    args = ["-t", "-p", f"{site.directory}/", "-c", "nginx.conf", "-g", f"pid {site.directory}/{path};"]
    ours, theirs = site.run(*args), by_nginx(site, *args)
    assert ours.returncode == theirs.returncode == 1
    words = re.compile(r"open\(\) .* failed \(.*\)$", re.MULTILINE)
    assert words.findall(ours.stderr) == words.findall(theirs.stderr) != []


@pytest.mark.parametrize("directory", ["", "directory .;", "directory ./;"])
@pytest.mark.parametrize("prefix", [".", "./"])
def test_an_application_lies_in_a_prefix_that_is_where_one_stands(site, prefix, directory):
    site.configure("app a { wsgi a:b; " + directory + " } " + CONF)
    result = site.run("-t", "-p", prefix, "-c", "nginx.conf")
    assert result.returncode == 0, result.stderr


def test_a_configuration_with_a_mistake_is_refused_with_its_place(site):
    site.configure("server {\n  listen 127.0.0.1:%PORT%;\n  retrun 200;\n}")
    result = site.run("-t", "-p", f"{site.directory}/", "-c", "nginx.conf")
    conf = f"{site.directory}/nginx.conf"
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[0] == f'nginx: [emerg] unknown directive "retrun" in {conf}:6'
    assert lines[-1] == f"nginx: configuration file {conf} test failed"
    started = site.run("-p", f"{site.directory}/", "-c", "nginx.conf")
    assert started.returncode == 1
    assert "test failed" not in started.stderr


def test_the_version_can_be_parsed(site):
    result = site.run("-V")
    assert result.stdout == ""
    assert re.search(r"^nginx version: nginx/1\.\d+\.\d+ ", result.stderr)
    assert re.search(r"^configure arguments: --prefix=/", result.stderr, re.MULTILINE)


def test_the_pid_file_is_the_masters_and_goes_with_it(serve_nginx):
    server = serve_nginx("pid %DIR%/x.pid;\nevents {}\nhttp { access_log off; " + CONF + "}", name="nginx")
    pid_file = server.directory / "x.pid"
    assert int(pid_file.read_text()) == server.process.pid
    server.signal(signal.SIGQUIT)
    assert server.exit_code() == 0
    assert not pid_file.exists()


@pytest.mark.parametrize("order", ["stop", "quit"])
def test_orders_reach_the_master_by_its_pid_file(serve_nginx, order):
    server = serve_nginx("pid %DIR%/x.pid;\nevents {}\nhttp { access_log off; " + CONF + "}", name="nginx")
    result = server.run("-s", order, "-p", f"{server.directory}/", "-c", "nginx.conf")
    assert (result.returncode, result.stderr) == (0, "")
    assert server.exit_code() == 0


def test_orders_without_a_master_are_told_as_nginx_tells_them(site):
    args = ["-s", "reload", "-p", f"{site.directory}/", "-c", "nginx.conf", "-g", "pid x.pid;"]
    path = site.directory / "x.pid"
    result = site.run(*args)
    assert result.returncode == 1
    assert result.stderr == f'nginx: [error] open() "{path}" failed (2: No such file or directory)\n'
    path.write_text("junk\n")
    assert site.run(*args).stderr == f'nginx: [error] invalid PID number "junk" in "{path}"\n'
    ended = subprocess.Popen(["true"])
    ended.wait()
    path.write_text(f"{ended.pid}\n")
    assert site.run(*args).stderr == f"nginx: [alert] kill({ended.pid}, 1) failed (3: No such process)\n"


def test_a_daemon_serves_when_its_first_process_ends(site):
    args = ["-p", f"{site.directory}/", "-c", "nginx.conf", "-g", "pid x.pid; error_log error.log;"]
    result = site.run(*args)
    assert (result.returncode, result.stderr) == (0, "")
    pid = int((site.directory / "x.pid").read_text())
    try:
        assert os.getsid(pid) == pid
        with site.connect() as client:
            client.send(b"not http\r\n\r\n")
            assert client.response().status == 400
    finally:
        assert site.run("-s", "stop", *args).returncode == 0
        wait_until(lambda: site.processes() == {}, "all to be gone")


def test_a_daemon_that_cannot_bind_says_so_to_its_caller(site):
    import socket
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        site.configure(f"server {{ listen 127.0.0.1:{port}; return 200; }}")
        result = site.run("-p", f"{site.directory}/", "-c", "nginx.conf", "-g", "pid x.pid;")
    assert result.returncode == 1
    # Not in the form of a log: there is none yet.
    assert f"nginx: [emerg] bind() to 127.0.0.1:{port} failed (98: Address already in use)" in result.stderr.splitlines()
    assert result.stderr.splitlines()[-1] == "nginx: [emerg] still could not bind()"
    assert not (site.directory / "x.pid").exists()
    assert site.processes() == {}


def test_a_daemon_whose_application_does_not_load_says_so_to_its_caller(tmp_path):
    site = Site(tmp_path / "site", "app one { wsgi nothing_there; python %s; }" % sys.executable, name="nginx")
    args = ["-p", f"{site.directory}/", "-c", "nginx.conf", "-g", "pid x.pid; error_log error.log;"]
    result = site.run(*args)
    assert result.returncode == 3
    assert "error.log says:" in result.stderr and "No module named 'nothing_there'" in result.stderr
    assert site.processes() == {}


def test_check_tells_what_is_wrong_and_where(tmp_path):
    site = Site(tmp_path / "site", CONF)
    good = site.run("check", "-c", "nginx.conf")
    assert (good.returncode, good.stdout) == (0, f"{site.directory}/nginx.conf can be used\n")
    site.configure("server { lissten 80; }")
    bad = site.run("check", "-c", "nginx.conf")
    assert bad.returncode == 1
    assert 'unknown directive "lissten"' in bad.stderr and "^^^^^^^" in bad.stderr
    assert "listen" in bad.stderr


def test_gunicorns_flags_do_not_go_with_an_nginx_conf(tmp_path):
    site = Site(tmp_path / "site", CONF)
    result = site.run("-c", "nginx.conf", "-w", "4")
    assert result.returncode == 2
    assert "`-w` does not go with an nginx.conf" in result.stderr


def test_start_up_says_what_is_served_where(serve_nginx):
    server = serve_nginx("server { listen 127.0.0.1:%PORT%; server_name shop.example; return 200; }")
    lines = wait_until(lambda: len(found := server.out_path.read_text().splitlines()) >= 5 and found, "five lines")
    assert lines[0].startswith("Monoceros ") and lines[0].endswith(f"is ready (pid {server.process.pid})")
    assert lines[1] == f"Listening at: http://127.0.0.1:{server.port}"
    assert lines[2] == "Servers: shop.example"
    assert lines[3].startswith("Applications: none")
    assert lines[4].startswith("Logs: errors to standard error")
    assert len(lines) == 5


def test_start_up_names_error_logs_that_are_not_the_main_one(serve_nginx):
    server = serve_nginx("""
        error_log %DIR%/http.log;
        server { listen 127.0.0.1:%PORT%; error_log %DIR%/one.log; error_log %DIR%/http.log; }
        server { listen 127.0.0.1:%PORT%; server_name two; error_log /dev/null crit; }
    """)
    lines = wait_until(lambda: len(found := server.out_path.read_text().splitlines()) >= 5 and found, "five lines")
    logs = lines[4].partition(", no access log")[0]
    assert logs.startswith("Logs: errors to standard error, ")
    assert sorted(logs.split(", ")[1:]) == [f"{server.directory}/http.log", f"{server.directory}/one.log"], logs


def test_no_python_is_looked_for_without_an_application(serve_nginx):
    server = serve_nginx(CONF, env={"PATH": "/nonexistent", "VIRTUAL_ENV": "/nonexistent"})
    assert server.workers() == []
    assert len(server.processes()) == 2


def test_by_gunicorns_name_every_settings_file_is_python(tmp_path):
    site = Site(tmp_path / "site", CONF, name="gunicorn", files={"settings.conf": "workers = 3\n"})
    result = site.run("-c", "settings.conf", "--print-config", "app:application")
    assert re.search(r"^workers +3$|^workers += 3", result.stdout, re.MULTILINE), (result.stdout, result.stderr)


def test_an_address_may_not_be_bound_twice_by_two_servers(serve_nginx, tmp_path):
    server = serve_nginx(CONF)
    second = Site(tmp_path / "second", f"server {{ listen 127.0.0.1:{server.port}; return 200; }}")
    result = second.run("-c", "nginx.conf")
    assert result.returncode == 1
    place = f"in {second.directory}/nginx.conf:4"
    assert f"127.0.0.1:{server.port} failed (98: Address already in use) {place}\n" in result.stderr
    assert free_port() != server.port
