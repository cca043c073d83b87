"""`proxy_store`: answers become files."""

import os
import stat
import time

import pytest
from support import build, wait_until
from support.upstream import Upstream, response

CONF = r"""
    error_log %DIR%/error.log info;
    server {
        listen 127.0.0.1:%PORT%;
        location / {
            root %DIR%/files;
            error_page 404 = @fetch;
            log_not_found off;
        }
        location @fetch {
            internal;
            root %DIR%/files;
            proxy_pass http://127.0.0.1:UP;
            proxy_store on;
            proxy_store_access user:rw group:rw all:r;
        }
        location /named/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_store %DIR%/other$uri;
        }
        location /nowhere/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_store /dev/null$uri;
        }
    }
"""


class Place:
    def __init__(self, site, up, answers):
        self.site, self.up, self.answers, self.get, self.request = site, up, answers, site.get, site.request

    def asked(self, target):
        return sum(seen.target == target for seen in self.up.seen)

    def file(self, name):
        return self.site.directory / name


@pytest.fixture(scope="module")
def place(serve_nginx_module):
    answers = {}

    def answer(seen, connection):
        found = answers.get(seen.target, response(b"hello"))
        return found(seen, connection) if callable(found) else found
    with Upstream(answer) as up:
        yield Place(serve_nginx_module(CONF.replace("UP", str(up.port))), up, answers)


@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
def test_an_answer_is_fetched_once_and_a_file_from_then_on(place, size):
    target, body = f"/a/b/{size}", os.urandom(size)
    place.answers[target] = response(body, fields=[("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")])
    assert place.get(target).body == body
    path = place.file("files" + target)
    wait_until(path.exists, "the file")
    assert path.read_bytes() == body
    looked = path.stat()
    assert (stat.S_IMODE(looked.st_mode), looked.st_mtime) == (0o664, 1_577_836_800)
    again = place.get(target)
    assert (again.body == body, again.get("Last-Modified")) == (True, "Wed, 01 Jan 2020 00:00:00 GMT")
    assert place.asked(target) == 1


def test_a_path_may_be_given(place):
    assert place.get("/named/x").text == "hello"
    path = place.file("other/named/x")
    wait_until(path.exists, "the file")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"hello", 0o600)


def test_what_is_no_whole_page_is_not_stored(place):
    place.answers["/named/missing"] = response(b"no", status="404 Not Found")
    place.answers["/named/cut"] = lambda seen, connection: connection.sendall(response(b"x" * 100_000)[:50_000])
    place.get("/named/missing")
    place.request("HEAD", "/named/head")
    place.request("POST", "/named/post", body=b"x")
    place.get("/named/directory/")
    with pytest.raises(Exception):
        place.get("/named/cut")
    time.sleep(0.3)
    place.get("/named/y")
    wait_until(place.file("other/named/y").exists, "the file")

    def names():
        return {path.name for path in place.file("other/named").rglob("*") if path.is_file()}

    # What is on its way has another name, and goes.
    wait_until(lambda: names() <= {"x", "y"}, f"no others than these: {names()}")


def test_a_path_does_not_lead_out(place):
    place.get("/named/%2e%2e/%2e%2e/climbed")
    place.get("/named/a%2f..%2f..%2f..%2fclimbed")
    with place.site.connect() as client:
        client.send(build("GET", "/named/../../climbed"))
        client.response()
    time.sleep(0.3)
    assert not list(place.site.directory.glob("climbed")) and not list(place.site.directory.parent.glob("climbed"))


def test_what_cannot_be_written_is_sent_all_the_same(place):
    assert place.get("/nowhere/x").text == "hello"
    wait_until(lambda: "could not be written" in place.file("error.log").read_text(), "the log to say so")
