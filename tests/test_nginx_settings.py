"""Directives of nginx.conf about clients, connections and variables: each does what it says."""

import base64
import hashlib
import signal
import socket
import struct
import threading
import time

import pytest
from support import wait_until

USERS = {"users": "joe:{PLAIN}secret\n"}


def server(body, extra="", listen="%PORT%"):
    return f"server {{ listen 127.0.0.1:{listen}; {extra} {body} }}"


def raw(site, data, port="%PORT%"):
    """Everything that comes back until the connection ends."""
    with site.connect(port) as client:
        client.send(data)
        received = b""
        while part := client.socket.recv(65536):
            received += part
        return received


def test_auth_delay_holds_back_a_401_only(serve_nginx):
    site = serve_nginx(server("location / { auth_delay 2s; auth_basic x; auth_basic_user_file %DIR%/users; }"),
                       files={**USERS, "html/index.html": "in"})
    begun = time.monotonic()
    assert site.get().status == 401
    assert time.monotonic() - begun >= 2
    token = base64.b64encode(b"joe:secret").decode()
    begun = time.monotonic()
    assert site.get(fields={"Authorization": f"Basic {token}"}).status == 200
    assert time.monotonic() - begun < 1.9


def checksum(expires, path):
    digest = hashlib.md5(f"{expires}{path} secret".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_secure_link(serve_nginx):
    site = serve_nginx(server("""
        location / {
            secure_link $arg_md5,$arg_expires;
            secure_link_md5 "$secure_link_expires$uri secret";
            return 200 "[$secure_link][$secure_link_expires]";
        }
        location /p/ { secure_link_secret secret; return 200 "[$secure_link]"; }
        location /none { return 200 "[$secure_link]"; }
    """))
    for expires, word in (("4102444800", "1"), ("1000000000", "0")):
        answer = site.get(f"/a?md5={checksum(expires, '/a')}&expires={expires}").text
        assert answer == f"[{word}][{expires}]"
    assert site.get("/a?md5=wrong&expires=4102444800").text == "[][4102444800]"
    assert site.get("/p/" + hashlib.md5(b"linksecret").hexdigest() + "/link").text == "[link]"
    assert site.get("/p/" + hashlib.md5(b"other").hexdigest() + "/link").text == "[]"
    assert site.get("/none").text == "[]"


PROXIED = """
    server {
        listen 127.0.0.1:%PORT1% proxy_protocol;
        client_header_timeout 1s;
        set_real_ip_from 127.0.0.1;
        real_ip_header proxy_protocol;
        return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr \\
$proxy_protocol_server_port $remote_addr $realip_remote_addr";
    }
    server { listen 127.0.0.1:%PORT%; return 200 "[$proxy_protocol_addr]"; }
"""
V2 = (b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", 12) + socket.inet_aton("192.0.2.9")
      + socket.inet_aton("192.0.2.10") + struct.pack(">HH", 999, 443))
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_proxy_protocol_header_names_the_client(serve_nginx):
    site = serve_nginx(PROXIED)
    assert site.get().text == "[]"
    for header, expected in (
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", "192.0.2.1 5000 192.0.2.2 80 192.0.2.1 127.0.0.1"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 5000 80\r\n",
         "2001:db8::1 5000 2001:db8::2 80 2001:db8::1 127.0.0.1"),
        (V2, "192.0.2.9 999 192.0.2.10 443 192.0.2.9 127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "    127.0.0.1 127.0.0.1"),
    ):
        with site.connect("%PORT1%") as client:
            client.send(header + GET)
            assert client.response().text.replace("\\\n", "") == expected
            # It stands before the first request only.
            client.send(GET)
            assert client.response().text.replace("\\\n", "") == expected


def test_a_proxy_protocol_header_may_come_in_pieces(serve_nginx):
    site = serve_nginx(PROXIED)
    with site.connect("%PORT1%") as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n" + GET:
            client.send(bytes([byte]))
        assert client.response().text.startswith("192.0.2.1 5000")


def test_without_a_proxy_protocol_header_the_connection_is_closed(serve_nginx):
    site = serve_nginx(PROXIED)
    with site.connect("%PORT1%") as client:
        client.send(GET)
        assert client.end() in ("eof", "reset")
    site.wait_log(r"no PROXY protocol header while reading PROXY protocol, client: 127\.0\.0\.1")
    with site.connect("%PORT1%") as client:
        client.send(b"PROXY TCP4 nonsense\r\n" + GET)
        assert client.end() in ("eof", "reset")
    site.wait_log("broken PROXY protocol header")
    # And when it does not come in time.
    with site.connect("%PORT1%") as client:
        client.send(b"PROXY TCP4 ")
        assert client.end(timeout=5) in ("eof", "reset")


def seconds(call):
    begun = time.monotonic()
    return call(), time.monotonic() - begun


@pytest.mark.parametrize("how", ["sendfile on;", "sendfile off;"])
def test_limit_rate_slows_a_response_down(serve_nginx, how):
    site = serve_nginx(server("""
        location / { limit_rate 40k; }
        location /after { alias %DIR%/html/file; limit_rate 1k; limit_rate_after 1m; }
        location /free { alias %DIR%/html/file; }
        location /set { alias %DIR%/html/file; set $limit_rate 40k; }
        location /arg { alias %DIR%/html/file; limit_rate $arg_rate; }
    """, how), files={"html/file": "x" * 100_000})
    for path in ("/file", "/set", "/arg?rate=40k"):
        response, took = seconds(lambda path=path: site.get(path))
        assert len(response.body) == 100_000
        assert 1.2 < took < 5, path
    for path in ("/after", "/free", "/arg", "/arg?rate=0"):
        times = []
        # Once at least the machine has time for it.
        while min(times, default=2) >= 1.2 and len(times) < 5:
            response, took = seconds(lambda path=path: site.get(path))
            assert len(response.body) == 100_000
            times.append(took)
        assert min(times) < 1.2, path


def test_a_size_that_is_none_is_logged(serve_nginx):
    site = serve_nginx(server("limit_rate $arg_rate; return 200 text;"))
    assert site.get("/?rate=quick").text == "text"
    site.wait_log('invalid size "quick"')


def test_keepalive_timeout_is_told(serve_nginx):
    site = serve_nginx(server("return 200;", "keepalive_timeout 60s 20s;"))
    with site.connect() as client:
        response = client.request()
        assert (response.get("Keep-Alive"), response.get("Connection")) == ("timeout=20", "keep-alive")
        response = client.request(fields={"Connection": "close"})
        assert (response.get("Keep-Alive"), response.get("Connection")) == (None, "close")


def test_what_is_told_of_keepalive_is_inherited_by_itself(serve_nginx):
    site = serve_nginx(server("""
        location / { return 200; }
        location /own { keepalive_timeout 5s; return 200; }
        location /nothing { keepalive_timeout 5s 0; return 200; }
    """, "keepalive_timeout 60s 20s;"))
    told = {path: site.get(path, {"Connection": "keep-alive"}).get("Keep-Alive") for path in ("/", "/own", "/nothing")}
    assert told == {"/": "timeout=20", "/own": "timeout=20", "/nothing": None}


def test_a_body_that_nobody_reads_is_read_over_however_long_it_may_be(serve_nginx):
    site = serve_nginx(server("location /inner { internal; } location / { return 200 text; }", "client_max_body_size 10;"))
    with site.connect() as client:
        for _ in range(2):
            answer = client.request("POST", "/inner", body=b"x" * 30000)
            assert (answer.status, answer.get("Connection")) == (404, None)
        assert client.request().text == "text"
        assert client.request("POST", "/", body=b"x" * 11).status == 413


def test_keepalive_time_is_how_old_a_connection_may_get(serve_nginx):
    site = serve_nginx(server("return 200;", "keepalive_time 500ms;"))
    begun = time.monotonic()
    with site.connect() as client:
        wait_until(lambda: client.request().get("Connection") == "close", "the end of its time", 5)
        assert time.monotonic() - begun >= 0.5


def test_keepalive_min_timeout_outlives_the_order_to_end(serve_nginx):
    site = serve_nginx(server("return 200;", "keepalive_min_timeout 1500ms;"))
    with site.connect() as client, site.connect() as fresh:
        begun = time.monotonic()
        client.request()
        site.signal(signal.SIGQUIT)
        assert client.end() in ("eof", "reset")
        assert time.monotonic() - begun > 1.0
        fresh.close()
    assert site.exit_code() == 0


def test_chunks_can_be_switched_off(serve_nginx):
    conf = server("location / { sub_filter a b; sub_filter_types *; }", "chunked_transfer_encoding off;")
    site = serve_nginx(conf, files={"html/file": "a text" * 50_000})
    with site.connect() as client:
        response = client.request("GET", "/file")
        assert (response.framing, response.text) == ("close", "b text" + "a text" * 49_999)


def test_444_resets_where_it_is_asked_for(serve_nginx):
    site = serve_nginx(server("location /reset { reset_timedout_connection on; return 444; } location / { return 444; }"))
    for path, end in (("/", "eof"), ("/reset", "reset")):
        with site.connect() as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.end() == end


def test_lingering_close_always_waits_for_the_clients_end(serve_nginx):
    site = serve_nginx(server("""
        location /always { lingering_close always; lingering_timeout 10s; return 200; }
        location / { lingering_close off; return 200; }
    """))
    with site.connect() as client:
        client.request("GET", "/always", {"Connection": "close"})
        client.send(b"more")
        assert client.end() == "eof"
        # It reads on; whoever closes at once answers with a reset.
        client.send(b"and more")
        client.send(b"and more")
        assert client.end() == "eof"


def test_names_of_fields(serve_nginx):
    show = 'return 200 "[$http_a_b][$http_c]";'
    site = serve_nginx(
        server(show) + server(show, "ignore_invalid_headers off;", "%PORT1%")
        + server('return 200 "[$http_a_b]";', "underscores_in_headers on;", "%PORT2%"))
    fields = {"A_b": "1", "C.d": "2", "C": "3"}
    assert site.get("/", fields).text == "[][3]"
    with site.connect("%PORT1%") as client:
        assert client.request("GET", "/", fields).text == "[1][3]"
    with site.connect("%PORT2%") as client:
        assert client.request("GET", "/", fields).text == "[1]"


def test_max_headers(serve_nginx):
    site = serve_nginx(server("return 200;", "max_headers 3;"))
    assert site.get("/", {"A": "1"}).status == 200
    assert site.get("/", {"A": "1", "B": "2"}).status == 400


def test_slashes_are_merged_unless_told_otherwise(serve_nginx):
    show = 'return 200 "$uri";'
    site = serve_nginx(server(show) + server(show, "merge_slashes off;", "%PORT1%"))
    assert site.get("//a///b/../c").text == "/a/c"
    with site.connect("%PORT1%") as client:
        assert client.request("GET", "//a///b/../c").text == "//a///c"


def test_the_next_request_is_not_read_by_the_limits_of_the_last_location(serve_nginx):
    site = serve_nginx(server("""
        location /small { client_max_body_size 10; return 200 small; }
        location / { return 200 large; }
    """))
    with site.connect() as client:
        assert client.request("GET", "/small").text == "small"
        assert client.request("POST", "/", body=b"x" * 100).text == "large"


def test_variables(serve_nginx):
    site = serve_nginx(server("""
        location /tcp { return 200 "$tcpinfo_rtt $tcpinfo_rttvar $tcpinfo_snd_cwnd $tcpinfo_rcv_space"; }
        location /connections {
            return 200 "$connections_active $connections_reading $connections_writing $connections_waiting";
        }
        location /date { return 200 "$date_gmt|$date_local"; }
        location /pipe { return 200 "$pipe"; }
        location /link { root %DIR%/link; return 200 "$realpath_root"; }
        location /uid { return 200 "[$uid_got]"; }
    """), files={"real/file": ""})
    rtt, _, window, space = map(int, site.get("/tcp").text.split())
    assert rtt > 0 and window > 0 and space > 0
    with site.connect() as idle:
        idle.request()
        active, reading, writing, waiting = map(int, site.get("/connections").text.split())
        assert active >= 2 and writing >= 1 and active == reading + writing + waiting
    gmt, local = site.get("/date").text.split("|")
    assert time.strptime(gmt, "%A, %d-%b-%Y %H:%M:%S GMT")
    assert local.endswith(" UTC")
    with site.connect() as client:
        client.send(b"GET /pipe HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        assert (client.response().text, client.response().text) == (".", "p")
    (site.directory / "link").symlink_to(site.directory / "real")
    assert site.get("/link").text == str(site.directory / "real")
    assert site.get("/uid").text == "[]"


def test_gzip_ratio(serve_nginx):
    site = serve_nginx("log_format ratio '$uri $gzip_ratio $body_bytes_sent';" + server(
        "gzip on; gzip_min_length 1; gzip_types *;", "access_log %DIR%/ratio.log ratio;"), files={"html/file.txt": "a" * 200_000})
    site.get("/file.txt", {"Accept-Encoding": "gzip"})
    site.get("/file.txt?plain")
    log = site.directory / "ratio.log"
    wait_until(lambda: log.read_text().count("/file.txt") == 2, "both lines")
    (_, ratio, sent), (_, none, _) = (line.split() for line in log.read_text().splitlines() if "file" in line)
    assert abs(float(ratio) - 200_000 / int(sent)) < 0.01
    assert none == "-"


def test_subrequests_are_logged_where_it_is_asked_for(serve_nginx):
    site = serve_nginx("log_format uri '$uri $status';" + server("""
        auth_request /auth;
        location = /auth { log_subrequest on; internal; empty_gif; }
        location / { }
    """, "access_log %DIR%/uri.log uri;"), files={"html/index.html": "in"})
    assert site.get("/index.html").text == "in"
    log = site.directory / "uri.log"
    wait_until(lambda: "/index.html 200" in log.read_text(), "the line")
    assert log.read_text().splitlines()[-2:] == ["/auth 200", "/index.html 200"]


def test_error_logs_of_servers_and_their_reload(serve_nginx):
    one = server("location / { error_log %DIR%/one.log; deny all; }")
    site = serve_nginx(one)
    assert site.get("/").status == 403
    log = site.directory / "one.log"
    wait_until(lambda: "access forbidden by rule, client: 127.0.0.1" in log.read_text(), "the line")
    site.configure(one.replace("one.log", "two.log"))
    site.signal(signal.SIGHUP)

    def is_there():
        site.get("/")
        other = site.directory / "two.log"
        return other.exists() and "forbidden" in other.read_text()

    wait_until(is_there, "the other log")


def test_links_are_not_followed_by_if_either(serve_nginx):
    site = serve_nginx(server("""
        location /off { set $x no; if (-f %DIR%/link) { set $x yes; } return 200 $x; }
        location /on {
            disable_symlinks on from=$document_root; root %DIR%;
            set $x no; if (-f %DIR%/link) { set $x yes; } if (-f %DIR%/file) { set $x $x+; } return 200 $x;
        }
    """), files={"file": "text"})
    (site.directory / "link").symlink_to(site.directory / "file")
    assert site.get("/off").text == "yes"
    assert site.get("/on").text == "no+"


@pytest.mark.parametrize("directive, why", [
    ("geoip_city x;", "`geoip_city` is not there yet"),
    ("image_filter test;", "`image_filter` is not there yet"),
    ("perl hello;", "`perl` is not there yet"),
])
def test_what_is_not_there_is_refused(serve_nginx, directive, why):
    site = serve_nginx(server(directive), wait=False)
    assert site.exit_code() == 1
    site.wait_log(why)


def test_connections_are_counted_by_what_they_do(serve_nginx):
    server = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT%;
            location / { add_header X-Now "$connections_active $connections_reading $connections_writing \
$connections_waiting"; return 200; }
        }
    """)

    def now():
        return server.get("/").get("X-Now")

    wait_until(lambda: now() == "1 0 1 0", "only this one")
    with server.connect() as idle:
        wait_until(lambda: now() == "2 0 1 1", "an idle one")
        idle.send(b"GET / HTTP/1.1\r\nHo")
        wait_until(lambda: now() == "2 1 1 0", "a part of a head")
        idle.send(b"st: t\r\n\r\n")
        assert idle.response().status == 200
        wait_until(lambda: now() == "2 0 1 1", "an idle one again")
    wait_until(lambda: now() == "1 0 1 0", "it to be gone")


def test_requests_on_a_connection_are_counted_by_the_location(serve_nginx):
    server = serve_nginx("""
        keepalive_requests 2;
        server {
            listen 127.0.0.1:%PORT%;
            location / { return 200; }
            location /more { keepalive_requests 4; return 200; }
        }
    """)
    for target, most in (("/", 2), ("/more", 4)):
        with server.connect() as client:
            said = []
            for _ in range(most):
                client.send(f"GET {target} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
                said.append(client.response().get("Connection"))
            assert said == [None] * (most - 1) + ["close"]
            assert client.end() == "eof"


def test_a_rate_is_told_in_bytes(serve_nginx):
    server = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT%;
            location / { set $limit_rate $arg_rate; return 200 "$limit_rate"; }
        }
    """)
    for rate, said in (("40k", "40960"), ("1m", "1048576"), ("7", "7"), ("", "0"), ("fast", "0")):
        assert server.get(f"/?rate={rate}").text == said


def test_a_link_may_be_checked_in_another_way_further_in(serve_nginx):
    server = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT%;
            location / {
                secure_link_secret secret;
                location /new { secure_link $arg_md5; secure_link_md5 "secret"; return 200 "[$secure_link]"; }
                location /old { return 200 "[$secure_link]"; }
            }
        }
    """)
    link = base64.urlsafe_b64encode(hashlib.md5(b"secret").digest()).decode().rstrip("=")
    assert server.get(f"/new?md5={link}").text == "[1]"
    assert server.get("/new?md5=x").text == "[]"
    old = hashlib.md5(b"a.htmlsecret").hexdigest()
    assert server.get(f"/old/{old}/a.html").text == "[a.html]"
