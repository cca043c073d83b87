"""Configurations that nobody should ever write: one clear message each, and a running server is left alone."""

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from support import wait_until
from support.server import binary

SERVED = "server { listen 127.0.0.1:%PORT%; return 200 old; }"
# What a file may cost where there is nothing to tell about most of it. Far more than it does, on any machine.
SECONDS = 30


def http(body):
    return f"events {{}}\nhttp {{ server {{ listen 127.0.0.1:8080; {body} }} }}\n"


def tls(name):
    return http(f"listen 127.0.0.1:8081 ssl; ssl_certificate {name}; ssl_certificate_key {name};")


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(300 << 20)


# By a name: what the file holds (or what makes it), and the one message.
BAD = {
    "a file that includes itself": ("include nginx.conf;", r"include loop: .*/nginx\.conf \u2192 .*/nginx\.conf"),
    "an include loop by a pattern": ("include ngi*.conf;", r"include loop: .*/nginx\.conf \u2192 .*/nginx\.conf"),
    "an include of a directory": ("include %DIR%;", r'open\(\) ".*" failed \(21: Is a directory\)'),
    "an include that is not there": ("include none;", r'open\(\) ".*/none" failed \(2: No such file or directory\)'),
    "more than the limit": (sparse, "the configuration has more than 268435456 bytes, includes counted"),
    "fifty million directives": (b"x;" * (50 << 20), "the configuration has more than 24000000 words"),
    "blocks without end": ("a {" * 100_000, "blocks are nested more than 512 deep"),
    "a quote without end": ("events {}\nhttp '" + "x;\n" * 1000, 'unexpected end of file, expecting ";" or "}"'),
    "a word without end": ("a" * (10 << 20) + ";", 'too long parameter "aaaaaaaaaa..." started'),
    "a pattern that is too large": (http('location ~ "((a{100}){100}){100}" {}'), "regular expression is too large"),
    "a pattern that is too deep": (
        http(f"location ~ {'(' * 20_000}{')' * 20_000} {{}}"), "parentheses are too deeply nested",
    ),
    "nothing but zero bytes": (b"\0" * 100_000, 'unexpected end of file, expecting ";" or "}"'),
    "another kind of file": (bytes(range(256)) * 1000, "unknown directive"),
    "a certificate that is not there": (tls("none.pem"), r'cannot load certificate ".*/none.pem": No such file or directory'),
    "a directory as a certificate": (tls("%DIR%"), r'cannot load certificate ".*": Is a directory'),
    "something else as a certificate": (tls("nginx.conf"), 'cannot load certificate ".*": it holds no certificate'),
    "nothing": (b"", 'no "events" section in configuration'),
}
LARGE = ("more than the limit", "fifty million directives")


def write(path, contents, directory):
    if callable(contents):
        contents(path)
    elif isinstance(contents, bytes):
        path.write_bytes(contents)
    else:
        path.write_text(contents.replace("%DIR%", str(directory)))


def check(path):
    begun = time.monotonic()
    run = subprocess.run([binary(), "check", "-c", path], capture_output=True, text=True, errors="replace",
                         timeout=60, check=False)
    assert time.monotonic() - begun < SECONDS
    return run


@pytest.mark.parametrize("name", BAD)
def test_a_bad_configuration_is_one_message(tmp_path, name):
    contents, message = BAD[name]
    path = tmp_path / "nginx.conf"
    write(path, contents, tmp_path)
    run = check(path)
    assert run.returncode == 1, run.stdout
    assert re.search(f"^error: .*{message}", run.stderr, re.MULTILINE), run.stderr[:2000]
    # Whatever is wrong with a file of megabytes, a terminal shows what is told of it.
    assert len(run.stderr) < 200_000


def test_a_directory_is_no_configuration(tmp_path):
    run = check(tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith(f'error: open() "{tmp_path}" failed (21: Is a directory)')


def test_a_certificate_that_may_not_be_read():
    root = os.geteuid() == 0
    # Root may read everything. Where pytest keeps its directories nobody else comes.
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if root else {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "own.pem").write_bytes(b"")
        (directory / "own.pem").chmod(0)
        (directory / "nginx.conf").write_text(tls("own.pem"))
        try:
            run = subprocess.run([binary(), "check", "-c", directory / "nginx.conf"], capture_output=True, text=True,
                                 check=False, cwd="/", **nobody)
        except PermissionError:
            pytest.skip("the program is where nobody else may run it")
    assert run.returncode == 1
    assert f'error: cannot load certificate "{directory}/own.pem": Permission denied' in run.stderr


def test_no_configuration(tmp_path):
    run = check(tmp_path / "nginx.conf")
    assert run.returncode == 1
    assert re.match(r'error: open\(\) ".*" failed \(2: No such file or directory\)', run.stderr)


@pytest.mark.parametrize("name", [name for name in BAD if name not in LARGE])
def test_a_bad_configuration_leaves_the_running_server_alone(serve_nginx, name):
    contents, message = BAD[name]
    server = serve_nginx(SERVED)
    edge = server.edge()
    write(server.directory / "nginx.conf", contents, server.directory)
    server.signal(signal.SIGHUP)
    server.wait_log(rf"\[emerg\] .*{message}")
    assert (server.get().text, server.edge()) == ("old", edge)
    server.configure(SERVED.replace("old", "new"))
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.get().text == "new", "the next configuration")


def test_a_hundred_megabytes_are_read(tmp_path):
    path = tmp_path / "nginx.conf"
    with open(path, "w") as file:
        file.write("events {}\nhttp {\n")
        file.write(f"# {'x' * 97}\n" * 900_000)
        file.write("map $host $site {\n")
        file.writelines(f"    host{n:07}.example.com value{n};\n" for n in range(300_000))
        file.write("}\nserver { listen 127.0.0.1:8080; }\n}\n")
    run = check(path)
    assert (run.returncode, run.stderr) == (0, "")


def test_many_mistakes_are_counted_and_not_all_told(tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_text("events {}\nhttp {\n" + "server { sever_name x; }\n" * 20_000 + "}\n")
    run = check(path)
    assert run.returncode == 1
    assert run.stderr.count("did you mean `server_name`?") == 100
    assert run.stderr.rstrip().endswith("error: 19900 more errors are not shown")


def test_many_warnings_are_counted_and_not_all_told(tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_text("events {}\nhttp {\n" + "server { listen 127.0.0.1:8080; server_name x; }\n" * 10_000 + "}\n")
    run = check(path)
    assert run.returncode == 0
    assert run.stderr.count('conflicting server name "x"') == 500
    assert run.stderr.rstrip().endswith("warning: 9499 more warnings are not shown")


def test_every_server_may_have_an_error_log_of_its_own(tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_text("events {}\nhttp {\n" + "".join(
        f"server {{ listen 127.0.0.1:8080; server_name s{n}; error_log {tmp_path}/{n}.log; }}\n" for n in range(20_000)
    ) + "}\n")
    run = check(path)
    assert (run.returncode, run.stderr) == (0, "")
