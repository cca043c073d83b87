"""Groups of servers: clients that come back, names asked for while serving, health checks, the page of their states."""

import collections
import contextlib
import hashlib
import signal
import socket
import struct
import threading
import time

import pytest
from support.dns import Dns, answer
from support.server import wait_until
from support.upstream import Upstream, response

CONF = r"""
    error_log %DIR%/error.log info;
    {groups}
    server {{
        listen 127.0.0.1:%PORT%;
        proxy_read_timeout 2s;
        location / {{ proxy_pass http://u; {more} }}
        location = /status {{ upstream_status; }}
    }}
"""


def conf(groups, more=""):
    return CONF.format(groups=groups, more=more)


@contextlib.contextmanager
def servers(*answers):
    """A server for each answer (None: its number)."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(Upstream(said or (lambda _, __, n=n: response(b"%d" % n))))
            for n, said in enumerate(answers)
        ]


def group(ups, inner="", options=("", "", "", "")):
    lines = [f"server 127.0.0.1:{up.port} {option};" for up, option in zip(ups, options)]
    return "upstream u { %s %s }" % (inner, " ".join(lines))


def asked(site, count, target="/", fields=()):
    return collections.Counter(site.request("GET", target, fields).text for _ in range(count))


def states(site):
    """The state of each server of the group, by its address."""
    return {peer["server"]: peer["state"] for peer in status(site)["upstreams"]["u"]["peers"]}


def status(site):
    import json

    got = site.get("/status?format=json")
    assert (got.status, got.get("Content-Type")) == (200, "application/json")
    return json.loads(got.text)


def reload(site, before, after):
    path = site.directory / "nginx.conf"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    site.signal(signal.SIGHUP)


# Clients that come back


def test_a_cookie_leads_back(serve_nginx):
    with servers(None, None, None) as ups:
        sticky = "sticky cookie srv expires=1h domain=$arg_d path=/p httponly secure samesite=lax;"
        site = serve_nginx(conf(group(ups, sticky, ("", "route=two", "")), "add_header X-A b;"))
        seen = {}
        for _ in range(3):
            got = site.get("/?d=one.example")
            first, *attributes = got.get("Set-Cookie").split("; ")
            assert first.startswith("srv=")
            seen[got.text] = first
            assert attributes[0].startswith("expires=") and "-" in attributes[0]
            assert attributes[1:] == ["max-age=3600", "domain=one.example", "httponly", "secure", "samesite=lax",
                                      "path=/p"]
        assert seen["1"] == "srv=two"
        assert seen["0"] == "srv=" + hashlib.md5(f"127.0.0.1:{ups[0].port}".encode()).hexdigest()
        for name, cookie in seen.items():
            assert asked(site, 5, fields=[("Cookie", f"a=b; {cookie}")]) == {name: 5}
        # What nobody knows leads nowhere.
        assert len(asked(site, 6, fields=[("Cookie", "srv=nobody")])) == 3


def test_one_that_fails_is_left_by_those_that_came_back(serve_nginx):
    with servers(lambda *_: None, None) as ups:
        site = serve_nginx(conf(group(ups, "sticky route $arg_r;", ("route=a", "route=b"))))
        assert asked(site, 4, "/?r=a") == {"1": 4}
        assert len(ups[0].seen) == 1


def test_sessions_are_learned(serve_nginx):
    def login(name):
        def said(seen, _):
            fields = [("Set-Cookie", f"sid=s{name}")] if seen.target == "/login" else []
            return response(name.encode(), fields=fields)

        return said

    with servers(login("0"), login("1")) as ups:
        learn = "sticky learn create=$upstream_cookie_sid lookup=$cookie_sid zone=sessions:1m timeout=1h;"
        site = serve_nginx(conf(group(ups, learn)))
        for _ in range(2):
            site.get("/login")
        for name in "01":
            assert asked(site, 4, fields=[("Cookie", f"sid=s{name}")]) == {name: 4}
        assert len(asked(site, 4, fields=[("Cookie", "sid=other")])) == 2
        # They go on over a reload.
        reload(site, "proxy_read_timeout 2s", "add_header X-New yes; proxy_read_timeout 3s")
        wait_until(lambda: site.get("/").get("X-New"), "the new configuration")
        for name in "01":
            assert asked(site, 4, fields=[("Cookie", f"sid=s{name}")]) == {name: 4}


def test_one_that_is_drained_keeps_those_that_it_has(serve_nginx):
    with servers(None, None) as ups:
        site = serve_nginx(conf(group(ups, "sticky route $arg_r;", ("route=a drain", "route=b"))))
        assert asked(site, 4, "/?r=a") == {"0": 4}
        assert asked(site, 4) == {"1": 4}


def test_the_one_that_answers_sooner_is_asked(serve_nginx):
    def slow(*_):
        time.sleep(1)
        return response(b"slow")

    with servers(slow, None) as ups:
        site = serve_nginx(conf(group(ups, "least_time header;")))
        assert asked(site, 10)["1"] >= 8


@pytest.mark.parametrize("directive, words", [
    ("sticky cookie;", 'invalid number of arguments in "sticky"'),
    ("sticky cookie a samesite=x;", 'invalid "samesite" parameter value'),
    ("sticky cookie a expires=x;", 'invalid "expires" parameter value'),
    ("sticky cookie a secure secure;", 'parameter "secure" is duplicate'),
    ("sticky other a;", 'unknown parameter "other"'),
    ("sticky route a;", 'invalid variable name "a"'),
    ("sticky learn create=$cookie_a zone=z:1m;", '"lookup" parameter is not specified'),
    ("sticky learn lookup=$cookie_a zone=z:1m;", '"create" parameter is not specified'),
    ("sticky learn lookup=$cookie_a create=$cookie_a;", '"zone" parameter is not specified'),
    ("sticky learn lookup=$cookie_a create=$cookie_a zone=z:1k;", "zone is too small"),
    ("least_time other;", 'invalid parameter "other"'),
    ("ip_hash; server 127.0.0.1:2 slow_start=1s;", 'does not support parameter "slow_start"'),
    ("server a.example resolve;", "to be in shared memory"),
    ("zone u 64k; server a.example resolve;", "no resolver defined to resolve names at run time"),
    ("zone u 64k; server a.example service=http;", 'requires "resolve" parameter'),
    ("zone u 64k; server a.example:80 service=http resolve;", "may not have port"),
    ("zone u 64k; server 127.0.0.1 service=http resolve;", "requires domain name"),
])
def test_mistakes(check_nginx, directive, words):
    check_nginx("upstream u { server 127.0.0.1:1; %s }" % directive, words)


@pytest.fixture
def check_nginx(tmp_path):
    """`monoceros -t` refuses an `http` block with these words."""
    import os
    import subprocess

    def check(http, words):
        path = tmp_path / "nginx.conf"
        path.write_text("events {} http { %s }" % http)
        run = subprocess.run([os.environ["MONOCEROS"], "check", "-c", path], capture_output=True, text=True, timeout=60)
        assert run.returncode != 0 and words in run.stdout + run.stderr, run.stdout + run.stderr

    return check


@pytest.mark.parametrize("directive, words", [
    ("location / { health_check; }", 'has no "proxy_pass" beside it'),
    ("location / { proxy_pass http://127.0.0.1:1; health_check match=x; }", 'match "x" is not defined'),
    ("location / { proxy_pass http://127.0.0.1:1; health_check interval=0; }", 'invalid parameter "interval=0"'),
    ("location / { proxy_pass http://127.0.0.1:1; health_check persistent; }", 'makes sense with "mandatory" only'),
    ("location / { proxy_pass http://$host; health_check; }", "cannot be used with variables"),
])
def test_mistakes_of_checks(check_nginx, directive, words):
    check_nginx("server { %s }" % directive, words)


def test_mistakes_of_matches(check_nginx):
    check_nginx("match m { status 99; }", 'invalid "status" in match')
    check_nginx("match m { body ~ (; }", "pcre")


# Names


RESOLVE = "upstream u {{ zone u 64k; resolver 127.0.0.1:{dns} ipv6=off; {inner} server {server}; }}"


def addresses(ttl, *found):
    return lambda query, kind: [answer(query, [(1, ttl, socket.inet_aton(ip)) for ip in found] if kind == 1 else [])]


def test_addresses_follow_dns(serve_nginx):
    names = {"a.example": addresses(1, "127.0.0.1")}
    with servers(None) as ups, Dns(names) as dns:
        server = f"a.example:{ups[0].port} resolve max_fails=0"
        site = serve_nginx(conf(RESOLVE.format(dns=dns.port, inner="", server=server)))
        wait_until(lambda: site.get("/").status == 200, "the name")
        names["a.example"] = addresses(1, "127.0.0.2", "127.0.0.3")
        wait_until(lambda: set(states(site)) == {f"127.0.0.{n}:{ups[0].port}" for n in (2, 3)}, "the new addresses")
        assert site.get("/").status == 502
        # While nobody answers, what was known holds.
        names["a.example"] = lambda *_: []
        time.sleep(2)
        assert len(states(site)) == 2
        # There is no such name.
        del names["a.example"]
        wait_until(lambda: states(site) == {}, "nobody")
        assert site.get("/").status == 502
        names["a.example"] = addresses(1, "127.0.0.1")
        wait_until(lambda: site.get("/").status == 200, "the name")
        # A reload begins with what was known.
        names["a.example"] = lambda *_: []
        reload(site, "proxy_read_timeout 2s", "add_header X-New yes; proxy_read_timeout 3s")
        wait_until(lambda: site.get("/").get("X-New"), "the new configuration")
        assert site.get("/").status == 200


def test_addresses_go_on_when_a_reload_changes_the_port(serve_nginx):
    names = {"a.example": addresses(1, "127.0.0.1")}
    with servers(None, None) as ups, Dns(names) as dns:
        server = f"a.example:{ups[0].port} resolve max_fails=0"
        site = serve_nginx(conf(RESOLVE.format(dns=dns.port, inner="", server=server)))
        wait_until(lambda: site.get("/").status == 200, "the name")
        names["a.example"] = lambda *_: []
        reload(site, f"a.example:{ups[0].port}", f"a.example:{ups[1].port}")
        wait_until(lambda: asked(site, 1) == {"1": 1}, "the new port")
        assert states(site).keys() == {f"127.0.0.1:{ups[1].port}"}


def test_a_service_has_servers_and_backups(serve_nginx):
    with servers(None, None) as ups, Dns({}) as dns:
        def record(priority, weight, port, name):
            labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
            return 33, 1, struct.pack(">HHH", priority, weight, port) + labels + b"\0"

        found = [record(10, 5, ups[0].port, "one.example"), record(20, 5, ups[1].port, "two.example")]
        dns.names["_http._tcp.a.example"] = lambda query, kind: [answer(query, found if kind == 33 else [])]
        dns.names["one.example"] = dns.names["two.example"] = ["127.0.0.1"]
        site = serve_nginx(conf(RESOLVE.format(dns=dns.port, inner="", server="a.example service=http resolve")))
        wait_until(lambda: site.get("/").status == 200, "the service")
        assert asked(site, 6) == {"0": 6}
        assert [peer["backup"] for peer in status(site)["upstreams"]["u"]["peers"]] == [False, True]
        assert [peer["weight"] for peer in status(site)["upstreams"]["u"]["peers"]] == [5, 5]
        del found[0]
        wait_until(lambda: asked(site, 1) == {"1": 1}, "the other")


# Health


class Patient(Upstream):
    """A server that says how it is."""

    def __init__(self, name):
        self.health = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Health: good\r\n\r\nfine"
        self.looks = 0
        super().__init__(self.say, name=name)

    def say(self, seen, _):
        if seen.target.startswith("/health"):
            self.looks += 1
            return self.health
        return response(self.name.encode())


SICK = b"HTTP/1.1 503 Sick\r\nContent-Length: 4\r\n\r\nsick"


@contextlib.contextmanager
def patients(count=2):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Patient(str(n))) for n in range(count)]


def test_who_is_not_healthy_is_not_asked(serve_nginx):
    with patients() as ups:
        more = "health_check interval=100ms uri=/health?x fails=2 passes=2;"
        site = serve_nginx(conf(group(ups), more))
        names = [f"127.0.0.1:{up.port}" for up in ups]
        assert asked(site, 4) == {"0": 2, "1": 2}
        wait_until(lambda: all(up.looks for up in ups), "they are looked at")
        seen = next(seen for seen in ups[0].seen if seen.target.startswith("/health"))
        assert (seen.line, seen.get("Host"), seen.get("Connection")) == ("GET /health?x HTTP/1.0", "u", "close")
        ups[0].health = SICK
        wait_until(lambda: states(site)[names[0]] == "unhealthy", "one is sick")
        assert asked(site, 4) == {"1": 4}
        ups[0].health = ups[1].health
        wait_until(lambda: states(site)[names[0]] == "up", "it is well again")
        assert len(asked(site, 4)) == 2
        ups[0].close()
        wait_until(lambda: states(site)[names[0]] == "unhealthy", "nobody listens")
        site.wait_log(f'peer is unhealthy: .*, health check of peer {names[0]} in upstream "u"')
        checks = status(site)["upstreams"]["u"]["peers"][0]["health_checks"]
        assert checks["checks"] > checks["fails"] > 0 and checks["unhealthy"] == 2
        text = site.get("/status").text
        assert text.startswith("upstream u\n") and f"  {names[0]} unhealthy weight=1" in text


def test_who_was_not_looked_at_is_not_asked_if_that_is_mandatory(serve_nginx):
    go = threading.Event()

    def late(seen, _):
        if seen.target == "/":
            assert go.wait(20)
        return response(b"late")

    with servers(late) as ups:
        site = serve_nginx(conf(group(ups), "health_check mandatory persistent interval=200ms; proxy_read_timeout 20s;"))
        assert list(states(site).values()) == ["checking"]
        assert site.get("/x").status == 502
        go.set()
        wait_until(lambda: site.get("/x").status == 200, "it was looked at")
        # Who was healthy before a reload is not looked at first.
        go.clear()
        reload(site, "error.log info;", "error.log notice; add_header X-New yes;")
        wait_until(lambda: site.get("/status").get("X-New"), "the new configuration")
        assert site.get("/x").text == "late"
        go.set()


@pytest.mark.parametrize("tests, good, bad", [
    ("status 204;", b"HTTP/1.1 204 No\r\n\r\n", SICK),
    ("status ! 500-599;", b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", SICK),
    ("header X-Health = good;", None, SICK),
    ("header ! X-Bad;", None, b"HTTP/1.1 200 OK\r\nX-Bad: 1\r\nContent-Length: 0\r\n\r\n"),
    ("header X-Health ~ ^go; header X-Health != best;", None,
     b"HTTP/1.1 200 OK\r\nX-Health: gone\r\nX-Health: best\r\nContent-Length: 0\r\n\r\n"),
    ('status 200; body ~ "^fi[n]e$";', None, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nnotfine"),
    ("require $upstream_http_x_health $calm;", None, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 200; require $calm;", None,
     b"HTTP/1.1 200 OK\r\nX-Load: 97\r\nContent-Length: 0\r\n\r\n"),
    ("body !~ sick;", None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nis sic\r\n1\r\nk\r\n0\r\n\r\n"),
])
def test_matches(serve_nginx, tests, good, bad):
    with patients(1) as ups:
        ups[0].health = good or ups[0].health
        fine = ups[0].health
        more = "health_check interval=50ms uri=/health match=m;"
        maps = "map $upstream_http_x_load $calm { default 1; ~^9 0; } "
        site = serve_nginx(conf(maps + "match m { %s } " % tests + group(ups), more))
        wait_until(lambda: ups[0].looks > 1 and list(states(site).values()) == ["up"], "it is well")
        ups[0].health = bad
        wait_until(lambda: list(states(site).values()) == ["unhealthy"], "it is not")
        ups[0].health = fine
        wait_until(lambda: list(states(site).values()) == ["up"], "it is well again")


def test_connections_of_checks_are_kept(serve_nginx):
    with patients(1) as ups:
        more = "proxy_http_version 1.1; health_check interval=50ms uri=/health keepalive_time=1h;"
        site = serve_nginx(conf(group(ups), more))
        wait_until(lambda: ups[0].looks > 5, "it is looked at")
        assert ups[0].connections == 1
        assert site.get("/").text == "0"


def test_a_check_may_have_a_port_of_its_own(serve_nginx):
    with patients(2) as ups:
        more = f"health_check interval=50ms uri=/health port={ups[1].port};"
        site = serve_nginx(conf(group(ups[:1]), more))
        wait_until(lambda: ups[1].looks > 1, "the port is looked at")
        assert ups[0].looks == 0 and site.get("/").text == "0"


def test_the_page_counts(serve_nginx):
    def said(seen, _):
        return response(b"x", seen.target[1:] + " X")

    with servers(said) as ups:
        site = serve_nginx(conf(group(ups)))
        for code in (200, 201, 301, 404, 503):
            site.get(f"/{code}")
        peer = status(site)["upstreams"]["u"]["peers"][0]
        assert (peer["requests"], peer["active"], peer["state"]) == (5, 0, "up")
        assert peer["responses"] == {"1xx": 0, "2xx": 2, "3xx": 1, "4xx": 1, "5xx": 1, "total": 5}
        with site.connect() as client:
            accept = client.request("GET", "/status", [("Accept", "application/json")])
            assert accept.get("Content-Type") == "application/json"
        assert site.request("POST", "/status", body=b"x").status == 405
