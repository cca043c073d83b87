"""Access and error logs in gunicorn's format."""

import os
import re
import signal

from support import build, wait_until

APP = """
import sys

def application(environ, start_response):
    if environ["PATH_INFO"] == "/print":
        print("printed by the application", flush=True)
    if environ["PATH_INFO"] == "/errors":
        environ["wsgi.errors"].write("written to wsgi.errors\\n")
        environ["wsgi.errors"].flush()
    if environ["PATH_INFO"] == "/raise":
        raise ValueError("raised by the application")
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Kind", "kind")])
    return [b"hello"]
"""


def access_line(server, word, name="access.log"):
    path = server.directory / name
    return wait_until(
        lambda: [line for line in path.read_text().splitlines() if word in line], f"{word} in {name}")[0]


def test_default_format(serve):
    server = serve(APP, "--access-logfile", "access.log")
    server.get("/a?b=c", {"Referer": "http://x/", "User-Agent": "tester/1", "Authorization": "Basic am9objpwdw=="})
    line = access_line(server, "/a?b=c")
    assert re.fullmatch(
        r'127\.0\.0\.1 - john \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] '
        r'"GET /a\?b=c HTTP/1\.1" 200 5 "http://x/" "tester/1"', line), line


def test_every_atom(serve):
    form = ("%(h)s|%(l)s|%(u)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(b)s|%(B)s|%(f)s|%(a)s|%(T)s|%(D)s|%(M)s|%(L)s|%(p)s|"
            "%({x-in}i)s|%({x-kind}o)s|%({missing}i)s|%({server_protocol}e)s|%(queue)s|%(attempts)s|100%%")
    server = serve(APP, "--access-logfile", "access.log", "--access-logformat", form)
    server.get("/atoms?x=1", {"X-In": "in"})
    parts = access_line(server, "/atoms").split("|")
    assert parts[:12] == ["127.0.0.1", "-", "-", "GET", "/atoms", "x=1", "HTTP/1.1", "200", "5", "5", "-", "-"]
    assert parts[13].isdigit() and parts[14].isdigit()
    assert re.fullmatch(r"\d\.\d{6}", parts[15]) and parts[12] == parts[15][0]
    assert parts[16] == f"<{server.workers()[0]}>"
    assert parts[17:21] == ["in", "kind", "-", "HTTP/1.1"]
    assert re.fullmatch(r"\d\.\d{6}", parts[21]) and parts[22:] == ["1", "100%"]


def test_variables_that_the_application_adds(serve):
    app = """
    class Lazy:
        def __str__(self):
            return "lazy"

    def application(environ, start_response):
        environ["shop.user"] = "Ada\\nForged"
        environ["Lazy"] = Lazy()
        environ["number"] = 5
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Twice", "one"), ("X-Twice", "two")])
        return [b"ok"]
    """
    form = ("%({shop.user}e)s|%({Lazy}e)s|%({NUMBER}e)s|%({none}e)s|%({wsgi.multithread}e)s|%({REQUEST_METHOD}e)s|"
            "%({x-twice}o)s")
    server = serve(app, "--access-logfile", "access.log", "--access-logformat", form, validate=False)
    with server.connect() as client:
        response = client.request("GET", "/")
    assert response.status == 200
    assert not [name for name, _ in response.fields if name.startswith(":") or "shop" in name.lower()]
    path = server.directory / "access.log"
    wait_until(lambda: path.exists() and "lazy" in path.read_text(), "the line")
    # Its line end must not make two lines of it.
    assert [line for line in path.read_text().splitlines() if "lazy" in line] == [
        r"Ada\x0AForged|lazy|5|-|False|GET|two"]


def test_variables_that_the_application_adds_stand_behind_a_file_in_its_place(serve):
    app = """
    def application(environ, start_response):
        environ["shop.user"] = "Ada"
        start_response("200 OK", [("X-Accel-Redirect", "/internal/a.txt")])
        return [b""]
    """
    server = serve(app, "--access-logfile", "access.log", "--access-logformat", "%(s)s|%({shop.user}e)s",
                   "--accel", "/internal/=files", validate=False, files={"files/a.txt": "text"})
    answer = server.get("/")
    assert answer.text == "text" and not [name for name, _ in answer.fields if name.startswith(":")]
    path = server.directory / "access.log"
    wait_until(lambda: path.exists() and "200|Ada" in path.read_text(), "the line")


def test_to_standard_output(serve):
    server = serve(APP, "--access-logfile", "-")
    server.get("/there")
    wait_until(lambda: '"GET /there HTTP/1.1" 200' in server.out_path.read_text(), "the line")


def test_none_without_the_option(serve):
    server = serve(APP)
    server.get("/quiet")
    server.stop()
    assert "/quiet" not in server.out_path.read_text() + server.log()


def test_a_client_cannot_forge_lines(serve):
    server = serve(APP, "--access-logfile", "access.log")
    server.get('/x"%0a%22', {"User-Agent": 'a" 200 0 "\u00e9\tb\\'})
    line = access_line(server, "/x")
    assert re.search(r'"GET /x\\"%0a%22 HTTP/1\.1" 200 5 "-" "a\\" 200 0 \\"(\\x[0-9A-F]{2})+\\x09b\\\\"$', line), line


def test_refused_requests_and_files_are_logged_too(serve):
    server = serve(APP, "--access-logfile", "access.log", "--static", "/s/=files", files={"files/a.txt": "x"})
    server.get("/s/a.txt")
    assert " 200 1 " in access_line(server, "/s/a.txt")
    with server.connect() as client:
        client.send(build("GET", "/bad", [("Content-Length", "x")]))
        assert client.response().status == 400
    wait_until(lambda: len(re.findall(r" 400 \d+ ", (server.directory / "access.log").read_text())) >= 2,
               "the refused request beside the fixture's probe")


def test_status_and_bytes_of_head_and_304(serve):
    server = serve(APP, "--access-logfile", "access.log", "--static", "/s/=files", files={"files/a.txt": "hello"})
    server.request("HEAD", "/s/a.txt")
    assert re.search(r'"HEAD /s/a\.txt HTTP/1\.1" 200 (0|-) ', access_line(server, "HEAD"))


def test_each_line_is_there_at_the_end(serve):
    server = serve(APP, "--access-logfile", "access.log")
    with server.connect() as client:
        client.send(b"".join(build("GET", f"/n{n}") for n in range(200)))
        for _ in range(200):
            client.response()
    server.stop()
    text = (server.directory / "access.log").read_text()
    assert all(f'"GET /n{n} HTTP/1.1"' in text for n in range(200))


def test_exception_of_the_application(serve):
    server = serve(APP)
    assert server.get("/raise?token=1").status == 500
    server.wait_log("ValueError: raised by the application")
    assert re.search(r"GET /raise", server.log())
    assert 'app.py", line' in server.log()


def test_wsgi_errors_and_prints(serve):
    server = serve(APP, "--error-logfile", "error.log", "--capture-output")
    server.get("/errors")
    server.get("/print")
    path = server.directory / "error.log"
    wait_until(lambda: "written to wsgi.errors" in path.read_text(), "wsgi.errors")
    wait_until(lambda: "printed by the application" in path.read_text(), "the print")


def test_log_level(serve):
    server = serve(APP, "--log-level", "error")
    server.get()
    server.stop()
    assert "[INFO]" not in server.log()
    # What is said of the start is said when it answers already.
    serve(APP, "--log-level", "debug").wait_log(r"\[INFO\]")


def test_unwritable_log_is_named(serve):
    for option in ("--access-logfile", "--error-logfile"):
        server = serve(APP, option, "/nonexistent/x.log", wait=False)
        assert server.exit_code() != 0
        assert "/nonexistent/x.log" in server.log()


def test_what_is_too_large_or_too_late_is_told_with_its_size_and_its_limit(serve):
    server = serve(APP, "--client-max-body-size", "10", "--limit-request-line", "200", "--limit-request-fields", "5",
                   "--limit-request-field_size", "300", "--limit-request-head", "1024",
                   "--client-header-timeout", "0.3", "--client-body-timeout", "0.3")
    fields = [(f"A{n}", "b" * 290) for n in range(4)]
    for data, words in [
        (build("POST", "/up?a=1", [("Content-Length", "123456")]),
         r"413 POST /up\?a=1: a body of 123456 bytes is announced, client_max_body_size is 10 .*, host \S+\)"),
        (b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
         r"413 POST /up: the body, sent in chunks, is larger than client_max_body_size \(10 bytes\) .*host a"),
        (b"GET /" + b"x" * 300 + b" HTTP/1.1\r\n",
         r"414 GET /x{95}\.\.\.: request line too long \(limit_request_line is 200\) \(client 127.0.0.1\)"),
        (build(fields=[(f"A{n}", "b") for n in range(10)]),
         r"431 GET /: too many header fields \(limit_request_fields is 5\)"),
        (build(fields=[("A", "b" * 400)]), r"431 GET /: header field too long \(limit_request_field_size is 300\)"),
        (build(fields=fields), r"431 GET /: request head too long \(limit_request_head is 1024\)"),
        (b"GET /late HTTP/1.1\r\nHo",
         r"408 GET /late: the head did not arrive within client_header_timeout \(0.3 s\)"),
        (build("POST", "/slow", [("Content-Length", "9")]) + b"abc",
         r"408 POST /slow: the body stopped for client_body_timeout \(0.3 s\), after 3 of 9 bytes"),
    ]:
        with server.connect() as client:
            client.send(data)
            client.response()
        server.wait_log(words)


def test_a_head_that_is_refused_is_logged_under_its_own_request_line(serve):
    server = serve(APP, "--access-logfile", "access.log", validate=False)
    with server.connect() as client:
        assert client.request("GET", "/other?token=hidden").status == 200
    with server.connect() as client:
        client.send(b"POST /mine HTTP/1.1\r\nHost: a\r\nX: \x07\r\n\r\n")
        assert client.response().status == 400
    # Not the first 400: what waits for the server to be ready is refused too.
    assert "hidden" not in access_line(server, '"POST /mine HTTP/1.1" 400 ')
    server.wait_log("400 POST /mine: invalid character")
    assert "/other" not in server.log()


def test_variables_that_the_application_sets_while_its_body_streams(serve):
    app = """
    class Body:
        def __init__(self, environ):
            self.environ = environ

        def __iter__(self):
            yield b"a"
            self.environ["shop.rows"] = 1
            yield b"b"
            self.environ["shop.rows"] = 2
            self.environ.pop("shop.gone")

        def close(self):
            self.environ["shop.rows"] = "too late"

    def application(environ, start_response):
        environ["shop.gone"] = environ["shop.stays"] = "there"
        fields = [("Content-Type", "text/plain")]
        if environ["PATH_INFO"] == "/length":
            fields.append(("Content-Length", "2"))
        write = start_response("200 OK", fields)
        if environ["PATH_INFO"] == "/write":
            write(b"a")
            environ["shop.rows"] = "behind write"
            return [b"b"]
        return Body(environ)
    """
    form = "%(U)s|%({shop.rows}e)s|%({shop.gone}e)s|%({shop.stays}e)s"
    server = serve(app, "--access-logfile", "access.log", "--access-logformat", form, validate=False)
    path = server.directory / "access.log"
    for target in ("/chunks", "/length", "/write"):
        assert server.get(target).text == "ab"
    expected = ["/chunks|2|-|there", "/length|2|-|there", "/write|behind write|there|there"]
    wait_until(lambda: [line for line in path.read_text().splitlines() if "there" in line] == expected, "the lines")


def test_what_is_written_while_the_application_is_closed_ends_no_worker(serve):
    """It came behind what was for the log, which was a worker that did not know its protocol."""
    app = """
    import os

    class Body:
        def __init__(self, environ, write):
            self.environ, self.write = environ, write

        def __iter__(self):
            self.environ["shop.rows"] = 1
            yield b"body"

        def close(self):
            self.write(b"tail")

    def application(environ, start_response):
        return Body(environ, start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))]))
    """
    server = serve(app, "--access-logfile", "access.log", "--access-logformat", "%({shop.rows}e)s", validate=False)
    answers = [server.get("/") for _ in range(3)]
    assert {answer.text for answer in answers} == {"bodytail"}
    assert len({answer.get("X-Pid") for answer in answers}) == 1


def test_a_worker_that_overruns_while_a_logged_variable_becomes_text_ends(serve):
    server = serve("""
    import os, signal, time

    class Slow:
        def __str__(self):
            open("texting", "w").close()
            for _ in range(300):
                time.sleep(0.1)
            return "slow"

    def application(environ, start_response):
        environ["slow"] = Slow()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]
    """, "--access-logfile", "access.log", "--access-logformat", "%({slow}e)s", validate=False)
    worker = server.workers()[0]
    with server.connect() as client:
        client.send(build("GET", "/"))
        wait_until((server.directory / "texting").exists, "the text to be made")
        # The master's order where a request overruns.
        os.kill(worker, signal.SIGABRT)
        wait_until(lambda: worker not in server.workers(), "the worker to end", 5)


OUTSPOKEN = """
import faulthandler, logging, os, signal, sys

print("imported", file=sys.stderr)

def application(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise ValueError("of the application")
    name = environ["PATH_INFO"][1:]
    print(name, "on stderr", file=sys.stderr)
    os.write(2, (name + " on 2\\n").encode())
    logging.getLogger("shop").warning("%s by logging", name)
    environ["wsgi.errors"].write(name + " to wsgi.errors\\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""


def test_what_the_application_writes_to_standard_error_stays_there_beside_a_log_in_a_file(serve):
    server = serve(OUTSPOKEN, "--error-logfile", "error.log", validate=False)
    path = server.directory / "error.log"

    def spoken(name, stands_in):
        server.get("/" + name)
        server.wait_log(f"{name} by logging")
        assert f"{name} on stderr" in server.log() and f"{name} on 2" in server.log()
        wait_until(lambda: f"{name} to wsgi.errors" in stands_in.read_text(), "wsgi.errors")
        assert f"{name} on" not in stands_in.read_text() and f"{name} by logging" not in stands_in.read_text()

    spoken("first", path)
    assert "imported" in server.log()
    server.get("/raise")
    wait_until(lambda: "ValueError: of the application" in path.read_text(), "the traceback")
    assert "Traceback" not in server.log()
    path.rename(server.directory / "error.log.1")
    server.signal(signal.SIGUSR1)
    wait_until(path.exists, "the new file")
    wait_until(lambda: server.get("/raise").status == 500 and "ValueError" in path.read_text(), "the worker to follow")
    spoken("reopened", path)
    server.signal(signal.SIGHUP)
    wait_until(lambda: "Generation 2 serves" in path.read_text(), "the reload")
    spoken("reloaded", path)


def test_the_stacks_of_a_request_that_overran_are_in_the_file_of_the_log(serve):
    server = serve("""
    import time

    def application(environ, start_response):
        time.sleep(30)
    """, "--error-logfile", "error.log", "--timeout", "1", validate=False)
    assert server.get().status == 504
    path = server.directory / "error.log"
    wait_until(lambda: "app.py" in path.read_text() and "WORKER TIMEOUT" in path.read_text(), "the stacks")
    # Python's words for ABRT read as if it had crashed, and stand behind what they mean.
    text = path.read_text()
    assert 0 < text.find("mean this order, and no crash") < text.find("Fatal Python error: Aborted\n\n"), text


def test_output_that_is_captured_is_in_the_file(serve):
    server = serve(OUTSPOKEN, "--error-logfile", "error.log", "--capture-output", validate=False)
    server.get("/first")
    path = server.directory / "error.log"
    wait_until(lambda: "first by logging" in path.read_text(), "the lines")
    assert "first on stderr" in path.read_text() and "first" not in server.log()
