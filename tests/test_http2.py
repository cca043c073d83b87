"""HTTP/2: requests and responses, many at a time, what a client may cost, and how a connection ends."""

import ast
import contextlib
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import time

import pytest
from support import Client, wait_until
from support.http2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    MAX_CONCURRENT_STREAMS,
    NO_ERROR,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Closed,
    Http2,
    frame,
    settings,
)

CONF = """
    log_format all '$remote_addr "$request" $status $body_bytes_sent $server_protocol [$http2] $connection_requests';
    server {
        listen 127.0.0.1:%PORT%;
        http2 on;
        access_log %DIR%/access.log all;
        server_name test.example;
        root %DIR%/root;
        default_type text/plain;
        client_max_body_size 100k;
        location /return { return 200 "$request_method $request_uri $args $host $http_host [$http_cookie]"; }
        location /fields { return 200 "[$http_x_a] [$http_te] [$http_x_under_score]"; }
        location /close { return 444; }
        location /slow/ { limit_rate 40k; alias %DIR%/root/; }
        location /no-content { return 204; }
        location /named { return 200 $http2; }
    }
    server {
        listen 127.0.0.1:%PORT1%;
        root %DIR%/root;
        http2 on;
        http2_max_concurrent_streams 4;
        http2_body_preread_size 100;
        http2_chunk_size 1000;
        keepalive_requests 3;
    }
    server {
        listen 127.0.0.1:%PORT2%;
        root %DIR%/root;
        http2 on;
        send_timeout 1s;
        keepalive_timeout 1s;
        client_header_timeout 1s;
        client_body_timeout 1s;
        location /late {
            auth_basic late;
            auth_basic_user_file %DIR%/root/empty;
            auth_delay 3s;
        }
    }
    server {
        listen 127.0.0.1:%PORT3%;
        root %DIR%/root;
    }
"""

BIG = bytes(range(256)) * 4096
FILES = {"root/index.html": "index\n", "root/small": "x" * 1024, "root/big": BIG, "root/empty": ""}


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, files=FILES)


def connect(server, port="%PORT%", **options):
    return Http2(("127.0.0.1", server.ports[port]), **options)


@pytest.fixture
def client(server):
    with connect(server) as client:
        yield client


def access_log(server):
    return (server.directory / "access.log").read_text()


# Requests and responses


def test_a_file(client):
    answer = client.get(1, "/small")
    assert (answer.status, answer.body, answer["content-length"]) == (200, b"x" * 1024, "1024")
    assert answer["content-type"] == "text/plain"
    assert answer["date"] and answer["server"].startswith("monoceros") and answer["last-modified"]
    assert not {"connection", "keep-alive", "transfer-encoding"} & {name for name, _ in answer.fields}
    assert all(name == name.lower() for name, _ in answer.fields)


def test_many_at_once_on_one_connection(client):
    streams = range(1, 101, 2)
    for stream in streams:
        client.request(stream, "/small")
    for stream in reversed(streams):
        assert client.answer(stream).body == b"x" * 1024


def test_a_large_file_within_the_windows(client):
    answer = client.get(1, "/big")
    assert answer.body == BIG


def test_what_the_windows_hold_and_no_more(server):
    with connect(server, x4=1000) as client:
        client.windows = False
        client.request(1, "/big")
        got = b""
        while len(got) < 1000:
            got += client.until(lambda f: f.kind == DATA).payload
        client.ping()
        assert got == BIG[:1000] and not [f for f in client.kept if f.kind == DATA]
        client.window(1, 500)
        while len(got) < 1500:
            got += client.until(lambda f: f.kind == DATA).payload
        client.ping()
        assert got == BIG[:1500] and not [f for f in client.kept if f.kind == DATA]


def test_ranges_and_conditions(client):
    answer = client.get(1, "/big", ("range", "bytes=100-199"))
    assert (answer.status, answer.body) == (206, BIG[100:200])
    tag = client.get(3, "/big", ("range", "bytes=0-0"))["etag"]
    answer = client.get(5, "/big", ("if-none-match", tag))
    assert (answer.status, answer.body) == (304, b"")
    answer = client.get(7, "/big", ("range", "bytes=0-1,5-6"))
    assert answer.status == 206 and answer.body.count(b"content-range") + answer.body.count(b"Content-Range") == 2


def test_no_body_where_there_is_none(client):
    client.request(1, "/small", "HEAD")
    head = client.until(lambda f: f.kind == HEADERS)
    assert head.flags & END_STREAM
    assert dict(head.fields)["content-length"] == "1024"
    assert client.get(3, "/no-content").fields[0] == (":status", "204")
    assert client.get(5, "/empty").body == b""
    client.ping()


def test_a_path_and_what_belongs_to_it(client):
    answer = client.get(1, "/return/%41?a=b?c", ("cookie", "a=1"), ("cookie", "b=2"))
    assert answer.body == b"GET /return/%41?a=b?c a=b?c test.example test.example [a=1; b=2]"


def test_host_in_the_place_of_authority(client):
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/return"), ("host", "other.example")]
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(fields)))
    assert client.answer(1).body == b"GET /return  other.example other.example []"


@pytest.mark.parametrize("fields", [
    [(":method", "GET"), (":scheme", "http"), (":path", "/return")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/return"), (":authority", "a"), ("host", "b")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/return"), ("host", "a"), ("host", "a")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/return"), (":authority", "user@a")],
    [(":method", "get"), (":scheme", "http"), (":path", "/return"), (":authority", "a")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/%zz"), (":authority", "a")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/../x"), (":authority", "a")],
    [(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "a")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("x-a", " space")],
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("content-length", "0"),
     ("content-length", "0")],
], ids=lambda fields: " ".join(f"{name}={value}" for name, value in fields[2:]))
def test_requests_that_mean_two_things_are_refused(client, fields):
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(fields)))
    assert client.answer(1).status == 400
    assert client.get(3, "/small").status == 200


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/a\x00", "/a\x7f", "x", ""])
def test_paths_that_no_request_line_has(client, path):
    client.request(1, path)
    answer = client.until(lambda f: f.stream == 1 and f.kind in (RST_STREAM, HEADERS))
    if answer.kind == RST_STREAM:
        assert answer.code == PROTOCOL_ERROR
    else:
        assert answer.fields[0] == (":status", "400")
    assert client.get(3, "/small").status == 200


def test_a_fragment_is_not_a_part_of_the_path(client):
    """RFC 3986 §4.3 leaves it out of what is requested, and so does nginx."""
    assert client.get(1, "/return?a=1#/../b?c").body == b"GET /return?a=1 a=1 test.example test.example []"


def test_underscores_are_left_out_and_te_stays(client):
    answer = client.get(1, "/fields", ("x-a", "1"), ("te", "trailers"), ("x_under_score", "forged"))
    assert answer.body == b"[1] [trailers] []"


def test_http1_on_the_same_port(server):
    assert server.get("/small").text == "x" * 1024
    assert server.get("/named").text == ""


def test_without_http2_the_preface_is_refused(server):
    with Client(("127.0.0.1", server.ports["%PORT3%"])) as client:
        client.send(PREFACE + settings())
        assert client.response().status in (400, 505)


def test_a_preface_in_pieces(server):
    with connect(server, preface=False) as client:
        for byte in PREFACE:
            client.send(bytes([byte]))
            time.sleep(0.001)
        client.send(settings())
        assert client.next().kind == SETTINGS
        assert client.get(1, "/named").body == b"h2c"


def test_an_old_listen_speaks_it_with_a_warning(serve_nginx):
    site = serve_nginx("server { listen 127.0.0.1:%PORT% http2; return 200 $http2; }")
    with connect(site) as client:
        assert client.get(1).body == b"h2c"
    site.wait_log('warning: the "listen ... http2" directive is deprecated, use the "http2" directive instead')


def test_lines_of_the_logs(server, client):
    client.get(1, "/small?logged")
    client.request(3, "/big?logged")
    client.answer(3)
    wait_until(lambda: access_log(server).count("logged") == 2, "two lines")
    lines = [line for line in access_log(server).splitlines() if "logged" in line]
    assert lines == ['127.0.0.1 "GET /small?logged HTTP/2.0" 200 1024 HTTP/2.0 [h2c] 1',
                     f'127.0.0.1 "GET /big?logged HTTP/2.0" 200 {len(BIG)} HTTP/2.0 [h2c] 2']


def test_no_answer_is_a_reset(client):
    client.request(1, "/close")
    assert client.reset_of(1) == INTERNAL_ERROR
    assert client.get(3, "/small").status == 200


def test_limit_rate_slows_one_response_only(client):
    begun = time.monotonic()
    client.request(1, "/slow/big")
    assert client.get(3, "/small").status == 200
    assert not [f for f in client.kept if f.stream == 1 and f.flags & END_STREAM], "the slow one is not waited for"
    got = 0
    while got < 60_000:
        data = client.until(lambda f: f.kind == DATA and f.stream == 1)
        got += len(data.payload)
    assert time.monotonic() - begun > 0.4
    client.reset(1)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl(server):
    url = f"http://127.0.0.1:{server.port}/big"
    got = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", "-w", "%{stderr}%{http_version}", url],
                         capture_output=True, timeout=30, check=True)
    assert (got.stdout, got.stderr) == (BIG, b"2")


@pytest.mark.skipif(not shutil.which("h2load"), reason="needs h2load")
def test_h2load(server):
    run = subprocess.run(["h2load", "-n", "2000", "-c", "4", "-m", "32", f"http://127.0.0.1:{server.port}/small"],
                         capture_output=True, text=True, timeout=60, check=True)
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in run.stdout, run.stdout


def test_python_h2(server):
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import DataReceived, ResponseReceived, StreamEnded

    with Client(server.address) as raw:
        connection = H2Connection(H2Configuration(client_side=True))
        connection.initiate_connection()
        connection.send_headers(1, [(":method", "GET"), (":scheme", "http"), (":path", "/small"),
                                    (":authority", "test.example")], end_stream=True)
        raw.send(connection.data_to_send())
        body, status, ended = b"", None, False
        while not ended:
            for event in connection.receive_data(raw.socket.recv(65536)):
                if isinstance(event, ResponseReceived):
                    status = dict(event.headers)[b":status"]
                elif isinstance(event, DataReceived):
                    body += event.data
                ended |= isinstance(event, StreamEnded)
        assert (status, body) == (b"200", b"x" * 1024)


# Applications

APP = """
import hashlib
import os
import time

HERE = os.path.dirname(os.path.abspath(__file__))

def application(environ, start_response):
    path = environ["PATH_INFO"]
    with open(os.path.join(HERE, "notes"), "a") as notes:
        notes.write(path + "\\n")
    fields = [("Content-Type", "text/plain")]
    if path == "/environ":
        body = repr({key: value for key, value in environ.items() if isinstance(value, str)}).encode()
    elif path == "/digest":
        data = environ["wsgi.input"].read()
        body = (hashlib.sha256(data).hexdigest() + " " + str(len(data))).encode()
    elif path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        def events():
            for n in range(3):
                yield b"data: %d\\n\\n" % n
                deadline = time.monotonic() + 20
                while not os.path.exists(os.path.join(HERE, "go%d" % n)) and time.monotonic() < deadline:
                    time.sleep(0.01)
        return events()
    elif path == "/wait":
        deadline = time.monotonic() + 20
        while not os.path.exists(os.path.join(HERE, "go")) and time.monotonic() < deadline:
            time.sleep(0.01)
        body = b"waited"
    elif path == "/broken":
        start_response("200 OK", [("Content-Length", "100")])
        return [b"part"]
    elif path == "/large":
        body = b"y" * 3_000_000
    else:
        body = b"app"
    start_response("200 OK", fields + [("Content-Length", str(len(body)))])
    return [body]
"""

APP_CONF = """
    app shop { wsgi app:application; directory %DIR%; workers 1; }
    server {
        listen 127.0.0.1:%PORT%;
        http2 on;
        client_max_body_size 2m;
        client_body_buffer_size 16k;
        location / { app_pass shop; }
    }
"""


@pytest.fixture(scope="module")
def shop(serve_nginx_module):
    return serve_nginx_module(APP_CONF, files={"app.py": APP}, python=True)


@pytest.fixture
def shopper(shop):
    with connect(shop, timeout=20) as client:
        yield client


def notes(shop):
    path = shop.directory / "notes"
    return path.read_text().split() if path.exists() else []


def test_what_the_application_sees(shopper):
    answer = shopper.get(1, "/environ?a=1", ("cookie", "a=1"), ("cookie", "b=2"), ("x-a", "b"))
    environ = ast.literal_eval(answer.body.decode())
    assert environ["SERVER_PROTOCOL"] == "HTTP/2.0"
    assert environ["HTTP_HOST"] == "test.example" and environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_A"] == "b" and environ["QUERY_STRING"] == "a=1"
    assert not [name for name in environ if "TRANSFER" in name or name.startswith("HTTP_:")]


@pytest.mark.parametrize("size", [0, 1, 10_000, 70_000, 1_500_000])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_for_the_application(shopper, size, announced):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    fields = [("content-length", str(size))] if announced else []
    shopper.request(1, "/digest", "POST", *fields, end=False)
    send_body(shopper, 1, data)
    assert shopper.answer(1).body.decode() == f"{hashlib.sha256(data).hexdigest()} {size}"


def send_body(client, stream, data):
    """As the windows let it."""
    windows = {0: 65_535, stream: client.settings.get(INITIAL_WINDOW_SIZE, 65_535)}
    while data:
        room = min(*windows.values(), 16_384, len(data))
        if room <= 0:
            update = client.until(lambda f: f.kind in (WINDOW_UPDATE, RST_STREAM))
            assert update.kind == WINDOW_UPDATE
            windows[update.stream] = windows.get(update.stream, 0) + struct.unpack(">I", update.payload)[0]
            continue
        client.data(stream, data[:room])
        data = data[room:]
        for name in windows:
            windows[name] -= room
    client.data(stream, b"", end=True)


def test_a_body_that_is_announced_too_large(shopper):
    shopper.request(1, "/digest", "POST", ("content-length", "3000000"), end=False)
    assert shopper.answer(1).status == 413
    assert shopper.get(3, "/").body == b"app"


def test_a_body_that_becomes_too_large(shopper):
    shopper.request(1, "/digest", "POST", end=False)
    with pytest.raises(AssertionError):
        send_body(shopper, 1, bytes(3_000_000))
    assert shopper.get(3, "/").body == b"app"


def test_a_body_is_asked_for(shopper):
    shopper.request(1, "/digest", "POST", ("expect", "100-continue"), ("content-length", "4"), end=False)
    interim = shopper.until(lambda f: f.kind == HEADERS)
    assert interim.fields == [(":status", "100")] and not interim.flags & END_STREAM
    shopper.data(1, b"test", end=True)
    assert shopper.answer(1).status == 200


def test_a_slow_body_does_not_hold_up_others(shopper):
    shopper.request(1, "/digest", "POST", ("content-length", "4"), end=False)
    shopper.data(1, b"te")
    for stream in (3, 5, 7):
        assert shopper.get(stream, "/").body == b"app"
    shopper.data(1, b"st", end=True)
    assert shopper.answer(1).body.endswith(b" 4")


def test_events_arrive_as_they_are_made(shop, shopper):
    for n in range(3):
        (shop.directory / f"go{n}").unlink(missing_ok=True)
    shopper.request(1, "/events")
    for n in range(3):
        data = shopper.until(lambda f: f.kind == DATA)
        assert data.payload == b"data: %d\n\n" % n
        (shop.directory / f"go{n}").touch()
    assert shopper.until(lambda f: f.kind == DATA and f.flags & END_STREAM)


def test_a_large_answer(shopper):
    assert shopper.get(1, "/large").body == b"y" * 3_000_000


def test_half_an_answer_is_never_taken_for_the_whole(shopper):
    shopper.request(1, "/broken")
    end = shopper.until(lambda f: f.kind == RST_STREAM or (f.kind == HEADERS and f.stream == 1))
    if end.kind == HEADERS and dict(end.fields)[":status"] == "200":
        assert shopper.reset_of(1) == INTERNAL_ERROR
    assert shopper.get(3, "/").body == b"app"


def test_a_request_that_is_cancelled_while_it_waits_never_runs(shop):
    (shop.directory / "go").unlink(missing_ok=True)
    with connect(shop, timeout=20) as client:
        client.request(1, "/wait")
        wait_until(lambda: "/wait" in notes(shop), "the worker to be busy")
        for stream in range(3, 43, 2):
            client.request(stream, "/never")
        client.ping()
        for stream in range(3, 43, 2):
            client.reset(stream)
        client.ping()
        client.request(43, "/after")
        (shop.directory / "go").touch()
        assert client.answer(1).body == b"waited"
        assert client.answer(43).body == b"app"
        assert "/never" not in notes(shop)


def test_bodies_that_are_given_up_half_way_hold_nothing(shop):
    """In memory and in files: far more of them than there is room for at once."""
    directory = f"/proc/{shop.edge()}/fd"
    with connect(shop, timeout=20) as client:
        client.ping()
        before = len(os.listdir(directory))
    memory = shop.memory()
    for _ in range(40):
        with connect(shop, timeout=20) as client:
            for stream in range(1, 21, 2):
                client.request(stream, "/never-posted", "POST", ("content-length", "1000000"), end=False)
                client.data(stream, b"x" * 6_000)
            for stream in range(1, 21, 2):
                client.reset(stream)
            client.ping()
    with connect(shop, timeout=20) as client:
        client.request(1, "/digest", "POST", end=False)
        client.data(1, b"x", end=True)
        assert client.answer(1).body.endswith(b" 1")
        wait_until(lambda: len(os.listdir(directory)) <= before + 2, "all files to be closed")
    assert shop.memory() - memory < 8 << 20
    assert "/never-posted" not in notes(shop)


# Priorities


def test_urgent_responses_go_first(server):
    with connect(server, x4=1 << 24) as client:
        client.windows = False
        # The first takes all of the connection's window; the others wait behind it.
        client.request(1, "/big", "GET", ("priority", "u=7"))
        client.request(3, "/big", "GET", ("priority", "u=5"))
        client.request(5, "/big", "GET", ("priority", "u=0"))
        client.ping()
        client.window(0, 1 << 24)
        ends = []
        while len(ends) < 3:
            data = client.until(lambda f: f.kind == DATA)
            if data.flags & END_STREAM:
                ends.append(data.stream)
        assert ends == [5, 3, 1]


# Limits


def test_streams_beyond_the_limit_are_refused(server):
    with connect(server, "%PORT1%", x4=0) as client:
        assert client.settings[MAX_CONCURRENT_STREAMS] == 4 and client.settings[INITIAL_WINDOW_SIZE] == 100
        client.ping()
        for stream in range(1, 11, 2):
            client.request(stream, "/small")
        assert client.reset_of(9) == REFUSED_STREAM


def test_chunks_are_as_large_as_they_are_said_to_be(server):
    with connect(server, "%PORT1%") as client:
        client.request(1, "/big")
        sizes = [len(client.until(lambda f: f.kind == DATA).payload) for _ in range(20)]
        assert set(sizes) == {1000}


def test_after_keepalive_requests_the_client_is_sent_away(server):
    with connect(server, "%PORT1%") as client:
        for stream in (1, 3, 5):
            assert client.get(stream, "/small").status == 200
        goaway = client.until(lambda f: f.kind == GOAWAY)
        assert (goaway.code, goaway.last_stream) == (NO_ERROR, 0x7FFFFFFF)
        ping = client.until(lambda f: f.kind == PING)
        client.send(frame(PING, 1, 0, ping.payload))
        goaway = client.until(lambda f: f.kind == GOAWAY)
        assert (goaway.code, goaway.last_stream) == (NO_ERROR, 5)
        client.closed()


def test_an_idle_connection_is_ended(server):
    with connect(server, "%PORT2%") as client:
        begun = time.monotonic()
        client.get(1, "/small")
        assert client.goaway() == NO_ERROR
        assert 0.5 < time.monotonic() - begun < 5


def test_a_connection_without_a_request_is_ended(server):
    with connect(server, "%PORT2%") as client:
        assert client.goaway() == NO_ERROR


def test_a_head_that_does_not_end_is_not_waited_for(server):
    with connect(server, "%PORT2%") as client:
        client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
        assert client.goaway() == PROTOCOL_ERROR


def test_a_request_takes_longer_than_all_that_is_waited_for(server):
    with connect(server, "%PORT2%") as client, connect(server, "%PORT2%") as other:
        client.request(1, "/late")
        assert other.get(1, "/small").status == 200
        assert client.answer(1).status == 401


def test_an_early_response_is_there_before_the_reset(server):
    # Clients that find both together take the reset for the response's failure.
    between = 0
    with connect(server) as client:
        for stream in range(1, 21, 2):
            client.request(stream, "/return", "POST", ("content-length", "1000000"), end=False)
            client.data(stream, b"x" * 1_000)
            ended = client.until(lambda f, stream=stream: f.stream == stream and f.flags & END_STREAM)
            begun = time.monotonic()
            assert ended.kind in (HEADERS, DATA)
            assert client.reset_of(stream) == NO_ERROR
            # A client that was not scheduled meanwhile finds both, whatever the server did.
            between = max(between, time.monotonic() - begun)
            if between > 0.05:
                break
    assert between > 0.05


def test_a_client_that_opens_no_window_is_not_waited_for(server):
    with connect(server, "%PORT2%", x4=0) as client:
        begun = time.monotonic()
        client.request(1, "/small")
        assert client.reset_of(1) == CANCEL
        assert 0.5 < time.monotonic() - begun < 5
        assert client.goaway() == NO_ERROR


def test_a_client_that_reads_nothing_is_not_waited_for(server):
    with connect(server, "%PORT2%", receive_buffer=4096, x4=1 << 30) as client:
        client.window(0, 1 << 30)
        for stream in range(1, 41, 2):
            client.request(stream, "/big")
        # The socket alone tells that it is over, and reading would keep it alive.
        wait_until(lambda: f":{server.ports['%PORT2%']:04X}" not in established(client), "the end", 15)


def established(client):
    """Connections of this client's address and port as the kernel has them, those that are open."""
    port = client.socket.getsockname()[1]
    with open("/proc/net/tcp") as table:
        lines = [line.split() for line in table][1:]
    return " ".join(f"{at} {to}" for _, at, to, state, *_ in lines
                    if state == "01" and to.endswith(f":{port:04X}"))


def test_graceful_stop(serve_nginx):
    site = serve_nginx(CONF, files=FILES)
    with connect(site) as client:
        client.windows = False
        client.request(1, "/big")
        client.until(lambda f: f.kind == DATA)
        site.signal(signal.SIGQUIT)
        goaway = client.until(lambda f: f.kind == GOAWAY)
        assert (goaway.code, goaway.last_stream) == (NO_ERROR, 0x7FFFFFFF)
        ping = client.until(lambda f: f.kind == PING)
        client.send(frame(PING, 1, 0, ping.payload))
        client.window(0, 1 << 24)
        client.window(1, 1 << 24)
        got = 0
        while got < len(BIG):
            data = client.until(lambda f: f.kind == DATA)
            got += len(data.payload)
            if data.flags & END_STREAM:
                break
        client.closed()
    assert site.exit_code() == 0


@pytest.mark.parametrize("busy", [True, False], ids=["within_a_response", "idle"])
def test_a_reload_sends_clients_away_without_cutting_anything(serve_nginx, busy):
    site = serve_nginx(CONF, files=FILES)
    with connect(site) as client:
        assert client.get(1, "/small").status == 200
        client.windows = False
        if busy:
            client.request(3, "/big")
            client.until(lambda f: f.kind == DATA)
        site.signal(signal.SIGHUP)
        goaway = client.until(lambda f: f.kind == GOAWAY)
        assert (goaway.code, goaway.last_stream) == (NO_ERROR, 0x7FFFFFFF)
        # What was on its way is answered, too.
        client.windows = True
        client.window(0, 1 << 24)
        assert client.get(5, "/small").status == 200
        ping = client.until(lambda f: f.kind == PING and not f.flags & 1)
        client.send(frame(PING, 1, 0, ping.payload))
        last = client.until(lambda f: f.kind == GOAWAY)
        assert (last.code, last.last_stream) == (NO_ERROR, 5)
        if busy:
            client.window(3, 1 << 24)
            got = 0
            while True:
                data = client.until(lambda f: f.kind == DATA and f.stream == 3)
                got += len(data.payload)
                if data.flags & END_STREAM:
                    break
            assert got > len(BIG) - 65_536
        client.closed()
    with connect(site) as client:
        assert client.get(1, "/small").status == 200


# Floods


def flood(client, data, times, chunk=1000):
    """Sends as long as the server takes it."""
    try:
        for _ in range(0, times, chunk):
            client.send(data * chunk)
    except OSError:
        pass


@contextlib.contextmanager
def bounded(server, memory=16 << 20, seconds=5):
    """However much comes, it costs little; the bounds are for a debug build on a busy machine."""
    before, used = server.memory(), server.seconds()
    yield
    assert server.memory() - before < memory
    assert server.seconds() - used < seconds


def ends_calmly(server, client):
    assert client.until(lambda f: f.kind == GOAWAY).code == ENHANCE_YOUR_CALM
    # It goes on for everybody else.
    with connect(server) as other:
        assert other.get(1, "/small").status == 200


def test_flood_of_pings(server, client):
    with bounded(server):
        flood(client, frame(PING, 0, 0, b"12345678"), 10_000)
        ends_calmly(server, client)


def test_flood_of_settings(server, client):
    with bounded(server):
        flood(client, settings(x4=1000), 10_000)
        ends_calmly(server, client)


def test_flood_of_empty_data(server, client):
    with bounded(server):
        client.request(1, "/small", "POST", end=False)
        flood(client, frame(DATA, 0, 1), 10_000)
        ends_calmly(server, client)


def test_flood_of_priorities(server, client):
    with bounded(server):
        flood(client, frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 7)), 10_000)
        ends_calmly(server, client)


@pytest.mark.parametrize("payload", [b"\0\0\0\1u=3", b"\0\1\x86\x9fu=1", b"\0\0\0\1" + b"u=1," * 2000])
def test_flood_of_priority_updates(server, client, payload):
    """RFC 9218 §7.1, of streams that are there or not, short and long."""
    with bounded(server):
        flood(client, frame(0x10, 0, 0, payload), 10_000, 100)
        ends_calmly(server, client)


def test_windows_that_open_and_shut_cost_little(server):
    with bounded(server), connect(server, "%PORT%", x4=0) as client:
        client.ping()
        for stream in range(1, 101, 2):
            client.request(stream, "/big")
        for n in range(2000):
            try:
                client.send(settings(x4=n % 2))
            except OSError:
                break
        ends_calmly(server, client)


def test_flood_of_window_updates(server, client):
    with bounded(server):
        flood(client, frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)), 10_000)
        ends_calmly(server, client)


def test_flood_of_unknown_frames(server, client):
    with bounded(server):
        flood(client, frame(0xFA, 0, 0, b""), 10_000)
        ends_calmly(server, client)


def test_flood_of_continuations(server, client):
    with bounded(server):
        client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
        flood(client, frame(CONTINUATION, 0, 1, b""), 10_000)
        ends_calmly(server, client)


def test_flood_of_long_continuations(server, client):
    client.send(frame(HEADERS, END_STREAM, 1, client.block(client.fields())))
    with bounded(server):
        flood(client, frame(CONTINUATION, 0, 1, b"\x00\x04name\x7f\x81\x7f" + b"x" * 254), 100_000)
        assert client.until(lambda f: f.kind == GOAWAY).code in (ENHANCE_YOUR_CALM, 9, PROTOCOL_ERROR)


def test_rapid_reset(server, client):
    client.get(1, "/small")
    block = client.block(client.fields("/small"))
    with bounded(server):
        try:
            for stream in range(3, 40_001, 2):
                client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
                            + frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
        except OSError:
            pass
        ends_calmly(server, client)


def test_streams_that_are_refused_again_and_again(server):
    with bounded(server), connect(server, "%PORT2%", x4=0) as client:
        client.ping()
        client.request(1, "/small")
        block = client.block(client.fields("/small"))
        try:
            for stream in range(3, 40_001, 2):
                client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
        except OSError:
            pass
        assert client.until(lambda f: f.kind == GOAWAY).code in (ENHANCE_YOUR_CALM, NO_ERROR)


def test_bomb_of_compressed_fields(server, client):
    before = server.memory()
    # One field of 4000 bytes in the table, then a byte for each time that it is meant.
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(
        [*client.fields("/small"), ("x-bomb", "b" * 3900)])))
    assert client.answer(1).status == 200
    for stream in range(3, 23, 2):
        block = client.block(client.fields("/small")) + b"\xbe" * 16_000
        try:
            client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
        except OSError:
            break
    try:
        frames = [client.until(lambda f: f.kind in (GOAWAY, RST_STREAM, HEADERS) and f.stream != 1)]
    except Closed:
        frames = []
    for one in frames:
        assert one.kind != HEADERS or one.fields[0] in ((":status", "431"), (":status", "400"))
    assert server.memory() - before < 16 << 20


def test_a_header_list_that_is_too_long(server, client):
    answer = client.get(1, "/small", *((f"x-{n}", "v" * 1000) for n in range(40)))
    assert answer.status == 400
    answer = client.get(3, "/small", ("x-long", "v" * 9000))
    assert answer.status == 400
    assert client.get(5, "/small").status == 200


def test_stream_churn(serve_nginx):
    site = serve_nginx(CONF.replace("http2 on;", "http2 on; keepalive_requests 100000;", 1), files=FILES)
    with connect(site) as client:
        def some(begin):
            for stream in range(begin, begin + 2000, 2):
                client.get(stream, "/no-content")

        some(1)
        with bounded(site, 4 << 20, 10):
            for begin in range(2001, 12_001, 2000):
                some(begin)


def test_windows_that_stay_shut_hold_little(server):
    before = server.memory()
    clients = [connect(server, x4=0) for _ in range(20)]
    for client in clients:
        client.ping()
        for stream in range(1, 201, 2):
            client.request(stream, "/big")
        client.ping()
    # 2000 responses of a megabyte each, of which nothing is read before there is a place for it.
    assert server.memory() - before < 64 << 20
    for client in clients:
        client.socket.close()
