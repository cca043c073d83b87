"""Identifiers of clients: userid and its company, `$uid_got`, `$uid_set`, `$uid_reset`."""

import base64
import re

import pytest
from support import wait_until

CONF = r"""
    error_log stderr notice;
    log_format uid "$uri [$uid_got] [$uid_set]";
    map $arg_reset $uid_reset { default 0; yes 1; log log; }
    server {
        listen 127.0.0.1:%PORT%;
        listen unix:%DIR%/uid.sock;
        server_name test.example;
        access_log %DIR%/uid.log uid;
        default_type text/plain;
        userid on;
        add_header X-Got $uid_got;
        add_header X-Set $uid_set;

        location / { return 200 x; }
        location /v1 { userid v1; userid_service 258; return 200 x; }
        location /log { userid log; return 200 x; }
        location /off { userid off; return 200 x; }
        location /all {
            userid_name own; userid_domain test.example; userid_path /all; userid_expires 1h; userid_service 7;
            userid_flags secure httponly samesite=lax; userid_p3p 'CP="NOI"';
            return 200 x;
        }
        location /max { userid_expires max; userid_domain none; userid_flags off; return 200 x; }
        location /mark { userid_mark t; return 200 x; }
        location /missing/ { return 404; }
        location /inner { auth_request /log; return 200 x; }
    }
"""


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF)


def uid(response, name="uid"):
    cookie = re.match(rf"{name}=([^;]*)", response.get("Set-Cookie"))
    return cookie.group(1)


def numbers(text):
    """The four numbers of a cookie as `$uid_set` shows them."""
    raw = base64.b64decode(text)
    return "".join(f"{int.from_bytes(raw[at:at + 4], 'little'):08X}" for at in range(0, 16, 4))


def test_a_new_client_gets_an_identifier_and_keeps_it(server):
    first = server.get("/")
    cookie = uid(first)
    assert first.get("Set-Cookie") == f"uid={cookie}; path=/"
    assert first.get("X-Set") == f"uid={numbers(cookie)}" and first.get("X-Got") is None
    assert base64.b64decode(cookie)[:4] == bytes([127, 0, 0, 1])
    again = server.get("/", {"Cookie": f"a=b; uid={cookie}; c=d"})
    assert again.get("Set-Cookie") is None and again.get("X-Set") is None
    assert again.get("X-Got") == f"uid={numbers(cookie)}"


def test_no_two_clients_get_the_same(server):
    assert len({uid(server.get("/")) for _ in range(20)}) == 20


def test_forms(server):
    assert base64.b64decode(uid(server.get("/v1")))[:4] == bytes([2, 1, 0, 0])
    assert server.get("/log").get("Set-Cookie") is None and server.get("/off").get("Set-Cookie") is None
    cookie = uid(server.get("/"))
    assert server.get("/log", {"Cookie": f"uid={cookie}"}).get("X-Got") == f"uid={numbers(cookie)}"
    assert server.get("/off", {"Cookie": f"uid={cookie}"}).get("X-Got") is None


def test_attributes(server):
    response = server.get("/all")
    attributes = r"; expires=\w{3}, \d\d-\w{3}-\d\d [\d:]{8} GMT; domain=test.example; path=/all; secure; httponly; samesite=lax"
    assert re.fullmatch(r"own=[\w+/]{22}==" + attributes, response.get("Set-Cookie"))
    assert base64.b64decode(uid(response, "own"))[:4] == bytes([0, 0, 0, 7])
    assert response.get("P3P") == 'CP="NOI"'
    assert server.get("/max").get("Set-Cookie").endswith("==; expires=Thu, 31-Dec-37 23:55:55 GMT; path=/")


def test_mark(server):
    cookie = uid(server.get("/"))
    marked = server.get("/mark", {"Cookie": f"uid={cookie}"})
    assert uid(marked) == cookie[:22] + "t="
    assert server.get("/mark", {"Cookie": f"uid={uid(marked)}"}).get("Set-Cookie") is None
    assert uid(server.get("/mark")).endswith("t=")


def test_reset(server):
    cookie = uid(server.get("/"))
    fields = {"Cookie": f"uid={cookie}"}
    assert uid(server.get("/?reset=yes", fields)) != cookie
    assert uid(server.get("/?reset=log", fields)) != cookie
    server.wait_log(rf'userid cookie "uid={numbers(cookie)}" was reset')


@pytest.mark.parametrize("cookie", ["", "short", "!" * 22, "uid", "=" * 30])
def test_cookies_that_are_none(server, cookie):
    assert len(base64.b64decode(uid(server.get("/", {"Cookie": f"uid={cookie}"})))) == 16


def test_pages_of_errors_and_subrequests(server):
    assert server.get("/missing/x").get("Set-Cookie").startswith("uid=")
    assert len(server.get("/inner").all("Set-Cookie")) == 1


def test_the_log_knows_it(server):
    cookie = uid(server.get("/?logged"))
    log = server.directory / "uid.log"
    wait_until(lambda: f"/ [-] [uid={numbers(cookie)}]" in log.read_text(), "the line")
