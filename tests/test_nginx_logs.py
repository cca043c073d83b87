"""Access logs and error logs of an nginx.conf: formats, conditions, buffers, names, servers of syslog, levels."""

import gzip
import json
import os
import re
import signal
import socket
import threading
import time

import pytest
from support import build, wait_until

ALL = """
    log_format plain '$request_method $uri "$http_x_a" [$arg_a] $status $body_bytes_sent';
    log_format json escape=json '{"a":"$http_x_a","none":"$http_none","uri":"$uri"}';
    log_format raw escape=none '<$http_x_a><$http_none>';
    log_format split 'one ' 'two ${status}three';
    map $arg_quiet $loud { default 1; yes 0; empty ""; }
    server {
        listen 127.0.0.1:%PORT%;
        location / { access_log %DIR%/plain.log plain; return 200 "hello"; }
        location /json { access_log %DIR%/json.log json; return 200; }
        location /raw { access_log %DIR%/raw.log raw; return 200; }
        location /split { access_log %DIR%/split.log split; return 204; }
        location /combined { access_log %DIR%/combined.log; return 200 "12345"; }
        location /if { access_log %DIR%/if.log plain if=$loud; return 200; }
        location /off { access_log off; return 200; }
        location /two { access_log %DIR%/two-a.log plain; access_log %DIR%/two-b.log raw; return 200; }
        location /by { root %DIR%; access_log %DIR%/by/$arg_site.log plain; return 200; }
        location /deny {
            root %DIR%; disable_symlinks on from=%DIR%; access_log %DIR%/deny/$arg_dir$arg_site.log plain; return 200;
        }
        location /owner {
            root %DIR%; disable_symlinks if_not_owner; access_log %DIR%/deny/$arg_dir$arg_site.log plain; return 200;
        }
        location /kept {
            root %DIR%; access_log %DIR%/deny/$arg_dir$arg_site.log plain; open_log_file_cache max=10 min_uses=1;
            location /kept/deny { disable_symlinks on from=%DIR%; return 200; }
            return 200;
        }
        location /buffer { access_log %DIR%/buffer.log plain buffer=64k; return 200; }
        location /flush { access_log %DIR%/flush.log plain buffer=64k flush=300ms; return 200; }
        location /full { access_log %DIR%/full.log plain buffer=1k; return 200; }
        location /gzip { access_log %DIR%/log.gz plain gzip=9 flush=200ms; return 200; }
    }
"""


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(ALL, files={"by/kept": ""})


def read(server, name):
    try:
        return (server.directory / name).read_bytes()
    except FileNotFoundError:
        return b""


def lines(server, name, count):
    """The log once it has so many lines."""
    wait_until(lambda: read(server, name).count(b"\n") >= count, f"{count} lines in {name}: {read(server, name)!r}")
    return read(server, name).decode("latin-1").splitlines()


# Formats.

def test_a_format_with_variables(server):
    server.get("/plain/x?a=1%202", {"X-A": 'q"b\\s\té'.encode().decode("latin-1")})
    server.get("/plain/y")
    first, second = lines(server, "plain.log", 2)[:2]
    # What is not printable, the quotation mark and the backslash are escaped; what is not there is a dash.
    assert first == r'GET /plain/x "q\x22b\x5Cs\x09\xC3\xA9" [1%202] 200 5'
    assert second == 'GET /plain/y "-" [-] 200 5'


def test_escaped_for_json(server):
    server.get("/json/%22%5c", {"X-A": 'q"b\\s\té'.encode().decode("latin-1")})
    line = lines(server, "json.log", 1)[0].encode("latin-1")
    assert json.loads(line) == {"a": 'q"b\\s\té', "none": "", "uri": '/json/"\\'}


def test_not_escaped(server):
    server.get("/raw", {"X-A": 'q"b\\s'})
    assert lines(server, "raw.log", 1)[0] == '<q"b\\s><>'


def test_the_parts_of_a_format_are_one(server):
    server.get("/split")
    assert lines(server, "split.log", 1)[0] == "one two 204three"


def test_combined_is_there_without_being_said(server):
    server.get("/combined?x", {"Referer": "http://other.example/", "User-Agent": 'agent "x"'})
    line = lines(server, "combined.log", 1)[0]
    assert re.fullmatch(
        r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /combined\?x HTTP/1\.1" 200 5 '
        r'"http://other\.example/" "agent \\x22x\\x22"', line,
    ), line


def test_a_client_writes_no_lines_of_its_own(server):
    before = len(lines(server, "plain.log", 0))
    with server.connect() as client:
        client.send(b"GET /plain/%0a127.0.0.1 HTTP/1.1\r\nHost: t\r\nX-A: a\r\nConnection: close\r\n\r\n")
        client.response()
    line = lines(server, "plain.log", before + 1)[before]
    assert line == r'GET /plain/\x0A127.0.0.1 "a" [-] 200 5'


# Where and when.

def test_a_condition(server):
    for query in ("quiet=yes", "quiet=empty", "a=said", "quiet=yes&a=again"):
        server.get(f"/if?{query}")
    # The last request is answered, so that the ones before have been logged or not.
    server.get("/if?a=last")
    logged = lines(server, "if.log", 2)
    assert [re.search(r"\[(.*)\]", line)[1] for line in logged] == ["said", "last"]


def test_several_logs_and_none(server):
    server.get("/two", {"X-A": "x"})
    server.get("/off")
    assert lines(server, "two-a.log", 1) == ['GET /two "x" [-] 200 0']
    assert lines(server, "two-b.log", 1) == ["<x><>"]
    assert b"/off" not in read(server, "plain.log")


def test_a_variable_in_the_name(server):
    for site in ("a.example", "b.example", "a.example"):
        server.get(f"/by?site={site}")
    assert len(lines(server, "by/a.example.log", 2)) == 2
    assert len(lines(server, "by/b.example.log", 1)) == 1


def test_names_without_end_keep_no_files_open(server):
    def descriptors():
        return len(os.listdir(f"/proc/{server.edge()}/fd"))

    before = descriptors()
    with server.connect() as client:
        for number in range(400):
            client.send(build(target=f"/by?site=many{number}"))
            assert client.response().status == 200
    wait_until(lambda: len(list((server.directory / "by").glob("many*"))) == 400, "a file for each")
    assert descriptors() - before < 100


def test_a_variable_does_not_lead_out_of_the_directory(server):
    assert server.get("/by?site=../outside").status == 200
    server.wait_log(r"by/\.\./outside\.log\\?\" is not written: a variable made a `\.\.` in it")
    assert not (server.directory / "outside.log").exists()


def test_files_by_variables_obey_disable_symlinks(server):
    """As in nginx: whoever may write below the directory must not choose another file for the log."""
    top = server.directory / "deny"
    (top / "real").mkdir(parents=True)
    (top / "link").symlink_to("real")
    for name in ("out", "dangling", "kept"):
        (top / f"{name}.log").symlink_to(server.directory / f"outside-{name}.log")
    (server.directory / "outside-out.log").touch()
    # Of a directory the owner counts with `if_not_owner`; of the file itself nothing does that is a link.
    wanted = {"/deny": ["real/a"], "/owner": ["real/b", "link/c"]}
    for place, names in wanted.items():
        for name in ["real/a", "real/b", "link/c", "out", "dangling"]:
            if name in names or not name.startswith("real"):
                directory, _, site = name.rpartition("/")
                assert server.get(f"{place}?dir={directory + '/' if directory else ''}&site={site}").status == 200
    assert sorted(path.name for path in (top / "real").iterdir()) == ["a.log", "b.log", "c.log"]
    for name in ("a", "b", "c"):
        assert len(lines(server, f"deny/real/{name}.log", 1)) == 1
    assert read(server, "outside-out.log") == b"" and not (server.directory / "outside-dangling.log").exists()
    # What was opened where links are followed stays open, but not for others.
    for place, count in [("/kept", 1), ("/kept/deny", 1), ("/kept", 2)]:
        server.get(f"{place}?site=kept")
        assert len(lines(server, "outside-kept.log", count)) == count, place



# Buffers.

def test_a_buffer_is_written_when_it_is_full(server):
    size = len('GET /full "-" [-] 200 0\n')
    for _ in range(1024 // size):
        server.get("/full")
    assert read(server, "full.log") == b""
    for _ in range(3):
        server.get("/full")
    assert len(lines(server, "full.log", 1024 // size)) >= 1024 // size


def test_a_buffer_is_written_when_its_time_has_come(server):
    begun = time.monotonic()
    server.get("/flush")
    early = read(server, "flush.log")
    # On a machine that stands still meanwhile it may have been written rightly.
    assert early == b"" or time.monotonic() - begun > 0.3
    lines(server, "flush.log", 1)


def test_a_compressed_log_is_whole_at_every_moment(server):
    for number in range(3):
        server.get(f"/gzip?a={number}")
        wait_until(lambda count=number: text_of_gzip(server).count("\n") > count, "the line")
    assert [line[-8:] for line in text_of_gzip(server).splitlines()] == [f"[{n}] 200 0"[-8:] for n in range(3)]


def text_of_gzip(server):
    return gzip.decompress(read(server, "log.gz") or gzip.compress(b"")).decode()


def test_a_buffer_is_written_at_the_end(serve_nginx):
    server = serve_nginx("server { listen 127.0.0.1:%PORT%; access_log %DIR%/end.log combined buffer=64k; return 200; }")
    server.get("/last")
    assert read(server, "end.log") == b""
    server.stop()
    assert b"GET /last " in read(server, "end.log")


def test_logs_are_opened_again(serve_nginx):
    server = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT%;
            root %DIR%;
            location / { access_log %DIR%/a.log; return 200; }
            location /by { access_log %DIR%/$arg_x.log; return 200; }
            location /buffer { access_log %DIR%/buffer.log combined buffer=64k; return 200; }
        }
    """)
    for target in ("/1", "/by?x=b", "/buffer/1"):
        server.get(target)
    lines(server, "a.log", 1)
    lines(server, "b.log", 1)
    for name in ("a", "b", "buffer"):
        (server.directory / f"{name}.log").rename(server.directory / f"{name}.old")
    server.signal(signal.SIGUSR1)
    wait_until(lambda: (server.directory / "a.log").exists() and (server.directory / "buffer.log").exists(), "new files")
    # The master makes them; until the edge has opened its own anew, it writes to the old one, as nginx's workers do.
    for name in ("a", "b", "buffer"):
        old = server.directory / f"{name}.old"
        wait_until(lambda old=old: not server.edge_has_open(old), f"the edge to let go of {old}")
    server.get("/2")
    server.get("/by?x=b")
    assert "GET /2 " in lines(server, "a.log", 1)[0]
    assert "GET /by?x=b " in lines(server, "b.log", 1)[0]
    assert len(read(server, "b.old").splitlines()) == 1
    # What was gathered before is not lost.
    wait_until(lambda: b"GET /buffer/1 " in read(server, "buffer.log") + read(server, "buffer.old"), "the buffer")


# Servers of syslog.

class Collector:
    """A syslog server: keeps what comes."""

    def __init__(self, family, address):
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(0.1)
        self.messages = []
        self.running = True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.running:
            try:
                self.messages.append(self.socket.recv(65536).decode("latin-1"))
            except TimeoutError:
                pass

    def wait(self, pattern):
        return wait_until(lambda: next((m for m in list(self.messages) if re.search(pattern, m)), None), pattern)

    def close(self):
        self.running = False
        self.thread.join()
        self.socket.close()


@pytest.fixture
def udp():
    collector = Collector(socket.AF_INET, ("127.0.0.1", 0))
    yield collector
    collector.close()


def test_an_access_log_goes_to_syslog_by_udp(serve_nginx, udp):
    port = udp.socket.getsockname()[1]
    server = serve_nginx(f"""
        log_format short '$request_method $uri $status';
        server {{
            listen 127.0.0.1:%PORT%;
            location / {{
                access_log syslog:server=127.0.0.1:{port},facility=local3,severity=notice,tag=web short;
                return 200;
            }}
            location /plain {{ access_log syslog:server=127.0.0.1:{port},nohostname short; return 200; }}
        }}
    """)
    server.get("/a%0ab")
    # local3 is 19, notice 5.
    host = re.escape(socket.gethostname())
    message = udp.wait("web: ")
    assert re.fullmatch(rf"<157>\w{{3}} [ \d]\d \d\d:\d\d:\d\d {host} web: GET /a\\x0Ab 200", message), message
    server.get("/plain")
    message = udp.wait("/plain")
    assert re.fullmatch(r"<190>\w{3} [ \d]\d \d\d:\d\d:\d\d nginx: GET /plain 200", message), message


def test_logs_go_to_syslog_by_a_unix_socket(serve_nginx, tmp_path):
    collector = Collector(socket.AF_UNIX, str(tmp_path / "log.sock"))
    try:
        server = serve_nginx(f"""
            server {{
                listen 127.0.0.1:%PORT%;
                access_log syslog:server=unix:{tmp_path}/log.sock,tag=access;
                error_log syslog:server=unix:{tmp_path}/log.sock,tag=errors info;
                location / {{ return 200; }}
                location /denied {{ deny all; }}
            }}
        """)
        server.get("/denied")
        assert collector.wait("access: .*GET /denied .* 403 ").startswith("<190>")
        # An error has its own severity: local7 is 23, error 3.
        message = collector.wait("errors: .*access forbidden by rule")
        assert message.startswith("<187>") and ' [error] ' in message
        assert ', client: 127.0.0.1, server: , request: "GET /denied HTTP/1.1"' in message
    finally:
        collector.close()


def test_a_syslog_server_that_is_gone_stops_nothing(serve_nginx, tmp_path):
    server = serve_nginx(f"""
        server {{ listen 127.0.0.1:%PORT%; access_log syslog:server=unix:{tmp_path}/none.sock; return 200 fine; }}
    """)
    for _ in range(50):
        assert server.get("/").text == "fine"
    collector = Collector(socket.AF_UNIX, str(tmp_path / "none.sock"))
    try:
        wait_until(lambda: server.get("/there").text == "fine" and any("/there" in m for m in collector.messages),
                   "the server that came back")
    finally:
        collector.close()


# Error logs.

LEVELS = ["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"]


def test_each_error_log_has_its_level(serve_nginx):
    logs = "\n".join(f"error_log %DIR%/{level}.log {level};" for level in LEVELS)
    server = serve_nginx(f"""
        limit_req_zone $arg_key zone=one:1m rate=1r/m;
        server {{
            listen 127.0.0.1:%PORT%;
            {logs}
            location /info {{ limit_req zone=one; limit_req_log_level info; }}
            location /warn {{ limit_req zone=one; limit_req_log_level warn; }}
            location /error {{ limit_req zone=one; }}
        }}
    """)
    for level in ("info", "warn", "error"):
        for _ in range(2):
            server.get(f"/{level}?key={level}")
    wait_until(lambda: b"[error]" in read(server, "error.log"), "the last")
    for at, least in enumerate(LEVELS):
        text = read(server, f"{least}.log").decode()
        for level in ("info", "warn", "error"):
            # Also other messages than that of the limit may have the level.
            assert bool(re.search(rf"\[{level}\] .*limiting requests", text)) == (LEVELS.index(level) >= at), (least, level)
        assert ("[debug]" in text) == (least == "debug")


def test_a_message_says_whose_request_it_is_about(serve_nginx):
    server = serve_nginx("server { listen 127.0.0.1:%PORT%; server_name a.example; location / { deny all; } }")
    server.get("/x?y", {"Referer": 'http://r.example/"'})
    server.wait_log(
        r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ access forbidden by rule, client: 127\.0\.0\.1, "
        r'server: a\.example, request: "GET /x\?y HTTP/1\.1", host: "test\.example", referrer: "http://r\.example/'
    )


def test_debug_tells_which_location_answers(serve_nginx):
    server = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT%;
            error_log %DIR%/debug.log debug;
            location = /exact { return 200; }
            location ^~ /first/ { return 200; }
            location ~ ^/[0-9]+$ { return 200; }
            location / { return 200; }
        }
    """)
    for target in ("/exact", "/first/x", "/12", "/other?x"):
        server.get(target)
    wait_until(lambda: b'"/other?x"' in read(server, "debug.log"), "the last request")
    text = read(server, "debug.log").decode()
    for name, path in (("=/exact", "/exact"), ("^~ /first/", "/first/x"), ("~ ^/[0-9]+$", "/12"), ("/", "/other")):
        assert re.search(rf'\[debug\] \d+#\d+: \*\d+ using configuration "{re.escape(name)}" for "{path}"$', text, re.M)
    assert 'http request line: "GET /exact HTTP/1.1"' in text
    assert 'http finalize request: 200, "/other?x"' in text


@pytest.mark.parametrize("who, told", [
    ("127.0.0.1", True), ("127.0.0.0/8", True), ("192.0.2.1", False), ("unix:", False), ("::1", False),
])
def test_debug_connection_tells_all_about_some(serve_nginx, who, told):
    server = serve_nginx(f"""
        events {{ debug_connection {who}; }}
        http {{
            access_log off;
            server {{ listen 127.0.0.1:%PORT%; error_log %DIR%/some.log emerg; location / {{ deny all; }} }}
        }}
    """)
    assert server.get("/x").status == 403
    if told:
        wait_until(lambda: b'http finalize request: 403, "/x"' in read(server, "some.log"), "all about it")
        assert b"access forbidden by rule" in read(server, "some.log")
    assert bool(read(server, "some.log")) == told


SAYS = """
import logging

def application(environ, start_response):
    log = logging.getLogger("gunicorn.error")
    log.info("an info")
    log.warning("a warning")
    log.error("an error")
    start_response("200 OK", [])
    return [b"ok"]
"""


@pytest.mark.parametrize("main, block, said", [
    ("error_log %DIR%/error.log info;", "", "info"),
    ("error_log %DIR%/error.log notice;", "", "info"),
    ("error_log %DIR%/error.log warn;", "", "warning"),
    ("error_log %DIR%/error.log;", "", "error"),
    ("error_log %DIR%/error.log crit;", "loglevel warning;", "warning"),
    ("error_log %DIR%/error.log crit;", "settings own.py;", "info"),
    ("error_log syslog:server=127.0.0.1:9 debug; error_log stderr warn;", "", "warning"),
    ("", "", "info"),
])
def test_applications_log_from_the_level_of_error_log_on(serve_nginx, main, block, said):
    server = serve_nginx(
        f"{main}\nevents {{}}\nhttp {{ access_log off; app one {{ wsgi says:application; directory %DIR%; {block} }}\n"
        "server { listen 127.0.0.1:%PORT%; location / { app_pass one; } } }",
        files={"says.py": SAYS, "own.py": "loglevel = 'info'\n"}, python=True)
    assert server.get("/").text == "ok"
    log = server.directory / "error.log"
    text = (lambda: log.read_text() + server.log()) if log.exists() else server.log
    wait_until(lambda: "an error" in text(), "its last word")
    words = ["Booting worker", "an info", "a warning", "an error"]
    expected = {"info": words, "warning": words[2:], "error": words[3:]}[said]
    assert [word for word in words if word in text()] == expected, text()


def test_standard_error_stays_where_it_is_if_it_is_logged_to(serve_nginx):
    server = serve_nginx("""
        error_log %DIR%/main.log;
        events {}
        http {
            access_log off;
            server {
                listen 127.0.0.1:%PORT%;
                location / { deny all; }
                location /stderr { error_log stderr; deny all; }
            }
        }
    """)
    server.get("/file")
    server.get("/stderr")
    server.wait_log("GET /stderr")
    assert "GET /file" not in server.log()
    assert b"GET /file" in read(server, "main.log") and b"GET /stderr" not in read(server, "main.log")


def test_a_connection_that_the_configuration_closes_is_444_in_the_log(serve_nginx):
    site = serve_nginx("""
        log_format short "$request_uri $status";
        server {
            listen 127.0.0.1:%PORT%;
            access_log %DIR%/short.log short;
            location /closed { return 444; }
        }
    """)
    with site.connect() as client:
        client.send(build("GET", "/closed"))
        assert client.end() == "eof"
    wait_until(lambda: "/closed 444\n" in (site.directory / "short.log").read_text(), "the line")


def test_the_request_line_is_as_the_client_has_sent_it(serve_nginx):
    server = serve_nginx("""
        log_format line '$request|$request_method|$status';
        server {
            listen 127.0.0.1:%PORT%;
            access_log %DIR%/line.log line;
            error_log %DIR%/info.log info;
            error_page 400 /page;
            error_page 403 405 =200 /page;
            location / { return 200; }
            location /page { return 200 "$status"; }
            location /deny { deny all; }
            location /named { error_page 404 = @named; return 404; }
            location @named { return 200; }
        }
    """)
    sent = [
        (b"POST /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
         "POST /deny HTTP/1.1|GET|200"),
        (b"POST /named HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
         "POST /named HTTP/1.1|POST|200"),
        (b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: a\r\n\r\n", "PUT /x HTTP/1.1|GET|400"),
        (b"BAD\r\n\r\n", "BAD|GET|400"),
        (b"\r\nGET /a b HTTP/1.1\r\nHost: secret\r\n\r\n", "GET /a b HTTP/1.1|GET|400"),
        (b"\x16\x03\x01\x02\"\\\r\nX-Next: line\r\n\r\n", r"\x16\x03\x01\x02\x22\x5C|GET|400"),
        (b"G\xffT /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n", None),
    ]
    for head, expected in sent:
        with server.connect() as client:
            client.send(head)
            client.response()
        if expected is None:
            wait_until(lambda: any(line.startswith(rb"G\xFFT /yyy") and len(line) < 9000
                                   for line in read(server, "line.log").splitlines()), "a long line, cut")
        else:
            wait_until(lambda: expected.encode() in read(server, "line.log").splitlines(), expected)
    wait_until(lambda: b', request: "BAD"' in read(server, "info.log"), "the line in the error log")


def test_what_the_head_says_of_length_and_connection_is_known_to_the_log(serve_nginx):
    site = serve_nginx(r"""
        log_format of '$uri $sent_http_content_length $sent_http_transfer_encoding $sent_http_connection $sent_http_keep_alive';
        server {
            listen 127.0.0.1:%PORT%;
            root %DIR%;
            access_log %DIR%/of.log of;
            location /text { return 200 "hello"; }
            location /none { return 204; }
            location /ssi.html { ssi on; }
            location /told { keepalive_timeout 60s 20s; return 200 "told"; }
        }
    """, files={"file": "0123456789", "ssi.html": "<!--#echo var='uri' --><!--#include virtual='/file' -->" + "x" * 70_000})
    expected = []
    with site.connect() as client:
        for method, target, line in (
            ("GET", "/file", "10 - keep-alive -"),
            ("HEAD", "/file", "10 - keep-alive -"),
            ("GET", "/text", "5 - keep-alive -"),
            ("GET", "/none", "- - keep-alive -"),
            ("GET", "/told", "4 - keep-alive timeout=20"),
            ("GET", "/ssi.html", None),
        ):
            answer = client.request(method, target)
            if line is None:
                line = f"{answer.get('Content-Length', '-')} {answer.get('Transfer-Encoding', '-')} keep-alive -"
            expected.append(f"{target} {line}")
        client.request("GET", "/text", {"Connection": "close"})
        expected.append("/text 5 - close -")
    log = site.directory / "of.log"

    def lines():
        # Without that of whoever looked whether it is there.
        return [line for line in log.read_text().splitlines() if line.startswith("/")]

    wait_until(lambda: len(lines()) == len(expected), "all lines")
    assert lines() == expected


def test_a_page_knows_the_status_that_it_is_for(serve_nginx):
    server = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT%;
            error_page 404 /page;
            error_page 403 =402 /page;
            error_page 410 = /page;
            error_page 500 @page;
            location /page { return 200 "$status"; }
            location @page { return 200 "named $status"; }
            location /403 { return 403; }
            location /410 { return 410; }
            location /500 { return 500; }
        }
    """)
    for target, status, text in (("/none", 404, "404"), ("/403", 402, "402"), ("/410", 200, "200"),
                                 ("/500", 500, "named 500"), ("/page", 200, "200")):
        response = server.get(target)
        assert (response.status, response.text) == (status, text), target


def test_a_log_in_memory_holds_the_last_messages(serve_nginx):
    server = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT%;
            error_log memory:4k info;
            location / { deny all; }
        }
    """)

    def memory():
        found = []
        for pid in (server.process.pid, server.edge()):
            for number in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{number}"
                try:
                    if os.readlink(path).startswith("/memfd:error_log"):
                        with open(path, "rb") as file:
                            found.append(file.read())
                except FileNotFoundError:
                    pass
        return b"".join(found)

    server.get("/first")
    wait_until(lambda: b'access forbidden by rule, client: 127.0.0.1, server: , request: "GET /first' in memory(), "a line")
    for number in range(100):
        server.get(f"/next-{number}")
    wait_until(lambda: b"GET /next-99 " in memory(), "the last line")
    text = memory()
    assert len(text) <= 3 * 4096 and b"GET /first" not in text and b"GET /next-98 " in text


def test_what_is_too_large_or_too_late_is_told_in_nginxs_words_with_the_limit(serve_nginx):
    site = serve_nginx("""
        error_log stderr info;
        server {
            listen 127.0.0.1:%PORT%;
            server_name shop;
            client_max_body_size 10;
            client_header_timeout 1s;
            large_client_header_buffers 1 1k;
            client_body_buffer_size 1k;
            location / { proxy_pass http://127.0.0.1:9; }
        }
    """)
    long = b"x" * 1500
    for data, words in [
        (b"POST /up HTTP/1.1\r\nHost: shop\r\nContent-Length: 123456\r\n\r\n",
         r'client intended to send too large body: 123456 bytes \(client_max_body_size 10\), client: 127.0.0.1, '
         r'server: shop, request: "POST /up HTTP/1.1", host: "shop"'),
        (b"POST /up HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
         r"client intended to send too large chunked body: client_max_body_size is 10 bytes, client"),
        (b"GET /" + long, r"client sent too long URI \(large_client_header_buffers allow 1024 bytes\) "
                          r"while reading client request line, client"),
        (b"GET /one HTTP/1.1\r\nHost: shop\r\nA: " + long,
         r'client sent too long header line: "A: x{61}\.\.\." \(large_client_header_buffers allow 1024 bytes\) '
         r'while reading client request headers, client: .* "GET /one HTTP/1.1", host: "shop"'),
        (b"GET /late HTTP/1.1\r\nHo",
         r"client timed out \(110: Connection timed out\) \(client_header_timeout 1s\) "
         r"while reading client request headers, .*GET /late"),
    ]:
        with site.connect() as client:
            client.send(data)
            client.response()
        site.wait_log(words)


HEADS = """
    error_log stderr info;
    log_format heads '$status $connection_requests $request_length $http_user_agent "$request"';
    server {
        listen 127.0.0.1:%PORT%;
        server_name first;
        access_log %DIR%/heads.log heads;
        keepalive_timeout 2s;
        client_header_timeout 1s;
        location / { return 200 "ok"; }
        location /up { proxy_pass http://127.0.0.1:9; }
    }
    server { listen 127.0.0.1:%PORT%; server_name second; access_log %DIR%/second.log heads;
             error_page 400 =402 /bad; location = /bad { return 200 "$host $http_x_a $status"; } }
"""
LINE, FIELDS = "while reading client request line", "while reading client request headers"


@pytest.fixture(scope="module")
def heads(serve_nginx_module):
    return serve_nginx_module(HEADS)


@pytest.mark.parametrize("data, status, length, words", [
    # All of it is what nginx 1.22.1 writes.
    (b"get / HTTP/1.1\r\nHost: t\r\n\r\n", 400, 0, f"client sent invalid method {LINE}"),
    (b"\x16\x03\x01\r\n", 400, 0, f"client sent invalid method {LINE}"),
    (b"GET\r\n\r\n", 400, 0, f"client sent invalid method {LINE}"),
    (b"GET / HTTX/1.1\r\n\r\n", 400, 0, f"client sent invalid request {LINE}"),
    (b"GET /\x01 HTTP/1.1\r\n\r\n", 400, 0, f"client sent invalid request {LINE}"),
    (b"GET / HTTP/3.0\r\n\r\n", 505, 0, f"client sent invalid version {LINE}"),
    (b"GET /../x HTTP/1.1\r\nHost: t\r\n\r\n", 400, None, f"client sent invalid request {LINE}"),
    (b"GET http://a..b/ HTTP/1.1\r\nHost: t\r\n\r\n", 400, None, f"client sent invalid host in request line {LINE}"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, 18, f'client sent HTTP/1.1 request without "Host" header {FIELDS}'),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, None, f"client sent invalid host header {FIELDS}"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, 34,
     f'client sent duplicate host header: "Host: b", previous value: "Host: a" {FIELDS}'),
    (b"GET / HTTP/1.1\r\nHost: t\r\nFo o: x\r\n\r\n", 400, 25,
     f'client sent invalid header line: "Fo\\x20..." {FIELDS}'),
    (b"GET / HTTP/1.1\r\nHost: t\r\nFoo: x\0y\r\n\r\n", 400, 25,
     f'client sent invalid header line: "Foo: x\\x00..." {FIELDS}'),
    (b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1x\r\n\r\n", 400, 48,
     f'client sent invalid "Content-Length" header {FIELDS}'),
    (b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, 64,
     f'client sent duplicate header line: "Content-Length: 2", previous value: "Content-Length: 1" {FIELDS}'),
    (b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, None,
     f'client sent "Content-Length" and "Transfer-Encoding" headers at the same time {FIELDS}'),
    (b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, None,
     f'client sent unknown "Transfer-Encoding": "gzip, chunked" {FIELDS}'),
    (b"POST / HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n", 400, None,
     f'client sent HTTP/1.0 request with "Transfer-Encoding" header {FIELDS}'),
    (b"GET / HTTP/1.1\r\nHost: t\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", 400, None,
     f'client sent duplicate header line: "Authorization: b", previous value: "Authorization: a" {FIELDS}'),
    (b"TRACE / HTTP/1.1\r\nHost: t\r\n\r\n", 405, 29, f"client sent TRACE method {FIELDS}"),
    # The client leaves, or is too slow.
    (b"GET /ab", 400, 0, f"client prematurely closed connection {LINE}"),
    (b"GET / HTTP/1.1\r\nHost: t\r\nUser-Agent: me\r\nX: y", 400, 41,
     f"client prematurely closed connection {FIELDS}"),
])
def test_refused_heads_are_told_in_nginxs_words(heads, data, status, length, words):
    before = len(lines(heads, "heads.log", 0))
    with heads.connect() as client:
        client.send(data)
        client.half_close()
        while client.socket.recv(65536):
            pass
    heads.wait_log(rf"\[info\] \d+#\d+: \*\d+ {re.escape(words)}, client: 127\.0\.0\.1, server: first, request: ")
    line = lines(heads, "heads.log", before + 1)[before].split()
    agent = "me" if b"User-Agent" in data else "-"
    assert (line[0], line[1], line[3]) == (str(status), "1", agent)
    assert length is None or line[2] == str(length)


def test_a_reset_and_a_client_that_is_slow_while_it_sends_its_head(heads):
    with heads.connect() as client:
        client.send(b"GET /reset HTTP/1.1\r\nHost: t\r\n")
        time.sleep(0.2)
        client.reset()
    heads.wait_log(rf"recv\(\) failed \(104: Connection reset by peer\) {FIELDS}, .*GET /reset HTTP/1.1\", host: \"t\"")
    with heads.connect() as client:
        client.send(b"GET /slow")
        client.response()
    heads.wait_log(rf"client timed out \(110: Connection timed out\) \(client_header_timeout 1s\) {LINE}, .*GET /slow\"")


def test_the_second_head_of_a_connection_is_counted_and_pipelined(heads):
    def pair():
        # Those of the tests before may come late.
        logged = [line.split() for line in lines(heads, "heads.log", 0)]
        first = next((at for at, line in enumerate(logged) if line[3] == "pair"), len(logged))
        return logged[first:first + 2]

    with heads.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: t\r\nUser-Agent: pair\r\n\r\nget /second HTTP/1.1\r\n\r\n")
        assert client.response().status == 200
        assert client.response().status == 400
    heads.wait_log(r"client sent invalid method while reading client pipelined request line, .*get /second")
    wait_until(lambda: len(pair()) == 2, "both lines")
    assert [line[1] for line in pair()] == ["1", "2"]


def test_a_head_that_is_refused_after_it_has_said_whom_it_is_for_is_that_servers(heads):
    with heads.connect() as client:
        client.send(b"GET /x HTTP/1.1\r\nHost: second\r\nX-A: known\r\nFo o: x\r\nX-B: not\r\n\r\n")
        response = client.response()
    assert (response.status, response.text) == (402, "second known 402")
    assert lines(heads, "second.log", 1)[0].startswith("402 1 43 ")


def test_fields_that_are_left_out_are_told(heads):
    assert heads.get("/left-out", {"X_A": "1", "X.B": "2", "X-C": "3"}).status == 200
    for field in ("X_A: 1", "X\\.B: 2"):
        heads.wait_log(rf'\[info\] .* client sent invalid header line: "{field}" {FIELDS}, .*GET /left-out HTTP/1.1')
    assert "X-C: 3" not in heads.log()


def test_connections_without_a_request_are_told(heads):
    port = heads.ports["%PORT%"]
    with heads.connect():
        pass
    heads.wait_log(r"\[info\] \d+#\d+: \*\d+ client closed connection while waiting for request, client: 127\.0\.0\.1, "
                   rf"server: 127\.0\.0\.1:{port}\n")
    with heads.connect() as client:
        assert client.socket.recv(1) == b""
    heads.wait_log(r"client timed out \(110: Connection timed out\) while waiting for request, client: 127\.0\.0\.1")
    with heads.connect() as client:
        client.request("GET", "/kept")
    heads.wait_log(r"\[info\] \d+#\d+: \*\d+ client 127\.0\.0\.1 closed keepalive connection\n")


def test_a_client_that_leaves_within_its_body_is_400(heads):
    before = len(lines(heads, "heads.log", 0))
    with heads.connect() as client:
        client.send(b"POST /up HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc")
    heads.wait_log(r"\[info\] .* client prematurely closed connection, client: .*POST /up")
    assert lines(heads, "heads.log", before + 1)[before].startswith("400 ")
    with heads.connect() as client:
        client.send(b"POST /up HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert client.response().status == 400
    heads.wait_log(r"\[error\] .* client sent invalid chunked body, client: .*POST /up")


@pytest.mark.parametrize("target, logged", [
    # What nobody has said is missing, what the configuration has made nothing is nothing.
    ("/missing", "-"),
    ("/missing?a", "-"),
    ("/page", ""),
    ("/page?a", ""),
    ("/tried", ""),
    ("/tried?a", ""),
    ("/kept?a", "a"),
    ("/dropped", "-"),
    ("/dropped?a", ""),
    ("/set?a", ""),
    ("/plain", "-"),
    ("/plain?", "-"),
    ("/plain?a", "a"),
])
def test_arguments_that_are_nothing(arguments, target, logged):
    before = len(lines(arguments, "args.log", 0))
    assert arguments.get(target).status in (200, 403, 404)
    assert lines(arguments, "args.log", before + 1)[before] == f"{target} [{logged}][{logged}]"


@pytest.fixture(scope="module")
def arguments(serve_nginx_module):
    return serve_nginx_module(r"""
        log_format args '$request_uri [$args][$query_string]';
        server {
            listen 127.0.0.1:%PORT%;
            access_log %DIR%/args.log args;
            error_page 404 /plain;
            error_page 403 /plain?;
            location = /plain { return 200 "x"; }
            location = /page { return 403; }
            location = /tried { try_files /nowhere /plain; }
            location = /kept { rewrite ^ /plain; }
            location = /dropped { rewrite ^ /plain?; }
            location = /set { set $args ""; return 200 "x"; }
        }
    """)
