"""`fastcgi_pass`, `uwsgi_pass`, `scgi_pass`: what servers are told, and what becomes of their answers. What they share
with `proxy_pass` is tested for all of them at once."""

import re
import ssl
import threading
import time

import pytest
from support.client import Broken
from support.gateway import END, STDERR, STDOUT, Gateway, Raw, end, output, record
from support.server import Site, wait_until
from support.tls import Authority

GATEWAYS = ["fastcgi", "uwsgi", "scgi"]
ALL = ["proxy", *GATEWAYS]
# What packages ship as `fastcgi_params`, with the prefix of each kind.
PARAMS = """
FAMILY_param QUERY_STRING $query_string;
FAMILY_param REQUEST_METHOD $request_method;
FAMILY_param CONTENT_TYPE $content_type;
FAMILY_param CONTENT_LENGTH $content_length;
FAMILY_param SCRIPT_NAME $fastcgi_script_name;
FAMILY_param REQUEST_URI $request_uri;
FAMILY_param DOCUMENT_URI $document_uri;
FAMILY_param DOCUMENT_ROOT $document_root;
FAMILY_param SERVER_PROTOCOL $server_protocol;
FAMILY_param REQUEST_SCHEME $request_scheme;
FAMILY_param HTTPS $https if_not_empty;
FAMILY_param REMOTE_ADDR $remote_addr;
FAMILY_param SERVER_PORT $server_port;
FAMILY_param SERVER_NAME $server_name;
"""


def params(family):
    if family == "proxy":
        return ""
    text = PARAMS.replace("$request_scheme", "$scheme").replace("FAMILY", family)
    # Of SCGI the protocol itself tells the length.
    return "\n".join(line for line in text.splitlines() if family != "scgi" or "CONTENT_LENGTH" not in line)


def place(family, port, path="/", more=""):
    target = f"http://127.0.0.1:{port}" if family == "proxy" else f"127.0.0.1:{port}"
    include = "" if family == "proxy" else f"include {family}_params;"
    return f"location {path} {{ {family}_pass {target}; {include} {more.replace('FAMILY', family)} }}\n"


def server(text, http=""):
    return f"{http}\nserver {{ listen 127.0.0.1:%PORT%; absolute_redirect off;\n{text}\n}}"


@pytest.fixture(params=GATEWAYS)
def family(request):
    return request.param


@pytest.fixture(params=ALL)
def any_family(request):
    return request.param


@pytest.fixture
def site(serve_nginx):
    return lambda family, conf: serve_nginx(conf, files={f"{family}_params": params(family)})


def test_a_request_as_variables(site, family):
    with Gateway(family, name="x") as up:
        more = 'FAMILY_param HTTP_X_SET "set $arg_a"; FAMILY_param HTTP_ACCEPT ""; FAMILY_param EMPTY $arg_none if_not_empty;'
        conf = server(place(family, up.port, more=more) + f"root {'/srv'};")
        one = site(family, conf)
        fields = [("X-Set", "mine"), ("Accept", "a/b"), ("X-Many", "1"), ("X-Many", "2"), ("Cookie", "a=1"),
                  ("Proxy", "http://evil.example"), ("Content-Type", "text/x")]
        response = one.request("POST", "/path/a%20b?a=1&b=2", fields=fields, body=b"the body")
        assert response.status == 200 and response.body == b"x /path/a%20b?a=1&b=2"
        asked = up.seen[0]
        for name, value in {
            "QUERY_STRING": "a=1&b=2", "REQUEST_METHOD": "POST", "CONTENT_TYPE": "text/x", "CONTENT_LENGTH": "8",
            "SCRIPT_NAME": "/path/a b", "REQUEST_URI": "/path/a%20b?a=1&b=2", "DOCUMENT_URI": "/path/a b",
            "DOCUMENT_ROOT": "/srv", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_SCHEME": "http",
            "REMOTE_ADDR": "127.0.0.1", "SERVER_PORT": str(one.port), "HTTP_X_SET": "set 1", "HTTP_X_MANY": "1, 2",
            "HTTP_COOKIE": "a=1", "HTTP_HOST": "test.example",
        }.items():
            assert asked.get(name) == value, name
        assert asked.body == b"the body"
        for name in ("HTTPS", "EMPTY", "HTTP_ACCEPT", "HTTP_PROXY"):
            assert asked.get(name) is None, name
        names = [name for name, _ in asked.pairs]
        assert sorted(names) == sorted(set(names)), "each is told once"


def test_bodies_of_every_kind(site, family):
    with Gateway(family, lambda asked: b"Status: 200\r\n\r\n%d" % len(asked.body)) as up:
        one = site(family, server("client_max_body_size 0; client_body_buffer_size 8k;\n"
                                  + place(family, up.port)
                                  + place(family, up.port, "/stream/", "FAMILY_request_buffering off;")
                                  + place(family, up.port, "/none/", "FAMILY_pass_request_body off; "
                                          "FAMILY_pass_request_headers off; FAMILY_param CONTENT_LENGTH '';"
                                          if family != "scgi" else "scgi_pass_request_body off;")))
        large = bytes(range(256)) * 1200
        for target, body, options in [
            ("/", b"", {}), ("/", b"x" * 7, {}), ("/", large, {}), ("/", large, {"chunked": True}),
            ("/stream/", large, {}), ("/stream/", large, {"chunked": True}),
        ]:
            response = one.request("POST", target, body=body, **options)
            assert (response.status, response.body) == (200, b"%d" % len(body)), (target, options)
            assert up.seen[-1].body == body
        assert one.request("POST", "/none/", body=b"not this").body == b"0"


def test_the_head_of_an_answer(site, family):
    answers = {
        "/plain": (b"Content-Type: a/b\n\nbody", 200, b"body"),
        "/status": (b"Status: 404 Not Here\r\nX-A: b\r\n\r\ngone", 404, b"gone"),
        "/redirect": (b"Location: /there\r\n\r\n", 302, b""),
        "/made": (b"Status: 201\r\nLocation: /there\r\n\r\n", 201, b""),
        "/short": (b"Content-Length: 3\r\n\r\nabcdef", 200, b"abc"),
        "/not-modified": (b"Status: 304\r\n\r\n", 304, b""),
        "/connection": (b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc", 200, b"3\r\nabc"),
    }
    with Gateway(family, lambda asked: answers[asked.get("REQUEST_URI")][0]) as up:
        one = site(family, server(place(family, up.port)))
        for target, (_, status, body) in answers.items():
            response = one.get(target)
            assert (response.status, response.body) == (status, body), target
        assert one.get("/status").reason == "Not Here"
        assert one.get("/status").get("x-a") == "b"
        assert one.get("/redirect").get("location") == "/there"
        if family != "uwsgi":
            assert one.get("/status").get("status") is None


def test_a_status_line_counts_for_uwsgi_and_scgi(site, family):
    with Gateway(family, lambda _: b"HTTP/1.0 418 Teapot\r\nX-A: b\r\n\r\nshort") as up:
        response = site(family, server(place(family, up.port))).get("/")
        if family == "fastcgi":
            assert response.status == 502
        else:
            assert (response.status, response.reason, response.body) == (418, "Teapot", b"short")


def test_what_is_no_answer_is_a_502(site, any_family):
    answers = {
        "/invalid": b"no field\r\n\r\n",
        "/status": b"Status: abc\r\n\r\n",
        "/interim": b"Status: 100 Continue\r\n\r\n",
        "/two": b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "/big": b"X-A: " + b"a" * 20000 + b"\r\n\r\n",
        "/folded": b"X-A: a\r\n b\r\n\r\n",
    }
    with Gateway(any_family, lambda asked: answers[asked.get("REQUEST_URI")]) as up:
        one = site(any_family, server(place(any_family, up.port)))
        for target in answers:
            assert one.get(target).status == 502, target
        # A head that never ends.
        answers["/open"] = b"X-A: b\r\n" if any_family != "proxy" else Raw(b"HTTP/1.1 200 OK\r\nX-A: b\r\n")
        assert one.get("/open").status == 502


def test_what_is_no_record_is_a_502(site):
    head = b"Content-Type: a/b\r\n\r\n"
    answers = {
        "/version": record(STDOUT, head, version=2),
        "/type": record(9, head),
        "/request": record(STDOUT, head, request=7),
        "/end": end(),
        "/empty": record(STDOUT),
        "/end-length": record(STDOUT, b"A: b\r\n") + record(END, b"123456789"),
        "/http": b"HTTP/1.1 200 OK\r\n\r\n",
        "/stderr": record(STDERR, b"x" * 60000) * 100,
    }
    with Gateway("fastcgi", lambda asked: Raw(answers[asked.get("REQUEST_URI")])) as up:
        one = site("fastcgi", server(place("fastcgi", up.port)))
        for target in answers:
            assert one.get(target).status == 502, target
        # What is wrong behind the head cuts the answer, so that it does not pass for a whole one.
        for target, more in {
            "/cut": b"", "/late-type": record(9), "/late-request": record(STDOUT, b"x", request=3),
            "/behind": record(STDOUT) + record(STDOUT, b"more"),
            "/short": record(STDOUT) + end(),
        }.items():
            first = b"Content-Length: 100\r\n\r\npart" if target == "/short" else head + b"part"
            answers[target] = record(STDOUT, first) + more
            with pytest.raises((Broken, ConnectionError)):
                one.get(target)


def test_records_may_be_cut_anywhere(site):
    body = bytes(range(256)) * 20
    head = b"Content-Type: a/b\r\nX-A: b\r\n\r\n"
    whole = (record(STDERR, b"a complaint") + output(head + body, size=700, padding=5) + record(STDERR, b"another")
             + end())

    def answer(asked):
        size = int(asked.get("QUERY_STRING"))
        parts = [Raw(whole[at:at + size]) for at in range(0, 200, size)]
        return [*parts, Raw(whole[len(parts) * size:])]

    with Gateway("fastcgi", answer) as up:
        one = site("fastcgi", server(place("fastcgi", up.port)))
        for size in (1, 2, 3, 7, 8, 9, 11, 31):
            response = one.get(f"/?{size}")
            assert response.body == body and response.get("x-a") == "b", size
        one.wait_log('FastCGI sent in stderr: "a complaint" while reading response header', count=8)
        one.wait_log('FastCGI sent in stderr: "another"', count=8)


def test_complaints_that_are_caught(site):
    def answer(_):
        return Raw(record(STDERR, b"PHP Fatal error: x. \n") + output(b"A: b\r\n\r\nfine") + end())

    with Gateway("fastcgi", answer) as bad, Gateway("fastcgi", name="good") as good:
        http = f"upstream u {{ server 127.0.0.1:{bad.port}; server 127.0.0.1:{good.port} backup; }}"
        catch = 'include fastcgi_params; fastcgi_catch_stderr "Fatal error";'
        one = site("fastcgi", server(
            place("fastcgi", bad.port)
            + place("fastcgi", bad.port, "/caught", 'fastcgi_catch_stderr "Fatal error";')
            + f"location /next {{ fastcgi_pass u; {catch} fastcgi_next_upstream invalid_header; }}", http))
        assert one.get("/").body == b"fine"
        assert one.get("/caught").status == 502
        assert one.get("/next").body == b"good /next"


def test_a_flood_of_complaints_is_bounded(site):
    flood = record(STDERR, b"y" * 50000) * 40
    with Gateway("fastcgi", lambda _: Raw(flood + output(b"A: b\r\n\r\nfine") + flood + end())) as up:
        one = site("fastcgi", server(place("fastcgi", up.port)))
        assert one.get("/").body == b"fine"
        assert one.get("/").body == b"fine"
        lines = [line for line in one.log().splitlines() if "FastCGI sent in stderr" in line]
        assert lines and sum(map(len, lines)) < 400_000


def test_connections_are_kept(site):
    with Gateway("fastcgi", name="k") as up:
        http = f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 4; }}"
        one = site("fastcgi", server(
            "location / { fastcgi_pass u; include fastcgi_params; fastcgi_keep_conn on; }\n"
            "location /closed { fastcgi_pass u; include fastcgi_params; }", http))
        # One connection of a client stays in one event loop, and that has its own.
        with one.connect() as client:
            for number in range(5):
                assert client.request("GET", f"/{number}").body == b"k /%d" % number
            assert client.request("POST", "/post", body=b"b" * 100_000).body == b"k /post"
        assert up.connections == 1 and up.seen[0].keep
        assert one.get("/closed").body == b"k /closed"
        assert not up.seen[-1].keep


def test_a_kept_connection_is_not_used_for_another_protocol(site):
    """The same group behind `fastcgi_pass` and `uwsgi_pass`: what is kept is spoken with in one of them only."""
    with Gateway("fastcgi", name="k") as up:
        http = f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 4; }}"
        one = site("fastcgi", server(
            "location / { fastcgi_pass u; include fastcgi_params; fastcgi_keep_conn on; }\n"
            "location /other { uwsgi_pass u; uwsgi_param A b; uwsgi_read_timeout 500ms; }", http))
        with one.connect() as client:
            assert client.request("GET", "/").status == 200
            assert client.request("GET", "/other").status in (502, 504)
            assert up.connections == 2
            assert client.request("GET", "/").body == b"k /" and len(up.seen) == 2


def test_more_than_was_said_is_not_another_answer(site):
    """Output beyond Content-Length on a kept connection."""
    extra = iter([b"Content-Length: 4\r\n\r\nfirst and more", b"Content-Length: 6\r\n\r\nsecond"])
    with Gateway("fastcgi", lambda _: next(extra)) as up:
        http = f"upstream u {{ server 127.0.0.1:{up.port}; keepalive 4; }}"
        one = site("fastcgi", server(
            "location / { fastcgi_pass u; include fastcgi_params; fastcgi_keep_conn on; }", http))
        with one.connect() as client:
            assert client.request("GET", "/").body == b"firs"
            assert client.request("GET", "/").body == b"second"


def test_script_names_and_path_infos(site):
    def answer(asked):
        return f"A: b\r\n\r\n{asked.get('SCRIPT_NAME')}|{asked.get('PATH_INFO')}".encode()

    with Gateway("fastcgi", answer) as up:
        info = "fastcgi_param PATH_INFO $fastcgi_path_info; fastcgi_index index.php;"
        one = site("fastcgi", server(
            place("fastcgi", up.port, more=info)
            + place("fastcgi", up.port, "~ [.]php", info + r" fastcgi_split_path_info ^(.+?\.php)(/.*)?$;")))
        for target, told in {
            "/": "/index.php|", "/dir/": "/dir/index.php|", "/a": "/a|",
            "/x.php": "/x.php|", "/x.php/more/y": "/x.php|/more/y", "/x.phpx": "/x.phpx|",
        }.items():
            assert one.get(target).text == told, target


def test_uwsgi_has_modifiers_and_a_string(site):
    with Gateway("uwsgi", lambda asked: b"A: b\r\n\r\n%d %d" % asked.modifiers) as up:
        one = site("uwsgi", server(place(
            "uwsgi", up.port, more=r'uwsgi_modifier1 5; uwsgi_modifier2 30; uwsgi_string "";')))
        assert one.get("/").body == b"5 30"


def test_what_is_too_long_for_uwsgi_is_an_error_and_not_for_others(site, family):
    with Gateway(family, lambda asked: b"A: b\r\n\r\n%d" % len(asked.get("HTTP_X_LONG"))) as up:
        one = site(family, server("large_client_header_buffers 8 80k; client_header_buffer_size 80k;\n"
                                  + place(family, up.port)))
        response = one.get("/", fields=[("X-Long", "x" * 70000)])
        if family == "uwsgi":
            assert response.status == 500
            one.wait_log("uwsgi request is too big")
        else:
            assert response.body == b"70000"
        assert one.get("/", fields=[("X-Long", "x" * 7)]).body == b"7"


def test_unix_sockets_and_variables(site, family, tmp_path):
    with Gateway(family, name="u", address=tmp_path / "s") as unix, Gateway(family, name="t") as tcp:
        one = site(family, server(
            f"location / {{ {family}_pass unix:{tmp_path}/s; include {family}_params; }}\n"
            f"location /v {{ {family}_pass 127.0.0.1:$arg_p; include {family}_params; }}\n"
            f"location /n {{ {family}_pass $arg_p; include {family}_params; }}"))
        assert one.get("/").body == b"u /"
        assert one.get(f"/v?p={tcp.port}").body.startswith(b"t /v")
        assert one.get("/v?p=x").status == 500
        assert one.get("/n?p=localhost").status == 500
        assert len(unix.seen) == 1


def test_uwsgi_in_tls(site, tmp_path):
    ca = Authority()
    certificate = ca.issue("up.example")
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    (tmp_path / "up.pem").write_bytes(certificate.chain + certificate.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "up.pem")
    with Gateway("uwsgi", name="s", context=context) as up:
        tls = f"uwsgi_ssl_verify on; uwsgi_ssl_trusted_certificate {tmp_path}/ca.pem;"
        one = site("uwsgi", server(
            f"location / {{ uwsgi_pass suwsgi://127.0.0.1:{up.port}; include uwsgi_params; {tls} "
            "uwsgi_ssl_name up.example; }\n"
            f"location /bad {{ uwsgi_pass suwsgi://127.0.0.1:{up.port}; include uwsgi_params; {tls} "
            "uwsgi_ssl_name other.example; }"))
        assert one.get("/").body == b"s /"
        assert one.get("/bad").status == 502


# What all kinds share.

def test_another_is_asked(site, any_family):
    family = any_family

    def answer(asked):
        return {"/invalid": Raw(b"\x00\x00 no answer\r\n\r\n"), "/closed": None}.get(
            asked.get("REQUEST_URI"), b"Status: 503 Busy\r\n\r\nbusy")

    with Gateway(family, answer) as bad, Gateway(family, name="good") as good:
        http = f"upstream u {{ server 127.0.0.1:{bad.port} max_fails=0; server 127.0.0.1:{good.port} backup; }}"
        target = "http://u" if family == "proxy" else "u"
        include = "" if family == "proxy" else f"include {family}_params;"
        one = site(family, server(
            f"location / {{ {family}_pass {target}; {include} "
            f"{family}_next_upstream error timeout invalid_header http_503; add_header X-S $upstream_status; }}\n"
            f"location /off {{ {family}_pass {target}; {include} {family}_next_upstream off; }}", http))
        for path in ("/invalid", "/closed", "/busy"):
            response = one.get(path)
            assert response.body == f"good {path}".encode(), path
            assert response.get("x-s") in ("502, 200", "503, 200")
        assert one.get("/off").status == 503
        # What was sent and may not be sent twice is not.
        asked = len(good.seen)
        assert one.request("POST", "/closed", body=b"x").status == 502
        assert len(good.seen) == asked


def test_a_short_answer_that_breaks_off_is_replaced_by_anothers(site, any_family):
    family = any_family
    whole = b"Content-Type: text/plain\r\nContent-Length: 2000\r\n\r\n" + b"a" * 2000

    def answer(asked):
        # The head and a part come at once; the rest is late, or does not come.
        first = Gateway._http(whole[:-500]) if family == "proxy" else whole[:-500]
        late = {"fastcgi": record(STDOUT, whole[-500:]) + record(STDOUT) + end()}.get(family, whole[-500:])
        rest = {"/late": late, "/cut": b"", "/more": late[:100]}[asked.get("REQUEST_URI")]
        return [Raw(record(STDOUT, first) if family == "fastcgi" else first), 0.3, Raw(rest)]

    with Gateway(family, answer) as bad, Gateway(family, name="good") as good:
        http = f"upstream u {{ server 127.0.0.1:{bad.port} max_fails=0; server 127.0.0.1:{good.port} backup; }}"
        target = "http://u" if family == "proxy" else "u"
        include = "" if family == "proxy" else f"include {family}_params;"
        place = f"{family}_pass {target}; {include}"
        one = site(family, "error_log %DIR%/error.log info;\n" + server(
            f"location / {{ {place} add_header X-S $upstream_status; }}", http))
        response = one.get("/late")
        assert (response.body, response.get("x-s")) == (b"a" * 2000, "200")
        for path in ("/cut", "/more"):
            response = one.get(path)
            assert (response.body, response.get("x-s")) == (f"good {path}".encode(), "502, 200")
        log = one.directory / "error.log"
        # The client may have left before FastCGI's end has come, which is a line of another level.
        words = "upstream prematurely closed connection while reading upstream, client: "
        wait_until(lambda: log.read_text().count(words) == 2, "both lines")
        asked = len(good.seen)
        # A POST is asked once, and its answer goes on as far as it came.
        with pytest.raises((Broken, OSError)):
            one.request("POST", "/cut", body=b"x")
        assert len(good.seen) == asked


# Of the others, an answer without a length that breaks off looks like a whole one.
@pytest.mark.parametrize("any_family, length", [*((family, b"Content-Length: 200000\r\n") for family in ALL), ("fastcgi", b"")])
def test_the_rest_of_a_long_answer_comes_from_another(site, any_family, length):
    body = bytes(n * n % 251 for n in range(200_000))
    whole = b"Content-Type: text/plain\r\n" + length + b"\r\n" + body

    def cut(_):
        first = Gateway._http(whole[:120_000]) if any_family == "proxy" else whole[:120_000]
        if any_family == "fastcgi":
            first = b"".join(record(STDOUT, first[at:at + 60_000]) for at in range(0, len(first), 60_000))
        return [Raw(first), 0.3]

    with Gateway(any_family, cut) as bad, Gateway(any_family, lambda _: [whole]) as good:
        http = f"upstream u {{ server 127.0.0.1:{bad.port} max_fails=0; server 127.0.0.1:{good.port} backup; }}"
        one = site(any_family, server(place(any_family, bad.port).replace(f"127.0.0.1:{bad.port}", "u"), http))
        response = one.get("/")
        assert (response.status, response.body) == (200, body)
        assert len(bad.seen) == len(good.seen) == 1


def test_an_answer_of_unknown_or_great_length_is_not_held_back(site, any_family):
    go = threading.Event()

    class Slowly(list):
        def __init__(self, length):
            self.head = b"Content-Type: a/b\r\n" + length + b"\r\n"

        def __iter__(self):
            yield self.head + b"a" * 70_000
            go.wait(10)
            yield Raw(b"b" * 30_000) if any_family != "fastcgi" else b"b" * 30_000

    lengths = {"/unknown": b"", "/great": b"Content-Length: 100000\r\n"}
    with Gateway(any_family, lambda asked: Slowly(lengths[asked.get("REQUEST_URI")])) as up, Gateway(any_family) as other:
        http = f"upstream u {{ server 127.0.0.1:{up.port} max_fails=0; server 127.0.0.1:{other.port} backup; }}"
        one = site(any_family, server(place(any_family, up.port).replace(f"127.0.0.1:{up.port}", "u"), http))
        for path, framed in (("/unknown", True), ("/great", False)):
            go.clear()
            with one.connect() as client:
                client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                assert client.head().status == 200
                data = b""
                while len(data) < 60_000:
                    data += client.chunk() if framed else client._exactly(10_000)
                go.set()
                while len(data) < 100_000:
                    data += client.chunk() if framed else client._exactly(10_000)
                assert data == b"a" * 70_000 + b"b" * 30_000


def test_who_leaves_while_an_answer_is_held_back_ends_it(site, any_family):
    gone = threading.Event()
    whole = b"Content-Type: text/plain\r\nContent-Length: 2000\r\n\r\n" + b"a" * 2000

    class Waiting(list):
        def __iter__(self):
            first = Gateway._http(whole[:-500]) if any_family == "proxy" else whole[:-500]
            yield Raw(record(STDOUT, first) if any_family == "fastcgi" else first)
            gone.wait(10)

    with Gateway(any_family, lambda _: Waiting()) as up, Gateway(any_family) as other:
        http = f"upstream u {{ server 127.0.0.1:{up.port} max_fails=0; server 127.0.0.1:{other.port} backup; }}"
        one = site(any_family, "error_log %DIR%/error.log info;\n" + server(
            place(any_family, up.port).replace(f"127.0.0.1:{up.port}", "u"), http))
        with one.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: up.seen, "it is asked")
        wait_until(lambda: "client prematurely closed connection" in (one.directory / "error.log").read_text(), "it is seen")
        gone.set()
        assert not other.seen


def test_errors_are_intercepted(site, any_family):
    with Gateway(any_family, lambda _: b"Status: 404 Nope\r\nContent-Length: 4\r\n\r\ntext") as up:
        one = site(any_family, server(
            "error_page 404 502 = /page; location = /page { return 200 page; }\n"
            + place(any_family, up.port) + place(any_family, up.port, "/i", "FAMILY_intercept_errors on;")))
        assert (one.get("/").status, one.get("/").body) == (404, b"text")
        assert one.get("/i").body == b"page"


def test_a_body_that_was_passed_on_as_it_came_is_whole_for_the_next_or_none(site, any_family):
    with (
        Gateway(any_family, lambda _: b"Status: 404 Nope\r\n\r\nnothing here") as up,
        Gateway(any_family, lambda asked: b"X-A: b\r\n\r\n%d" % len(asked.body)) as other,
    ):
        streams = ("FAMILY_request_buffering off; FAMILY_intercept_errors on; error_page 404 = @other; "
                   "client_body_buffer_size 8k; client_max_body_size 0;")
        one = site(any_family, server(
            place(any_family, up.port, "/named", streams) + place(any_family, 1, "/dead", streams.replace("404", "502"))
            + place(any_family, other.port, "@other", "client_max_body_size 0;")))
        assert one.request("POST", "/named", body=b"x" * 8000).body == b"8000"
        assert one.request("POST", "/dead", body=b"x" * 100_000).body == b"100000"
        asked = len(other.seen)
        assert one.request("POST", "/named", body=b"x" * 100_000).status == 500
        assert len(other.seen) == asked


def test_an_error_that_is_intercepted_is_not_sent_on(site, any_family):
    with Gateway(any_family, lambda _: b"Status: 404 Nope\r\nX-Accel-Redirect: /file\r\n\r\ntext") as up:
        one = site(any_family, server(
            "error_page 404 /page; location = /page { return 200 page; } location = /file { return 200 file; }\n"
            + place(any_family, up.port) + place(any_family, up.port, "/i", "FAMILY_intercept_errors on;")))
        assert (one.get("/").body, one.get("/i").body) == (b"file", b"page")


def test_who_answers_in_anothers_place_gets_the_body(site, any_family):
    # It was lost: uwsgi servers waited for it for ever, others took the POST for an empty one.
    def first(asked):
        if asked.get("REQUEST_URI").startswith("/accel"):
            return b"X-Accel-Redirect: /page\r\n\r\n"
        return b"Status: 404 Nope\r\n\r\nnothing here"

    def second(asked):
        said = f"X-A: b\r\n\r\n{asked.get('REQUEST_METHOD')} {asked.get('CONTENT_LENGTH')} "
        return said.encode() + asked.body

    with Gateway(any_family, first) as up, Gateway(any_family, second) as other:
        intercept = "FAMILY_intercept_errors on; error_page 404 = "
        dead = place(any_family, 1, "/dead", "error_page 502 = @other;")
        one = site(any_family, server(
            place(any_family, up.port, "/accel") + dead
            + place(any_family, up.port, "/named", intercept + "@other;")
            + place(any_family, up.port, "/page-for", intercept + "/page;")
            + place(any_family, other.port, "@other") + place(any_family, other.port, "/page")))
        for size in (3, 100_000):
            body = b"x" * size
            for target, method in [("/named", "POST"), ("/dead", "POST"), ("/page-for", "GET"), ("/accel", "GET")]:
                response = one.request("POST", target, body=body)
                assert response.body == f"{method} {size} ".encode() + body, target


def test_fields_for_us_and_fields_that_are_hidden(site, any_family):
    answers = {
        "/redirect": b"X-Accel-Redirect: /files/f\r\nX-Kept: k\r\nContent-Type: a/b\r\n\r\nnot this",
        "/ignored": b"X-Accel-Redirect: /files/f\r\n\r\nthis",
        "/hidden": b"X-Secret: s\r\nX-Shown: t\r\nX-Accel-Buffering: no\r\nX-Accel-Charset: koi8-r\r\n"
                   b"Content-Type: text/plain\r\n\r\nbody",
    }
    with Gateway(any_family, lambda asked: answers[asked.get("REQUEST_URI")]) as up:
        one = site(any_family, server(
            "location /files/ { internal; alias %DIR%/; } location /named/ { charset koi8-r; }\n"
            + place(any_family, up.port) + place(any_family, up.port, "/ignored",
                                                 "FAMILY_ignore_headers X-Accel-Redirect;")
            + place(any_family, up.port, "/hidden", "FAMILY_hide_header X-Secret; FAMILY_pass_header X-Accel-Buffering;")))
        one.write("f", "the file")
        response = one.get("/redirect")
        assert response.body.strip() == b"the file"
        assert one.get("/ignored").body == b"this"
        response = one.get("/hidden")
        assert (response.get("x-secret"), response.get("x-shown")) == (None, "t")
        assert response.get("x-accel-buffering") == "no"
        assert response.get("content-type") == "text/plain; charset=koi8-r"


def test_large_answers_buffered_and_not(site, any_family):
    body = bytes(range(256)) * 4096
    with Gateway(any_family, lambda _: b"Content-Type: a/b\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as up:
        one = site(any_family, server(
            place(any_family, up.port) + place(any_family, up.port, "/direct", "FAMILY_buffering off;")
            + place(any_family, up.port, "/file", "FAMILY_buffers 2 4k; FAMILY_max_temp_file_size 64m;")))
        for target in ("/", "/direct", "/file"):
            assert one.get(target).body == body, target


def test_pieces_leave_as_they_come_without_buffering(site, any_family):
    go = threading.Event()

    class Slowly(list):
        def __iter__(self):
            head = b"Content-Type: a/b\r\n\r\n"
            yield head + b"first"
            go.wait(10)
            yield b"second" if any_family != "proxy" else Raw(b"second")

    with Gateway(any_family, lambda _: Slowly()) as up:
        one = site(any_family, server(place(any_family, up.port, "/", "FAMILY_buffering off;")))
        with one.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            response = client.head()
            assert response.status == 200 and client.chunk() == b"first"
            go.set()
            assert client.chunk() == b"second"


def test_answers_are_kept(site, any_family):
    count = iter(range(1, 100))

    def answer(asked):
        number = next(count)
        if asked.get("REQUEST_URI") == "/private":
            return b"Cache-Control: private\r\n\r\n%d" % number
        return b"Cache-Control: max-age=60\r\nX-N: %d\r\n\r\nbody %d" % (number, number)

    with Gateway(any_family, answer) as up:
        http = f"{any_family}_cache_path %DIR%/cache keys_zone=z:1m;"
        one = site(any_family, server(place(
            any_family, up.port, more="FAMILY_cache z; add_header X-C $upstream_cache_status;"), http))
        first = one.get("/a", fields=[("If-None-Match", '"x"'), ("Range", "bytes=0-1")])
        wait_until(lambda: one.get("/a").get("x-c") == "HIT", "the answer is kept")
        asked = len(up.seen)
        again = one.get("/a")
        assert (again.body, again.get("x-n"), again.get("x-c")) == (b"body 1", "1", "HIT")
        assert first.get("x-n") == "1" and len(up.seen) == asked
        assert up.seen[0].get("HTTP_IF_NONE_MATCH") is None and up.seen[0].get("HTTP_RANGE") is None
        assert one.get("/b").get("x-c") == "MISS"
        assert [one.get("/private").get("x-c") for _ in range(2)] == ["MISS", "MISS"]
        head = one.request("HEAD", "/a")
        assert (head.status, head.get("x-c")) == (200, "HIT")
        # What is answered to HEAD is not what is answered to GET.
        assert one.request("HEAD", "/h").status == 200
        assert one.get("/h").body.startswith(b"body ")


@pytest.mark.parametrize("said", [
    "GET /a HTTP/1.1\r\nHost: a.example:9999", "GET /a HTTP/1.1\r\nHost: A.example", "GET /a HTTP/1.1\r\nHost: a.example.",
    "GET http://a.example/a HTTP/1.1\r\nHost: evil",
])
def test_a_host_that_is_told_as_it_came_poisons_nobody(site, family, said):
    """Its port and its case were no part of the key, but of `HTTP_HOST`, which pages make their links of."""
    def answer(asked):
        return b"Cache-Control: max-age=60\r\n\r\nat " + asked.get("HTTP_HOST").encode()

    with Gateway(family, answer) as up:
        http = f"{family}_cache_path %DIR%/cache keys_zone=z:1m;"
        one = site(family, server(place(
            family, up.port, more="FAMILY_cache z; add_header X-C $upstream_cache_status;"), http))

        def ask(said):
            with one.connect() as client:
                client.send(f"{said}\r\n\r\n".encode())
                return client.response()

        wait_until(lambda: ask(said).get("x-c") == "HIT", "the answer is kept")
        assert ask("GET /a HTTP/1.1\r\nHost: a.example").text == "at a.example"


def test_head_of_what_is_stale_fetches_what_get_gets(site, family):
    # HEAD was asked in the background, and what came of it thrown away.
    count = iter(range(1, 100))

    def answer(asked):
        return b"Cache-Control: max-age=1\r\n\r\nbody %d" % next(count)

    with Gateway(family, answer) as up:
        http = f"{family}_cache_path %DIR%/cache keys_zone=z:1m;"
        more = """FAMILY_cache z; FAMILY_cache_use_stale updating; FAMILY_cache_background_update on;
            add_header X-C $upstream_cache_status;"""
        one = site(family, server(place(family, up.port, more=more), http))
        assert one.get("/a").body == b"body 1"
        time.sleep(2.1)
        assert one.request("HEAD", "/a").get("x-c") == "STALE"
        wait_until(lambda: len(up.seen) == 2, "it to be fetched")
        assert up.seen[1].get("REQUEST_METHOD") == "GET"
        wait_until(lambda: one.request("HEAD", "/a").get("x-c") == "HIT", "it to be kept")
        assert one.get("/a").body == b"body 2"


def test_answers_become_files(site, any_family):
    with Gateway(any_family, name="x") as up:
        more = "FAMILY_store %DIR%/files$uri; FAMILY_store_access user:rw group:r;"
        one = site(any_family, server(place(any_family, up.port, more=more)
                                      + place(any_family, up.port, "/off/", more="FAMILY_store off;")))
        for target in ["/off/a", "/a/b"]:
            assert one.get(target).text == f"x {target}"
        path = one.directory / "files/a/b"
        wait_until(path.exists, "the file")
        assert (path.read_text(), path.stat().st_mode & 0o777) == ("x /a/b", 0o640)
        assert not (one.directory / "files/off").exists()


def test_an_answer_that_broke_off_is_not_kept(site):
    """FastCGI without an end is no whole answer, though nobody said how long it would be."""
    answers = iter([Raw(record(STDOUT, b"Cache-Control: max-age=60\r\n\r\nhalf")),
                    Raw(output(b"Cache-Control: max-age=60\r\n\r\nwhole") + end())])
    with Gateway("fastcgi", lambda _: next(answers)) as up:
        http = "fastcgi_cache_path %DIR%/cache keys_zone=z:1m;"
        one = site("fastcgi", server(place("fastcgi", up.port, more="fastcgi_cache z;"), http))
        with pytest.raises((Broken, ConnectionError)):
            one.get("/")
        assert one.get("/").body == b"whole"


def test_time_outs_are_504(site, any_family):
    with Gateway(any_family, lambda _: [3.0, b"A: b\r\n\r\nlate"]) as up:
        one = site(any_family, server(place(any_family, up.port, more="FAMILY_read_timeout 300ms;")))
        begun = time.monotonic()
        assert one.get("/").status == 504
        assert time.monotonic() - begun < 2.9


def test_a_configuration_that_is_none(tmp_path):
    conf = """
        server {
            listen 127.0.0.1:%PORT%;
            location /1 { fastcgi_pass localhost; }
            location /2 { fastcgi_split_path_info ^(.+)$; fastcgi_pass 127.0.0.1:9000; }
            location /3 { uwsgi_modifier1 300; uwsgi_pass 127.0.0.1:9000; }
            location /4 { scgi_param A b c; scgi_pass 127.0.0.1:9000; }
            location /5 { uwsgi_pass 127.0.0.1:9000; scgi_pass 127.0.0.1:9000; }
            location /6 { fastcgi_buffers 1 4k; }
        }
    """
    site = Site(tmp_path, conf)
    said = site.run("check", "-c", "nginx.conf", "-p", f"{site.directory}/")
    text = said.stdout + said.stderr
    assert said.returncode != 0
    for words in [
        'no port in upstream "localhost"', "must have 2 captures", "value must be between 0 and 255",
        'invalid parameter "c"', '"scgi_pass" directive is duplicate', 'there must be at least 2 "fastcgi_buffers"',
    ]:
        assert words in text, words


def test_the_length_of_an_answer_to_head_is_logged_once(site, family):
    # It was there twice where the answer's end came after its head.
    said = [b"Content-Type: text/plain\r\nContent-Length: 69\r\n\r\n", 0.2, b""]
    with Gateway(family, lambda asked: said) as up:
        one = site(family, server(place(family, up.port) + "access_log %DIR%/length.log length;",
                                  "log_format length '$request_method $sent_http_content_length';"))
        response = one.request("HEAD", "/")
        assert (response.status, response.all("Content-Length")) == (200, ["69"])
        log = one.directory / "length.log"
        (line,) = wait_until(lambda: re.findall("^HEAD.*", log.read_text(), re.MULTILINE), "the line")
        assert line == "HEAD 69"
