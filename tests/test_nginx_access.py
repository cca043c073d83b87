"""Who may ask, and how often: addresses, passwords, subrequests, limits, and whose address counts."""

import base64
import re
import struct
import time

import pytest
from support import Client, build, wait_until

USERS = """\
# a comment
plain:{PLAIN}secret
sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=
ssha:{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0
apr1:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/
des:rqkgm0IXRZd2Y
bcrypt:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a
sha256:$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.
sha512:$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.:comment
twice:{PLAIN}secret
twice:{PLAIN}other
empty:
"""

CONF = r"""
    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        root %DIR%/root;
        default_type text/plain;

        location /allow/ { allow 127.0.0.1; deny all; }
        location /deny/ { deny 127.0.0.0/8; allow all; error_page 403 /errors/403.txt; }
        location /deny-one/ { deny 127.0.0.2; }
        location /order/ { allow 127.0.0.1; deny 127.0.0.0/8; allow all; }
        location /deny-all/ { deny all; location /deny-all/open/ { allow all; } location /deny-all/in/ { } }
        location /unix/ { allow unix:; deny all; }
        location /six/ { deny ::1; allow all; }
        location /errors/ { }
        location /methods/ { limit_except GET { deny all; } }
        location /methods-return/ { limit_except GET { deny all; } return 200 returned; }
        location /methods-if/ { limit_except GET { allow all; } if ($arg_x) { return 202; } set $was set; return 200 "$was"; }
        location /return-first/ { deny all; return 200 "the rewrite phase comes first"; }

        location /basic/ { auth_basic "the realm"; auth_basic_user_file %DIR%/users; }
        location /basic/off/ { auth_basic off; }
        location /basic-file/ { auth_basic "r"; auth_basic_user_file %DIR%/$arg_file; }
        location /basic-var/ { auth_basic $arg_realm; auth_basic_user_file %DIR%/users; }
        location /basic-page/ { auth_basic "r"; auth_basic_user_file %DIR%/users; error_page 401 /errors/401.txt; }

        location /all/ { satisfy all; deny all; auth_basic "r"; auth_basic_user_file %DIR%/users; }
        location /any/ { satisfy any; deny all; auth_basic "r"; auth_basic_user_file %DIR%/users; }
        location /any-near/ { satisfy any; allow 127.0.0.1; deny all; auth_basic "r"; auth_basic_user_file %DIR%/users; }

        location /asked/ {
            auth_request /auth;
            auth_request_set $user $who;
            auth_request_set $not_sent $sent_http_x_user;
            auth_request_set $code $status;
            add_header X-User $user always;
            add_header X-Code $code always;
            add_header X-Not-Sent "[$not_sent]";
        }
        location = /auth {
            internal;
            if ($http_x_deny = 401) { return 401; }
            if ($http_x_deny) { return 403; }
            add_header X-User "fields are added to answers to clients only";
            set $who "ada by $request_method $args $uri";
            return 204;
        }
        location /asked-403/ { auth_request /auth403; error_page 403 =200 /errors/403.txt; }
        location = /auth403 { return 403; }
        location /asked-401/ { auth_request /auth401; }
        location = /auth401 { deny all; auth_basic "asked"; auth_basic_user_file %DIR%/users; }
        location /asked-500/ { auth_request /auth500; }
        location = /auth500 { return 500; }
        location /asked-file/ { auth_request /root-file.txt; }
        location /asked-any/ { satisfy any; deny all; auth_request /auth; }
        location /asked-off/ { auth_request /auth403; location /asked-off/open/ { auth_request off; } }
    }
"""

FILES = {"users": USERS, "root/root-file.txt": "file", "root/errors/403.txt": "custom 403",
         "root/errors/401.txt": "custom 401", "other-users": "bob:{PLAIN}b\n",
         **{f"root/{place}/x": place for place in (
             "allow", "deny", "deny-one", "order", "deny-all", "deny-all/open", "deny-all/in", "unix", "six",
             "methods", "basic", "basic/off", "basic-file", "basic-var", "basic-page", "all", "any", "any-near",
             "asked", "asked-403", "asked-401", "asked-500", "asked-file", "asked-any", "asked-off",
             "asked-off/open")},
         "root/auth401": "ok"}


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, files=FILES)


def basic(user, password="secret"):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(("target", "status"), [
    ("/allow/x", 200), ("/deny/x", 403), ("/deny-one/x", 200), ("/order/x", 200), ("/deny-all/x", 403),
    ("/deny-all/open/x", 200), ("/deny-all/in/x", 403), ("/unix/x", 403), ("/six/x", 200), ("/return-first/", 200),
])
def test_addresses(server, target, status):
    assert server.get(target).status == status


def test_an_address_that_is_kept_out(server):
    response = server.get("/deny/x")
    assert (response.status, response.text) == (403, "custom 403")
    server.wait_log(r'\[error\] .*access forbidden by rule, client: 127\.0\.0\.1, server: test\.example, '
                    r'request: "GET /deny/x HTTP/1\.1", host: "test\.example"')


def test_limit_except(server):
    assert server.get("/methods/x").status == 200
    assert server.request("HEAD", "/methods/x").status == 200
    assert server.request("POST", "/methods/x", body=b"").status == 403


def test_rewrite_directives_do_not_reach_into_limit_except(server):
    assert server.get("/methods-return/x").text == "returned"
    assert server.request("POST", "/methods-return/x", body=b"").status == 403
    assert (server.get("/methods-if/none").text, server.get("/methods-if/none?x=1").status) == ("set", 202)
    assert server.request("DELETE", "/methods-if/none?x=1").status == 405


@pytest.mark.parametrize("user", ["plain", "sha", "ssha", "apr1", "des", "bcrypt", "sha256", "sha512", "twice"])
def test_passwords_in_every_form(server, user):
    assert server.get("/basic/x", basic(user)).status == 200
    assert server.get("/basic/x", basic(user, "Secret")).status == 401


def test_the_challenge(server):
    response = server.get("/basic/x")
    assert (response.status, response.get("WWW-Authenticate")) == (401, 'Basic realm="the realm"')
    assert "401 Authorization Required" in response.text
    response = server.get("/basic-page/x")
    assert (response.status, response.text, response.get("WWW-Authenticate")) == (401, "custom 401", 'Basic realm="r"')


@pytest.mark.parametrize("fields", [
    basic("nobody"), basic("twice", "other"), basic("plain", ""), basic("", "secret"), basic("# a comment", ""),
    {"Authorization": "Basic !!!"}, {"Authorization": "Bearer cGxhaW46c2VjcmV0"},
    {"Authorization": "Basic cGxhaW4="}, {"Authorization": "Basic"}, {"Authorization": "Basic "},
])
def test_what_is_no_password(server, fields):
    assert server.get("/basic/x", fields).status == 401


def test_a_scheme_is_of_any_case(server):
    assert server.get("/basic/x", {"Authorization": "bAsIc cGxhaW46c2VjcmV0"}).status == 200


def test_basic_by_variables(server):
    assert server.get("/basic/off/x").status == 200
    assert server.get("/basic-var/x?realm=off").status == 200
    assert server.get("/basic-var/x?realm=here").get("WWW-Authenticate") == 'Basic realm="here"'
    assert server.get("/basic-file/x?file=other-users", basic("bob", "b")).status == 200
    assert server.get("/basic-file/x?file=users", basic("bob", "b")).status == 401
    assert server.get("/basic-file/x?file=none", basic("bob", "b")).status == 403, "no file, nobody"


def test_users_may_change_while_it_runs(server):
    path = server.write("changing", "eve:{PLAIN}1\n")
    assert server.get("/basic-file/x?file=changing", basic("eve", "1")).status == 200
    path.write_text("eve:{PLAIN}2\nadam:{PLAIN}a\n")
    assert server.get("/basic-file/x?file=changing", basic("eve", "1")).status == 401
    assert server.get("/basic-file/x?file=changing", basic("eve", "2")).status == 200


def test_wrong_passwords_are_logged(server):
    server.get("/basic/x", basic("plain", "wrong"))
    server.wait_log(r'\[error\] .*user "plain": password mismatch, client: 127\.0\.0\.1')
    server.get("/basic/x", basic("stranger"))
    server.wait_log(r'\[error\] .*user "stranger" was not found in "[^"]*users"')


@pytest.mark.parametrize("stored", ["ab", "a", "", "$", "$9$abc$def", "$zz$x", "..x", "*", "!", "$apr1$", "{SSHA}!!"])
def test_a_hash_that_is_none_is_nobodys(server, stored):
    server.write("broken", f"eve:{stored}\n")
    for password in ("secret", "", "ab"):
        response = server.get("/basic-file/x?file=broken", basic("eve", password))
        assert (response.status, response.get("WWW-Authenticate")) == (401, 'Basic realm="r"')
    server.wait_log(r'\[error\] .*user "eve": password mismatch')


@pytest.mark.parametrize(("target", "fields", "status"), [
    ("/all/x", {}, 403), ("/all/x", basic("plain"), 403),
    ("/any/x", {}, 401), ("/any/x", basic("plain"), 200), ("/any/x", basic("plain", "wrong"), 401),
    ("/any-near/x", {}, 200),
    ("/asked-any/x", {}, 200), ("/asked-any/x", {"X-Deny": "403"}, 403),
])
def test_satisfy(server, target, fields, status):
    response = server.get(target, fields)
    assert response.status == status
    assert (response.get("WWW-Authenticate") is not None) == (status == 401)


def test_auth_request_lets_in_and_sets_variables(server):
    response = server.get("/asked/x?a=b")
    assert (response.status, response.text) == (200, "asked")
    assert response.get("X-User") == "ada by GET  /auth"
    assert response.get("X-Code") == "204"
    assert response.get("X-Not-Sent") == "[]"
    assert server.request("HEAD", "/asked/x").status == 200


@pytest.mark.parametrize(("target", "fields", "status"), [
    ("/asked/x", {"X-Deny": "403"}, 403), ("/asked/x", {"X-Deny": "401"}, 401),
    ("/asked-500/x", {}, 500), ("/asked-file/x", {}, 200), ("/asked-403/x", {}, 200),
    ("/asked-off/x", {}, 403), ("/asked-off/open/x", {}, 200), ("/auth", {}, 404),
])
def test_auth_request_says_who_may_ask(server, target, fields, status):
    assert server.get(target, fields).status == status


def test_the_access_phase_is_the_requests_own(server):
    assert server.get("/asked-401/x").status == 200


def test_auth_request_and_error_page(server):
    assert server.get("/asked-403/x").text == "custom 403"
    server.get("/asked-500/x")
    server.wait_log(r"\[error\] .*auth request unexpected status: 500")


def test_auth_request_by_an_application(serve_nginx):
    server = serve_nginx("""
        app login { wsgi login:application; directory %DIR%; }
        server {
            listen 127.0.0.1:%PORT%;
            location /private/ { auth_request /check; auth_request_set $who $sent_http_x_who;
                                 add_header X-Who $who; alias %DIR%/private/; }
            location /store/ { auth_request /check; app_pass login; }
            location = /check { internal; app_pass login; }
        }
    """, files={"private/x": "private", "login.py": """
        def application(environ, start_response):
            length = environ.get("CONTENT_LENGTH") or "0"
            body = environ["wsgi.input"].read()
            if environ["PATH_INFO"] == "/check":
                status = "200 OK" if environ.get("HTTP_COOKIE") == "session=1" else "401 Unauthorized"
                start_response(status, [("Content-Type", "text/plain"), ("X-Who", f"ada {len(body)}"),
                                        ("WWW-Authenticate", "Session")])
                return [b"the body of an answer to a subrequest is not for the client"]
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [f"{environ['REQUEST_METHOD']} {length} {len(body)}".encode()]
    """}, python=True)
    response = server.get("/private/x")
    assert (response.status, response.get("WWW-Authenticate")) == (401, "Session")
    response = server.get("/private/x", {"Cookie": "session=1"})
    assert (response.status, response.text, response.get("X-Who")) == (200, "private", "ada 0")
    stored = server.request("POST", "/store/x", {"Cookie": "session=1"}, b"x" * 100_000)
    assert stored.text == "POST 100000 100000", "the body is still there after the question"
    assert server.request("POST", "/store/x", body=b"x" * 100_000).status == 401
    with server.connect() as client:
        for _ in range(3):
            assert client.request("GET", "/private/x", {"Cookie": "session=1"}).text == "private"


# Limits: rates so low that no time that a test takes matters

LIMITS = r"""
    limit_req_zone $arg_key zone=key:1m rate=1r/m;
    limit_req_zone $arg_two zone=two:1m rate=1r/m;
    limit_req_zone $arg_key zone=fast:1m rate=10r/s;
    limit_conn_zone $arg_key zone=connections:1m;
    limit_conn_zone $server_name zone=all:1m;
    log_format limits '$uri $arg_key $limit_req_status $limit_conn_status $status';
    server {
        access_log %DIR%/access.log limits;
        error_log stderr warn;
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        root %DIR%/root;
        location /one/ { limit_req zone=key; }
        location /burst/ { limit_req zone=key burst=2 nodelay; }
        location /status/ { limit_req zone=key; limit_req_status 429; error_page 429 = @slow; }
        location @slow { return 429 "slow down"; }
        location /two/ { limit_req zone=key burst=5 nodelay; limit_req zone=two; }
        location /dry/ { limit_req zone=key; limit_req_dry_run on; }
        location /delayed/ { limit_req zone=fast burst=5; }
        location /delay-later/ { limit_req zone=key burst=5 delay=3; }
        location /warn/ { limit_req zone=key; limit_req_log_level warn; }
        location /connections/ { limit_conn connections 2; }
        location /connections-429/ { limit_conn connections 1; limit_conn_status 429; }
        location /connections-dry/ { limit_conn connections 1; limit_conn_dry_run on; }
    }
"""


@pytest.fixture(scope="module")
def limited(serve_nginx_module):
    places = ("one", "burst", "status", "two", "dry", "delayed", "delay-later", "warn")
    return serve_nginx_module(LIMITS, files={
        **{f"root/{place}/x": place for place in places}, "root/connections/x": "x",
        **{f"root/{place}/large": bytes(20_000_000) for place in ("connections", "connections-429", "connections-dry")}})


def statuses(server, target, count):
    with server.connect() as client:
        return [client.request("GET", target).status for _ in range(count)]


def test_limit_req(limited):
    assert statuses(limited, "/one/x?key=a", 3) == [200, 503, 503]
    assert statuses(limited, "/one/x?key=b", 2) == [200, 503], "each key for itself"
    assert statuses(limited, "/one/x", 3) == [200] * 3, "an empty key is not counted"
    limited.wait_log(r'\[error\] .*limiting requests, excess: [01]\.\d{3} by zone "key", client: 127\.0\.0\.1, '
                     r'server: test\.example, request: "GET /one/x\?key=a HTTP/1\.1"')


def test_limit_req_with_a_burst(limited):
    assert statuses(limited, "/burst/x?key=burst", 5) == [200, 200, 200, 503, 503]


def test_limit_req_status_and_its_page(limited):
    limited.get("/status/x?key=status")
    response = limited.get("/status/x?key=status")
    assert (response.status, response.text) == (429, "slow down")


def test_limit_req_of_two_zones(limited):
    assert statuses(limited, "/two/x?key=c&two=1", 2) == [200, 503]
    assert statuses(limited, "/two/x?key=c&two=2", 1) == [200]


def test_limit_req_dry_run(limited):
    assert statuses(limited, "/dry/x?key=dry", 3) == [200] * 3
    limited.wait_log(r"\[error\] .*limiting requests, dry run, excess: ")


def test_limit_req_delays_what_is_over_the_rate(limited):
    began = time.monotonic()
    assert statuses(limited, "/delayed/x?key=delayed", 4) == [200] * 4
    assert 0.25 < time.monotonic() - began < 5, "three that wait a tenth of a second each"
    limited.wait_log(r"\[warn\] .*delaying request, excess: ")


def test_limit_req_with_delay_lets_some_through_at_once(limited):
    began = time.monotonic()
    assert statuses(limited, "/delay-later/x?key=later", 3) == [200] * 3
    assert time.monotonic() - began < 10, "at one a minute they would wait much longer"


def test_limit_req_log_level(limited):
    statuses(limited, "/warn/x?key=warn", 2)
    limited.wait_log(r"\[warn\] .*limiting requests, excess: .*request: \"GET /warn/x")


def test_limit_conn(limited):
    def large(target):
        client = limited.connect(receive_buffer=4096)
        client.send(build("GET", target))
        assert client.head().status == 200
        return client

    clients = [large("/connections/large?key=a") for _ in range(2)]
    assert limited.get("/connections/x?key=a").status == 503
    assert limited.get("/connections/x?key=b").status == 200
    limited.wait_log(r'\[error\] .*limiting connections by zone "connections"')
    assert limited.get("/connections-429/large?key=a").status == 429
    dry = large("/connections-dry/large?key=a")
    limited.wait_log(r"\[error\] .*limiting connections, dry run, by zone")
    for client in [*clients, dry]:
        client.reset()
    wait_until(lambda: limited.get("/connections/x?key=a").status == 200, "the others to be gone")


def test_the_log_knows_what_was_limited(limited):
    statuses(limited, "/one/x?key=logged", 2)
    statuses(limited, "/dry/x?key=logged", 1)
    path = limited.directory / "access.log"
    wait_until(lambda: path.read_text().count(" logged ") == 3, "three lines")
    lines = re.findall(r"^.* logged .*$", path.read_text(), re.MULTILINE)
    assert lines == ["/one/x logged PASSED - 200", "/one/x logged REJECTED - 503", "/dry/x logged REJECTED_DRY_RUN - 200"]


# Whose address counts

REALIP = r"""
    set_real_ip_from 127.0.0.1;
    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        location / { return 200 "$remote_addr $realip_remote_addr"; }
        location /x-forwarded-for { real_ip_header X-Forwarded-For; return 200 "$remote_addr"; }
        location /recursive { real_ip_header X-Forwarded-For; real_ip_recursive on; set_real_ip_from 127.0.0.1;
                              set_real_ip_from 10.0.0.0/8; set_real_ip_from 2001:db8::/32; return 200 "$remote_addr"; }
    }
    server {
        listen 127.0.0.1:%PORT%;
        server_name forwarded.example;
        root %DIR%/root;
        real_ip_header X-Forwarded-For;
        allow 192.0.2.0/24; deny all;
        add_header X-Address "$remote_addr:$remote_port $realip_remote_addr" always;
    }
    server {
        listen 127.0.0.1:%PORT%;
        server_name recursive.example;
        real_ip_header X-Forwarded-For; real_ip_recursive on;
        set_real_ip_from 127.0.0.1; set_real_ip_from 10.0.0.0/8; set_real_ip_from 2001:db8::/32;
        return 200 "$remote_addr";
    }
    server {
        listen 127.0.0.1:%PORT%;
        server_name far.example;
        set_real_ip_from 10.0.0.0/8; real_ip_header X-Own;
        return 200 "$remote_addr";
    }
    server { listen 127.0.0.1:%PORT1% proxy_protocol; real_ip_header proxy_protocol;
             return 200 "$remote_addr:$remote_port $realip_remote_addr $proxy_protocol_addr"; }
"""


@pytest.fixture(scope="module")
def realip(serve_nginx_module):
    return serve_nginx_module(REALIP, files={"root/x": "x"})


@pytest.mark.parametrize(("host", "fields", "answer"), [
    ("test.example", {}, "127.0.0.1 127.0.0.1"),
    ("test.example", {"X-Real-IP": "192.0.2.1"}, "192.0.2.1 127.0.0.1"),
    ("test.example", {"X-Real-IP": "no address"}, "127.0.0.1 127.0.0.1"),
    ("recursive.example", {"X-Forwarded-For": "192.0.2.1, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"),
    ("recursive.example", {"X-Forwarded-For": "10.0.0.3, 10.0.0.2"}, "10.0.0.3"),
    ("recursive.example", {"X-Forwarded-For": "192.0.2.1,2001:db8::1"}, "192.0.2.1"),
    ("recursive.example", {"X-Forwarded-For": "junk, 10.0.0.2"}, "10.0.0.2"),
    ("far.example", {"X-Own": "192.0.2.1"}, "127.0.0.1"),
])
def test_real_ip(realip, host, fields, answer):
    assert realip.get("/", fields, host=host).text == answer


def test_the_real_address_is_what_access_is_decided_by(realip):
    response = realip.get("/x", {"X-Forwarded-For": "203.0.113.7, 192.0.2.9:1234"}, host="forwarded.example")
    assert (response.status, response.get("X-Address")) == (200, "192.0.2.9:1234 127.0.0.1")
    assert realip.get("/x", {"X-Forwarded-For": "192.0.2.9, 203.0.113.7"}, host="forwarded.example").status == 403
    assert realip.get("/x", host="forwarded.example").status == 403


def test_the_real_address_by_the_proxy_protocol(realip):
    with realip.connect("%PORT1%") as client:
        client.send(b"PROXY TCP4 192.0.2.5 192.0.2.6 1111 2222\r\n" + build())
        assert client.response().text == "192.0.2.5:1111 127.0.0.1 192.0.2.5"


def test_what_the_proxy_protocol_says_besides(serve_nginx):
    names = ["alpn", "0x01", "authority", "unique_id", "netns", "0x000Ae", "ssl_verify", "ssl_version", "ssl_0x21", "ssl_cn",
             "ssl_cipher", "ssl_sig_alg", "ssl_key_alg", "ssl_0x2f", "0x7", "none"]
    text = " ".join(f"{name}=$proxy_protocol_tlv_{name};" for name in names)
    site = serve_nginx(f"""
        server {{ listen 127.0.0.1:%PORT%; listen 127.0.0.1:%PORT1% proxy_protocol; return 200 "{text}"; }}
    """)

    def piece(kind, value):
        return struct.pack(">BH", kind, len(value)) + value

    def said(header, count=1):
        with site.connect("%PORT1%") as client:
            client.send(header)
            answers = [client.request("GET", "/").text for _ in range(count)]
            assert len(set(answers)) == 1
            return dict(part.split("=", 1) for part in answers[0].strip(";").split("; "))

    def header(pieces):
        content = bytes([192, 0, 2, 1, 192, 0, 2, 2, 1, 0, 2, 0]) + pieces
        return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", len(content)) + content

    nothing = dict.fromkeys(names, "")
    tls = struct.pack(">BI", 1, 255) + b"".join(
        piece(kind, value) for kind, value in [(0x21, b"TLSv1.3"), (0x22, b"a.example"), (0x23, b"AES"), (0x24, b"SHA1"),
                                               (0x25, b"RSA")])
    pieces = piece(1, b"h2") + piece(2, b"name.example") + piece(5, b"id") + piece(0x20, tls) + piece(0x30, b"ns") + piece(0xae, b"own")
    assert said(header(pieces), 3) == nothing | {
        "alpn": "h2", "0x01": "h2", "authority": "name.example", "unique_id": "id", "netns": "ns", "0x000Ae": "own",
        "ssl_verify": "255", "ssl_version": "TLSv1.3", "ssl_0x21": "TLSv1.3", "ssl_cn": "a.example", "ssl_cipher": "AES",
        "ssl_sig_alg": "SHA1", "ssl_key_alg": "RSA"}
    # What is broken is not there, and neither is what stands behind it.
    assert said(header(piece(1, b"h2") + b"\x02\xff\xff" + piece(5, b"id"))) == nothing | {"alpn": "h2", "0x01": "h2"}
    assert said(header(b"")) == nothing
    assert said(b"PROXY TCP4 192.0.2.5 192.0.2.6 1111 2222\r\n") == nothing
    assert site.get("/").text.count("=;") == len(names)


@pytest.mark.parametrize(("conf", "words"), [
    ("server { allow 1.2.3.4/33; }", 'invalid parameter "1.2.3.4/33"'),
    ("server { location / { limit_req zone=none; } }", 'zero size shared memory zone "none"|unknown .*zone "none"'),
    ("limit_conn_zone $uri zone=a:1m; limit_conn_zone $uri zone=a:1m; server { }", "already bound|duplicate"),
    ("limit_req_zone $uri zone=a:1m rate=1x; server { }", 'invalid rate "rate=1x"'),
    ("server { satisfy some; }", 'invalid value "some"'),
    ("server { set_real_ip_from 1.2.3.300; }", "host not found|invalid"),
])
def test_mistakes_are_found_at_the_start(serve_nginx, conf, words):
    server = serve_nginx(conf, wait=False)
    assert server.exit_code() == 1
    assert re.search(words, server.log())


def test_a_relative_file_of_users_by_a_variable_is_beside_the_configuration(serve_nginx):
    server = serve_nginx("""
        server { listen 127.0.0.1:%PORT%; auth_basic x; auth_basic_user_file $arg_file; location / { } }
    """, files={"users": USERS, "html/index.html": "in"})
    assert server.get("/?file=users", basic("plain")).text == "in"
    assert server.get("/?file=none", basic("plain")).status == 403
    assert server.get("/", basic("plain")).status == 500


def test_a_location_may_believe_another_field_about_the_client(serve_nginx):
    server = serve_nginx("""
        set_real_ip_from 127.0.0.0/8;
        add_header X-Client $remote_addr;
        server {
            listen 127.0.0.1:%PORT%;
            location / { }
            location /custom { real_ip_header X-Custom; }
        }
    """, files={"html/index.html": "", "html/custom": ""})
    fields = {"X-Custom": "192.0.2.7"}
    assert server.get("/", fields).get("X-Client") == "127.0.0.1"
    assert server.get("/custom", fields).get("X-Client") == "192.0.2.7"
    # What the server has found holds.
    assert server.get("/custom", {**fields, "X-Real-IP": "192.0.2.8"}).get("X-Client") == "192.0.2.8"


def test_server_names_that_are_patterns_are_valid_referers(serve_nginx):
    server = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT% default_server;
            server_name exact.example ~^shop[0-9]+$ ~middle;
            location / { valid_referers server_names; return 200 "[$invalid_referer]"; }
        }
    """)
    for referer, said in (
        ("http://exact.example/x", "[]"), ("https://SHOP12/x", "[]"), ("http://a.middle.b:80/", "[]"),
        ("http://shop/", "[1]"), ("http://other.example/middle", "[1]"),
    ):
        assert server.get("/", {"Referer": referer}).text == said, referer


def test_what_an_asked_location_says_may_become_the_arguments(serve_nginx):
    server = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT%;
            location / {
                auth_request /check;
                auth_request_set $args "user=joe$status";
                add_header X-Said "$args $arg_user";
            }
            location /check { internal; return 204; }
        }
    """, files={"html/page": ""})
    assert server.get("/page?a=b").get("X-Said") == "user=joe204 joe204"


@pytest.mark.parametrize(("page", "status"), [
    ("/page.html", 403), ("@page", 403), ("/said", 403), ("@said", 403), ("=404 /page.html", 500), ("=401 @said", 401),
    ("http://other.example/", 500), ("=302 @said", 500), ("=200 /page.html", 200), ("= /page.html", 200), ("=204 @said", 200)])
def test_a_page_for_the_error_of_who_is_asked_lets_nobody_in(serve_nginx, page, status):
    # A page that went out for 403 was taken for the 200 that it was made of.
    site = serve_nginx("""
        server {
            listen 127.0.0.1:%PORT%;
            root %DIR%;
            error_page 403 PAGE;
            location = /asked { internal; return 403; }
            location /private/ { auth_request /asked; }
            location = /said { return 200 said; }
            location @said { return 200 said; }
            location @page { try_files /page.html =404; }
        }
    """.replace("PAGE", page), files={"page.html": "page", "private/secret": "secret"})
    answer = site.get("/private/secret")
    assert answer.status == status
    # Only who says that it is no error lets through, as in nginx.
    assert (answer.text == "secret") == (status == 200)


@pytest.mark.parametrize(("head", "status"), [
    ("GET /admin/x HTTP/1.1\r\nHost: x\r\nFo o: x\r\n\r\n", 403),
    ("GET /admin/x HTTP/1.1\r\n\r\n", 403),
    ("GET /admin/x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 403),
    ("GET /other/../admin/x HTTP/1.1\r\nHost: x\r\nFo o: x\r\n\r\n", 403),
    # What has no path gets no further.
    ("GET /admin/../../x HTTP/1.1\r\nHost: x\r\n\r\n", 500),
    ("GET /%2e%2e/%2e%2e/admin HTTP/1.1\r\nHost: x\r\n\r\n", 500),
    ("GET /admin%00 HTTP/1.1\r\nHost: x\r\n\r\n", 500),
    ("GET /fine HTTP/1.1\r\nHost: x\r\nFo o: x\r\n\r\n", 400)])
def test_rules_about_paths_hold_for_heads_that_are_refused(serve_nginx, head, status):
    site = serve_nginx("""
        server { listen 127.0.0.1:%PORT%; }
        server {
            listen 127.0.0.1:%PORT1%;
            error_page 400 @page;
            location @page { if ($uri ~ ^/admin) { return 403; } add_header X-Path $uri always; try_files /page.html =404; }
            root %DIR%;
        }
    """, files={"page.html": "page"})
    with Client(("127.0.0.1", site.ports["%PORT1%"])) as client:
        client.send(head.encode())
        assert client.response().status == status
