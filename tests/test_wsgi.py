"""WSGI to the letter (PEP 3333)."""

import json

import pytest
from support import build

APP = r"""
import io, json, os, sys

closed = []

class Body:
    def __init__(self, *pieces):
        self.pieces = iter(pieces)
    def __iter__(self):
        return self
    def __next__(self):
        piece = next(self.pieces)
        if isinstance(piece, Exception):
            raise piece
        return piece
    def close(self):
        closed.append("close")

def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    plain = [("Content-Type", "text/plain")]
    stream = environ["wsgi.input"]
    if path == "/environ":
        text = json.dumps({name: value if isinstance(value, (str, bool, int, tuple)) else type(value).__name__
                           for name, value in environ.items()})
        start_response("200 OK", plain)
        return [text.encode("latin-1")]
    if path == "/input":
        out = {
            "read": lambda: [stream.read().decode()],
            "read5": lambda: [stream.read(size).decode() for size in (5, 5, -1, 5)],
            "readline": lambda: [stream.readline().decode(), stream.readline(3).decode(), stream.readline().decode()],
            "readlines": lambda: [line.decode() for line in stream.readlines()],
            "hint": lambda: [b"".join(stream.readlines(1) + [stream.read()]).decode()],
            "iterate": lambda: [line.decode() for line in stream],
            "size": lambda: [str(sum(len(line) for line in stream)), stream.read(1).decode()],
            "nothing": lambda: [],
            "zero": lambda: [stream.read(0).decode(), stream.read().decode()],
            "named": lambda: [stream.read(size=2).decode(), stream.readline(size=4).decode(),
                              b"".join(stream.readlines(size=-1)).decode()],
        }[query]()
        start_response("200 OK", plain)
        return [json.dumps(out).encode()]
    if path == "/write":
        write = start_response("200 OK", plain)
        write(b"written ")
        write(b"and ")
        return [b"returned"]
    if path == "/closed":
        start_response("200 OK", plain)
        return [" ".join(closed).encode()]
    if path == "/close":
        start_response("200 OK", plain)
        return Body(b"a", b"", b"b")
    if path == "/close-error":
        start_response("200 OK", plain + [("Content-Length", "1000")])
        return Body(b"a" * 10, ValueError("in the middle"))
    if path == "/raising-close":
        body = Body(b"a", b"b")
        body.close = lambda: 1 / 0
        start_response("200 OK", plain + ([("Content-Length", "2")] if query else []))
        return body
    if path == "/error-first":
        start_response("200 OK", plain)
        return Body(ValueError("at the beginning"))
    if path == "/exc-info":
        start_response("200 OK", plain)
        try:
            raise ValueError("replaced")
        except ValueError:
            start_response("500 Replaced", plain, sys.exc_info())
        return [b"error page"]
    if path == "/exc-info-late":
        def late():
            yield b"x" * 10
            try:
                raise ValueError("too late")
            except ValueError:
                start_response("500 Replaced", plain, sys.exc_info())
            yield b"never"
        start_response("200 OK", plain + [("Content-Length", "1000")])
        return late()
    if path == "/twice":
        start_response("200 OK", plain)
        start_response("200 OK", plain)
        return [b""]
    if path == "/never":
        return [b"no start_response"]
    if path == "/late":
        def late():
            start_response("200 OK", plain)
            yield b"started by the iterator"
        return late()
    if path == "/zero-pieces":
        start_response("200 OK", plain)
        return [b"", b"a", b"", b"", b"b", b""]
    if path == "/few":
        start_response("200 OK", plain + [("Content-Length", "100")])
        return [b"few"]
    if path == "/many":
        start_response("200 OK", plain + [("Content-Length", "4")])
        return [b"many more", b" than that"]
    if path == "/status":
        start_response(query.replace("+", " "), plain)
        return [b""]
    if path == "/field":
        bad = {"newline": ("X", "a\nb"), "return": ("X", "a\rSet-Cookie: b"), "nul": ("X", "a\0b"),
               "name": ("X Y", "a"), "colon": ("X:", "a"), "hop": ("Connection", "close"),
               "chunks": ("Transfer-Encoding", "chunked"),
               "bytes": ("X", b"a"), "number": ("X", 5), "snowman": ("X", "\u2603"), "empty": ("", "a"),
               "length": ("Content-Length", "5x"), "latin": ("X", "caf\u00e9")}[query]
        start_response("200 OK", plain + [bad])
        return [b"hello"]
    if path == "/string":
        start_response("200 OK", plain)
        return ["a string"]
    if path == "/headers":
        pairs = [("Content-Type", "text/plain"), ("X-One", "1"), ("X-Two", "2")]
        how = {"tuple": tuple, "lists": lambda pairs: [list(pair) for pair in pairs], "iterator": iter,
               "items": lambda pairs: dict(pairs).items(), "three": lambda pairs: [(*pair, "3") for pair in pairs],
               "one": lambda pairs: [pair[:1] for pair in pairs], "names": dict, "none": lambda pairs: None,
               "injected": lambda pairs: (["X", "a\r\nSet-Cookie: b"],)}
        start_response(status="200 OK", headers=how[query](pairs), exc_info=None)
        return [b"hello"]
    if path == "/204":
        start_response("204 No Content", [])
        return [b"ignored"]
    if path == "/file":
        start_response("200 OK", [("Content-Type", "text/plain")] + ([("Content-Length", query)] if query else []))
        file = open("large.bin", "rb")
        file.seek(10)
        return environ["wsgi.file_wrapper"](file)
    if path == "/file-like":
        start_response("200 OK", plain)
        return environ["wsgi.file_wrapper"](io.BytesIO(b"in memory " * 5000), 100)
    if path == "/exit":
        raise SystemExit(3)
    if path == "/interrupt":
        raise KeyboardInterrupt
    if path == "/pid":
        start_response("200 OK", plain)
        return [str(os.getpid()).encode()]
    start_response("200 OK", plain)
    return [b"ok"]
"""

LARGE = bytes(range(256)) * 2000


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APP, validate=False, files={"large.bin": LARGE})


def environ(server, target="/environ", fields=(), **options):
    response = server.get(target, fields, **options)
    assert response.status == 200
    return json.loads(response.text)


def test_environ(server):
    seen = environ(server, "/environ?a=b&c", {"X-Thing": "one", "Content-Type": "text/x", "User-Agent": "t"})
    expected = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/environ", "QUERY_STRING": "a=b&c",
        "CONTENT_TYPE": "text/x", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "test.example", "HTTP_X_THING": "one",
        "HTTP_USER_AGENT": "t", "wsgi.version": [1, 0], "wsgi.url_scheme": "http", "wsgi.multithread": False,
        "wsgi.run_once": False, "RAW_URI": "/environ?a=b&c", "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PORT": str(server.port), "wsgi.input_terminated": True,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert "HTTP_CONTENT_TYPE" not in seen and "HTTP_CONTENT_LENGTH" not in seen
    assert isinstance(seen["wsgi.multiprocess"], bool)
    assert seen["SERVER_NAME"] and seen["SERVER_SOFTWARE"]
    for name in ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper"):
        assert name in seen


def test_path_is_decoded_to_latin_1(server):
    seen = environ(server, "/environ".replace("r", "%72"))
    assert (seen["PATH_INFO"], seen["RAW_URI"]) == ("/environ", "/envi%72on")
    response = server.get("/caf%C3%A9%2Fx")
    assert response.status == 200


def test_repeated_fields_are_joined(server):
    seen = environ(server, fields=[("X-A", "1"), ("x-a", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")])
    assert seen["HTTP_X_A"].replace(" ", "") == "1,2"
    assert seen["HTTP_COOKIE"].replace(" ", "") == "a=1;b=2"


def test_body_of_unknown_length_has_a_length(server):
    # It is whole before the application runs, so the length is known.
    with server.connect() as client:
        response = client.request("POST", "/environ", body=b"x" * 10, chunked=True)
        seen = json.loads(response.text)
        assert seen.get("CONTENT_LENGTH") in ("10", None, "")
        assert "HTTP_TRANSFER_ENCODING" not in seen or seen["wsgi.input_terminated"]


TEXT = b"line one\nline two\nline three"


@pytest.mark.parametrize("filler", [0, 200_000])
@pytest.mark.parametrize(("query", "expected"), [
    ("read", [TEXT.decode()]),
    ("read5", ["line ", "one\nl", "ine two\nline three", ""]),
    ("readline", ["line one\n", "lin", "e two\n"]),
    ("readlines", ["line one\n", "line two\n", "line three"]),
    ("hint", [TEXT.decode()]),  # how much a hint gives is the server's choice; nothing may be lost
    ("iterate", ["line one\n", "line two\n", "line three"]),
    ("zero", ["", TEXT.decode()]),
    ("nothing", []),
    ("named", ["li", "ne o", TEXT.decode()[6:]]),  # gunicorn's name
])
def test_input_in_memory_and_on_file(server, query, expected, filler):
    body, tail = TEXT, ""
    if filler:
        tail = "x" * filler
        body = TEXT + tail.encode()
        if expected and query not in ("readline",):
            at = 2 if query == "read5" else -1
            expected = list(expected)
            expected[at] += tail
    with server.connect() as client:
        response = client.request("POST", "/input?" + query, body=body)
        assert json.loads(response.text) == expected
        assert client.request("GET", "/x").text == "ok"


def test_input_of_many_lines(server):
    body = b"".join(b"%d\n" % n for n in range(50_000))
    response = server.request("POST", "/input?size", body=body)
    assert json.loads(response.text) == [str(len(body)), ""]


def test_input_without_body(server):
    assert json.loads(server.get("/input?read").text) == [""]


def test_write_callable(server):
    assert server.get("/write").text == "written and returned"


def test_close_is_always_called(server):
    def count():
        return server.get("/closed").text.count("close")

    before = count()
    assert server.get("/close").text == "ab"
    assert count() == before + 1
    with pytest.raises((AssertionError, ConnectionResetError)):
        server.get("/close-error")
    assert count() == before + 2
    assert server.get("/error-first").status == 500
    assert count() == before + 3
    server.request("HEAD", "/close")
    assert count() == before + 4


@pytest.mark.parametrize("query", ["", "?with-a-length"])
def test_what_close_raises_is_logged_and_spoils_no_page(server, query):
    with server.connect() as client:
        assert client.request(target=f"/raising-close{query}").text == "ab"
        assert client.request().text == "ok", "on the same connection"
    server.wait_log("ZeroDivisionError")


def test_exc_info(server):
    response = server.get("/exc-info")
    assert (response.status, response.reason, response.text) == (500, "Replaced", "error page")
    with pytest.raises((AssertionError, ConnectionResetError)):
        server.get("/exc-info-late")
    server.wait_log("too late")


@pytest.mark.parametrize("path", ["/twice", "/never", "/string", "/error-first"])
def test_mistakes_are_500(server, path):
    assert server.get(path).status == 500
    assert server.get("/").text == "ok"


def test_start_response_by_the_iterator(server):
    assert server.get("/late").text == "started by the iterator"


def test_zero_length_pieces_do_not_end_the_body(server):
    assert server.get("/zero-pieces").text == "ab"


def test_too_few_bytes_are_no_whole_answer(server):
    with server.connect() as client:
        client.send(build("GET", "/few"))
        with pytest.raises((AssertionError, ConnectionResetError)):
            client.response()
    server.wait_log(r"(?i)content-length")


def test_too_many_bytes_are_cut(server):
    with server.connect() as client:
        client.send(build("GET", "/many") + build("GET", "/"))
        assert client.response().text == "many"
        assert client.response().text == "ok"


@pytest.mark.parametrize("status", ["200", "200+", "OK", "2000+OK", "99+Low", "abc+OK", "-20+OK"])
def test_malformed_status(server, status):
    response = server.get("/status?" + status)
    assert response.status == 500 or (status in ("200", "200+") and response.status == 200)


@pytest.mark.parametrize("query", [
    "newline", "return", "nul", "name", "colon", "bytes", "number", "snowman", "empty", "length"])
def test_illegal_fields_are_refused(server, query):
    response = server.get("/field?" + query)
    assert response.status == 500
    assert response.get("Set-Cookie") is None
    assert server.get("/").text == "ok"


@pytest.mark.parametrize("query", ["tuple", "lists", "iterator", "items"])
def test_headers_may_be_whatever_gives_pairs(server, query):
    # PEP 3333 wants a list of tuples; gunicorn does not look.
    response = server.get("/headers?" + query)
    assert response.status == 200, server.log()[-2000:]
    assert (response.get("X-One"), response.get("X-Two"), response.text) == ("1", "2", "hello")


@pytest.mark.parametrize("query", ["three", "one", "names", "none", "injected"])
def test_headers_that_are_no_pairs_are_500(server, query):
    response = server.get("/headers?" + query)
    assert response.status == 500 and response.get("Set-Cookie") is None
    assert server.get("/").text == "ok"


@pytest.mark.parametrize("query", ["hop", "chunks"])
def test_hop_by_hop_fields_are_not_the_applications(server, query):
    # Refused, or left out as gunicorn does; never in the way of the server's own framing.
    with server.connect() as client:
        response = client.request("GET", "/field?" + query)
        assert response.status == 500 or response.framing == "length"
        assert "close" not in response.get("Connection", "")
        assert client.request("GET", "/").text == "ok"


def test_latin_1_passes(server):
    assert server.get("/field?latin").get("X") == "caf\u00e9"


def test_204_has_no_body_whatever_the_application_says(server):
    with server.connect() as client:
        assert client.request("GET", "/204").status == 204
        assert client.request("GET", "/").text == "ok"


def test_file_wrapper(server):
    with server.connect() as client:
        assert client.request("GET", "/file").body == LARGE[10:]
        assert client.request("GET", "/file?100").body == LARGE[10:110]
        assert client.request("GET", "/file-like").body == b"in memory " * 5000
        assert client.request("HEAD", "/file").status == 200
        assert client.request("GET", "/").text == "ok"


def test_file_wrapper_leaks_no_descriptor(server):
    import os

    from support import wait_until

    def count():
        pids = [server.edge(), *server.workers()]
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)

    server.get("/file")
    before = count()
    for _ in range(50):
        server.get("/file")
    wait_until(lambda: count() <= before + 5, "descriptors to be closed")


@pytest.mark.parametrize("threads", [[], ["--threads", "2"]], ids=["sync", "gthread"])
def test_what_ends_a_process_ends_only_the_request(serve, threads):
    server = serve(APP, *threads, validate=False)
    pid = server.get("/pid").text
    for path, name in [("/exit", "SystemExit: 3"), ("/interrupt", "KeyboardInterrupt")]:
        for _ in range(3):
            assert server.get(path, timeout=5).status == 500
        server.wait_log(rf"Error handling request GET {path}\nTraceback(.*\n)*?{name}", count=3)
    assert server.get("/pid").text == pid, "no worker had to be replaced"


@pytest.mark.parametrize("preload", [[], ["--preload"]])
@pytest.mark.parametrize("code", ["", "0", "'no database'"])
def test_sys_exit_while_the_application_is_imported_is_told_as_such(serve, preload, code):
    server = serve(f"import sys\nsys.exit({code})\n", *preload, wait=False)
    # Of a master gunicorn's own code, but nobody serves, so that it is no success.
    assert server.exit_code() == (1 if preload and code == "'no database'" else 3)
    assert f"sys.exit({code}) was called before the application was ready" in server.log()
    assert "app.py\", line 2" in server.log()


def test_validator_is_content(serve):
    app = """
    def application(environ, start_response):
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]) if environ.get("CONTENT_LENGTH") else 0)
        environ["wsgi.errors"].write("")
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-A", "b")])
        return iter([b"got ", str(len(body)).encode()])
    """
    server = serve(app)
    with server.connect() as client:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            assert client.request(method, "/a//b/../c?d=e", {"X-B": "c"}, b"x" * 30_000).text == "got 30000"
        assert client.request("HEAD", "/").status == 200
