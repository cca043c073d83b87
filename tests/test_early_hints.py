"""`wsgi.early_hints`, as gunicorn has it: the application says what its response will want (103)."""

import sys

import pytest
from support import build
from support.http2 import Http2

APP = """
import threading

go = threading.Event()

def application(environ, start_response):
    path = environ["PATH_INFO"]
    hint = environ["wsgi.early_hints"]
    if path == "/go":
        go.set()
    if path in ("/hints", "/wait"):
        hint([("Link", "</a.css>; rel=preload; as=style"), ("Content-Length", "5"), ("Connection", "close")])
        hint(((b"Link", b"</b.css>"), ["X-More", "1"]))
    if path == "/wait":
        go.wait(20)
    if path == "/injected":
        hint([("Link", "a\\r\\nSet-Cookie: b")])
    if path == "/large":
        try:
            hint([("Link", "x" * 1_000_000)])
        except ValueError as error:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(error).encode()]
    if path == "/flood":
        for _ in range(1000):
            hint([("Link", "</a.css>")])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    if path == "/late":
        def late():
            yield b"the "
            hint([("Link", "</late.css>")])
            yield b"en"
        return late()
    return [b"answer"]
"""
WANTED = [[("link", "</a.css>; rel=preload; as=style")], [("link", "</b.css>"), ("x-more", "1")]]


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APP, "--threads", "4", "--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge",
                        validate=False)


def shown(interim):
    return [[(name.lower(), value) for name, value in fields] for fields in interim]


def test_hints_come_before_the_answer(server):
    with server.connect() as client:
        for target, wanted in [("/hints", WANTED), ("/", []), ("/hints", WANTED), ("/late", [])]:
            client.send(build("GET", target))
            answer = client.response()
            assert (answer.status, len(answer.body)) == (200, 6)
            assert {one.status for one in answer.interim} <= {103}
            assert shown(one.fields for one in answer.interim) == wanted, target
        client.send(build("GET", "/hints", version="1.0"))
        answer = client.response()
        assert (answer.status, answer.interim) == (200, [])


def test_clients_of_http2_have_them_too(server):
    with Http2(server.address) as client:
        answer = client.get(1, "/hints")
        assert (answer.status, answer.body) == (200, b"answer")
        assert shown(answer.hints) == WANTED


def test_hints_do_not_wait_for_the_answer(server):
    with server.connect() as client:
        client.send(build("GET", "/wait"))
        assert (client.head().status, client.head().status) == (103, 103)
        assert server.get("/go").status == 200
        assert client.response().status == 200


def test_a_line_end_in_a_hint_is_an_error(server):
    answer = server.get("/injected")
    assert answer.status == 500 and answer.get("Set-Cookie") is None
    assert server.get("/").text == "answer"


def test_hints_that_are_too_large_are_an_error_and_not_the_end(server):
    answer = server.get("/large")
    assert answer.status == 200 and "at most 65536 are sent" in answer.text


def test_many_hints_are_not_passed_on(server):
    with server.connect() as client:
        client.send(build("GET", "/flood"))
        answer = client.response()
        assert answer.status == 200 and len(answer.interim) <= 16
    assert server.get("/").text == "answer"


@pytest.mark.parametrize(("directive", "wanted"), [("early_hints 1;", WANTED), ("", []), ("early_hints 0;", [])])
def test_an_nginx_conf_says_whether_they_are_passed_on(serve_nginx, directive, wanted):
    site = serve_nginx("""
        app shop { wsgi shop:application; python "PYTHON"; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass shop; DIRECTIVE } }
    """.replace("DIRECTIVE", directive).replace("PYTHON", sys.executable), files={"shop.py": APP})
    with site.connect() as client:
        client.send(build("GET", "/hints"))
        answer = client.response()
        assert (answer.status, answer.body) == (200, b"answer")
        assert shown(one.fields for one in answer.interim) == wanted
