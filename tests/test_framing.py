"""Strict framing (RFC 9112): what could be read in two ways is refused with 400 and never forwarded."""

import pytest
from support import build

APP = """
seen = []

def application(environ, start_response):
    seen.append(environ["PATH_INFO"])
    body = environ["wsgi.input"].read(1 << 30)
    text = repr(body)
    if environ["PATH_INFO"] == "/seen":
        text = " ".join(seen)
        seen.clear()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode("latin-1")]
"""

HOST = b"Host: test.example\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test.example\r\n\r\n"


def post(*fields, body=b"hello"):
    head = b"".join(field + b"\r\n" for field in fields)
    return b"POST /refused HTTP/1.1\r\n" + HOST + head + b"\r\n" + body + SMUGGLED


def chunked(body):
    return post(b"Transfer-Encoding: chunked", body=body)


def get(*lines, target=b"/refused", method=b"GET", version=b"HTTP/1.1", host=HOST):
    head = b"".join(line + b"\r\n" for line in lines)
    return method + b" " + target + b" " + version + b"\r\n" + host + head + b"\r\n"


REFUSED = {
    "length and encoding": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "encoding and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "two lengths that differ": post(b"Content-Length: 5", b"Content-Length: 6"),
    "length list that differs": post(b"Content-Length: 5, 6"),
    "length list": post(b"Content-Length: 5, 5"),
    "length with plus": post(b"Content-Length: +5"),
    "length with minus": post(b"Content-Length: -5"),
    "negative zero length": post(b"Content-Length: -0", body=b""),
    "length with space inside": post(b"Content-Length: 5 5"),
    "length in hexadecimal": post(b"Content-Length: 0x5"),
    "length with underscore": post(b"Content-Length: 1_0", body=b"0123456789"),
    "length with semicolon": post(b"Content-Length: 5;"),
    "length with quotes": post(b'Content-Length: "5"'),
    "length with decimal point": post(b"Content-Length: 5.0"),
    "length empty": post(b"Content-Length: "),
    "length beyond 64 bits": post(b"Content-Length: 18446744073709551621"),
    "length of forty digits": post(b"Content-Length: " + b"9" * 40),
    "length in other digits": post(b"Content-Length: \xef\xbc\x95"),
    "length with vertical tab": post(b"Content-Length: \x0b5"),
    "encoding not chunked": post(b"Transfer-Encoding: gzip"),
    "encoding identity": post(b"Transfer-Encoding: identity"),
    "encoding chunked not last": post(b"Transfer-Encoding: chunked, gzip"),
    "encoding chunked then identity": post(b"Transfer-Encoding: chunked, identity"),
    "encoding chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "encoding in two lines": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "encoding and identity line": post(
        b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "encoding almost chunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "encoding with vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "encoding with parameter": post(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n"),
    "encoding in quotes": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "encoding empty": post(b"Transfer-Encoding:", body=b"0\r\n\r\n"),
    "encoding in HTTP/1.0": chunked(b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "chunk size with plus": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with minus": chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with prefix": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk size after space": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
    "chunk size before space": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
    "chunk size with underscore": chunked(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    "chunk size missing": chunked(b"\r\nhello\r\n0\r\n\r\n"),
    "chunk size only extension": chunked(b";a=b\r\nhello\r\n0\r\n\r\n"),
    "chunk size no number": chunked(b"five\r\nhello\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk size of many zeros": chunked(b"0" * 10000 + b"5\r\nhello\r\n0\r\n\r\n"),
    "chunk size ended by LF": chunked(b"5\nhello\r\n0\r\n\r\n"),
    "chunk size ended by CR": chunked(b"5\rhello\r\n0\r\n\r\n"),
    "chunk extension with LF": chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "chunk extension with CR": chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "chunk extension with NUL": chunked(b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
    "chunk longer than its size": chunked(b"4\r\nhello\r\n0\r\n\r\n"),
    "chunk ended by LF": chunked(b"5\r\nhello\n0\r\n\r\n"),
    "last chunk ended by LF": chunked(b"0\n\r\n"),
    "trailer with LF": chunked(b"0\r\nA: b\n\r\n"),
    "trailer with space before colon": chunked(b"0\r\nA : b\r\n\r\n"),
    "line ended by LF": b"GET /refused HTTP/1.1\r\nHost: test.example\nA: b\r\n\r\n",
    "request line ended by LF": b"GET /refused HTTP/1.1\nHost: test.example\r\n\r\n",
    "everything ended by LF": b"GET /refused HTTP/1.1\nHost: test.example\n\n",
    "bare CR in value": get(b"A: b\rc"),
    "bare CR as line end": get(b"A: b\rB: c"),
    "bare CR in request line": get(target=b"/refused\rx"),
    "NUL in value": get(b"A: b\0c"),
    "control byte in value": get(b"A: b\x01c"),
    "escape in value": get(b"A: b\x1bc"),
    "NUL in name": get(b"A\0b: c"),
    "obsolete fold": get(b"A: b\r\n c"),
    "obsolete fold with tab": get(b"A: b\r\n\tc"),
    "fold in the first field": b"GET /refused HTTP/1.1\r\n Host: test.example\r\n\r\n",
    "space before colon": get(b"A : b"),
    "tab before colon": get(b"A\t: b"),
    "space in name": get(b"A b: c"),
    "no colon": get(b"Abc"),
    "no name": get(b": b"),
    "parenthesis in name": get(b"A(: b"),
    "bytes beyond ASCII in name": get(b"A\xc3\xa9: b"),
    "no Host": get(host=b""),
    "two Hosts": get(b"Host: other.example"),
    "two equal Hosts": get(b"Host: test.example"),
    "Host with space": get(host=b"Host: a b\r\n"),
    "Host with path": get(host=b"Host: a/b\r\n"),
    "Host with user": get(host=b"Host: me@a\r\n"),
    "Host with open bracket": get(host=b"Host: [::1\r\n"),
    "Host with no port number": get(host=b"Host: a:port\r\n"),
    "Host with two ports": get(host=b"Host: a:1:2\r\n"),
    "Host with query": get(host=b"Host: a?b\r\n"),
    "Host with backslash": get(host=b"Host: a\\b\r\n"),
    "method with parenthesis": get(method=b"GE(T"),
    "method with NUL": get(method=b"GET\0"),
    "method with colon": get(method=b"GET:"),
    "method empty": get(method=b""),
    "method beyond ASCII": get(method=b"G\xc3\x89T"),
    "target empty": get(target=b""),
    "target with space": get(target=b"/refused x"),
    "target with NUL": get(target=b"/refused\0"),
    "target with control byte": get(target=b"/refused\x01"),
    "target with tab": get(target=b"/refused\tx"),
    "target with DEL": get(target=b"/refused\x7f"),
    "target with fragment": get(target=b"/refused#x"),
    "target without slash": get(target=b"refused"),
    "asterisk for GET": get(target=b"*"),
    "two spaces": b"GET  /refused HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab as separator": b"GET\t/refused\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "space before the method": b" GET /refused HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /refused\r\n\r\n",
    "version in lower case": get(version=b"http/1.1"),
    "version without dot": get(version=b"HTTP/11"),
    "version with two digits": get(version=b"HTTP/1.10"),
    "version with space after": get(version=b"HTTP/1.1 "),
    "version of nothing": get(version=b"HTTP/"),
    "absolute form with a bad authority": get(target=b"http://a b/refused"),
    "absolute form without authority": get(target=b"http:///refused"),
    "absolute form with user": get(target=b"http://me@a/refused"),
}


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APP)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_400_and_close(server, name):
    with server.connect() as client:
        client.send(REFUSED[name])
        response = client.response()
        assert response.status == 400
        assert response.get("Connection", "").lower() == "close"
        client.end()
    seen = server.get("/seen").text.split()
    assert set(seen) == {"/seen"}


@pytest.mark.parametrize("piece", [1, 3])
@pytest.mark.parametrize("name", ["length and encoding", "chunk size ended by LF", "bare CR in value", "two Hosts"])
def test_refused_in_small_pieces_too(server, name, piece):
    with server.connect() as client:
        client.socket.setsockopt(6, 1, 1)
        data = REFUSED[name]
        try:
            for at in range(0, len(data), piece):
                client.send(data[at:at + piece])
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert client.response().status == 400
    assert set(server.get("/seen").text.split()) == {"/seen"}


def test_a_coding_that_is_not_known_is_not_forwarded(server):
    # The last coding is chunked, so the end is known; the server cannot undo gzip (RFC 9112 section 6.1).
    with server.connect() as client:
        client.send(post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"))
        response = client.response()
        assert response.status in (400, 501)
        client.end()
    assert set(server.get("/seen").text.split()) == {"/seen"}


def test_other_major_version(server):
    with server.connect() as client:
        client.send(get(version=b"HTTP/2.0"))
        assert client.response().status in (400, 505)
        client.end()


ALLOWED = {
    "white space around a value": (post(b"Content-Length: \t 5 \t")[: -len(SMUGGLED)], b"b'hello'"),
    "chunked in capitals": (
        chunked(b"5\r\nhello\r\n0\r\n\r\n").replace(b": chunked", b": CHUNKED")[: -len(SMUGGLED)], b"b'hello'"),
    "chunk extensions": (chunked(b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n')[: -len(SMUGGLED)], b"b'hello'"),
    "trailers": (chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")[: -len(SMUGGLED)], b"b'hello'"),
    "leading zeros of a chunk size": (chunked(b"005\r\nhello\r\n000\r\n\r\n")[: -len(SMUGGLED)], b"b'hello'"),
    "an empty line before the request": (b"\r\n" + build(target="/allowed"), b"b''"),
    "IPv6 Host": (build(target="/allowed", host="[::1]:80"), b"b''"),
    "HTTP/1.0 without Host": (build(target="/allowed", host=None, version="1.0"), b"b''"),
    "bytes beyond ASCII in a value": (build(target="/allowed", fields={"A": "caf\u00e9"}), b"b''"),
    "an unknown method": (build("BREW", "/allowed"), b"b''"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_grammar_allows_passes(serve_allowed, name):
    raw, body = ALLOWED[name]
    with serve_allowed.connect() as client:
        client.send(raw)
        response = client.response()
        assert (response.status, response.body) == (200, body)


@pytest.fixture(scope="module")
def serve_allowed(serve_module):
    # The validator knows fewer methods than RFC 9110 allows, and warns.
    return serve_module(APP, validate=False)


def test_names_with_an_underscore_are_dropped(serve):
    app = """
    def application(environ, start_response):
        body = ",".join(sorted(k + "=" + v for k, v in environ.items() if k.startswith("HTTP_X"))).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
    """
    fields = [("X-Real", "1"), ("X_Real", "2"), ("x_other", "3")]
    assert serve(app).get("/", fields).text == "HTTP_X_REAL=1"
    assert serve(app, "--header-map", "refuse").get("/", fields).status == 400
    kept = serve(app, "--header-map", "dangerous").get("/", fields).text
    assert "HTTP_X_OTHER=3" in kept
