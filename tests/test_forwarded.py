"""The client's address, scheme and host reach the application truthfully."""

import json

import pytest
from support import Client, wait_until

APP = """
import json

def application(environ, start_response):
    names = ("REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "SCRIPT_NAME", "PATH_INFO",
             "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP", "REMOTE_PORT")
    text = json.dumps({name: environ.get(name) for name in names}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]
"""

FORWARDED = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}


def environ(server, fields=(), target="/", **options):
    response = server.get(target, fields, **options)
    assert response.status == 200
    return json.loads(response.body)


def test_without_a_proxy(serve):
    seen = environ(serve(APP))
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == ("127.0.0.1", "http", "test.example")
    assert seen["REMOTE_PORT"].isdigit() and seen["SERVER_PORT"].isdigit()


def test_loopback_is_believed_by_default(serve):
    seen = environ(serve(APP), FORWARDED)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.1", "https")


def test_others_are_not_believed(serve):
    server = serve(APP, "--forwarded-allow-ips", "203.0.113.7")
    for _ in range(2):
        seen = environ(server, {**FORWARDED, "X-Forwarded-Host": "evil.example", "X-Real-IP": "6.6.6.6"})
        assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("127.0.0.1", "http")
        assert {seen[f"HTTP_X_{name}"] for name in ("FORWARDED_FOR", "FORWARDED_HOST", "REAL_IP")} == {None}
    told = "127.0.0.1 sends `X-Forwarded-For`, and is not in `forwarded_allow_ips`"
    assert server.log().count(told) == 1


def test_the_last_untrusted_address_counts(serve):
    server = serve(APP, "--forwarded-allow-ips", "127.0.0.1,10.0.0.0/8")
    fields = {"X-Forwarded-For": "6.6.6.6, 192.0.2.1, 10.1.2.3"}
    assert environ(server, fields)["REMOTE_ADDR"] == "192.0.2.1", "what the client itself wrote is to the left"


def test_several_lines_are_one_list(serve):
    seen = environ(serve(APP), [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "192.0.2.1")])
    assert seen["REMOTE_ADDR"] == "192.0.2.1"


def test_nonsense_is_not_an_address(serve):
    server = serve(APP)
    for value in ("unknown", "1.2.3", "", "<script>", "1.2.3.4.5"):
        seen = environ(server, {"X-Forwarded-For": value})
        assert seen["REMOTE_ADDR"] == "127.0.0.1", value


def test_ipv6_and_ports_in_the_list(serve):
    server = serve(APP)
    assert environ(server, {"X-Forwarded-For": "2001:db8::1"})["REMOTE_ADDR"] == "2001:db8::1"
    assert environ(server, {"X-Forwarded-For": "192.0.2.1:1234"})["REMOTE_ADDR"] == "192.0.2.1"
    assert environ(server, {"X-Forwarded-For": "[2001:db8::1]:1234"})["REMOTE_ADDR"] == "2001:db8::1"


def test_scheme_by_each_of_gunicorns_fields(serve):
    server = serve(APP)
    for name, value in (("X-Forwarded-Protocol", "ssl"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "on")):
        assert environ(server, {name: value})["wsgi.url_scheme"] == "https"
    assert environ(server, {"X-Forwarded-Proto": "http"})["wsgi.url_scheme"] == "http"


def test_contradicting_schemes_are_refused(serve):
    fields = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"}
    assert serve(APP).get("/", fields).status == 400


def test_a_unix_socket_is_believed(serve, tmp_path):
    path = str(tmp_path / "s")
    server = serve(APP, bind=["-b", f"unix:{path}"], wait=False)
    server.wait_ready(path)
    with Client(path) as client:
        seen = json.loads(client.request("GET", "/", FORWARDED).body)
        assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.1", "https")
        # It has no name and no port; gunicorn takes what the request says.
        seen = [json.loads(client.request("GET", "/", fields).body) for fields in (
            [("Host", "shop.example")], [("Host", "shop.example:81")], [("Host", "[::1]"), ("X-Forwarded-Proto", "https")])]
    names = [(one["SERVER_NAME"], one["SERVER_PORT"]) for one in seen]
    assert names == [("shop.example", "80"), ("shop.example", "81"), ("[::1]", "443")]
    server.stop()
    wait_until(lambda: not (tmp_path / "s").exists(), "the socket file to be removed")


def test_root_path(serve):
    seen = environ(serve(APP, "--root-path", "/shop"), target="/shop/a")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/shop", "/a")


@pytest.mark.parametrize(("args", "env", "expected"), [
    ([], {"SCRIPT_NAME": "/shop"}, "/shop"),
    (["-e", "SCRIPT_NAME=/shop"], {"SCRIPT_NAME": "/other"}, "/shop"),
    (["-e", "SCRIPT_NAME=/other", "--root-path", "/shop"], {}, "/shop"),
])
def test_script_name_of_the_environment_is_where_the_application_is_mounted(serve, args, env, expected):
    server = serve(APP, *args, env=env)
    seen = environ(server, target="/shop/a")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == (expected, "/a")
    seen = environ(server, {"SCRIPT_NAME": "/front"}, target="/front/a")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/front", "/a"), "a trusted proxy knows better"


def test_script_name_only_from_a_trusted_proxy(serve):
    # gunicorn's forwarder_headers.
    seen = environ(serve(APP), {"SCRIPT_NAME": "/shop"}, target="/shop/a")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/shop", "/a")
    seen = environ(serve(APP, "--forwarded-allow-ips", ""), {"SCRIPT_NAME": "/shop"}, target="/shop/a")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("", "/shop/a")


PASSED = """
    log_format who '$remote_addr $scheme $http_x_forwarded_host';
    underscores_in_headers on;
    app believing { wsgi app:application; directory %DIR%; }
    app wary { wsgi app:application; directory %DIR%; forwarded_allow_ips 203.0.113.7; }
    app dangerous { wsgi app:application; directory %DIR%; forwarded_allow_ips 203.0.113.7; header_map dangerous; }
    app refusing { wsgi app:application; directory %DIR%; forwarded_allow_ips 203.0.113.7; header_map refuse; }
    server {
        listen 127.0.0.1:%PORT%;
        access_log %DIR%/access.log who;
        location / { app_pass believing; }
        location /wary/ { app_pass wary; }
        location /dangerous/ { app_pass dangerous; }
        location /refusing/ { app_pass refusing; }
        location /found/ { set_real_ip_from 127.0.0.1; real_ip_header X-Client; app_pass believing; }
    }
"""


@pytest.fixture(scope="module")
def passed(serve_nginx_module):
    return serve_nginx_module(PASSED, files={"app.py": APP})


CLAIMS = {**FORWARDED, "X-Forwarded-Host": "evil.example", "X-Real-IP": "6.6.6.6", "X-Client": "198.51.100.4"}


@pytest.mark.parametrize(("target", "address", "scheme", "host", "real"), [
    ("/", "192.0.2.1", "https", "evil.example", "6.6.6.6"),
    ("/wary/", "127.0.0.1", "http", None, None),
    ("/found/", "198.51.100.4", "https", "evil.example", "6.6.6.6"),
])
def test_by_app_pass_only_a_trusted_peer_says_for_whom_it_speaks(passed, target, address, scheme, host, real):
    seen = environ(passed, CLAIMS, target)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == (address, scheme)
    assert (seen["HTTP_X_FORWARDED_HOST"], seen["HTTP_X_REAL_IP"]) == (host, real)
    if target == "/wary/":
        assert seen["HTTP_X_FORWARDED_FOR"] is None
    # What the edge itself knows of the client is untouched by what the application believes.
    client = "198.51.100.4" if target == "/found/" else "127.0.0.1"
    wait_until(lambda: f"{client} http evil.example\n" in (passed.directory / "access.log").read_text(), "a line")


def test_by_app_pass_a_proxy_that_contradicts_itself_is_refused(passed):
    fields = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"}
    assert passed.get("/", fields).status == 400
    assert passed.get("/wary/", fields).status == 200


def test_by_app_pass_header_map_holds(passed):
    fields = {"X_Real_IP": "6.6.6.6", "Script_Name": "/shop"}
    seen = environ(passed, fields, "/wary/a")
    assert (seen["HTTP_X_REAL_IP"], seen["SCRIPT_NAME"], seen["PATH_INFO"]) == (None, "", "/wary/a")
    assert environ(passed, fields, "/dangerous/a")["HTTP_X_REAL_IP"] == "6.6.6.6"
    assert environ(passed, fields, "/")["HTTP_X_REAL_IP"] is None
    assert passed.get("/refusing/", fields).status == 400
    assert passed.get("/refusing/").status == 200


KEPT = """
    app_cache_path %DIR%/cache keys_zone=pages:1m;
    app counting {
        wsgi app:application; directory %DIR%;
        secure_scheme_headers '{"X-ARRIVED-BY": "tls"}';
    }
    server {
        listen 127.0.0.1:%PORT%;
        location / {
            app_pass counting; app_cache pages; app_cache_valid 1h; add_header X-Cache $upstream_cache_status;
        }
    }
"""


def test_what_is_kept_of_one_scheme_is_not_for_the_other(serve_nginx):
    server = serve_nginx(KEPT, files={"app.py": APP})
    for fields, scheme in (({"X-Arrived-By": "tls"}, "https"), ({}, "http"), ({"X-Arrived-By": "no"}, "http")):
        assert environ(server, fields)["wsgi.url_scheme"] == scheme, fields
    for fields, scheme in (({"X-Arrived-By": "tls"}, "https"), ({}, "http")):
        response = server.get("/", fields)
        assert (response.get("X-Cache"), json.loads(response.body)["wsgi.url_scheme"]) == ("HIT", scheme)


ALL = """
    app file {{ wsgi app:application; directory %DIR%; settings all.py; bind unix:%DIR%/file.sock; }}
    app block {{ wsgi app:application; directory %DIR%; {} }}
    server {{
        listen 127.0.0.1:%PORT%;
        location / {{ app_pass file; }}
        location /block/ {{ app_pass block; }}
    }}
"""


@pytest.mark.parametrize("said", [True, False])
def test_all_peers_of_gunicorn_s_file_are_not_all_clients(serve_nginx, said):
    """`*` was said of a proxy in front of gunicorn, which overwrites what clients claim. By `app_pass` they connect
    themselves."""
    conf = ALL.format("forwarded_allow_ips *;" if said else "")
    server = serve_nginx(conf, files={"app.py": APP, "all.py": "forwarded_allow_ips = '*'\n"})
    seen = environ(server, CLAIMS)
    # Nobody is trusted, the loopback's addresses included: `*` has taken their place.
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_X_REAL_IP"]) == ("127.0.0.1", "http", None)
    seen = environ(server, CLAIMS, "/block/")
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.1", "https")
    log = server.log()
    assert log.count("forwarded_allow_ips is `*`, which does not count for `app_pass`") == 1, log
    assert log.count("whoever can connect can claim any address") == (1 if said else 0), log
    # At its own address it is as with gunicorn.
    with Client(str(server.directory / "file.sock")) as client:
        seen = json.loads(client.request("GET", "/", CLAIMS).body)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.1", "https")
