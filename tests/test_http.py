"""HTTP/1.1 and 1.0 (RFC 9110, 9112): persistence, pipelining, chunks, Expect, HEAD, targets, endings."""

import json

import pytest
from support import Client, build

APP = """
import json

def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read(1 << 30)
    plain = ("Content-Type", "text/plain")
    if path == "/length":
        start_response("200 OK", [plain, ("Content-Length", "5")])
        return [b"hello"]
    if path == "/pieces":
        start_response("200 OK", [plain])
        return iter([b"one", b"two", b"three"])
    if path == "/none":
        start_response("204 No Content", [])
        return []
    if path == "/unchanged":
        start_response("304 Not Modified", [("ETag", '"x"')])
        return []
    if path == "/empty":
        start_response("200 OK", [plain])
        return []
    if path == "/reason":
        start_response("418 I'm a teapot", [plain, ("X-Case-Kept", "a"), ("x-lower", "b")])
        return [b"short and stout"]
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "HTTP_HOST", "RAW_URI")
    text = json.dumps({**{name: environ.get(name) for name in names}, "body": body.decode("latin-1")})
    start_response("200 OK", [plain, ("Content-Length", str(len(text)))])
    return [text.encode()]
"""


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APP)


def test_connection_is_kept(server):
    with server.connect() as client:
        for number in range(5):
            response = client.request("GET", f"/{number}")
            assert json.loads(response.body)["PATH_INFO"] == f"/{number}"
            assert "close" not in response.get("Connection", "").lower()
        assert client.is_open()


def test_connection_close_is_obeyed(server):
    with server.connect() as client:
        response = client.request("GET", "/length", {"Connection": "close"})
        assert response.get("Connection").lower() == "close"
        assert client.end() == "eof"


def test_close_among_other_options(server):
    with server.connect() as client:
        client.request("GET", "/length", {"Connection": "X-Thing, CLOSE"})
        assert client.end() == "eof"


def test_http_1_0_closes_unless_asked(server):
    with server.connect() as client:
        response = client.request("GET", "/length", version="1.0")
        assert response.body == b"hello"
        assert client.end() == "eof"
    with server.connect() as client:
        for _ in range(2):
            response = client.request("GET", "/length", {"Connection": "keep-alive"}, version="1.0")
            assert response.get("Connection").lower() == "keep-alive"
            assert response.body == b"hello"


def test_http_1_0_never_gets_chunks(server):
    with server.connect() as client:
        response = client.request("GET", "/pieces", {"Connection": "keep-alive"}, version="1.0")
        assert (response.framing in ("close", "length"), response.body) == (True, b"onetwothree")


def test_pipelined_requests_are_answered_in_order(server):
    with server.connect() as client:
        client.send(b"".join(build("GET", f"/{n}") for n in range(50)))
        for number in range(50):
            assert json.loads(client.response().body)["PATH_INFO"] == f"/{number}"


def test_pipelined_after_bodies(server):
    requests = [
        build("POST", "/a", body=b"one"),
        build("POST", "/b", body=b"two" * 1000, chunked=True),
        build("GET", "/c"),
    ]
    with server.connect() as client:
        client.send(b"".join(requests))
        answers = [json.loads(client.response().body) for _ in requests]
    assert [answer["body"] for answer in answers] == ["one", "two" * 1000, ""]


def test_pipelined_after_a_body_that_nobody_reads(server):
    with server.connect() as client:
        client.send(build("POST", "/length", body=b"x" * 100_000) + build("GET", "/next"))
        assert client.response().body == b"hello"
        assert json.loads(client.response().body)["PATH_INFO"] == "/next"


def test_chunks_out(server):
    response = server.get("/pieces")
    assert response.body == b"onetwothree"
    assert response.framing in ("chunked", "length")


@pytest.mark.parametrize("size", [1, 2, 7])
def test_request_in_pieces(server, size):
    raw = build("POST", "/x?y=1", {"A": "b"}, b"hello world", chunked=True)
    with server.connect() as client:
        client.socket.setsockopt(6, 1, 1)
        for at in range(0, len(raw), size):
            client.send(raw[at:at + size])
        answer = json.loads(client.response().body)
    assert (answer["PATH_INFO"], answer["QUERY_STRING"], answer["body"]) == ("/x", "y=1", "hello world")


def test_trailers_in(server):
    with server.connect() as client:
        client.send(build("POST", "/x", {"Transfer-Encoding": "chunked", "Trailer": "X-Sum"})
                    + b"3\r\nabc\r\n0\r\nX-Sum: 6\r\nPATH_INFO: /evil\r\n\r\n" + build("GET", "/next"))
        assert json.loads(client.response().body)["body"] == "abc"
        assert json.loads(client.response().body)["PATH_INFO"] == "/next"


@pytest.mark.parametrize("path", ["/length", "/pieces", "/empty", "/none"])
def test_head_has_the_fields_of_get_and_no_body(server, path):
    with server.connect() as client:
        get = client.request("GET", path)
        head = client.request("HEAD", path)
        assert head.status == get.status
        assert head.get("Content-Type") == get.get("Content-Type")
        if head.get("Content-Length") is not None and get.framing == "length":
            assert head.get("Content-Length") == get.get("Content-Length")
        assert client.request("GET", "/length").body == b"hello"


@pytest.mark.parametrize(("path", "status"), [("/none", 204), ("/unchanged", 304)])
def test_statuses_without_body(server, path, status):
    with server.connect() as client:
        response = client.request("GET", path)
        assert (response.status, response.body) == (status, b"")
        assert response.all("Transfer-Encoding") == []
        assert client.request("GET", "/length").body == b"hello"


def test_empty_body(server):
    with server.connect() as client:
        assert client.request("GET", "/empty").body == b""
        assert client.request("GET", "/length").body == b"hello"


def test_reason_and_spelling_are_the_applications(server):
    response = server.get("/reason")
    assert (response.status, response.reason) == (418, "I'm a teapot")
    names = [name for name, _ in response.fields]
    assert "X-Case-Kept" in names and "x-lower" in names


def test_date_and_server(server):
    response = server.get("/length")
    assert response.get("Date").endswith(" GMT")
    assert response.get("Server") == "monoceros"


# Expect: 100-continue (RFC 9110 section 10.1.1)

def test_continue_is_sent_when_waited_for(server):
    with server.connect() as client:
        client.send(build("POST", "/x", {"Expect": "100-continue", "Content-Length": "5"}))
        assert client.head().status == 100
        client.send(b"hello")
        assert json.loads(client.response().body)["body"] == "hello"


def test_continue_with_chunks_and_another_case(server):
    with server.connect() as client:
        client.send(build("POST", "/x", {"expect": "100-Continue", "Transfer-Encoding": "chunked"}))
        assert client.head().status == 100
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert json.loads(client.response().body)["body"] == "hello"


def test_no_continue_for_http_1_0_nor_without_body(server):
    with server.connect() as client:
        response = client.request("POST", "/x", {"Expect": "100-continue"}, b"hello", version="1.0")
        assert response.interim == [] and response.status == 200
    with server.connect() as client:
        response = client.request("GET", "/x", {"Expect": "100-continue"})
        assert response.interim == [] and response.status == 200


def test_too_large_is_refused_before_the_body(serve):
    server = serve(APP, "--client-max-body-size", "1000")
    with server.connect() as client:
        client.send(build("POST", "/x", {"Expect": "100-continue", "Content-Length": "1001"}))
        assert client.head().status == 413


def test_unknown_expectation(server):
    assert server.get("/x", {"Expect": "the-unexpected"}).status in (200, 417)


# Targets (RFC 9112 section 3.2)

def test_absolute_form_decides_over_host(server):
    answer = json.loads(server.get("http://right.example:81/a?b=c", host="wrong.example").body)
    assert answer["HTTP_HOST"] == "right.example:81"
    assert (answer["PATH_INFO"], answer["QUERY_STRING"]) == ("/a", "b=c")


def test_absolute_form_without_path(server):
    answer = json.loads(server.get("http://right.example").body)
    assert answer["PATH_INFO"] == "/"
    answer = json.loads(server.get("http://right.example?b=c").body)
    assert (answer["PATH_INFO"], answer["QUERY_STRING"]) == ("/", "b=c")


def test_asterisk_form(server):
    response = server.request("OPTIONS", "*")
    assert response.status in (200, 204)


def test_connect_is_refused(server):
    with server.connect() as client:
        client.send(b"CONNECT test.example:443 HTTP/1.1\r\nHost: test.example:443\r\n\r\n")
        assert client.response().status in (400, 405, 501)


def test_upgrade_that_is_not_known_is_ignored(server):
    response = server.get("/length", {"Connection": "close, Upgrade", "Upgrade": "nonsense/1"})
    assert response.status == 200


# Endings

def test_half_closed_client_gets_its_answers(server):
    with server.connect() as client:
        client.send(build("GET", "/length") * 3)
        client.half_close()
        for _ in range(3):
            assert client.response().body == b"hello"
        assert client.end() == "eof"


def test_half_closed_in_the_middle_of_a_request(server):
    body_cut = build("POST", "/x", {"Content-Length": "10"}) + b"hello"
    for cut in (b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", body_cut):
        with server.connect() as client:
            client.send(cut)
            client.half_close()
            client.socket.settimeout(5)
            data = b""
            while True:
                piece = client.socket.recv(4096)
                if not piece:
                    break
                data += piece
            assert data == b"" or data.startswith(b"HTTP/1.1 400"), data


def test_an_error_is_readable_while_the_client_still_sends(server):
    # Without a lingering close the kernel answers unread bytes with a reset that overtakes the 400.
    with server.connect() as client:
        client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(50):
                client.send(b"x" * 20_000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert client.response().status == 400


def test_connection_per_client_requests(serve):
    server = serve(APP, "--keepalive-requests", "3")
    with server.connect() as client:
        for number in range(3):
            response = client.request("GET", "/length")
            assert ("close" in response.get("Connection", "").lower()) == (number == 2)
        assert client.end() == "eof"


def test_keep_alive_off(serve):
    server = serve(APP, "--keep-alive", "0")
    with server.connect() as client:
        assert client.request("GET", "/length").get("Connection").lower() == "close"
        assert client.end() == "eof"


def test_keep_alive_ends_an_idle_connection(serve):
    server = serve(APP, "--keep-alive", "500ms")
    with server.connect() as client:
        assert client.request("GET", "/length").status == 200
        assert client.end(timeout=5) == "eof"


def test_two_clients_of_one_name_family(server):
    with Client(server.address) as one, Client(server.address) as two:
        one.send(build("GET", "/one"))
        two.send(build("GET", "/two"))
        assert json.loads(two.response().body)["PATH_INFO"] == "/two"
        assert json.loads(one.response().body)["PATH_INFO"] == "/one"
