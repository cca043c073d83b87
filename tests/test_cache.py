"""The cache: what is kept of servers' and applications' answers, for how long, and that nothing else is."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest
from support import build, wait_until
from support.client import Broken, Client
from support.upstream import Upstream, response

CONF = r"""
    proxy_cache_path %DIR%/cache levels=1:2 keys_zone=one:1m inactive=1h;
    log_format cache '$request_uri $upstream_cache_status';
    error_log %DIR%/error.log info;
    map $request_body $letter { default none; "~^(?<first>[xyz])" $first; }
    server {
        listen 127.0.0.1:%PORT%;
        access_log %DIR%/access.log cache;
        proxy_pass_header X-Accel-Expires;
        proxy_cache one;
        proxy_cache_valid 200 1h;
        proxy_read_timeout 15s;
        add_header X-Cache $upstream_cache_status always;

        location / { proxy_pass http://127.0.0.1:UP; }
        location = /status { upstream_status; }
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
        location ~ ^/pattern/(?<name>[a-z]+)/(.+)$ {
            proxy_pass http://127.0.0.1:UP/$2/of/$name;
            proxy_cache_use_stale updating;
            proxy_cache_background_update on;
        }
        location ~ ^/pattern-slice/(.+)$ {
            slice 100k;
            proxy_set_header Range $slice_range;
            proxy_pass http://127.0.0.1:UP/$1/in/parts;
            proxy_cache_key $uri$slice_range;
            proxy_cache_valid 200 206 1h;
        }
        location /revalidate/ { proxy_pass http://127.0.0.1:UP; proxy_cache_revalidate on; }
        location /theirs/ { proxy_pass http://127.0.0.1:UP; proxy_set_header Authorization $http_authorization; }
        location /token/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_set_header Authorization "Bearer $cookie_token";
        }
        location /keyed/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_set_header Authorization "Bearer $cookie_token";
            proxy_cache_key $uri$cookie_token;
        }
        location /edges/ {
            set $password "ZWRnZTp4";
            proxy_pass http://127.0.0.1:UP;
            proxy_set_header Authorization "Basic $password";
        }
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
        location /tagged/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_key $uri;
            proxy_cache_lock on;
            proxy_buffer_size 64k;
            proxy_buffers 4 64k;
        }
        location /own-host/ { proxy_pass http://127.0.0.1:UP; proxy_set_header Host $host; }
        location /by-uri/ { proxy_pass http://127.0.0.1:UP; proxy_cache_key $uri; proxy_cache_lock on; }
        location /by-uri/set/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_set_header X-Forwarded-Host ours;
            proxy_set_header X-Original-URL "";
        }
        location /by-body/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_key $uri$request_body;
            proxy_cache_methods POST;
            proxy_cache_use_stale updating;
            proxy_cache_background_update on;
            client_body_buffer_size 8k;
        }
        location /by-body/streamed/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_key $uri$request_body;
            proxy_cache_methods POST;
            proxy_request_buffering off;
        }
        location /by-map/ {
            if ($letter = q) { return 400; }
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_key $uri$letter;
            proxy_cache_methods POST;
            client_body_buffer_size 8k;
        }
        location /by-length/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_methods POST;
            proxy_cache_key $uri:$content_length;
            proxy_cache_bypass $arg_fresh$content_length;
            add_header X-Cache $upstream_cache_status:$content_length always;
        }
        location /by-length/key/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_methods POST;
            proxy_cache_key $uri:$content_length;
            add_header X-Cache $upstream_cache_status:$content_length always;
        }
        location /by-map/in-file/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_key $uri$letter;
            proxy_cache_methods POST;
            client_body_in_file_only clean;
        }
        location /heads/ { proxy_pass http://127.0.0.1:UP; proxy_cache_convert_head off; }
        location /any/ {
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_valid any 1h;
            proxy_set_header Range $http_range;
            proxy_set_header If-None-Match $http_if_none_match;
        }
        location /slice/ {
            slice 100k;
            proxy_set_header Range $slice_range;
            proxy_pass http://127.0.0.1:UP;
            proxy_cache_key $uri$slice_range;
            proxy_cache_valid 200 206 1h;
        }
        location /slice/uncached/ {
            slice 100k;
            proxy_cache off;
            proxy_set_header Range $slice_range;
            proxy_pass http://127.0.0.1:UP;
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


def test_what_became_of_requests_is_counted(place):
    def counts():
        found = json.loads(place.get("/status?format=json").text)["caches"]["one"]
        return [found["requests"][name] for name in ("hit", "miss", "bypass")], found

    (hits, misses, bypasses), _ = counts()
    for target in ("/counted", "/counted", "/choose/?fresh=1", "/counted"):
        place.get(target)
    after, found = counts()
    assert after == [hits + 2, misses + 1, bypasses + 1]
    assert found["keys"] > 0 and found["size"] > 0
    text = place.get("/status?format=prometheus").text
    assert f'monoceros_cache_requests_total{{cache="one",status="hit"}} {hits + 2}\n' in text
    assert all(line.startswith("#") or line.split(" ")[1].replace(".", "").isdigit() for line in text.splitlines())


def test_head_of_what_is_empty_has_its_length(place):
    place.says("/empty", response(b""))
    answers = [place.request("HEAD", "/empty"), place.get("/empty"), place.request("HEAD", "/empty")]
    assert [answer.get("X-Cache") for answer in answers] == ["MISS", "HIT", "HIT"]
    assert [answer.get("Content-Length") for answer in answers] == ["0"] * 3


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
    # It has its name in the cache before the client has its last byte.
    again = place.get(target)
    assert (again.get("X-Cache"), again.body == body) == ("HIT", True)
    assert place.asked(target) == 1


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


@pytest.mark.parametrize("path", ["/theirs/a", "/token/a"])
def test_authorization_that_is_made_of_what_a_client_sends_is_nobody_elses(place, path):
    place.says(path, None)
    claims = [("Authorization", "Basic YTpi"), ("Cookie", "token=a")]
    assert place.get(path, claims).get("X-Cache") == "MISS"
    assert place.get(path).get("X-Cache") == "MISS"
    assert place.get(path).get("X-Cache") == "HIT", "who sends none shares it"
    assert place.get(path, claims).get("X-Cache") == "HIT", "what everybody may have"


def test_authorization_of_which_the_key_knows_tells_pages_apart(place):
    place.says("/keyed/a", None)
    of = lambda token: shown(place.get("/keyed/a", [("Cookie", f"token={token}")]))  # noqa: E731
    (first, a), (second, b) = of("a"), of("b")
    assert (first, second) == ("MISS", "MISS") and a != b
    assert of("a") == ("HIT", a) and of("b") == ("HIT", b)


def test_authorization_of_the_edges_own_is_no_secret(place):
    place.says("/edges/a", None)
    assert place.get("/edges/a", [("Authorization", "Basic YTpi")]).get("X-Cache") == "MISS"
    assert place.get("/edges/a").get("X-Cache") == "HIT"


def test_vary(place):
    place.says("/vary", [("Vary", "Accept-Language")])
    of = lambda language: shown(place.get("/vary", [("Accept-Language", language)]))  # noqa: E731
    (german, de), (english, en) = of("de"), of("en")
    assert (german, english) == ("MISS", "MISS") and de != en
    assert of("de") == ("HIT", de) and of("en") == ("HIT", en)
    assert of("fr")[0] == "MISS" and of("de") == ("HIT", de)


def test_it_holds_as_long_as_it_says(place):
    place.says("/short", [("Cache-Control", "max-age=1")])
    begun = time.time()
    first = place.get("/short")
    second = place.get("/short")
    # Its second is one of the clock, and over sooner than the machine may come to ask again.
    assert second.text == first.text or int(time.time()) > int(begun)
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


def test_what_a_pattern_matched_is_known_in_the_background(place):
    """What was fetched there had no captures, so it was something else that was asked for."""
    place.says("/x/of/some", [("Cache-Control", "max-age=1")])
    first = place.get("/pattern/some/x").text
    wait_until(lambda: place.get("/pattern/some/x").get("X-Cache") in ("STALE", "UPDATING"), "it to be stale")
    wait_until(lambda: shown(place.get("/pattern/some/x"))[1] != first, "it to be new")
    assert {seen.target for seen in place.up.seen if "of" in seen.target} == {"/x/of/some"}


def test_what_a_pattern_matched_is_known_to_each_part(place):
    body = os.urandom(SIZE)
    place.says("/a/in/parts", ranged(body))
    assert place.get("/pattern-slice/a").body == body


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


def test_purge_takes_forms_whose_first_is_gone(own):
    own.says("/purge/lost", [("Vary", "X-Form")])
    of = lambda form: own.get("/purge/lost", [("X-Form", form)])  # noqa: E731
    of("1"), of("2"), of("3")
    assert [of(form).get("X-Cache") for form in "123"] == ["HIT"] * 3
    # The file of the form that came first says which forms there are.
    [first] = [path for path in files(own) if b"/purge/lost" in path.read_bytes() and path.name == md5("/purge/lost")]
    first.unlink()
    assert own.get("/purge-now/purge/lost").status == 204
    own.says("/purge/lost", [("Vary", "X-Form"), ("X-New", "yes")])
    assert [of(form).get("X-Cache") for form in "123"] == ["MISS"] * 3


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def test_purge_by_tag(place):
    for name, fields in (("a", [("Cache-Tag", "shop,item-1")]), ("b", [("Surrogate-Key", "shop item-2")]), ("c", None),
                         ("d", [("Cache-Tag", "item-1"), ("Cache-Tag", "other"), ("Vary", "X-Form")])):
        place.says(f"/tagged/{name}", fields)
        assert [place.get(f"/tagged/{name}").get("X-Cache") for _ in range(2)] == ["MISS", "HIT"]
    names = "abcd"
    states = lambda: "".join(place.get(f"/tagged/{name}").get("X-Cache")[0] for name in names)  # noqa: E731
    purge = lambda name, value: place.get("/purge-now/x", [(name, value)]).status  # noqa: E731
    assert purge("Cache-Tag", "item") == 404
    assert states() == "HHHH"
    assert purge("Surrogate-Key", "item-1") == 204
    assert states() == "MHHM"
    assert purge("Cache-Tag", "nothing, item-2") == 204
    assert states() == "HMHH"
    assert purge("Cache-Tag", "shop") == 204
    assert states() == "MMHH"


def test_tags_are_known_after_a_restart(own):
    own.says("/tagged/a", [("Cache-Tag", "one")])
    own.says("/tagged/b", [("Cache-Tag", "two")])
    own.get("/tagged/a"), own.get("/tagged/b")
    own.site.stop()
    own.site.start()
    assert own.get("/purge-now/x", [("Cache-Tag", "one")]).status == 204
    assert [own.get(f"/tagged/{name}").get("X-Cache") for name in "ab"] == ["MISS", "HIT"]


def test_what_a_crash_left_half_written_goes_though_it_is_started_again_at_once(own):
    """It was looked at once, and what was younger than a minute stayed for ever, beside `max_size`."""
    own.get("/purge/half")
    [whole] = [path for path in files(own) if path.name == md5("/purge/half")]
    half, others = (whole.with_name(f"{whole.name}.{name}") for name in ("4294967295.1", f"{os.getpid()}.1"))
    own.site.stop()
    for path in (half, others):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - 54,) * 2)
    own.site.start()
    wait_until(lambda: not half.exists(), "it to go", 20)
    assert others.exists(), "its writer is still there"


def test_what_is_fetched_while_it_is_purged_is_not_kept(place):
    begun, purged = threading.Event(), threading.Event()

    def slow(seen, _):
        begun.set()
        assert purged.wait(20)
        return response(b"old", fields=[("Cache-Tag", "late")])
    place.says("/tagged/late", slow)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(place.get("/tagged/late", timeout=20)))
    thread.start()
    assert begun.wait(20)
    assert place.get("/purge-now/x", [("Cache-Tag", "late")]).status == 404
    purged.set()
    thread.join()
    assert answers[0].text == "old"
    place.says("/tagged/late", response(b"new", fields=[("Cache-Tag", "late")]))
    assert shown(place.get("/tagged/late")) == ("MISS", "new")
    assert shown(place.get("/tagged/late")) == ("HIT", "new")


def test_an_answer_with_more_tags_than_fit_is_not_kept(place):
    place.says("/tagged/many", [("Cache-Tag", ",".join(f"tag-{n:05}" for n in range(600)))] * 3)
    assert [place.get("/tagged/many").status for _ in range(2)] == [200] * 2
    assert place.asked("/tagged/many") == 2


# What a client can do to others

@pytest.mark.parametrize("field", [
    ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "http"), ("X-Original-URL", "/admin"),
    ("X-Rewrite-Url", "/admin"), ("X-HTTP-Method-Override", "DELETE"), ("Forwarded", "for=1.2.3.4;host=evil"),
    ("x-forwarded-prefix", "//evil"), ("X-Forwarded-Port", "1"), ("X-Host", "evil"),
])
def test_a_field_that_no_key_names_poisons_nobody(place, field):
    target = f"/by-uri/{field[0]}"
    place.says(target, lambda seen, _: response(b"for " + (seen.get(field[0]) or "all").encode()))
    assert shown(place.get(target, [field])) == ("MISS", f"for {field[1]}")
    assert shown(place.get(target)) == ("MISS", "for all")
    assert shown(place.get(target)) == ("HIT", "for all")
    # Where it stands in each request, it costs nothing.
    assert shown(place.get(target, [field])) == ("HIT", f"for {field[1]}")
    assert shown(place.get(target, [(field[0], field[1] + "2")]))[0] == "MISS"


def test_what_is_not_passed_on_tells_nobody_apart(place):
    place.get("/by-uri/set/a", [("X-Forwarded-Host", "a"), ("X-Original-URL", "b"), ("Forwarded", "for=1.2.3.4")])
    assert place.get("/by-uri/set/a").get("X-Cache") == "HIT"


def test_purge_takes_what_such_fields_told_apart(own):
    for fields in ([], [("X-Forwarded-Host", "a")], [("X-Forwarded-Host", "b")]):
        own.get("/purge/apart", fields)
    assert own.get("/purge-now/purge/apart").status == 204
    for fields in ([], [("X-Forwarded-Host", "a")], [("X-Forwarded-Host", "b")]):
        assert own.get("/purge/apart", fields).get("X-Cache") == "MISS"


def test_a_host_that_is_passed_on_is_part_of_the_key(place):
    place.says("/own-host/a", lambda seen, _: response(seen.get("Host").encode()))
    of = lambda host: shown(place.get("/own-host/a", [("Host", host)]))  # noqa: E731
    assert of("one.example") == ("MISS", "one.example")
    assert of("two.example") == ("MISS", "two.example")
    assert of("one.example") == ("HIT", "one.example")


def test_the_body_of_a_get_poisons_nobody(place):
    place.says("/by-uri/body", lambda seen, _: response(b"body " + seen.body))
    for body in (b"x", b"y"):
        assert shown(place.request("GET", "/by-uri/body", body=body)) == (None, f"body {body.decode()}")
    assert shown(place.get("/by-uri/body")) == ("MISS", "body ")
    assert shown(place.get("/by-uri/body")) == ("HIT", "body ")
    assert shown(place.request("GET", "/by-uri/body", body=b"z")) == (None, "body z")


@pytest.mark.parametrize("where", ["/by-body/key", "/by-body/streamed/key"])
def test_a_body_in_the_key_tells_answers_apart(place, where):
    # The key was made before the body was there: all bodies had the first one's answer.
    place.says(where, lambda seen, _: response(b"body " + seen.body))
    for cache in ("MISS", "HIT"):
        for body in (b"x", b"y"):
            assert shown(place.request("POST", where, body=body)) == (cache, f"body {body.decode()}")
    assert shown(place.get(where)) == ("MISS", "body ")


def test_a_body_that_is_no_part_of_the_key_is_not_kept(place):
    place.says("/by-body/large", lambda seen, _: response(seen.body[:1]))
    for letter in (b"x", b"y", b"x"):
        assert shown(place.request("POST", "/by-body/large", body=letter * 20_000)) == (None, letter.decode())


def test_what_a_map_makes_of_a_body_tells_answers_apart(place):
    # What `if` had asked for before the body was there stayed, and was the key of all bodies.
    place.says("/by-map/key", lambda seen, _: response(b"body " + seen.body))
    for cache in ("MISS", "HIT"):
        for body in (b"x", b"y"):
            assert shown(place.request("POST", "/by-map/key", body=body)) == (cache, f"body {body.decode()}")


@pytest.mark.parametrize(("where", "size"), [("/by-map/large", 20_000), ("/by-map/in-file/small", 1)])
def test_a_body_in_a_file_that_a_map_does_not_see_is_not_kept(place, where, size):
    place.says(where, lambda seen, _: response(seen.body[:1]))
    for letter in (b"x", b"y", b"x"):
        assert shown(place.request("POST", where, body=letter * size)) == (None, letter.decode())


def test_a_body_in_chunks_has_a_length_when_the_cache_is_asked(place):
    def ask(where, body):
        with place.connect() as client:
            chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            client.send(build("POST", where, {"Transfer-Encoding": "chunked"}) + chunks)
            return client.response().get("X-Cache")

    for body in (b"hello", b"hello world"):
        for _ in range(2):
            assert ask("/by-length/any", body) == f"BYPASS:{len(body)}"
        assert ask("/by-length/key/any", body) == f"MISS:{len(body)}"
        assert ask("/by-length/key/any", body) == f"HIT:{len(body)}"
        assert place.request("POST", "/by-length/key/any", body=body).get("X-Cache") == f"HIT:{len(body)}"
    assert place.get("/by-length/any").get("X-Cache") == "MISS:"


def test_what_has_a_body_is_not_fetched_without_it(place):
    fields = [("Cache-Control", "max-age=1")]
    place.says("/by-body/stale", lambda seen, _: response(b"body " + seen.body, fields=fields))
    assert shown(place.request("POST", "/by-body/stale", body=b"x")) == ("MISS", "body x")
    time.sleep(2.1)
    assert shown(place.request("POST", "/by-body/stale", body=b"x")) == ("EXPIRED", "body x")
    assert shown(place.request("POST", "/by-body/stale", body=b"x")) == ("HIT", "body x")


def test_what_head_has_brought_is_no_answer_to_get(place):
    begin = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"
    place.says("/heads/a", lambda seen, _: begin if seen.method == "HEAD" else begin + b"the body")
    head = place.request("HEAD", "/heads/a")
    assert (head.status, head.get("Content-Length"), head.body) == (200, "8", b"")
    assert shown(place.get("/heads/a")) == ("MISS", "the body")
    assert shown(place.get("/heads/a")) == ("HIT", "the body")
    assert place.request("HEAD", "/heads/a").get("X-Cache") == "HIT"


def test_answers_to_ranges_and_conditions_are_not_for_all(place):
    place.says("/any/range", lambda seen, _: response(
        b"x", status="206 Partial Content", fields=[("Content-Range", "bytes 0-0/9")]) if seen.get("Range")
        else response(b"all of it"))
    assert place.get("/any/range", [("Range", "bytes=0-0")]).body == b"x"
    assert shown(place.get("/any/range")) == ("MISS", "all of it")
    place.says("/any/same", lambda seen, _: b"HTTP/1.1 304 Not Modified\r\n\r\n" if seen.get("If-None-Match")
               else response(b"all of it"))
    assert place.get("/any/same", [("If-None-Match", '"a"')]).status == 304
    assert shown(place.get("/any/same")) == ("MISS", "all of it")
    place.says("/any/beyond", lambda seen, _: response(b"x", status="416 Range Not Satisfiable") if seen.get("Range")
               else response(b"all of it"))
    assert place.get("/any/beyond", [("Range", "bytes=99-")]).status == 416
    assert shown(place.get("/any/beyond")) == ("MISS", "all of it")


def test_who_waits_for_what_is_not_kept_does_not_wait_in_line(place):
    def slow(seen, _):
        time.sleep(0.5)
        return response(b"mine", fields=[("Set-Cookie", "a=b")])
    place.says("/by-uri/private", slow)
    place.get("/by-uri/private")
    begun = time.monotonic()
    threads = [threading.Thread(target=place.get, args=("/by-uri/private",), kwargs={"timeout": 30}) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One after the other took ten seconds.
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("size", [1000, 6000])
def test_a_long_key_is_a_key(place, size):
    target = "/by-uri/" + "k" * size
    first = place.get(target)
    assert (first.status, first.get("X-Cache")) == (200, "MISS")
    assert place.get(target).get("X-Cache") == "HIT"
    assert place.get(target + "k").get("X-Cache") == "MISS"


def test_many_forms_of_one_answer_stay_bounded(serve_nginx):
    script = Script()
    with Upstream(script) as up:
        conf = RESTART.replace("UP", str(up.port)).replace("keys_zone=one:1m", "keys_zone=one:8k")
        own = Place(serve_nginx(conf), up, script)
        own.says("/vary", [("Vary", "Accept-Language")])
        for number in range(300):
            answer = own.get("/vary", [("Accept-Language", str(number))])
            assert answer.status == 200
        # A client may have an answer whole before its file has its name.
        wait_until(lambda: any(text.endswith(answer.body) for text in texts(own)), "the last form's file")
        wait_until(lambda: len(files(own)) <= 64, "the others' files to go")
        assert own.get("/vary", [("Accept-Language", "299")]).get("X-Cache") == "HIT"


# Parts of large answers

def ranged(body, etag='"e"', status="206 Partial Content"):
    def answer(seen, _):
        unit, _, span = (seen.get("Range") or "").partition("=")
        if unit != "bytes":
            return response(body, fields=[("ETag", etag)])
        start, end = (int(part) for part in span.split("-"))
        part = body[start:end + 1]
        told = f"bytes {start}-{start + len(part) - 1}/{len(body)}"
        return response(part, status=status, fields=[("Content-Range", told), ("ETag", etag)])
    return answer


def parts(place, target):
    return [seen.get("Range") for seen in place.up.seen if seen.target == target]


SIZE = 1_000_001
PART = 100 * 1024


@pytest.mark.parametrize("where", ["slice", "slice/uncached"])
def test_a_large_answer_comes_in_parts(place, where):
    target, body = f"/{where}/whole", os.urandom(SIZE)
    place.says(target, ranged(body))
    answer = place.get(target)
    assert (answer.status, answer.body == body, answer.get("Content-Length")) == (200, True, str(SIZE))
    assert answer.get("Content-Range") is None and answer.get("Accept-Ranges") == "bytes"
    wanted = [f"bytes={start}-{start + PART - 1}" for start in range(0, SIZE, PART)]
    assert parts(place, target) == wanted
    again = place.get(target)
    assert again.body == body and len(parts(place, target)) == len(wanted) * (1 if where == "slice" else 2)


@pytest.mark.parametrize("where", ["slice", "slice/uncached"])
@pytest.mark.parametrize("span, start, end, asked", [
    ("bytes=250000-250009", 250_000, 250_010, [2]),
    ("bytes=204800-307199", 204_800, 307_200, [2]),
    ("bytes=204799-204800", 204_799, 204_801, [1, 2]),
    ("bytes=950000-", 950_000, SIZE, [9]),
    ("bytes=-5", SIZE - 5, SIZE, [0, 9]),
    ("bytes=0-0", 0, 1, [0]),
])
def test_a_range_needs_only_its_parts(place, where, span, start, end, asked):
    target, body = f"/{where}/{span[6:]}", os.urandom(SIZE)
    place.says(target, ranged(body))
    for times in (1, 2):
        answer = place.get(target, [("Range", span)])
        assert (answer.status, answer.body == body[start:end]) == (206, True)
        assert answer.get("Content-Range") == f"bytes {start}-{end - 1}/{SIZE}"
    numbers = [int(part[6:].split("-")[0]) // PART for part in parts(place, target)]
    assert numbers == (asked if where == "slice" else asked * 2)


def test_of_parts_conditions_and_heads_are_those_of_the_whole(place):
    target, body = "/slice/conditions", os.urandom(SIZE)
    place.says(target, ranged(body))
    assert place.get(target, [("If-None-Match", '"e"')]).status == 304
    assert place.get(target, [("If-Match", '"other"')]).status == 412
    assert place.get(target, [("Range", f"bytes={SIZE}-")]).status == 416
    head = place.request("HEAD", target)
    assert (head.status, head.get("Content-Length"), head.body) == (200, str(SIZE), b"")
    many = place.get(target, [("Range", "bytes=0-1,5-6")])
    assert (many.status, many.body == body) == (200, True)
    part = place.get(target, [("Range", "bytes=5-6"), ("If-Range", '"other"')])
    assert (part.status, part.body == body) == (200, True)


def test_who_knows_no_ranges_is_taken_as_a_whole(place):
    place.says("/slice/none", response(b"x" * SIZE))
    assert place.get("/slice/none").body == b"x" * SIZE
    place.says("/slice/missing", response(b"no", status="404 Not Found"))
    assert place.get("/slice/missing").status == 404


def test_parts_that_do_not_belong_together_are_no_whole(place):
    body = os.urandom(SIZE)

    def changes(seen, connection):
        return ranged(body, '"one"' if seen.get("Range").startswith("bytes=0-") else '"two"')(seen, connection)

    def shrinks(seen, connection):
        return ranged(body if seen.get("Range").startswith("bytes=0-") else body[:-1])(seen, connection)

    def fails(seen, connection):
        if seen.get("Range").startswith("bytes=0-"):
            return ranged(body)(seen, connection)
        return response(b"x", status="500 Internal Server Error")

    for name, answer in (("changes", changes), ("shrinks", shrinks), ("fails", fails)):
        place.says(f"/slice/{name}", answer)
        with pytest.raises((Broken, ConnectionError)):
            place.get(f"/slice/{name}")
    # What is no part at all is not even begun.
    for number, told in enumerate(["bytes 1-102400/999999", "bytes 0-1/*", "bytes", "bytes 0-102399/x"]):
        fields = [("Content-Range", told)]
        place.says(f"/slice/no/{number}", response(b"x" * PART, status="206 Partial Content", fields=fields))
        with pytest.raises((Broken, ConnectionError, EOFError)):
            place.get(f"/slice/no/{number}")


def test_a_part_is_not_asked_for_before_it_is_wanted(place):
    target, body = "/slice/slowly", os.urandom(40_000_000)
    place.says(target, ranged(body))
    with place.connect() as client:
        client.send(build("GET", target))
        client.head()
        wait_until(lambda: len(parts(place, target)) > 3, "some parts to be asked for")
        time.sleep(0.5)
        assert len(parts(place, target)) < 300

    def rests():
        asked = len(parts(place, target))
        time.sleep(0.3)
        return len(parts(place, target)) == asked

    wait_until(rests, "the client to be missed")
    # Of four hundred.
    assert len(parts(place, target)) < 300


@pytest.mark.parametrize("span, start, end", [("bytes=0-9", 0, 10), ("bytes=150000-160000", 150_000, 160_001),
                                              ("bytes=-10", 299_990, 300_000)])
def test_a_range_of_what_is_only_coming(place, span, start, end):
    body, target = os.urandom(300_000), f"/coming/{start}"
    place.says(target, response(body, fields=[("Accept-Ranges", "bytes")]))
    part = place.get(target, [("Range", span)])
    assert (part.get("X-Cache"), part.status, part.body == body[start:end]) == ("MISS", 206, True)
    assert part.get("Content-Range") == f"bytes {start}-{end - 1}/300000"
    wait_until(lambda: place.get(target).get("X-Cache") == "HIT", "all of it to be kept")
    assert place.get(target).body == body and place.asked(target) == 1


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


def texts(place):
    for path in files(place):
        # One that goes meanwhile holds nothing.
        with contextlib.suppress(FileNotFoundError):
            yield path.read_bytes()


def taken(place):
    total = 0
    for path in files(place):
        # One that goes meanwhile takes nothing.
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def test_what_is_kept_survives_being_killed(own):
    own.says("/big", response(b"y" * 300_000))
    first, big = own.get("/a").text, own.get("/big").body
    wait_until(lambda: own.get("/big").get("X-Cache") == "HIT", "it to be kept")
    for pid in own.site.processes():
        # Without the master the others end.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    own.site.process.wait()
    own.site.start()
    assert shown(own.get("/a")) == ("HIT", first)
    answer = own.get("/big")
    assert (answer.get("X-Cache"), answer.body == big) == ("HIT", True)


def test_a_reload_keeps_the_zone(own):
    first = own.get("/a").text
    conf = own.site.directory / "nginx.conf"
    conf.write_text(conf.read_text().replace("add_header X-Cache", "add_header X-New yes always; add_header X-Cache"))
    own.site.signal(signal.SIGHUP)

    def is_new():
        answer = own.get("/a")
        assert shown(answer) == ("HIT", first)
        return answer.get("X-New")

    wait_until(is_new, "the new configuration")


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
        wait_until(lambda: taken(own) <= 200 * 1024, "room")
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
            logs = own.site.log_path, own.site.directory / "error.log"
            wait_until(lambda: any("could not be kept" in log.read_text() for log in logs), "the log to say so")
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
        if path == "/slower":
            time.sleep(6)
        fields = [("Content-Type", "text/plain")]
        if path == "/cookie":
            fields.append(("Set-Cookie", "a=b"))
        if path.startswith("/item/"):
            fields.append(("Cache-Tag", "items," + path[6:]))
        if path.startswith("/purge/"):
            import monoceros.cache
            try:
                removed = monoceros.cache.purge(*path[7:].split("|"))
            except Exception as error:
                removed = type(error).__name__
            start_response("200 OK", fields + [("Cache-Control", "no-store")])
            return [str(removed).encode()]
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


def test_who_calls_it_nothing_gets_no_addresses_of_another_port(serve_nginx):
    """Without `Host` an application is told name and port of the server instead, and they were no part of the key."""
    conf = APP_CONF + """
        server { listen unix:%DIR%/other; server_name other.example; app_cache apps; app_cache_valid 1h;
                 location / { app_pass main; } }
    """
    code = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}".encode()]
    """
    one = serve_nginx(conf, files={"app.py": code})

    def ask(address):
        with Client(address) as client:
            client.send(b"GET /a HTTP/1.0\r\n\r\n")
            return client.response().text

    first = ask(("127.0.0.1", one.port))
    assert ask(str(one.directory / "other")).startswith("other.example:") and not first.startswith("other.example:")


def test_an_applications_cookies_are_not_kept(app):
    assert [app.get("/cookie").get("X-Cache") for _ in range(2)] == ["MISS", "MISS"]


@pytest.mark.parametrize("path", ["/slow", "/slower"])  # the second takes longer than nginx's locks hold
def test_an_application_runs_once_for_many(app, path):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(app.get(path, timeout=20).text)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 50 and len(set(answers)) == 1 and runs(app, path) == 1


def test_an_application_purges_by_tag(app):
    pages = lambda: [app.get(f"/item/{name}").get("X-Cache") for name in "123"]  # noqa: E731
    assert (pages(), pages()) == (["MISS"] * 3, ["HIT"] * 3)
    assert app.get("/purge/2").text == "1"
    assert pages() == ["HIT", "MISS", "HIT"]
    assert app.get("/purge/items").text == "3"
    assert (pages(), app.get("/purge/nothing").text) == (["MISS"] * 3, "0")
    assert app.get("/purge/1|3").text == "2"
    assert app.get("/purge/" + "|".join(f"tag-{n}" for n in range(600))).text == "0"
    for wrong in ("a,b", "a%20b", ""):
        assert app.get(f"/purge/{wrong}").text == "ValueError"
    assert pages() == ["MISS", "HIT", "MISS"]


def test_an_application_purges_from_many_threads(serve_nginx):
    app = serve_nginx(APP_CONF.replace("workers 2;", "workers 1; threads 8;"), files={"app.py": APP})
    assert app.get("/item/1").get("X-Cache") == "MISS"
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(app.get("/purge/items", timeout=30).text))
               for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["0"] * 15 + ["1"]
    assert app.get("/item/1").get("X-Cache") == "MISS"


def test_an_application_is_told_that_it_cannot_purge_yet(serve_nginx):
    text = APP.replace("import os, time", """import os, time, monoceros.cache
    try:
        monoceros.cache.purge("x")
    except RuntimeError as error:
        told = str(error)""").replace('fields = [("Content-Type", "text/plain")]',
                                      'fields = [("Content-Type", "text/plain"), ("X-Told", told)]')
    app = serve_nginx(APP_CONF, files={"app.py": text})
    assert "takes requests" in app.get("/a").get("X-Told")
