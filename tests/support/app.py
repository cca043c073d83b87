"""An application that does what its path says, and notes what it was asked; for tests that hold its workers up."""

from . import build, wait_until

APP = """
import hashlib
import os
import time

HERE = os.path.dirname(os.path.abspath(__file__))

def note(word):
    with open(os.path.join(HERE, "notes"), "a") as file:
        file.write(word + "\\n")

def wait_for(name):
    deadline = time.monotonic() + 20
    while not os.path.exists(os.path.join(HERE, name)) and time.monotonic() < deadline:
        time.sleep(0.01)

def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    note(environ["REQUEST_METHOD"] + " " + path + (" %d" % os.getpid() if path == "/wait" else ""))
    status, fields, body = "200 OK", [("Content-Type", "text/plain")], b"app"
    if path.endswith("/digest"):
        data = environ["wsgi.input"].read()
        body = (hashlib.sha256(data).hexdigest() + " " + str(len(data))).encode()
    elif path == "/environ":
        body = repr({key: value for key, value in environ.items() if isinstance(value, str)}).encode()
    elif path.startswith("/status/"):
        status, body = path[8:] + " Of The App", b"the application's own page"
        fields += [("X-App", "yes"), ("Location", "/elsewhere")]
    elif path == "/cookie":
        fields += [("Set-Cookie", "a=b; Path=/"), ("X-App", "yes")]
    elif path == "/accel":
        fields += [("X-Accel-Redirect", query), ("Content-Disposition", "attachment"), ("X-App", "yes"),
                   ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("Cache-Control", "private"), ("ETag", '"app"')]
        fields[0] = ("Content-Type", "application/x-thing")
    elif path == "/wait":
        wait_for(query)
    elif path == "/stuck":
        time.sleep(60)
    elif path == "/pid":
        body = str(os.getpid()).encode()
    elif path == "/long":
        fields.append(("X-Long", "x" * int(query)))
    elif path == "/file":
        start_response("200 OK", [("Content-Type", "application/x-thing")])
        return environ["wsgi.file_wrapper"](open(os.path.join(HERE, "files/large"), "rb"))
    elif path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        def events():
            yield b"data: one\\n\\n"
            wait_for(query or "go")
            yield b"data: two\\n\\n"
        return events()
    if path in ("/status/204", "/status/304"):
        start_response(status, fields)
        return []
    start_response(status, fields + [("Content-Length", str(len(body)))])
    return [body]
"""


def notes(server):
    """What the application was asked: methods and paths; behind `/wait` the worker's process id."""
    path = server.directory / "notes"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def release(server, name):
    """Lets the requests go on that wait for `name`."""
    (server.directory / name).touch()


def hold(server, name):
    """Occupies a worker until `release`."""
    client = server.connect(timeout=30)
    before = len(notes(server))
    client.send(build("GET", f"/wait?{name}"))
    wait_until(lambda: len(notes(server)) > before, "the worker to be busy")
    return client
