"""Early data (0-RTT, RFC 8446 §8 and RFC 8470): what runs before the end of the handshake, and nothing runs twice."""

import contextlib
import re
import signal
import socket
import time

import pytest
from support.early import OpenSsl, Tap, finish, replay
from support.http2 import END_HEADERS, END_STREAM, HEADERS, PREFACE, frame, settings
from support.server import wait_until
from support.tls import Authority, TlsClient, context
from support.upstream import Upstream, response

import hpack

AUTHORITY = Authority()
CERTIFICATE = AUTHORITY.issue("a.example")
APP = """
def application(environ, start_response):
    told = environ.get("HTTP_EARLY_DATA", "")
    status = "425 Too Early" if told == "1" and environ["QUERY_STRING"] == "no" else "200 OK"
    start_response(status, [("Content-Type", "text/plain")])
    return [f"app {told}".encode()]
"""
FILES = {"app.py": APP, "a.pem": CERTIFICATE.chain, "a.key": CERTIFICATE.key, "large": "z" * 1_000_000}

CONF = """
    error_log stderr info;
    events {}
    http {
        app one { wsgi app:application; directory %DIR%; workers 1; }
        ssl_certificate a.pem;
        ssl_certificate_key a.key;
        client_header_timeout 2s;
        log_format early "$request_method $uri $status '$ssl_early_data'";
        access_log %DIR%/early.log early;

        server {
            listen 127.0.0.1:%PORT% ssl;
            http2 on;
            ssl_early_data on;
            location = /here { return 200 "early '$ssl_early_data' reused $ssl_session_reused\\n"; }
            location = /app { app_pass one; }
            location = /large { alias %DIR%/large; }
            location / {
                proxy_pass http://127.0.0.1:UPSTREAM;
                proxy_set_header Early-Data $ssl_early_data;
            }
        }
        server {
            listen 127.0.0.1:%PORT1% ssl;
            return 200 "early '$ssl_early_data' reused $ssl_session_reused\\n";
        }
    }
"""


def answer(seen, _):
    if seen.target == "/too-early" and seen.get("Early-Data") == "1":
        return response(b"not yet", "425 Too Early")
    return response(f"upstream {seen.method} {seen.target} '{seen.get('Early-Data', '')}'\n".encode())


def conf(upstream):
    return CONF.replace("UPSTREAM", str(upstream.port))


@pytest.fixture(scope="module")
def upstream():
    with Upstream(answer) as server:
        yield server


@pytest.fixture(scope="module")
def site(serve_nginx_module, upstream):
    return serve_nginx_module(conf(upstream), files=FILES)


@pytest.fixture
def client(site, tmp_path):
    made = OpenSsl(tmp_path)
    shown = made.first(site.port)
    assert "Max Early Data: 16384" in shown, shown
    return made


def request(target, method="GET", *fields):
    lines = [f"{method} {target} HTTP/1.1", "Host: a.example", "Connection: close", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def runs(upstream, target):
    return [seen for seen in upstream.seen if seen.target == target]


def logged(site, target):
    log = site.directory / "early.log"
    return [line for line in log.read_text().splitlines() if f" {target} " in line] if log.exists() else []


def test_what_is_answered_early_arrives_whole_before_the_close(site, client):
    """The end of the handshake comes behind the close, and must not make a reset of it."""
    shown = finish(client.begin_early(site.port, request("/large")))
    assert "Early data was accepted" in shown
    assert shown.count("z" * 1000) == 1000


def test_a_get_in_early_data_is_answered_before_the_end_of_the_handshake(site, client):
    with Tap(site.port, hold=True) as tap:
        process = client.begin_early(tap.port, request("/here"))
        # The rest of the handshake is held back until the answer has left.
        wait_until(lambda: logged(site, "/here"), "the request to be done")
        assert not tap.released.is_set()
        tap.release()
        shown = finish(process)
    assert "Early data was accepted" in shown
    assert "early '1' reused r" in shown
    assert logged(site, "/here")[-1] == "GET /here 200 '1'"


def test_an_upstream_is_told_and_its_425_reaches_the_client(site, client, upstream):
    with Tap(site.port, hold=True) as tap:
        process = client.begin_early(tap.port, request("/too-early"))
        wait_until(lambda: runs(upstream, "/too-early"), "the upstream to be asked")
        tap.release()
        shown = finish(process)
    assert "HTTP/1.1 425 Too Early" in shown and "not yet" in shown
    assert runs(upstream, "/too-early")[0].get("Early-Data") == "1"


def test_an_application_is_told_and_may_refuse(site, client):
    with Tap(site.port, hold=True) as tap:
        process = client.begin_early(tap.port, request("/app?no", "GET", "Early-Data: 0"))
        wait_until(lambda: logged(site, "/app"), "the request to be done")
        tap.release()
        shown = finish(process)
    assert "HTTP/1.1 425 Too Early" in shown and "app 1" in shown


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "FANCY"])
def test_what_changes_something_waits_for_the_end_of_the_handshake(site, client, upstream, method):
    target = f"/waits/{method}"
    with Tap(site.port, hold=True) as tap:
        process = client.begin_early(tap.port, request(target, method, "Content-Length: 0"))
        tap.arrived.acquire(timeout=10)
        time.sleep(0.5)
        assert not runs(upstream, target)
        tap.release()
        shown = finish(process)
    assert "Early data was accepted" in shown
    assert f"upstream {method} {target} ''" in shown
    assert len(runs(upstream, target)) == 1
    assert logged(site, target) == [f"{method} {target} 200 '-'"]


def test_a_body_that_began_in_early_data_goes_on_behind_it(site, client, upstream):
    head = request("/body", "POST", "Content-Length: 10") + b"01234"
    process = client.begin_early(site.port, head)
    process.stdin.write(b"56789")
    process.stdin.flush()
    shown = finish(process)
    assert "upstream POST /body ''" in shown, shown
    assert [seen.body for seen in runs(upstream, "/body")] == [b"0123456789"]


def test_an_upgrade_waits_as_well(site, client, upstream):
    with Tap(site.port, hold=True) as tap:
        process = client.begin_early(tap.port, request("/upgrade", "GET", "Upgrade: websocket"))
        tap.arrived.acquire(timeout=10)
        time.sleep(0.5)
        assert not runs(upstream, "/upgrade")
        tap.release()
        assert "upstream GET /upgrade ''" in finish(process)


def test_a_handshake_that_never_ends_is_answered_with_425(site, client, upstream):
    with Tap(site.port, hold=True) as tap:
        process = client.begin_early(tap.port, request("/never", "POST", "Content-Length: 0"))
        wait_until(lambda: logged(site, "/never"), "the answer to leave")
        assert not tap.released.is_set()
        tap.release()
        shown = finish(process)
    assert "HTTP/1.1 425 Too Early" in shown
    assert not runs(upstream, "/never")


def test_a_copy_of_a_first_flight_does_not_run(site, client, upstream):
    with Tap(site.port) as tap:
        assert "upstream GET /copied '" in client.early(tap.port, request("/copied"))
    flight = tap.flights[0]
    copies = [replay(site.port, flight) for _ in range(8)]
    for copy in copies:
        copy.settimeout(10)
        # It gets a whole handshake, which it cannot go on with.
        assert copy.recv(4096)[0] == 22
    time.sleep(0.5)
    assert len(runs(upstream, "/copied")) == 1
    for copy in copies:
        copy.close()


def test_of_copies_that_come_before_the_original_one_runs(site, client, upstream):
    with Tap(site.port, hold_all=True) as tap:
        process = client.begin_early(tap.port, request("/overtaken"))
        tap.arrived.acquire(timeout=10)
        copies = [replay(site.port, tap.flights[0]) for _ in range(8)]
        wait_until(lambda: runs(upstream, "/overtaken"), "one to run")
        tap.release()
        shown = finish(process)
        time.sleep(0.5)
    assert "Early data was rejected" in shown
    assert len(runs(upstream, "/overtaken")) == 1
    for copy in copies:
        copy.close()


def test_a_copy_of_a_post_never_runs(site, client, upstream):
    target = "/copied-post"
    with Tap(site.port, hold_all=True) as tap:
        process = client.begin_early(tap.port, request(target, "POST", "Content-Length: 0"))
        tap.arrived.acquire(timeout=10)
        copies = [replay(site.port, tap.flights[0]) for _ in range(4)]
        # Whoever was first has had its early data taken; but it cannot end the handshake.
        wait_until(lambda: logged(site, target), "the time to be over")
        assert not runs(upstream, target)
        process.kill()
        process.communicate()
    for copy in copies:
        copy.close()


def test_sessions_outlive_a_reload(site, client, upstream):
    site.configure(conf(upstream).replace("location = /here", "location = /reloaded { return 204; } location = /here"))
    site.signal(signal.SIGHUP)

    def is_there():
        with TlsClient(("127.0.0.1", site.port), context(AUTHORITY)) as other:
            return other.request("GET", "/reloaded").status == 204

    wait_until(is_there, "the new configuration")
    shown = client.early(site.port, request("/here"))
    assert "Early data was accepted" in shown and "reused r" in shown


def http2(target, method):
    encoder = hpack.Encoder()
    block = encoder.encode([(":method", method), (":scheme", "https"), (":path", target), (":authority", "a.example")])
    return PREFACE + settings() + frame(HEADERS, END_HEADERS | END_STREAM, 1, block)


def test_http2_takes_early_data_too(site, tmp_path, upstream):
    client = OpenSsl(tmp_path)
    first = client.first(site.port, http2("/first", "GET") + frame(7, 0, 0, bytes(8)), "-alpn", "h2")
    assert "Max Early Data: 16384" in first
    with Tap(site.port, hold=True) as tap:
        process = client.begin_early(tap.port, http2("/h2/get", "GET"), "-alpn", "h2")
        wait_until(lambda: runs(upstream, "/h2/get"), "the upstream to be asked")
        assert runs(upstream, "/h2/get")[0].get("Early-Data") == "1"
        process.kill()
        process.communicate()


def test_what_changes_something_waits_with_http2_too(site, tmp_path, upstream):
    client = OpenSsl(tmp_path)
    client.first(site.port, http2("/first", "GET") + frame(7, 0, 0, bytes(8)), "-alpn", "h2")
    with Tap(site.port, hold=True) as tap:
        process = client.begin_early(tap.port, http2("/h2/post", "POST"), "-alpn", "h2")
        tap.arrived.acquire(timeout=10)
        time.sleep(0.5)
        assert not runs(upstream, "/h2/post")
        tap.release()
        wait_until(lambda: runs(upstream, "/h2/post"), "the upstream to be asked")
        assert runs(upstream, "/h2/post")[0].get("Early-Data") is None
        wait_until(lambda: logged(site, "/h2/post"), "the line in the log")
        process.kill()
        process.communicate()


def test_with_http2_too_a_handshake_that_never_ends_is_answered_with_425(site, tmp_path, upstream):
    client = OpenSsl(tmp_path)
    client.first(site.port, http2("/first", "GET") + frame(7, 0, 0, bytes(8)), "-alpn", "h2")
    with Tap(site.port, hold=True) as tap:
        process = client.begin_early(tap.port, http2("/h2/never", "POST"), "-alpn", "h2")
        wait_until(lambda: logged(site, "/h2/never"), "the answer to leave")
        assert logged(site, "/h2/never") == ["POST /h2/never 425 '1'"]
        assert not runs(upstream, "/h2/never")
        process.kill()
        process.communicate()


def test_without_the_directive_there_is_no_early_data(site, tmp_path):
    client = OpenSsl(tmp_path)
    shown = client.first(site.ports["%PORT1%"])
    assert "Max Early Data: 0" in shown


@pytest.mark.parametrize("records", [(), ("-max_send_frag", 512)], ids=["one record", "small records"])
@pytest.mark.parametrize("why", ["used before", "another server", "another group"])
def test_as_much_early_data_as_is_allowed_may_be_refused(site, client, why, records):
    """What is skipped is counted encrypted, what a client may send is not: the handshake went wrong."""
    port, more = site.port, records
    if why == "used before":
        finish(client.begin_early(port, request("/here")))
    elif why == "another server":
        port = site.ports["%PORT1%"]
    else:
        more = (*records, "-groups", "P-521:P-256")
    process = client.begin_early(port, request("/here").ljust(16384, b"x"), *more)
    shown = process.communicate(request("/here"), timeout=30)[0].decode("latin-1")
    assert "Early data was rejected" in shown, shown
    assert "early '" in shown and "reused ." in shown, shown
    if why == "another server":
        return
    # Such a connection leaves no session, the next one does.
    client.first(site.port)
    assert "Early data was accepted" in finish(client.begin_early(site.port, request("/here")))


def test_refused_early_data_is_not_skipped_for_ever(site, client):
    """By a client whose session nobody knows any more."""
    finish(client.begin_early(site.port, request("/here")))
    with Tap(site.port) as tap:
        assert "Early data was rejected" in finish(client.begin_early(tap.port, request("/here")))
        flight = tap.flights[0]
    hello = flight[:5 + int.from_bytes(flight[3:5])]
    failures = len(re.findall("the handshake failed", site.log()))
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as one, contextlib.suppress(OSError):
        one.sendall(hello)
        for _ in range(6):
            one.sendall(bytes([23, 3, 3, 0x40, 0x00]) + b"x" * 0x4000)
        while one.recv(65536):
            pass
    site.wait_log("the handshake failed: (message buffer full|cannot decrypt)", count=failures + 1)
