"""The cache: what is kept of servers' and applications' answers, for how long, and that nothing else is."""

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support import build, wait_until
from support.client import Broken
from support.upstream import Upstream, response

CONF = r"""
    proxy_cache_path %DIR%/cache levels=1:2 keys_zone=one:1m inactive=1h;
    log_format cache '$request_uri $upstream_cache_status';
    error_log %DIR%/error.log info;
    server {
        listen 127.0.0.1:%PORT%;
        access_log %DIR%/access.log cache;
        proxy_pass_header X-Accel-Expires;
        proxy_cache one;
        proxy_cache_valid 200 1h;
        proxy_read_timeout 1500ms;
        add_header X-Cache $upstream_cache_status always;

        location / { proxy_pass http://127.0.0.1:UP; }
        location /lock/ { proxy_pass http://127.0.0.1:UP; proxy_cache_lock on; }
        location /stale/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_use_stale error timeout updating http_500;
        }
        location /background/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_use_stale updating;
            proxy_cache_background_update on;
        }
        location /revalidate/ { proxy_pass http://127.0.0.1:UP; proxy_cache_revalidate on; }
        location /twice/ { proxy_pass http://127.0.0.1:UP; proxy_cache_min_uses 2; }
        location /choose/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_bypass $arg_fresh;
            proxy_no_cache $arg_keep_not;
            proxy_cache_key $uri;
        }
        location /purge/ { proxy_pass http://127.0.0.1:UP; proxy_cache_key $uri; }
        location /purge-now/ {
            rewrite ^/purge-now(/.*)$ $1 break;
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_key $uri;
            proxy_cache_purge 1;
        }
        location /key/ { proxy_pass http://127.0.0.1:UP; proxy_cache_key "$host|$http_x_part|$uri"; }
    }
"""


class Script:
    """Answers by the target; without one, with a number that counts requests."""

    def __init__(self):
        self.answers, self.count, self.lock = {}, 0, threading.Lock()

    def __call__(self, seen, connection):
        with self.lock:
            self.count += 1
            count = self.count
        answer = self.answers.get(seen.target)
        if callable(answer):
            return answer(seen, connection)
        if isinstance(answer, bytes):
            return answer
        return response(b"answer %d" % count, fields=answer or [])


class Place:
    def __init__(self, site, up, script):
        self.site, self.up, self.script = site, up, script
        self.get, self.request, self.connect = site.get, site.request, site.connect

    def says(self, target, answer):
        self.script.answers[target] = answer

    def asked(self, target):
        return sum(seen.target == target for seen in self.up.seen)


def shown(answer):
    return answer.get("X-Cache"), answer.text


@pytest.fixture(scope="module")
def place(serve_nginx_module):
    script = Script()
    with Upstream(script) as up:
        yield Place(serve_nginx_module(CONF.replace("UP", str(up.port))), up, script)


def test_the_second_is_answered_from_the_cache(place):
    first, second = place.get("/a"), place.get("/a")
    assert (first.get("X-Cache"), second.get("X-Cache")) == ("MISS", "HIT")
    assert first.text == second.text and place.asked("/a") == 1
    assert second.get("Content-Length") == str(len(second.text))
    assert place.get("/a?other").get("X-Cache") == "MISS"


@pytest.mark.parametrize("size", [0, 5, 20_000, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_bodies_of_all_sizes(place, size, framing):
    body, target = os.urandom(size), f"/size/{framing}/{size}"
    head = b"HTTP/1.1 200 OK\r\n"
    if framing == "length":
        answer = response(body)
    elif framing == "chunked":
        parts = [body[at:at + 70_000] for at in range(0, size, 70_000)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        answer = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    else:
        answer = head + b"Connection: close\r\n\r\n" + body
    place.says(target, answer)
    assert place.get(target).body == body
    wait_until(lambda: place.get(target).get("X-Cache") == "HIT", "it to be kept")
    again = place.get(target)
    assert (again.get("X-Cache"), again.body == body) == ("HIT", True)
    assert place.asked(target) <= 2


@pytest.mark.parametrize("name, fields", [
    ("cookie", [("Set-Cookie", "a=b")]),
    ("private", [("Cache-Control", "private")]),
    ("no-store", [("Cache-Control", "max-age=60, no-store")]),
    ("expired", [("Expires", "Thu, 01 Jan 1970 00:00:01 GMT")]),
    ("accel", [("X-Accel-Expires", "0")]),
    ("vary", [("Vary", "*")]),
    ("vary-list", [("Vary", "Accept, *")]),
    ("age", [("Cache-Control", "max-age=nonsense")]),
])
def test_what_must_not_be_kept_is_not(place, name, fields):
    place.says(f"/no/{name}", fields)
    assert place.get(f"/no/{name}").text != place.get(f"/no/{name}").text


def test_a_status_without_a_rule_is_not_kept(place):
    place.says("/no/status", response(b"x", status="404 Not Found"))
    assert [place.get("/no/status").get("X-Cache") for _ in range(2)] == ["MISS", "MISS"]


def test_post_is_passed_on(place):
    assert place.get("/post").get("X-Cache") == "MISS"
    answer = place.request("POST", "/post", body=b"x")
    assert (answer.status, answer.get("X-Cache")) == (200, None)


def test_authorization_is_nobody_elses(place):
    place.says("/mine", None)
    assert place.get("/mine", [("Authorization", "Basic YTpi")]).get("X-Cache") == "MISS"
    assert place.get("/mine").get("X-Cache") == "MISS"
    place.says("/ours", [("Cache-Control", "public, max-age=60")])
    place.get("/ours", [("Authorization", "Basic YTpi")])
    assert place.get("/ours").get("X-Cache") == "HIT"


def test_vary(place):
    place.says("/vary", [("Vary", "Accept-Language")])
    of = lambda language: shown(place.get("/vary", [("Accept-Language", language)]))  # noqa: E731
    (german, de), (english, en) = of("de"), of("en")
    assert (german, english) == ("MISS", "MISS") and de != en
    assert of("de") == ("HIT", de) and of("en") == ("HIT", en)
    assert of("fr")[0] == "MISS" and of("de") == ("HIT", de)


def test_it_holds_as_long_as_it_says(place):
    place.says("/short", [("Cache-Control", "max-age=1")])
    first = place.get("/short")
    assert place.get("/short").text == first.text
    wait_until(lambda: place.get("/short").text != first.text, "it to be fetched anew")
    log = place.site.directory / "access.log"
    wait_until(lambda: "/short EXPIRED" in log.read_text(), "the line of it")


def test_head_is_kept_as_get(place):
    place.says("/head", None)
    first = place.request("HEAD", "/head")
    assert (first.get("X-Cache"), first.body) == ("MISS", b"")
    second = place.get("/head")
    assert second.get("X-Cache") == "HIT" and len(second.text) == int(first.get("Content-Length"))
    third = place.request("HEAD", "/head")
    assert (third.get("X-Cache"), third.body, third.get("Content-Length")) == ("HIT", b"", str(len(second.text)))


@pytest.mark.parametrize("size", [1000, 200_000])
def test_ranges_and_conditions_of_what_is_kept(place, size):
    body, target = os.urandom(size), f"/ranges/{size}"
    place.says(target, response(body, fields=[("Accept-Ranges", "bytes"), ("ETag", '"e"')]))
    assert place.get(target, [("If-None-Match", '"other"')]).body == body
    wait_until(lambda: place.get(target).get("X-Cache") == "HIT", "it to be kept")
    part = place.get(target, [("Range", "bytes=10-19")])
    assert (part.status, part.body, part.get("X-Cache")) == (206, body[10:20], "HIT")
    assert part.get("Content-Range") == f"bytes 10-19/{size}"
    many = place.get(target, [("Range", "bytes=0-1,-2")])
    assert many.status == 206 and body[:2] in many.body and body[-2:] in many.body
    assert place.get(target, [("Range", f"bytes={size}-")]).status == 416
    assert place.get(target, [("If-None-Match", '"e"')]).status == 304
    assert all(seen.all("Range") == [] and seen.all("If-None-Match") == [] for seen in place.up.seen
               if seen.target == target)


def test_bypass_and_no_cache(place):
    first = place.get("/choose/a")
    assert place.get("/choose/a").text == first.text
    fresh = place.get("/choose/a?fresh=1")
    assert fresh.get("X-Cache") == "BYPASS" and fresh.text != first.text
    assert place.get("/choose/a").text == fresh.text
    assert place.get("/choose/b?keep_not=1").get("X-Cache") == "MISS"
    assert place.get("/choose/b").get("X-Cache") == "MISS"


def test_min_uses(place):
    assert [place.get("/twice/a").get("X-Cache") for _ in range(3)] == ["MISS", "MISS", "HIT"]


def test_one_request_for_fifty(place):
    def slow(seen, _):
        time.sleep(1)
        return response(b"x" * 5000)
    place.says("/lock/a", slow)
    answers = []

    def ask():
        answers.append(place.get("/lock/a", timeout=20))
    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.body for answer in answers] == [b"x" * 5000] * 50
    assert place.asked("/lock/a") == 1


def test_stale_when_the_server_fails(place):
    place.says("/stale/a", [("Cache-Control", "max-age=1")])
    first = place.get("/stale/a").text
    for answer in (lambda seen, connection: None, response(b"broken", status="500 Internal Server Error")):
        place.says("/stale/a", answer)
        wait_until(lambda: place.get("/stale/a").get("X-Cache") == "STALE", "it to be stale")
        assert place.get("/stale/a").text == first
    place.says("/stale/a", None)
    assert place.get("/stale/a").text != first


def test_stale_if_error_by_the_answers_own_word(place):
    place.says("/own-word", [("Cache-Control", "max-age=1, stale-if-error=100")])
    first = place.get("/own-word").text
    place.says("/own-word", lambda seen, connection: None)
    wait_until(lambda: place.get("/own-word").get("X-Cache") == "STALE", "it to be stale")
    assert place.get("/own-word").text == first


def test_it_is_fetched_in_the_background(place):
    place.says("/background/a", [("Cache-Control", "max-age=1")])
    first = place.get("/background/a").text
    wait_until(lambda: place.get("/background/a").get("X-Cache") in ("STALE", "UPDATING"), "it to be stale")
    wait_until(lambda: shown(place.get("/background/a"))[1] != first, "it to be new")


def test_it_is_asked_whether_it_is_still_the_same(place):
    fields = [("Cache-Control", "max-age=1"), ("ETag", '"one"'), ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")]

    def answer(seen, _):
        if seen.get("If-None-Match") == '"one"' and seen.get("If-Modified-Since") == fields[2][1]:
            return b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=100\r\n\r\n"
        return response(b"the body", fields=fields)
    place.says("/revalidate/a", answer)
    assert shown(place.get("/revalidate/a")) == ("MISS", "the body")
    wait_until(lambda: place.get("/revalidate/a").get("X-Cache") == "REVALIDATED", "it to be asked for")
    assert shown(place.get("/revalidate/a")) == ("HIT", "the body")


def test_purge(place):
    for name in ("a", "b", "c/1", "c/2"):
        place.get(f"/purge/{name}")
    assert place.get("/purge-now/purge/a").status == 204
    assert place.get("/purge-now/purge/a").status == 404
    assert [place.get(f"/purge/{name}").get("X-Cache") for name in ("a", "b")] == ["MISS", "HIT"]
    assert place.get("/purge-now/purge/c/*").status == 204
    states = [place.get(f"/purge/{name}").get("X-Cache") for name in ("a", "b", "c/1", "c/2")]
    assert states == ["HIT", "HIT", "MISS", "MISS"]


def test_purge_takes_all_forms(place):
    place.says("/purge/forms", [("Vary", "X-Form")])
    of = lambda form: place.get("/purge/forms", [("X-Form", form)])  # noqa: E731
    of("1"), of("2")
    assert (of("1").get("X-Cache"), of("2").get("X-Cache")) == ("HIT", "HIT")
    assert place.get("/purge-now/purge/forms").status == 204
    assert (of("1").get("X-Cache"), of("2").get("X-Cache")) == ("MISS", "MISS")


def test_what_is_cut_off_is_not_kept(place):
    whole = response(b"x" * 100_000)
    place.says("/cut", lambda seen, connection: connection.sendall(whole[:50_000]))
    for _ in range(2):
        with pytest.raises((Broken, ConnectionError)):
            place.get("/cut")
    place.says("/cut", whole)
    assert place.get("/cut").get("X-Cache") == "MISS"


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense",
])
def test_what_may_be_read_in_two_ways_is_not_kept(place, answer):
    target = f"/smuggled/{len(answer)}"
    place.says(target, answer)
    try:
        assert place.get(target).status == 502
    except (Broken, ConnectionError):
        pass
    place.says(target, None)
    assert place.get(target).get("X-Cache") == "MISS"


def test_what_follows_an_answer_is_not_kept(place):
    place.says("/behind", response(b"first") + response(b"second"))
    assert place.get("/behind").text == "first"
    assert shown(place.get("/behind")) == ("HIT", "first")


def test_a_key_has_no_ends_that_a_client_can_set(place):
    place.get("/key/x", [("X-Part", "a")])
    wanted = place.get("/key/x", [("X-Part", "a")])
    assert wanted.get("X-Cache") == "HIT"
    for part in ("a|/key/x", "a%0d%0a", "a\tb", ""):
        assert place.get("/key/x", [("X-Part", part)]).get("X-Cache") == "MISS", part


def test_who_leaves_does_not_keep_it_from_being_kept(place):
    def slow(seen, connection):
        connection.sendall(response(b"x" * 400_000)[:100_000])
        time.sleep(1)
        connection.sendall(response(b"x" * 400_000)[100_000:])
    place.says("/leaves", slow)
    with place.connect() as client:
        client.send(build("GET", "/leaves"))
        client.head()
    wait_until(lambda: place.get("/leaves").get("X-Cache") == "HIT", "it to be kept")


# What becomes of the files

RESTART = CONF.replace("access_log %DIR%/access.log cache;", "access_log off;")


@pytest.fixture
def own(serve_nginx):
    script = Script()
    with Upstream(script) as up:
        place = Place(serve_nginx(RESTART.replace("UP", str(up.port))), up, script)
        yield place


def files(place):
    return [path for path in (place.site.directory / "cache").rglob("*") if path.is_file()]


def blocks(path: Path) -> int:
    """Bytes that a file takes on disk; none once the cache has removed it."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def test_what_is_kept_survives_being_killed(own):
    own.says("/big", response(b"y" * 300_000))
    first, big = own.get("/a").text, own.get("/big").body
    wait_until(lambda: own.get("/big").get("X-Cache") == "HIT", "it to be kept")
    for pid in own.site.processes():
        os.kill(pid, signal.SIGKILL)
    own.site.process.wait()
    own.site.start()
    assert shown(own.get("/a")) == ("HIT", first)
    answer = own.get("/big")
    assert (answer.get("X-Cache"), answer.body == big) == ("HIT", True)


def test_a_reload_keeps_the_zone(own):
    first = own.get("/a").text
    before = own.site.log()
    own.site.signal(signal.SIGHUP)
    wait_until(lambda: own.site.log() != before or own.get("/a").status == 200, "the reload")
    for _ in range(20):
        assert shown(own.get("/a")) == ("HIT", first)
        time.sleep(0.02)


@pytest.mark.parametrize("size", [100, 300_000])
def test_a_damaged_file_is_not_served(own, size):
    own.says("/a", response(b"z" * size))
    own.get("/a")
    wait_until(lambda: own.get("/a").get("X-Cache") == "HIT", "it to be kept")
    [path] = files(own)
    data = path.read_bytes()
    for wrong in (data[:-10], data[:50], b"", data[:-1] + b"?", b"?" + data[1:], os.urandom(len(data))):
        path.write_bytes(wrong)
        answer = own.get("/a")
        assert (answer.get("X-Cache"), answer.body == b"z" * size) == ("MISS", True)
        wait_until(lambda: own.get("/a").get("X-Cache") == "HIT", "it to be kept again")


def test_a_file_that_was_removed_is_fetched_anew(own):
    own.get("/a")
    assert own.get("/a").get("X-Cache") == "HIT"
    shutil.rmtree(own.site.directory / "cache" / files(own)[0].parts[-3])
    assert own.get("/a").get("X-Cache") == "MISS"
    assert own.get("/a").get("X-Cache") == "HIT"


def test_a_file_under_anothers_name_is_not_served(own):
    own.get("/a"), own.get("/b")
    one, other = files(own)
    other.write_bytes(one.read_bytes())
    assert {own.get("/a").get("X-Cache"), own.get("/b").get("X-Cache")} == {"HIT", "MISS"}


def test_the_cache_stays_below_its_size(serve_nginx):
    script = Script()
    with Upstream(script) as up:
        conf = RESTART.replace("UP", str(up.port)).replace("inactive=1h", "inactive=1h max_size=200k")
        own = Place(serve_nginx(conf), up, script)
        for number in range(20):
            own.says(f"/{number}", response(b"x" * 30_000))
            assert own.get(f"/{number}").status == 200
        wait_until(lambda: sum(blocks(path) for path in files(own)) <= 200 * 1024, "room")
        assert own.get("/19").get("X-Cache") == "HIT"
        assert own.get("/0").get("X-Cache") == "MISS"


def test_what_nobody_asks_for_goes(serve_nginx):
    script = Script()
    with Upstream(script) as up:
        conf = RESTART.replace("UP", str(up.port)).replace("inactive=1h", "inactive=1s")
        own = Place(serve_nginx(conf), up, script)
        own.get("/a")
        wait_until(lambda: files(own) == [], "the file to go", 20)
        assert own.get("/a").get("X-Cache") == "MISS"


def test_a_full_disk_costs_nobody_an_answer(serve_nginx, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=1777", "tmpfs", str(small)],
                             capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    script = Script()
    try:
        with Upstream(script) as up:
            conf = RESTART.replace("UP", str(up.port)).replace("%DIR%/cache", f"{small}/cache")
            own = Place(serve_nginx(conf), up, script)
            body = os.urandom(3_000_000)
            own.says("/big", response(body))
            for _ in range(2):
                answer = own.get("/big")
                assert (answer.get("X-Cache"), answer.body == body) == ("MISS", True)
            assert shown(own.get("/small"))[0] == "MISS"
            assert shown(own.get("/small"))[0] == "HIT"
            assert "could not be kept" in own.site.log() + (own.site.directory / "error.log").read_text()
            own.site.stop()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


# Applications

APP_CONF = r"""
    app_cache_path %DIR%/cache keys_zone=apps:1m;
    app main { wsgi app:application; directory %DIR%; workers 2; }
    server {
        listen 127.0.0.1:%PORT%;
        app_cache apps;
        app_cache_valid 1h;
        app_cache_lock on;
        add_header X-Cache $upstream_cache_status always;
        location / { app_pass main; }
    }
"""
APP = """
    import os, time
    def application(environ, start_response):
        path = environ["PATH_INFO"]
        with open("runs", "a") as runs:
            runs.write(path + "\\n")
        if path == "/slow":
            time.sleep(0.7)
        fields = [("Content-Type", "text/plain")]
        if path == "/cookie":
            fields.append(("Set-Cookie", "a=b"))
        start_response("200 OK", fields)
        return [f"{path} {os.urandom(4).hex()}".encode()]
"""


@pytest.fixture
def app(serve_nginx):
    yield serve_nginx(APP_CONF, files={"app.py": APP})


def runs(app, path):
    return (app.directory / "runs").read_text().split().count(path)


def test_an_application_runs_once(app):
    first, second = app.get("/a"), app.get("/a")
    assert (first.get("X-Cache"), second.get("X-Cache")) == ("MISS", "HIT")
    assert first.text == second.text and runs(app, "/a") == 1
    part = app.get("/a", [("Range", "bytes=0-1")])
    assert (part.status, part.text) == (206, "/a")
    assert app.request("HEAD", "/a").get("X-Cache") == "HIT"


def test_an_applications_cookies_are_not_kept(app):
    assert [app.get("/cookie").get("X-Cache") for _ in range(2)] == ["MISS", "MISS"]


def test_an_application_runs_once_for_many(app):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(app.get("/slow", timeout=20).text)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 50 and len(set(answers)) == 1 and runs(app, "/slow") == 1
