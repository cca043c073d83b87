"""`upstream`: who of a group is asked, what a failure leads to, kept connections, names asked for while serving."""

import collections
import contextlib
import itertools
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.dns import Dns, DnsByTcp, answer
from support.grpc import GrpcServer
from support.server import Site, binary, wait_until
from support.tls import Authority
from support.upstream import Upstream, reset, response

CONF = r"""
    log_format up '$request_uri $status $upstream_addr $upstream_status';
    error_log %DIR%/error.log info;
    {groups}
    server {{
        listen 127.0.0.1:%PORT%;
        access_log %DIR%/access.log up;
        proxy_read_timeout 1s;
        client_max_body_size 0;
        proxy_connect_timeout 1s;
        {locations}
    }}
"""


def conf(groups, locations="location / { proxy_pass http://u; }"):
    return CONF.format(groups=groups, locations=locations)


@contextlib.contextmanager
def servers(*answers):
    """A server for each answer (None: its name and the target)."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Upstream(answer, name=str(n))) for n, answer in enumerate(answers)]


def group(ups, inner="", options=("", "", "", "")):
    lines = [f"server 127.0.0.1:{up.port} {option};" for up, option in zip(ups, options)]
    return "upstream u { %s %s }" % (inner, " ".join(lines))


def counts(site, count, target="/"):
    return collections.Counter(site.get(f"{target}").text.split()[0] for _ in range(count))


def test_weights_and_backups(serve_nginx):
    with servers(None, None, None) as ups:
        site = serve_nginx(conf(group(ups, options=("weight=3", "", "backup"))))
        assert counts(site, 8) == {"0": 6, "1": 2}


@pytest.mark.parametrize("inner, keys, spread", [
    ("hash $arg_k;", 40, True),
    ("hash $arg_k consistent;", 40, True),
    ("ip_hash;", 5, False),
])
def test_what_decides_leads_to_the_same(serve_nginx, inner, keys, spread):
    with servers(None, None, None) as ups:
        site = serve_nginx(conf(group(ups, inner)))
        first = [site.get(f"/?k={k}").text[0] for k in range(keys)]
        assert first == [site.get(f"/?k={k}").text[0] for k in range(keys)]
        assert len(set(first)) == (3 if spread else 1)


@pytest.mark.parametrize("inner", ["least_conn;", "random two;", "random;"])
def test_others_are_asked_while_one_is_busy(serve_nginx, inner):
    go = threading.Event()

    def slow(seen, connection):
        if seen.target == "/slow":
            assert go.wait(20)
        return response(f"0 {seen.target}".encode())

    with servers(slow, slow) as ups:
        site = serve_nginx(conf(group(ups, inner)).replace("proxy_read_timeout 1s", "proxy_read_timeout 20s"))
        with site.connect() as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: sum(len(up.seen) for up in ups) == 1, "the slow request")
            busy = 0 if ups[0].seen else 1
            for _ in range(10):
                assert site.get("/quick").status == 200
            if inner != "random;":
                assert len(ups[busy].seen) == 1, "the one that is busy got another"
            go.set()
            assert client.response().status == 200


def test_a_server_that_fails_is_left_out_for_a_while(serve_nginx):
    with servers(lambda *_: None, None) as ups:
        site = serve_nginx(conf(group(ups, options=("max_fails=2 fail_timeout=3s", ""))))
        for _ in range(10):
            assert site.get("/x").text == "1 /x"
        assert len(ups[0].seen) == 2
        assert len(re.findall("upstream server temporarily disabled", (site.directory / "error.log").read_text())) == 1
        # It is looked at again later.
        wait_until(lambda: site.get("/x").status == 200 and len(ups[0].seen) > 2, "another look")


def test_what_is_logged_of_several(serve_nginx):
    with servers(lambda *_: None, None) as ups:
        site = serve_nginx(conf(group(ups)))
        assert site.get("/x").status == 200
        line = f"/x 200 127.0.0.1:{ups[0].port}, 127.0.0.1:{ups[1].port} 502, 200\n"
        wait_until(lambda: line in (site.directory / "access.log").read_text(), line)


def test_no_live_upstreams(serve_nginx):
    with servers(lambda *_: None, lambda *_: None) as ups:
        site = serve_nginx(conf(group(ups)))
        assert [site.get("/").status for _ in range(3)] == [502, 502, 502]
        log = (site.directory / "error.log").read_text()
        assert 'no live upstreams while connecting to upstream, client: 127.0.0.1' in log
        assert 'upstream: "http://u/"' in log
        assert sum(len(up.seen) for up in ups) == 2


def test_max_conns(serve_nginx):
    go = threading.Event()

    def slow(seen, _):
        assert go.wait(20)
        return response(b"late")

    with servers(slow) as ups:
        site = serve_nginx(conf(group(ups, options=("max_conns=1",))).replace("proxy_read_timeout 1s", "proxy_read_timeout 20s"))
        with site.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: ups[0].seen, "the first request")
            assert site.get("/").status == 502
            go.set()
            assert client.response().text == "late"
        assert site.get("/").text == "late"


@pytest.mark.parametrize("words, method, statuses, tried", [
    ("", "GET", [500], 1),
    ("proxy_next_upstream http_500;", "GET", [200], 2),
    ("proxy_next_upstream http_500;", "POST", [500], 1),
    ("proxy_next_upstream http_500 non_idempotent;", "POST", [200], 2),
    ("proxy_next_upstream off;", "GET", [500], 1),
    ("proxy_next_upstream http_500; proxy_next_upstream_tries 1;", "GET", [500], 1),
])
def test_the_next_after_a_status(serve_nginx, words, method, statuses, tried):
    with servers(lambda *_: response(b"bad", "500 Bad"), None) as ups:
        site = serve_nginx(conf(group(ups), f"location / {{ proxy_pass http://u; {words} }}"))
        body = b"x" if method == "POST" else None
        assert [site.request(method, "/", body=body).status] == statuses
        assert sum(len(up.seen) for up in ups) == tried


FAULTS = [
    lambda connection: None,
    reset,
    lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le"),
    lambda connection: connection.sendall(b"garbage\r\n\r\n"),
    lambda connection: time.sleep(3),
]


@pytest.mark.parametrize("fault", FAULTS, ids=["close", "reset", "half", "garbage", "hang"])
@pytest.mark.parametrize("kept", [False, True])
def test_no_client_sees_a_server_that_fails_and_no_post_runs_twice(serve_nginx, fault, kept):
    ran = collections.Counter()
    lock = threading.Lock()

    def answer(seen, connection):
        with lock:
            ran[seen.target] += 1
        return response(b"done")

    def faulty(seen, connection):
        with lock:
            ran[seen.target] += 1
        fault(connection)

    locations = """location / {
        proxy_pass http://u; proxy_next_upstream error timeout invalid_header;
        %s }""" % ("proxy_http_version 1.1; proxy_set_header Connection '';" if kept else "")
    with servers(faulty, answer, answer) as ups:
        inner = "keepalive 8;" if kept else ""
        lines = group(ups, options=("max_fails=0", "", "")).removesuffix("}") + inner + " }"
        site = serve_nginx(conf(lines, locations))
        wrong = []

        def load(worker):
            with site.connect(timeout=20) as client:
                for n in range(6):
                    got = client.request("GET", f"/get-{worker}-{n}").status
                    if got != 200:
                        wrong.append(got)
                    client.request("POST", f"/post-{worker}-{n}", body=b"x" * 100)

        threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        assert max(count for target, count in ran.items() if target.startswith("/post")) == 1
        assert max(ran.values()) <= 3


# Waiting for a server


QUEUED = "location / { proxy_pass http://u; proxy_read_timeout 20s; } location = /status { upstream_status; }"


@contextlib.contextmanager
def queueing(serve_nginx, queue):
    """A group whose only server is asked one thing at a time, and answers the first when it is told to."""
    gate = threading.Event()

    def answer(seen, _):
        if seen.target == "/first":
            gate.wait(20)
        return response(seen.target.encode())

    with servers(answer) as ups:
        site = serve_nginx(conf(group(ups, queue, ("max_conns=1",)), QUEUED))
        with ThreadPoolExecutor(4) as pool:
            try:
                first = pool.submit(site.get, "/first")
                wait_until(lambda: ups[0].seen, "the first request")
                yield site, ups[0], pool, gate
                gate.set()
                assert first.result(20).text == "/first"
            finally:
                gate.set()


def waits(site, shown):
    wait_until(lambda: f" queue={shown}\n" in site.get("/status").text, f"a queue of {shown}")


def test_who_finds_no_server_waits_for_one(serve_nginx):
    with queueing(serve_nginx, "queue 2 timeout=20s;") as (site, up, pool, gate):
        second = pool.submit(site.get, "/second")
        waits(site, "1/2")
        third = pool.submit(site.get, "/third")
        waits(site, "2/2")
        assert site.get("/fourth").status == 502
        gate.set()
        assert (second.result(20).text, third.result(20).text) == ("/second", "/third")
        assert [seen.target for seen in up.seen] == ["/first", "/second", "/third"]
        waits(site, "0/2")
        assert site.get("/fifth").text == "/fifth"


def test_who_leaves_a_queue_is_not_waited_for(serve_nginx):
    with queueing(serve_nginx, "queue 2 timeout=500ms;") as (site, up, pool, gate):
        assert site.get("/late").status == 502
        assert "no upstream became live in time" in (site.directory / "error.log").read_text()
        with socket.create_connection(("127.0.0.1", site.port)) as client:
            client.sendall(b"GET /gone HTTP/1.1\r\nHost: test\r\n\r\n")
            waits(site, "1/2")
        waits(site, "0/2")
    assert [seen.target for seen in up.seen] == ["/first"]


# Kept connections


def kept(fields=""):
    return f"location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ''; {fields} }}"


def test_connections_are_kept(serve_nginx):
    with servers(None) as ups:
        site = serve_nginx(conf(f"upstream u {{ server 127.0.0.1:{ups[0].port}; keepalive 2; }}", kept()))
        for n in range(10):
            assert site.request("POST", f"/{n}", body=b"x" * n).text == f"0 /{n}"
        assert ups[0].connections == 1
        assert site.get("/" + "x" * 3000).status == 200


def test_a_connection_is_left_after_its_requests(serve_nginx):
    with servers(None) as ups:
        site = serve_nginx(conf(
            f"upstream u {{ server 127.0.0.1:{ups[0].port}; keepalive 2; keepalive_requests 3; }}", kept()))
        for n in range(9):
            site.get("/")
        assert ups[0].connections == 3


def test_an_idle_connection_is_closed(serve_nginx):
    with servers(None) as ups:
        site = serve_nginx(conf(
            f"upstream u {{ server 127.0.0.1:{ups[0].port}; keepalive 2; keepalive_timeout 500ms; }}", kept()))
        site.get("/")
        ups[0].wait_open(0)


def test_a_kept_connection_that_was_closed_costs_nothing(serve_nginx):
    def answer(seen, connection):
        connection.sendall(response(b"x"))
        if seen.target == "/close":
            return None
        return b""

    with servers(answer) as ups:
        site = serve_nginx(conf(f"upstream u {{ server 127.0.0.1:{ups[0].port}; keepalive 2; }}", kept()))
        for n in range(20):
            assert site.get("/close").status == 200
            assert site.get("/").status == 200


def test_a_server_that_is_gone_is_not_asked_once_for_each_kept_connection(serve_nginx):
    """It takes no new connections, and has not closed those that wait."""
    count = 6
    together, gone = threading.Barrier(2 * count), threading.Event()

    def answer(seen, connection):
        if seen.target == "/together":
            together.wait(20)
        return response(b"x")

    def of_second(seen, connection):
        return None if gone.is_set() else answer(seen, connection)

    with servers(answer, of_second) as ups:
        both = " ".join(f"server 127.0.0.1:{up.port};" for up in ups)
        site = serve_nginx(conf(f"upstream u {{ {both} keepalive {2 * count}; }}", kept()))
        threads = [threading.Thread(target=site.get, args=("/together",)) for _ in range(2 * count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ups[1].connections == count
        gone.set()
        ups[1].listener.shutdown(socket.SHUT_RDWR)
        before = len(ups[1].seen)
        assert [site.get("/").status for _ in range(4 * count)] == [200] * (4 * count)
        # By a kept connection, and then there is no new one.
        assert len(ups[1].seen) - before == 1


@pytest.mark.parametrize("fields", [
    "", "proxy_http_version 1.1;", "proxy_http_version 1.1; proxy_set_header Connection 'Close, x';"])
def test_no_request_follows_one_that_said_close(serve_nginx, fields):
    over = threading.Event()

    def answer(seen, connection):
        # Nothing in the answer says that the server is about to close, and it takes its time for that.
        connection.sendall(response(b"x"))
        over.wait(30)
        return b""

    with servers(answer) as ups:
        site = serve_nginx(conf(f"upstream u {{ server 127.0.0.1:{ups[0].port}; keepalive 2; }}",
                                f"location / {{ proxy_pass http://u; {fields} }}"))
        try:
            assert [site.request("POST", "/", body=b"x").status for _ in range(3)] == [200] * 3
            assert ups[0].connections == 3
        finally:
            over.set()


@pytest.mark.parametrize("more", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsmuggle", b"\r\n"])
@pytest.mark.parametrize("late", [False, True])
def test_what_comes_behind_an_answer_is_nobodys(serve_nginx, more, late):
    answered, all_sent = threading.Event(), threading.Event()

    def answer(seen, connection):
        if not seen.target.startswith("/bad"):
            return response(f"0 {seen.target}".encode())
        connection.sendall(response(b"good") + (b"" if late else more))
        if late:
            assert answered.wait(10)
            answered.clear()
            connection.sendall(more)
            all_sent.set()
        return b""

    with servers(answer) as ups:
        site = serve_nginx(conf(f"upstream u {{ server 127.0.0.1:{ups[0].port}; keepalive 2; }}", kept()))
        for n in range(5):
            assert site.get(f"/bad{n}").text == "good"
            if late:
                answered.set()
                assert all_sent.wait(10)
                all_sent.clear()
                time.sleep(0.2)  # nothing outside shows that it has been noticed
            assert site.get(f"/next{n}").text == f"0 /next{n}"


@pytest.mark.parametrize("noise", [b"x", b"\0\xff", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                                   b"Content-Length: 4\r\n\r\nslow"], ids=["letter", "bytes", "408"])
def test_what_nobody_asked_for_is_no_answer_to_the_next(serve_nginx, noise):
    """It comes when the next request has been sent already."""
    ran = collections.Counter()

    def answer(seen, connection):
        ran[seen.target] += 1
        if seen.target == "/first" or ran[seen.target] > 1:
            return response(f"to {seen.target}".encode())
        connection.sendall(noise)
        return None

    with servers(answer) as ups:
        site = serve_nginx(conf(f"upstream u {{ server 127.0.0.1:{ups[0].port} max_fails=1; keepalive 2; }}", kept()))
        for n in range(4):
            assert site.get("/first").text == "to /first"
            assert site.get(f"/get{n}").text == f"to /get{n}"
            # Whether a POST has been run nobody knows, so it is not sent again; its server has not failed for that.
            assert site.request("POST", f"/post{n}", body=b"x").status in (408, 502)
            assert (ran[f"/get{n}"], ran[f"/post{n}"]) == (2, 1)
        # On a new connection it is what the server says.
        site.request("POST", "/end", body=b"x")
        assert site.get("/last").status in (408, 502)


def test_an_answer_is_taken_at_its_pace(serve_nginx):
    body = b"x" * 60_000

    def by_http2(call, event):
        if event == "end":
            call.answer()
            call.data(body, end=True)

    with Upstream(lambda *_: response(body)) as up, GrpcServer(by_http2) as second:
        site = serve_nginx(conf("", f"""
            proxy_limit_rate $arg_rate;
            location / {{ proxy_pass http://127.0.0.1:{up.port}; }}
            location /unbuffered {{ proxy_pass http://127.0.0.1:{up.port}; proxy_buffering off; }}
            location /http2 {{ proxy_pass http://127.0.0.1:{second.port}; proxy_http_version 2; }}
        """))
        for target in ("/", "/unbuffered", "/http2"):
            begun = time.monotonic()
            assert site.get(f"{target}?rate=20k").body == body
            # As in nginx, the first second's worth comes at once.
            assert time.monotonic() - begun >= 1.5, target
            for rate in ("", "0", "nonsense", "100m"):
                assert site.get(f"{target}?rate={rate}").body == body


# Names


NAMED = "location / {{ resolver 127.0.0.1:{dns} ipv6=off; resolver_timeout 2s; proxy_pass http://$arg_host:{port}; {more} }}"


def test_a_name_is_asked_for_once(serve_nginx):
    with servers(None) as ups, Dns({"one.example": ["127.0.0.1"]}) as dns:
        site = serve_nginx(conf("", NAMED.format(dns=dns.port, port=ups[0].port, more="")))
        for n in range(5):
            assert site.get("/x?host=one.example").text == "0 /x?host=one.example"
        assert dns.asked == [("one.example", 1)]
        assert ups[0].seen[0].get("Host") == f"one.example:{ups[0].port}"


def test_names_that_are_not_there(serve_nginx):
    with servers(None) as ups, Dns({"silent.example": lambda *_: [], "empty.example": []}) as dns:
        site = serve_nginx(conf("", NAMED.format(dns=dns.port, port=ups[0].port, more="")))
        for name, words in [("no.example", "3: Host not found"), ("empty.example", "3: Host not found"),
                            ("silent.example", "110: Operation timed out"), ("bad..example", "3: Host not found")]:
            assert site.get(f"/?host={name}").status == 502
            assert f"{name} could not be resolved ({words})" in (site.directory / "error.log").read_text()
        site = serve_nginx(conf("", f"location / {{ proxy_pass http://$arg_host:{ups[0].port}; }}"))
        assert site.get("/?host=one.example").status == 502
        assert "no resolver defined to resolve one.example" in (site.directory / "error.log").read_text()


def test_answers_of_others_do_not_count(serve_nginx):
    good = socket.inet_aton("127.0.0.1")

    def forged(query, _):
        wrong = answer(query, [(1, 60, socket.inet_aton("127.0.0.9"))])
        other = bytes([wrong[0] ^ 1]) + wrong[1:]
        elsewhere = wrong[:12] + b"\x03" + wrong[13:16] + b"\x00" + wrong[17:]
        return [other, b"", b"\x00" * 12, elsewhere, answer(query, [(1, 60, good)])]

    with servers(None) as ups, Dns({"one.example": forged}) as dns:
        site = serve_nginx(conf("", NAMED.format(dns=dns.port, port=ups[0].port, more="")))
        assert site.get("/?host=one.example").status == 200


def test_names_that_stand_for_others(serve_nginx):
    def alias(query, _):
        return [answer(query, [(5, 60, b"\x03one\x07example\x00")])]

    def circle(query, _):
        return [answer(query, [(5, 60, b"\x06circle\x07example\x00")])]

    names = {"alias.example": alias, "one.example": ["127.0.0.1"], "circle.example": circle}
    with servers(None) as ups, Dns(names) as dns:
        site = serve_nginx(conf("", NAMED.format(dns=dns.port, port=ups[0].port, more="")))
        assert site.get("/?host=alias.example").status == 200
        assert site.get("/?host=circle.example").status == 502


def test_an_answer_that_is_cut_off_comes_by_tcp_whatever_the_other_server_says(serve_nginx):
    names = {f"n{n}.example": ["127.0.0.1"] for n in range(12)}
    for code in (1, 2, 4, 5):
        bad = {name: lambda query, _, code=code: [answer(query, [], code, flags=0x8380)] for name in names}
        with servers(None) as ups, DnsByTcp(names) as good, Dns(bad) as dns:
            both = NAMED.replace("{dns}", "{dns} 127.0.0.1:{good}")
            site = serve_nginx(conf("", both.format(dns=dns.port, good=good.port, port=ups[0].port, more="")))
            for name in names:
                assert site.get(f"/?host={name}").status == 200
            assert good.by_tcp == [(name, 1) for name in names]
            # Which of them is asked first is a matter of chance.
            assert dns.asked


def test_addresses_are_used_in_the_order_of_the_answer_and_in_turn_when_they_are_known(serve_nginx):
    names = {f"n{n}.example": ["127.0.0.1", "127.0.0.9"] for n in range(12)}
    with servers(None) as ups, Dns(names) as dns:
        more = "add_header X-Addr $upstream_addr;"
        port = ups[0].port
        site = serve_nginx(conf("", NAMED.format(dns=dns.port, port=port, more=more)))
        for name in names:
            assert site.get(f"/?host={name}").get("X-Addr") == f"127.0.0.1:{port}"
        seen = {site.get("/?host=n0.example").get("X-Addr") for _ in range(60)}
        assert seen == {f"127.0.0.1:{port}", f"127.0.0.9:{port}, 127.0.0.1:{port}"}


# TLS


def certificate(directory, name, *options):
    """A certificate that signs itself, for a name; the paths of it and of its key."""
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                    "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", *options],
                   check=True, capture_output=True)
    return certificate, key


TLS = """
    location /plain/ { proxy_pass https://127.0.0.1:UP; }
    location /good/ { proxy_pass https://127.0.0.1:UP; proxy_ssl_verify on; proxy_ssl_name good.example;
                      proxy_ssl_trusted_certificate %DIR%/good.example.crt; proxy_ssl_server_name on; }
    location /name/ { proxy_pass https://127.0.0.1:UP; proxy_ssl_verify on; proxy_ssl_name other.example;
                      proxy_ssl_trusted_certificate %DIR%/good.example.crt; }
    location /other/ { proxy_pass https://127.0.0.1:UP; proxy_ssl_verify on; proxy_ssl_name good.example;
                       proxy_ssl_trusted_certificate %DIR%/other.example.crt; }
    location /variable/ { proxy_pass https://$arg_host:UP; }
    location /kept/ { proxy_pass https://u; proxy_http_version 1.1; proxy_set_header Connection ""; }
    location /mixed/ { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; }
    location /own/ { proxy_pass https://127.0.0.1:ASKS; proxy_ssl_certificate %DIR%/other.example.crt;
                     proxy_ssl_certificate_key %DIR%/other.example.key; }
    location /nobody/ { proxy_pass https://127.0.0.1:ASKS; }
"""


def test_tls(serve_nginx, tmp_path):
    good, key = certificate(tmp_path, "good.example")
    other, other_key = certificate(tmp_path, "other.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(good, key)
    told = []
    context.sni_callback = lambda _, name, __: told.append(name)
    asks = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asks.load_cert_chain(good, key)
    asks.verify_mode = ssl.CERT_REQUIRED
    asks.load_verify_locations(other)
    files = {path.name: path.read_text() for path in (good, key, other, other_key)}

    def sized(seen, _):
        return response(b"x" * int(seen.target.partition("?")[0].rpartition("/")[2]) + b" %d" % len(seen.body))

    with Upstream(sized, context=context) as up, Upstream(name="asks", context=asks) as second:
        locations = TLS.replace("UP", str(up.port)).replace("ASKS", str(second.port))
        group = f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 4; }}"
        site = serve_nginx(conf(group, locations), files=files)
        for size in (0, 1, 20_000, 3_000_000):
            answer = site.request("POST", f"/plain/{size}", body=b"y" * size)
            assert answer.body == b"x" * size + b" %d" % size
        assert up.seen[0].get("Host") == f"127.0.0.1:{up.port}" and told == [None] * 4
        assert site.get("/good/5").text == "xxxxx 0" and told[-1] == "good.example"
        log = site.directory / "error.log"
        for target, words in [("/name/1", 'upstream SSL certificate does not match "other.example"'),
                              ("/other/1", "upstream SSL certificate verify error"),
                              ("/nobody/1", "while reading response header from upstream")]:
            assert site.get(target).status == 502
            assert words in log.read_text(), (target, log.read_text())
        assert "while SSL handshaking to upstream" in log.read_text()
        assert site.get("/variable/3?host=127.0.0.1").text == "xxx 0"
        assert site.get("/own/").text == "asks /own/"
        before = up.connections
        for _ in range(5):
            assert site.get("/kept/1").text == "x 0"
        assert up.connections == before + 1
        # A connection with TLS is none without.
        assert site.get("/mixed/1").status == 502


def test_servers_that_were_revoked(serve_nginx):
    root = Authority("Root")
    between = Authority("Between", parent=root)
    leaf, gone, far = root.issue("leaf.example"), root.issue("gone.example"), between.issue("far.example")
    files = {
        "root.pem": root.pem,
        "root.crl": root.revoke(gone),
        "both.crl": root.revoke(gone) + between.revoke(),
        "foreign.crl": Authority("Root").revoke(),
        "old.crl": first_version(root),
    }
    for name, certificate in ("leaf", leaf), ("gone", gone), ("far", far):
        files |= {f"{name}.pem": certificate.chain, f"{name}.key": certificate.key}
    with contextlib.ExitStack() as stack:
        locations = ""
        for name in ("leaf", "gone", "far"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*(stack.enter_context(as_file(files[f"{name}.{kind}"])) for kind in ("pem", "key")))
            up = stack.enter_context(Upstream(name=name, context=context))
            for lists in ("root", "both", "foreign", "old"):
                locations += f"""
                    location /{lists}/{name} {{
                        proxy_pass https://127.0.0.1:{up.port};
                        proxy_ssl_name {name}.example;
                        proxy_ssl_crl {lists}.crl;
                    }}"""
        verify = "proxy_ssl_verify on; proxy_ssl_trusted_certificate root.pem;"
        site = serve_nginx(conf(verify, locations), files=files)
        answers = {(lists, name): site.get(f"/{lists}/{name}").status
                   for lists in ("root", "both", "foreign", "old") for name in ("leaf", "gone", "far")}
        good = {which for which, status in answers.items() if status == 200}
        # Each certificate needs a list of its own authority: of the one in between there is one in "both" only.
        assert good == {("root", "leaf"), ("both", "leaf"), ("both", "far"), ("old", "leaf"), ("old", "gone")}
        assert set(answers.values()) == {200, 502}
        assert "upstream SSL certificate verify error" in (site.directory / "error.log").read_text()


@contextlib.contextmanager
def as_file(contents):
    with tempfile.NamedTemporaryFile() as file:
        file.write(contents)
        file.flush()
        yield file.name


def first_version(authority):
    """An empty list as `openssl ca -gencrl` makes it where no extensions are configured."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "index").touch()
        (directory / "ca.conf").write_text(f"[ca]\ndefault_ca=c\n[c]\ndatabase={directory}/index\ndefault_md=sha256\n")
        (directory / "ca.pem").write_bytes(authority.pem)
        (directory / "ca.key").write_bytes(authority.key)
        return subprocess.run(
            ["openssl", "ca", "-gencrl", "-config", directory / "ca.conf", "-cert", directory / "ca.pem",
             "-keyfile", directory / "ca.key", "-crldays", "2"], check=True, capture_output=True).stdout


def test_files_for_tls_to_servers_are_looked_into(tmp_path):
    (tmp_path / "key.pem").write_bytes(Authority().key)
    path = tmp_path / "nginx.conf"
    path.write_text("""events {}
        http { server { listen 127.0.0.1:1; location / {
            proxy_pass https://127.0.0.1:2;
            proxy_ssl_trusted_certificate key.pem;
            proxy_ssl_crl key.pem;
            proxy_ssl_verify on;
        } } }""")
    run = subprocess.run([binary(), "check", "-c", path], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f'cannot load certificates "{tmp_path}/key.pem": it holds no certificate' in run.stderr
    assert f'cannot load lists of revocations "{tmp_path}/key.pem": it holds no list of revocations' in run.stderr


WHO = """
    map $arg_who $chain { default ""; one one.crt; two two.crt; gone gone.crt; }
    map $arg_who $key { default ""; one one.key; two two.key; gone gone.key; }
    upstream u { server 127.0.0.1:UP; keepalive 8; }
    proxy_ssl_certificate $chain;
    proxy_ssl_certificate_key $key;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
"""


def test_who_we_are_to_servers(serve_nginx, tmp_path):
    authority = Authority()
    one, two, own = (authority.issue(f"{name}.example") for name in ("one", "two", "own"))
    (tmp_path / "own.pem").write_bytes(own.chain + own.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    context.load_verify_locations(cadata=authority.pem.decode())
    context.verify_mode = ssl.CERT_OPTIONAL

    def who(_, connection):
        shown = connection.getpeercert()
        return response(shown["subjectAltName"][0][1].encode() if shown else b"nobody")

    files = {"one.crt": one.chain, "one.key": one.key, "two.crt": two.chain, "two.key": two.key,
             "locked.key": one.locked_key(b"secret"), "passwords": b"wrong\nsecret\n"}
    with Upstream(who, context=context) as up:
        site = serve_nginx(conf(WHO.replace("UP", str(up.port)), """
            location /named/ { proxy_pass https://u; }
            location /kept/ { proxy_pass https://u; proxy_ssl_certificate_cache max=10 valid=1h; }
            location /locked/ { proxy_pass https://u; proxy_ssl_certificate one.crt;
                                proxy_ssl_certificate_key locked.key; proxy_ssl_password_file passwords; }
        """), files={name: text.decode() for name, text in files.items()})
        for name, shown in [("one", "one.example"), ("two", "two.example"), ("", "nobody")] * 2:
            assert site.get(f"/named/?who={name}").text == shown
        # A connection that was somebody's is nobody else's.
        assert up.connections == 3
        assert site.get("/named/?who=gone").status == 500
        assert "gone.crt" in (site.directory / "error.log").read_text()
        assert site.get("/locked/").text == "one.example"
        assert site.get("/kept/?who=one").text == "one.example"
        for kind in ("crt", "key"):
            (site.directory / f"one.{kind}").write_bytes(files[f"two.{kind}"])
        assert site.get("/named/?who=one").text == "two.example"
        assert site.get("/kept/?who=one").text == "one.example"


def test_certificates_for_servers_that_are_none(tmp_path):
    (tmp_path / "locked.key").write_bytes(Authority().locked_key(b"secret"))
    site = Site(tmp_path, """
        server {
            listen 127.0.0.1:%PORT%;
            location /1 { proxy_pass https://127.0.0.1:1; proxy_ssl_certificate a.crt; }
            location /2 { proxy_pass https://127.0.0.1:1; proxy_ssl_certificate a.crt; proxy_ssl_certificate_key a.key; }
            location /3 { proxy_pass https://127.0.0.1:1; proxy_ssl_certificate_cache valid=1h; }
        }
    """)
    said = site.run("check", "-c", "nginx.conf", "-p", f"{site.directory}/")
    text = said.stdout + said.stderr
    assert said.returncode != 0
    for words in ['no "proxy_ssl_certificate_key" is defined for certificate', "cannot load certificate",
                  '"proxy_ssl_certificate_cache" must have the "max" parameter']:
        assert words in text, text


# A real server behind


def test_a_large_answer_by_tls_is_whole(serve_nginx, tmp_path):
    certificate_, key = certificate(tmp_path, "good.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_, key)
    body = bytes(range(256)) * 4000
    with Upstream(lambda *_: response(body), context=context) as up:
        site = serve_nginx(conf("", f"location / {{ proxy_pass https://127.0.0.1:{up.port}; }}"))
        for _ in range(3):
            assert site.get("/").body == body


def test_gunicorn_over_a_unix_socket(serve_nginx, tmp_path):
    app = textwrap.dedent("""
        def app(environ, start_response):
            body = environ["wsgi.input"].read()
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [environ["PATH_INFO"].encode(), b" ", environ["HTTP_HOST"].encode(), b" %d" % len(body)]
    """)
    (tmp_path / "behind.py").write_text(app)
    path = tmp_path / "g.sock"
    process = subprocess.Popen([sys.executable, "-m", "gunicorn", "-b", f"unix:{path}", "--threads", "4", "behind:app"],
                               cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(path.exists, "gunicorn's socket", timeout=30)
        site = serve_nginx(conf(f"upstream u {{ server unix:{path}; keepalive 4; }}",
                                kept(fields="proxy_set_header Host $host;")))
        for size in itertools.chain(range(0, 5), (100_000,)):
            assert site.request("POST", "/a%20b", body=b"x" * size).text == f"/a b test.example {size}"
        assert site.request("POST", "/c", body=b"x" * 5000, chunked=True).text == "/c test.example 5000"
    finally:
        process.terminate()
        process.wait(20)


def test_an_unknown_host_is_an_error(serve_nginx):
    site = serve_nginx(conf("", "location / { return 200; }"), name="nginx")
    (site.directory / "bad.conf").write_text(
        "events {} http { server { location / { proxy_pass http://no.such.host.invalid; } } "
        "upstream e { } upstream d { server 127.0.0.1:1 wieght=2; } }")
    done = site.run("-t", "-c", "bad.conf", "-p", f"{site.directory}/")
    assert done.returncode != 0
    for words in ('host not found in upstream "no.such.host.invalid"', "no servers are inside upstream",
                  'invalid parameter "wieght=2"'):
        assert words in done.stderr, done.stderr


def test_a_client_that_pauses_its_body_is_no_failure_of_the_server(serve_nginx):
    locations = """
        client_body_timeout 1s; lingering_timeout 1s; proxy_send_timeout 1s;
        location / { proxy_pass http://u; proxy_http_version 1.1; proxy_request_buffering off; }
    """
    with servers(None, None) as ups:
        site = serve_nginx(conf(group(ups), locations))
        with contextlib.ExitStack() as stack:
            paused = [stack.enter_context(site.connect(timeout=20)) for _ in range(4)]
            for client in paused:
                client.send(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100)
            assert [client.response().status for client in paused] == [408] * 4
        assert counts(site, 4) == {"0": 2, "1": 2}
        assert "timed out (110" not in (site.directory / "error.log").read_text()
