"""One binary, any CPython: what is found, and that nothing has to be installed there."""

import glob
import json
import os
import shutil
import subprocess
import sys

import pytest

APP = """
import io, json, sys

def application(environ, start_response):
    body = environ["wsgi.input"].read(1 << 30)
    if environ["PATH_INFO"] == "/raise":
        raise ValueError("raised")
    text = json.dumps([sys.version_info[:2], sys.prefix, len(body)]).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([text[:5], text[5:]])
"""


def pythons():
    """Interpreters of this machine by version, 3.9 to 3.13: on the search path, and pyenv's."""
    found = {}
    named = [shutil.which(f"python3.{minor}") for minor in range(9, 14)]
    kept = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")))
    for candidate in [sys.executable, *kept, *filter(None, named)]:
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        out = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
        if out.returncode == 0:
            version = tuple(map(int, out.stdout.strip().split(".")))
            if (3, 9) <= version <= (3, 13):
                found.setdefault(out.stdout.strip(), candidate)
    return found


@pytest.mark.parametrize("options", [[], ["--threads", "3"], ["--preload"]])
@pytest.mark.parametrize("version", sorted(pythons()))
def test_each_version(serve, version, options):
    server = serve(APP, "--python", pythons()[version], *options, python=False)
    with server.connect() as client:
        for size in (0, 10, 100_000):
            seen = json.loads(client.request("POST", "/", body=b"x" * size).body)
            assert (".".join(map(str, seen[0])), seen[2]) == (version, size)
    assert server.get("/raise").status == 500
    assert server.get("/").status == 200


def test_active_virtual_environment_is_used(serve, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    before = sorted(path for path, _, _ in os.walk(tmp_path / "venv"))
    server = serve(APP, python=False, env={"VIRTUAL_ENV": str(tmp_path / "venv")})
    assert json.loads(server.get().body)[1] == str(tmp_path / "venv")
    server.stop()
    assert sorted(path for path, _, _ in os.walk(tmp_path / "venv")) == before, "nothing is installed there"


def test_missing_interpreter_is_named(serve):
    server = serve(APP, "--python", "/nonexistent/python", python=False, wait=False)
    assert server.exit_code() != 0
    assert "/nonexistent/python" in server.log()


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_an_import_that_fails_is_told_with_who_looked_and_where(serve, preload):
    server = serve("import not_installed\n", *preload, wait=False)
    assert server.exit_code() == (1 if preload else 3)
    version = sys.version.split()[0]
    assert f"(Python {version}, {sys.executable}, in the directory {server.directory})" in server.log()


def test_an_environment_that_has_lost_its_python_is_told(serve, tmp_path):
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to("/nowhere/python3.9")
    server = serve(APP, python=False, env={"VIRTUAL_ENV": str(tmp_path / "venv")}, wait=False)
    assert server.exit_code() == 1
    assert "venv/bin/python is a link to /nowhere/python3.9, which is not there" in server.log()
