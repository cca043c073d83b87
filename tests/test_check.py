"""`monoceros check`, and what is told of a configuration that cannot be used: everything, once, with its place."""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile

import pytest
from support import wait_until
from support.server import Monoceros, Site, binary

APP = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
"""

CONF = """
    app shop { wsgi shop:application; directory code; python %PYTHON%; %MORE% }
    server { listen 127.0.0.1:%PORT%; access_log %LOG%; location / { app_pass shop; } }
"""


def site(tmp_path, app=APP, more="", log="off", python=sys.executable):
    conf = CONF.replace("%MORE%", more).replace("%LOG%", log).replace("%PYTHON%", python)
    return Site(tmp_path / "site", conf, files={"code/shop.py": app})


def run(directory, *args, env=None, timeout=60):
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), **(env or {})}
    return subprocess.run([binary(), *map(str, args)], cwd=directory, env=environment, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, capture_output=True)


def test_check_loads_the_applications_and_starts_nothing(tmp_path):
    server = site(tmp_path, log="logs.log")
    done = server.run("check", "-c", "nginx.conf")
    version = ".".join(map(str, sys.version_info[:3]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"application shop: shop:application loads in Python {version} ({sys.executable})",
        f"{server.directory}/nginx.conf can be used",
    ]
    assert not (server.directory / "logs.log").exists()
    assert server.processes() == {}


def test_check_tells_of_an_application_that_does_not_load_and_of_files_in_one_run(tmp_path):
    server = site(tmp_path, app="import no_such_module\n", log="nowhere/a.log")
    done = server.run("check", "-c", "nginx.conf")
    assert done.returncode == 1
    assert "No module named 'no_such_module'" in done.stderr
    assert re.search(r"error: application shop does not load: .*\n +--> .*nginx\.conf:\d+:\d+\n", done.stderr), done.stderr
    assert re.search(r"error: the access log .*nowhere/a\.log cannot be written: there is no directory .*nowhere\n"
                     r" +--> .*nginx\.conf:\d+:\d+\n", done.stderr), done.stderr
    assert done.stderr.endswith("nginx.conf cannot be used\n") and "can be used" not in done.stdout
    assert server.processes() == {}


def test_all_errors_of_app_blocks_are_told_with_their_places(tmp_path):
    server = site(tmp_path, more="workers many; timeout -3;", python="bin/nothing")
    server.configure(server.text((server.directory / "nginx.conf").read_text().replace("listen", "lissten")))
    done = server.run("check", "-c", "nginx.conf")
    assert done.returncode == 1
    errors = re.findall(r"^error: (.*)\n +--> .*nginx\.conf:\d+:\d+$", done.stderr, re.MULTILINE)
    assert [error.split(" `")[0] for error in errors] == [
        "python: there is no program", "workers:", "timeout:", 'unknown directive "lissten"',
    ], done.stderr
    # nginx's form has all of them too.
    nginx = Site(tmp_path / "nginx", "", name="nginx")
    nginx.write("nginx.conf", (server.directory / "nginx.conf").read_text().replace("code", str(server.directory / "code")))
    done = nginx.run("-t", "-c", f"{nginx.directory}/nginx.conf", "-p", f"{nginx.directory}/")
    assert len(re.findall(r"^nginx: \[emerg\] .* in .*nginx\.conf:\d+$", done.stderr, re.MULTILINE)) == 4, done.stderr


def test_an_import_that_hangs_ends_the_check(tmp_path):
    server = site(tmp_path, app="import time\ntime.sleep(1000)\n", more="boot_timeout 2;")
    done = server.run("check", "-c", "nginx.conf")
    assert done.returncode == 1
    assert "it is not done after 2 seconds (boot_timeout)" in done.stderr
    # Python shows where.
    assert 'shop.py", line 2' in done.stderr
    assert server.processes() == {}


def test_check_is_for_a_command_line_too(tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    env = {"VIRTUAL_ENV": str(os.path.dirname(os.path.dirname(sys.executable)))}
    done = run(tmp_path, "check", "shop", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"shop:application loads in Python 3\S+ \(.*\)\n$", done.stdout)
    done = run(tmp_path, "check", "shop", "--access-logfile", "-", "--access-logformat", "%(h", env=env)
    assert done.returncode == 1 and "error: access_log_format: " in done.stderr
    done = run(tmp_path, "check", "shop", "--log-file", "nowhere/error.log", "--access-logfile", "no/a.log", env=env)
    assert done.returncode == 1
    assert len(re.findall(r"^error: the (error|access) log .* there is no directory", done.stderr, re.MULTILINE)) == 2
    done = run(tmp_path, "check", env=env)
    assert done.returncode == 1
    assert "1 | monoceros check\n" in done.stderr and "monoceros check package.module:name" in done.stderr
    assert "--check-config" not in done.stderr


def test_settings_that_cannot_be_used_are_told_together_with_their_places(tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    env = {"VIRTUAL_ENV": str(os.path.dirname(os.path.dirname(sys.executable)))}
    (tmp_path / "gunicorn.conf.py").write_text("pidfile = 'no/a.pid'\nerrorlog = 'no/error.log'\n")
    both = {**env, "GUNICORN_CMD_ARGS": "--access-logfile no/access.log"}
    for word in (["check"], []):
        done = run(tmp_path, *word, "shop", "-b", "127.0.0.1:0", env=both)
        assert done.returncode == 1
        places = re.findall(r"^error: (.*?) .*\n +--> (.*)$", done.stderr, re.MULTILINE)
        assert [place.rsplit("/", 1)[-1] for _, place in places] == [
            "gunicorn.conf.py:1:1", "GUNICORN_CMD_ARGS:1:18", "gunicorn.conf.py:2:1"], done.stderr
    (tmp_path / "gunicorn.conf.py").write_text(
        "certfile = 'no/c.pem'\nkeyfile = 'no/k.pem'\naccess_log_format = '%(h'\naccesslog = '-'\n")
    done = run(tmp_path, "check", "shop", "-b", "127.0.0.1:0", env=env)
    assert done.returncode == 1
    assert re.search(r"error: .*certfile.*\n +--> .*gunicorn\.conf\.py:1:1\n", done.stderr), done.stderr
    (tmp_path / "gunicorn.conf.py").write_text("access_log_format = '%(h'\naccesslog = '-'\n")
    done = run(tmp_path, "check", "shop", "-b", "127.0.0.1:0", env=env)
    assert done.returncode == 1
    assert re.search(r"error: access_log_format: .*\n +--> .*gunicorn\.conf\.py:1:1\n", done.stderr), done.stderr


def test_all_hooks_with_other_arguments_are_told_at_once(tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    env = {"VIRTUAL_ENV": str(os.path.dirname(os.path.dirname(sys.executable)))}
    (tmp_path / "gunicorn.conf.py").write_text(
        "def when_ready():\n    pass\n\ndef post_fork(server):\n    pass\n")
    done = run(tmp_path, "check", "shop", env=env)
    assert done.returncode == 1
    assert re.search(r"gunicorn\.conf\.py:1: when_ready must take 1 argument", done.stderr), done.stderr
    assert re.search(r"gunicorn\.conf\.py:4: post_fork must take 2 arguments", done.stderr), done.stderr


def test_a_log_beside_access_log_off_is_made_as_by_nginx(tmp_path):
    server = site(tmp_path, log="nowhere/a.log; access_log off")
    done = server.run("check", "-c", "nginx.conf")
    assert done.returncode == 1
    assert re.search(r"error: the access log .*nowhere/a\.log cannot be written: there is no directory .*nowhere\n"
                     r" +--> .*nginx\.conf:\d+:\d+\n", done.stderr), done.stderr
    assert server.run("-c", "nginx.conf").returncode == 1


def test_a_port_in_use_is_told_once_when_it_begins_and_once_at_the_end(tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    env = {"VIRTUAL_ENV": str(os.path.dirname(os.path.dirname(sys.executable)))}
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(tmp_path, "shop", "-b", f"127.0.0.1:{port}", env=env)
        assert done.returncode == 1
        lines = [line for line in done.stderr.splitlines() if str(port) in line]
        assert len(lines) == 2, done.stderr
        assert f"Connection in use: 127.0.0.1:{port}; trying for 4 seconds" in lines[0]
        assert f"Can't listen on 127.0.0.1:{port}: another program listens there" in lines[1]
        server = Site(tmp_path / "site", f"server {{ listen 127.0.0.1:{port}; return 200; }}")
        done = server.run("-c", "nginx.conf")
        assert done.returncode == 1
        assert done.stderr.count("98: Address already in use") == 1, done.stderr
        # In use, perhaps by the server that is to be reloaded: no error of the configuration.
        assert server.run("check", "-c", "nginx.conf").returncode == 0


def test_a_settings_file_is_known_by_what_is_in_it(tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "gunicorn.conf").write_text("# settings\nworkers = 3\n")
    (tmp_path / "settings.py").write_text("events {}\nhttp {}\n")
    env = {"VIRTUAL_ENV": str(os.path.dirname(os.path.dirname(sys.executable)))}
    done = run(tmp_path, "-c", "gunicorn.conf", "shop", "--print-config", env=env)
    assert done.returncode == 0, done.stderr
    assert re.search(r"workers\s*=\s*3\b", done.stdout)
    done = run(tmp_path, "-c", "settings.py", "shop", env=env)
    assert done.returncode == 1
    assert "`settings.py` reads like an nginx.conf" in done.stderr and "^^^^^^^^^^^" in done.stderr


@pytest.mark.parametrize("name, near", [("access_logfile", "accesslog"), ("log_level", "loglevel"),
                                        ("wrokers", "workers"), ("keep_alive", "keepalive")])
def test_a_name_in_a_settings_file_that_looks_like_a_setting_is_warned_of(tmp_path, name, near):
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(f"{name} = 'x'\nunrelated = 1\n")
    env = {"VIRTUAL_ENV": str(os.path.dirname(os.path.dirname(sys.executable)))}
    done = run(tmp_path, "check", "shop", env=env)
    assert done.returncode == 0
    assert f"warning: `{name}` is no setting and is ignored" in done.stderr
    assert f"did you mean `{near}`?" in done.stderr
    assert "unrelated" not in done.stderr


def test_a_piece_of_a_configuration_and_a_slip_in_an_upstreams_name_are_explained(tmp_path):
    (tmp_path / "piece.conf").write_text("server { listen 127.0.0.1:8080; }\n")
    done = run(tmp_path, "check", "-c", "piece.conf")
    assert "write `events {}` and `http { … }` around what is in this file" in done.stderr
    server = Site(tmp_path / "site", """
        upstream backend { server 127.0.0.1:9000; }
        server { listen 127.0.0.1:%PORT%; location / { proxy_pass http://backnd; } }
    """)
    done = server.run("check", "-c", "nginx.conf")
    assert done.returncode == 1
    assert "did you mean the upstream `backend`?" in done.stderr


def test_the_interpreter_that_is_not_there_is_told_with_its_place(tmp_path):
    server = site(tmp_path, python="no-such-python")
    for arguments in (["check", "-c", "nginx.conf"], ["-c", "nginx.conf"]):
        done = server.run(*arguments)
        assert done.returncode == 1
        assert "error: python: `no-such-python` is no program that can be run" in done.stderr
        assert re.search(r"--> .*nginx\.conf:\d+:\d+", done.stderr)
    own = Monoceros(tmp_path / "own", APP, "--python", "no-such-python", python=False)
    own.start(wait=False)
    assert own.exit_code() == 1
    assert "command line:1:" in own.log() and "no-such-python" in own.log()


def test_a_check_that_is_broken_off_leaves_nothing_behind(serve):
    server = serve("import time\nopen('imports', 'w').close()\ntime.sleep(1000)\n", "--check-config", wait=False)
    wait_until(lambda: (server.directory / "imports").exists(), "the import to begin", 30)
    assert len(server.processes()) == 2
    server.signal(signal.SIGINT)
    wait_until(lambda: server.processes() == {}, "both to be gone")


def test_a_configuration_without_its_flag_is_known_as_one(tmp_path):
    (tmp_path / "site.conf").write_text("events {}\nhttp {}\n")
    (tmp_path / "nginx.test").write_text("# mine\nevents {}\nhttp {}\n")
    for words in (["check", "site.conf"], ["site.conf"], ["./site.conf"], ["check", "./nginx.test"]):
        done = run(tmp_path, *words)
        assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
        assert f"`{words[-1]}` is a file, where an application is named" in done.stderr, done.stderr
        assert f"write `-c {words[-1]}`" in done.stderr and "^^^" in done.stderr


def test_a_directory_is_known_as_one(tmp_path):
    for name in ("etc", "conf", "empty", "shop"):
        (tmp_path / name).mkdir()
    (tmp_path / "etc" / "nginx.conf").write_text("events {}\nhttp {}\n")
    (tmp_path / "conf" / "gunicorn.conf.py").write_text("workers = 1\n")
    (tmp_path / "shop" / "__init__.py").write_text(APP)
    (tmp_path / "shop" / "gunicorn.conf.py").write_text("workers = 1\n")
    for words, file in ((["-c", "etc"], "etc/nginx.conf"), (["check", "--config", "etc/"], "etc/nginx.conf"),
                        (["check", "-c", "conf"], "conf/gunicorn.conf.py")):
        done = run(tmp_path, *words)
        assert done.returncode == 1, done.stderr
        assert "Is a directory" in done.stderr and f"write `-c {tmp_path}/{file}`" in done.stderr, done.stderr
        assert "include" not in done.stderr
    assert "`-c` names a file in it" in run(tmp_path, "-c", "empty").stderr
    (tmp_path / "conf" / "nginx.conf").write_text("events {}\nhttp {}\n")
    for words, file in ((["-c", "etc", "shop:application"], "etc/nginx.conf"),
                        (["shop:application", "--config=conf/"], "conf/gunicorn.conf.py"),
                        (["check", "-c", "conf", "-w", "4"], "conf/gunicorn.conf.py")):
        done = run(tmp_path, *words)
        assert done.returncode == 2 and "does not go with" not in done.stderr, done.stderr
        assert "is a directory" in done.stderr and f"write `-c {file}`" in done.stderr and "^^" in done.stderr, done.stderr
    (tmp_path / "conf" / "nginx.conf").unlink()
    for words, file in ((["check", "etc"], "etc/nginx.conf"), (["etc/"], "etc/nginx.conf"),
                        (["check", "conf"], "conf/gunicorn.conf.py")):
        done = run(tmp_path, *words)
        assert done.returncode != 0
        assert f"`{words[-1]}` is a directory, where an application is named" in done.stderr, done.stderr
        assert f"write `-c {file}`" in done.stderr and "is a file" not in done.stderr, done.stderr
    done = run(tmp_path, "check", "./empty/")
    assert "`./empty/` is a directory, where an application is named" in done.stderr, done.stderr
    done = run(tmp_path, "check", "shop", "--python", sys.executable)
    assert done.returncode == 0, f"a package is an application: {done.stderr}"


def test_words_about_the_environment_are_in_the_language_that_it_stands_in(tmp_path):
    server = site(tmp_path, more="raw_env A;")
    done = server.run("check", "-c", "nginx.conf")
    assert "raw_env: `A` is not of the form NAME=VALUE" in done.stderr and "`raw_env DEBUG=0;`" in done.stderr, done.stderr
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text("raw_env = ['A']\n")
    done = run(tmp_path, "check", "app", "--python", sys.executable)
    assert """`raw_env = ["DEBUG=0"]`""" in done.stderr, done.stderr


def test_what_a_file_in_place_of_a_module_calls_its_application_is_found(tmp_path):
    (tmp_path / "app.py").write_text("raise RuntimeError('nobody runs this')\napp = 1\n")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "factory.py").write_text("def create_app():\n    pass\n")
    (tmp_path / "other.py").write_text("serve = 1\n")
    for file, words in (("app.py", "did you mean `app:app`?"), ("shop/factory.py", "did you mean `shop.factory:create_app()`?"),
                        ("./other.py", "write `other:NAME`, with what the file calls its application")):
        done = run(tmp_path, file)
        assert f"`{file}` is a file, where a module is wanted" in done.stderr and words in done.stderr, done.stderr


MODULES = {
    "flask_like.py": "class Flask:\n    def __call__(self, environ, start_response):\n        pass\napp = Flask()\n",
    "handlers.py": "def serve(environ, start_response):\n    pass\ndef helper():\n    pass\n",
    "factory.py": "def create_app(config=None, debug=False):\n    return lambda environ, start_response: None\n",
    "bare.py": "def application():\n    return None\n",
    "one.py": "def application(request):\n    return None\n",
    "made.py": "class application:\n    def __init__(self, path='.'):\n        pass\n    def __call__(self, e, s):\n        pass\n",
    "asgi.py": "class FastAPI:\n    async def __call__(self, scope, receive, send):\n        pass\napp = FastAPI()\n",
    "nothing.py": "import os\n",
    # What is none of these: decorators, classes of the old kind, defaults in an application.
    "good.py": "import functools\ndef real():\n    pass\n@functools.wraps(real)\ndef application(*args):\n    pass\n"
               "class Old:\n    def __init__(self, environ, start_response):\n        pass\n"
               "def plain(environ=None, start_response=None):\n    pass\n",
}


@pytest.mark.parametrize("target, words", [
    ("flask_like", "Failed to find attribute 'application' in 'flask_like'. Did you mean 'flask_like:app'?"),
    ("handlers:app", "Failed to find attribute 'app' in 'handlers'. Did you mean 'handlers:serve'?"),
    ("factory", "Failed to find attribute 'application' in 'factory'. Did you mean 'factory:create_app()'?"),
    ("factory:create_app", "'factory:create_app' needs none: it seems to make the application. "
                           "Did you mean 'factory:create_app()'?"),
    ("bare", "Did you mean 'bare:application()'?"),
    ("one", "with two arguments, environ and start_response, but 'one:application' takes one."),
    ("made", "Did you mean 'made:application()'?"),
    ("asgi", "'asgi:app' is an ASGI application."),
    ("nothing", "Failed to find attribute 'application' in 'nothing'.\n"),
    ("factory:create_app()", None), ("made:application()", None),
    ("good", None), ("good:Old", None), ("good:plain", None),
])
def test_what_is_no_application_is_told_with_what_is_likely_meant(tmp_path, target, words):
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    env = {"VIRTUAL_ENV": str(os.path.dirname(os.path.dirname(sys.executable)))}
    done = run(tmp_path, "check", target, env=env)
    if words is None:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert words in done.stderr


def test_a_factory_without_brackets_ends_the_start_as_what_does_not_load(tmp_path):
    server = Monoceros(tmp_path / "site", files=MODULES, spec=["factory:create_app"]).start(wait=False)
    assert server.exit_code() == 4
    assert "Did you mean 'factory:create_app()'?" in server.log()
    assert server.processes() == {}


def test_an_order_to_end_while_an_app_blocks_settings_are_read_is_obeyed_with_a_word(tmp_path):
    slow = "import time\nprint('it runs', flush=True)\ntime.sleep(60)\n"
    server = site(tmp_path, more="settings slow.py;")
    server.write("code/slow.py", slow)
    server.argv = [binary(), "-c", "nginx.conf"]
    for words in ([], ["check"]):
        log = server.directory / "out.log"
        with open(log, "wb") as out:
            environment = {"PATH": os.environ["PATH"], "MONOCEROS_TEST": server.marker}
            process = subprocess.Popen([binary(), *words, "-c", "nginx.conf"], cwd=server.directory, env=environment,
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_until(lambda: "it runs" in log.read_text(), "the settings file to run")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
        wait_until(lambda: server.processes() == {}, "all to be gone")
        assert re.search(r"^monoceros: Told to end \(TERM\) while .*/code/slow\.py was read, for \d", log.read_text(),
                         re.MULTILINE), log.read_text()


def test_everything_that_is_wrong_with_a_command_line_is_told_in_one_run(tmp_path):
    (tmp_path / "app.py").write_text("def application(e, s): pass\n")
    done = run(tmp_path, "check", "-w", "x", "-b", ":99999", "--user", "no-such-user", "--timeout", "abc", "app")
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        "error: -w: `x` is not a whole number",
        "error: --timeout: `abc` is not a time",
        "error: bind: `99999` is not a port",
        "error: user: there is no user `no-such-user`",
    ]
    # Something a settings file may put right is not guessed at.
    (tmp_path / "gunicorn.conf.py").write_text("bind = ':8000'\n")
    done = run(tmp_path, "check", "-w", "x", "--certfile", "cert.pem", "app")
    assert done.stderr.count("error:") == 1


@pytest.mark.parametrize("words, told, help", [
    (["chekc", "-c", "x.conf"], "there is no command `chekc`", "did you mean `check`?"),
    (["chekc", "app"], "there is no command `chekc`", "did you mean `check`?"),
    (["app", "-c", "x.conf"], "`app` does not go with an nginx.conf", "applications are named in the file itself"),
    (["-c", "nosuch.conf"], "nosuch.conf", "settings in Python are a file whose name ends in `.py`"),
])
def test_a_slip_in_what_comes_first_is_explained(tmp_path, words, told, help):
    done = run(tmp_path, *words)
    assert done.returncode in (1, 2)
    assert told in done.stderr and help in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_the_check_loads_the_application_as_the_user_who_would(tmp_path):
    server = Monoceros(tmp_path / "site", "def application(e, s): pass\n", "--user", "nobody", spec=["app"])
    server.directory.chmod(0o700)
    environment = {**server.env, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([server.argv[0], "check", *server.argv[1:]], cwd=server.directory, env=environment, text=True,
                          capture_output=True, timeout=30)
    assert done.returncode == 1, done.stdout
    assert f"in the directory {server.directory}, which the user nobody may not read)" in done.stderr
    # preload_app loads it before anybody becomes another user.
    done = subprocess.run([server.argv[0], "check", *server.argv[1:], "--preload"], cwd=server.directory,
                          env=environment, text=True, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_an_import_that_hangs_ends_with_a_check_that_is_killed(user):
    conf = f"user {user};\nevents {{}}\nhttp {{\n{CONF}\n}}"
    conf = conf.replace("%MORE%", "boot_timeout 300;").replace("%LOG%", "off").replace("%PYTHON%", sys.executable)
    app = "import sys, time\nsys.stderr.write('begun\\n')\nsys.stderr.flush()\ntime.sleep(1000)\n"
    # One that anybody may enter.
    with tempfile.TemporaryDirectory(prefix="monoceros-") as base:
        os.chmod(base, 0o755)
        server = Site(os.path.join(base, "site"), conf, files={"code/shop.py": app})
        check = subprocess.Popen([server.argv[0], "check", "-c", "nginx.conf"], cwd=server.directory, env=server.env,
                                 stderr=subprocess.PIPE, text=True)
        try:
            while (line := check.stderr.readline()) != "begun\n":
                assert line, "the check has ended"
            assert len(server.processes()) == 2
            owners = {os.stat(f"/proc/{pid}").st_uid for pid in server.processes() if pid != check.pid}
            assert owners == {pwd.getpwnam(user).pw_uid}
        finally:
            check.kill()
            check.wait()
            check.stderr.close()
        wait_until(lambda: server.processes() == {}, "the process that imports to end")


def gunicorns(tmp_path, *args, conf="", env=None, pass_fds=()):
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(conf)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **(env or {})}
    return subprocess.run([binary(), "check", "shop", "--python", sys.executable, *args], cwd=tmp_path, env=environment,
                          text=True, timeout=60, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=pass_fds)


def test_check_tells_of_a_descriptor_that_is_not_there(tmp_path):
    done = gunicorns(tmp_path, "-b", "fd://99")
    assert done.returncode == 1
    assert "error: fd://99 cannot be listened on: there is no such descriptor" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        assert gunicorns(tmp_path, "-b", f"fd://{number}", pass_fds=[number]).returncode == 0
        # The same number is one of the program's own when nobody has given it.
        assert gunicorns(tmp_path, "-b", f"fd://{number}").returncode == 1
    with open(tmp_path / "shop.py") as file:
        done = gunicorns(tmp_path, "-b", f"fd://{file.fileno()}", pass_fds=[file.fileno()])
    assert "it is no socket" in done.stderr


@pytest.mark.parametrize(("name", "value", "words"), [
    ("websocket_max_message_size", "5", "websocket_max_message_size changes nothing: ASGI is not there yet"),
    ("debug", "True", "`debug` changes nothing: it was a setting before gunicorn 19"),
    ("worker_tmp_dir", "'/nowhere'", "worker_tmp_dir: `/nowhere` is not a directory"),
    ("own_business", "5", None),
])
def test_a_setting_that_changes_nothing_is_told(tmp_path, name, value, words):
    done = gunicorns(tmp_path, conf=f"{name} = {value}\n")
    assert done.returncode == 0, done.stderr
    assert words is None and name not in done.stderr or words in done.stderr, done.stderr
