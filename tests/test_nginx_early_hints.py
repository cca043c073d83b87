"""`early_hints`: what servers say before they answer (103) is passed on."""

import pytest
from support import build
from support.grpc import GrpcServer
from support.http2 import Http2
from support.upstream import Upstream, response

CONF = """
    server {{
        listen 127.0.0.1:%PORT%;
        http2 on;
        proxy_http_version {version};
        early_hints $arg_hints;
        proxy_hide_header X-Hidden;
        location / {{ proxy_pass http://127.0.0.1:{port}; }}
        location /off {{ proxy_pass http://127.0.0.1:{port}; early_hints 0 $arg_none; }}
        location /inner {{ early_hints 1; auth_request /asks; proxy_pass http://127.0.0.1:{port}/200; }}
        location = /asks {{ early_hints 1; proxy_pass http://127.0.0.1:{port}; }}
        location /grpc {{ early_hints 1; grpc_pass 127.0.0.1:{port}; }}
    }}
"""
LINK = "</style.css>; rel=preload; as=style"


def hints(status, *fields):
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {status} Any\r\n{lines}\r\n".encode()


def by_http1(seen, _):
    """As many hints as the path says."""
    path = seen.target.partition("?")[0]
    if path.startswith("/only"):
        return hints(103, ("Link", LINK))
    if path.startswith("/200"):
        return response(b"the answer")
    if path.startswith("/flood"):
        return hints(103, ("Link", LINK)) * 100 + response(b"the answer")
    return (hints(100) + hints(103, ("Link", LINK), ("X-Hidden", "1"), ("X-Shown", "2"), ("Connection", "x-shown"),
                               ("Content-Length", "7"))
            + hints(103) + hints(102, ("X-Other", "3")) + hints(103, ("Link", "</b.css>")) + response(b"the answer"))


def by_http2(call, event):
    if event != "end":
        return
    path = call.get(":path").partition("?")[0]

    def say(status, *fields):
        # The library of the test knows interim responses as such.
        call.connection.send_headers(call.stream, [(":status", str(status)), *fields])

    for _ in range(100 if path == "/flood" else 0):
        say(103, ("link", LINK))
    if path not in ("/200", "/flood"):
        say(100)
        say(103, ("link", LINK), ("x-hidden", "1"), ("x-shown", "2"))
        say(103)
        say(102, ("x-other", "3"))
        say(103, ("link", "</b.css>"))
    if path == "/only":
        call.reset(2)
        return
    call.answer()
    call.data(b"the answer", end=True)


@pytest.fixture(params=["1.1", "2"])
def site(request, serve_nginx):
    server = Upstream(by_http1) if request.param == "1.1" else GrpcServer(by_http2)
    with server as up:
        yield serve_nginx(CONF.format(version=request.param, port=up.port))


def shown(interim):
    return [[(name.lower(), value) for name, value in fields] for fields in interim]


WANTED = [[("link", LINK), ("x-shown", "2")], [("link", "</b.css>")]]


def test_hints_come_before_the_answer(site):
    with site.connect() as client:
        for target, wanted in [("/?hints=1", WANTED), ("/", []), ("/?hints=0", []), ("/off?hints=1", []), ("/?hints=yes", WANTED),
                               ("/200?hints=1", [])]:
            client.send(build("GET", target))
            answer = client.response()
            assert (answer.status, answer.body) == (200, b"the answer")
            assert {one.status for one in answer.interim} <= {103}
            assert shown(one.fields for one in answer.interim) == wanted, target
        # HTTP/1.0 knows none.
        client.send(build("GET", "/?hints=1", version="1.0"))
        answer = client.response()
        assert (answer.status, answer.interim) == (200, [])


def test_clients_of_http2_have_them_too(site):
    with Http2(("127.0.0.1", site.port)) as client:
        for stream, target, wanted in [(1, "/?hints=1", WANTED), (3, "/", []), (5, "/?hints=1", WANTED)]:
            answer = client.get(stream, target)
            assert (answer.status, answer.body) == (200, b"the answer")
            assert answer.interim == [103] * len(wanted)
            assert shown(answer.hints) == wanted


def test_hints_without_an_answer_and_floods_of_them(site):
    for target in ("/only?hints=1", "/flood?hints=1", "/flood"):
        with site.connect() as client:
            client.send(build("GET", target))
            answer = client.response()
            assert answer.status == 502 and len(answer.interim) <= 16
    assert site.get("/200?hints=1").status == 200


def test_what_is_asked_within_a_request_gives_none(site):
    with site.connect() as client:
        client.send(build("GET", "/inner"))
        answer = client.response()
        assert (answer.status, answer.body, answer.interim) == (200, b"the answer", [])


def test_grpc(serve_nginx):
    with GrpcServer(by_http2) as up:
        one = serve_nginx(CONF.format(version="2", port=up.port))
        with Http2(("127.0.0.1", one.port)) as client:
            answer = client.get(1, "/grpc")
            assert (answer.status, answer.body) == (200, b"the answer")
            # `grpc_hide_header` is another list.
            assert shown(answer.hints) == [
                [("link", LINK), ("x-hidden", "1"), ("x-shown", "2")], [("link", "</b.css>")]]
