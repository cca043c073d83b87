"""Every fault of the queue: what a worker's death, its time-out, a full queue and a gone client mean."""

import contextlib
import os
import signal
import threading
import time

import pytest
from support import Load, build, wait_until
from support.app import hold, notes, release
from support.http2 import Http2
from support.server import has_ended, stopped

APP = """
import os
import signal
import time

HERE = os.path.dirname(os.path.abspath(__file__))

def note(word):
    with open(os.path.join(HERE, "notes"), "a") as file:
        file.write(word + "\\n")

def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path != "/pid":
        note(environ["REQUEST_METHOD"] + " " + path + ("?" + query if query else ""))
    if path == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/die-once" and not os.path.exists(os.path.join(HERE, "died")):
        open(os.path.join(HERE, "died"), "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/wait":
        # Until the test says so.
        deadline = time.monotonic() + 20
        while not os.path.exists(os.path.join(HERE, query)) and time.monotonic() < deadline:
            time.sleep(0.01)
    if path == "/fork" and os.fork() == 0:
        # It has what the worker has, its socket too.
        deadline = time.monotonic() + 60
        while not os.path.exists(os.path.join(HERE, "over")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os._exit(0)
    if path == "/stuck":
        stuck_in_here()
    body = str(os.getpid()).encode()
    if path == "/head-and-die-once":
        first = not os.path.exists(os.path.join(HERE, "died"))
        start_response("200 OK", [("Content-Type", "text/plain")])
        def head_and_die():
            yield b"one "
            if first:
                open(os.path.join(HERE, "died"), "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            yield b"two"
        return head_and_die()
    if path == "/all-and-die":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        def all_and_die():
            yield b"whole"
            os.kill(os.getpid(), signal.SIGKILL)
        return all_and_die()
    if path == "/half":
        start_response("200 OK", [("Content-Type", "text/event-stream")] + (
            [("Content-Length", "1000")] if query else []))
        def half():
            yield b"the first half"
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
            yield b"never"
        return half()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

def stuck_in_here():
    time.sleep(60)
"""


def test_queued_requests_survive_a_killed_worker(serve):
    server = serve(APP, "--timeout", "60s")
    pid = int(server.get("/pid").body)
    client = server.connect(timeout=30)
    client.send(build("POST", "/wait?never", body=b""))
    wait_until(lambda: notes(server), "the worker to be busy")
    queued = [server.connect(timeout=30) for _ in range(5)]
    for number, each in enumerate(queued):
        each.send(build("POST", f"/queued{number}", body=b"x"))
    os.kill(pid, signal.SIGKILL)
    assert client.response().status == 502
    for each in queued:
        assert each.response().status == 200, "another worker takes it, whatever its method"
    assert sorted(note for note in notes(server) if "queued" in note) == [f"POST /queued{n}" for n in range(5)]


def test_a_client_that_was_served_does_not_wait_for_a_crowd(serve):
    server = serve(APP, "--workers", "1", "--timeout", "60s")
    known, busy = server.connect(timeout=30), server.connect(timeout=30)
    known.send(build("GET", "/known?first"))
    assert known.response().status == 200
    busy.send(build("GET", "/wait?go"))
    wait_until(lambda: "GET /wait?go" in notes(server), "the worker to be busy")
    crowd = [server.connect(timeout=30) for _ in range(100)]
    for number, each in enumerate(crowd):
        each.send(build("GET", f"/crowd?{number}"))
        server.wait_taken(each)
    # More of them than there is room for at the workers wait in the edge by now.
    known.send(build("GET", "/known?second"))
    server.wait_taken(known)
    release(server, "go")
    for each in (busy, known, *crowd):
        assert each.response().status == 200
    order = notes(server)[2:]
    assert order.index("GET /known?second") < 50, "it was not the last"
    places = [int(note.partition("/crowd?")[2]) for note in order if "crowd" in note]
    assert sorted(places) == list(range(100)), "each ran once"
    assert places.index(99) < 50, "nor does who came last wait for all of the crowd"
    assert all(places.index(number) <= 2 * number for number in range(100)), "the oldest have every second turn"


def test_a_new_client_with_many_streams_is_a_crowd(serve):
    # From its second stream on it was taken for one that is known.
    server = serve(APP, "--workers", "1", "--timeout", "60s", "--http-protocols", "h2,h1",
                   "--http2-cleartext", "prior-knowledge")
    known, busy = server.connect(timeout=30), server.connect(timeout=30)
    known.send(build("GET", "/known?first"))
    assert known.response().status == 200
    busy.send(build("GET", "/wait?go"))
    wait_until(lambda: "GET /wait?go" in notes(server), "the worker to be busy")
    with Http2(server.address, timeout=30) as crowd:
        streams = range(1, 201, 2)
        for stream in streams:
            crowd.request(stream, f"/crowd?{stream}")
        crowd.ping()
        known.send(build("GET", "/known?second"))
        server.wait_taken(known)
        release(server, "go")
        assert [crowd.answer(stream).status for stream in streams] == [200] * 100
        for each in (busy, known):
            assert each.response().status == 200
        assert notes(server)[2:].index("GET /known?second") < 50, "it was not the last"
        # Who has had an answer is known, for one request.
        assert crowd.get(201, "/pid").status == 200


def test_a_crowd_waits_its_turn_and_is_not_forgotten(serve):
    """Clients that are known ask all the time, and new ones are none the less answered meanwhile."""
    server = serve(APP, "--workers", "1", "--timeout", "60s")
    busy = server.connect(timeout=30)
    known = [server.connect(timeout=30) for _ in range(250)]
    for each in known:
        each.send(build("GET", "/pid"))
        assert each.response().status == 200
    busy.send(build("GET", "/wait?go"))
    wait_until(lambda: "GET /wait?go" in notes(server), "the worker to be busy")
    for number, each in enumerate(known):
        each.send(build("GET", f"/known?{number}"))
    server.wait_taken(*known)
    new = server.connect(timeout=30)
    new.send(build("GET", "/new"))
    server.wait_taken(new)
    release(server, "go")
    for each in (busy, new, *known):
        assert each.response().status == 200
    assert notes(server).index("GET /new") < 200, "not behind all that are known"


def test_get_is_run_once_more(serve):
    server = serve(APP)
    response = server.get("/die-once", timeout=30)
    assert response.status == 200
    assert notes(server) == ["GET /die-once"] * 2


def test_get_is_not_run_a_third_time(serve):
    server = serve(APP)
    assert server.get("/die", timeout=30).status == 502
    assert notes(server) == ["GET /die"] * 2
    assert server.get("/pid", timeout=30).status == 200


def test_a_death_is_noticed_though_a_child_of_the_worker_lives(serve):
    server = serve(APP, "--timeout", "0")
    assert server.get("/fork").status == 200
    assert server.get("/die-once", timeout=15).status == 200
    assert server.get("/fork").status == 200
    assert server.request("POST", "/die", timeout=15).status == 502
    server.signal(signal.SIGTERM)
    assert server.exit_code() == 0
    release(server, "over")
    wait_until(lambda: server.processes() == {}, "the children to end")


def test_a_worker_that_is_stopped_does_not_hold_requests_up_that_another_could_run(serve):
    server = serve(APP, "-w", "2")
    busy = hold(server, "go")
    other = server.get("/pid").text
    release(server, "go")
    stopped_one = int(busy.response().text)
    # The one that is woken first.
    if stopped_one != min(stopped_one, int(other)):
        stopped_one, other = int(other), str(stopped_one)
    os.kill(stopped_one, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert {server.get("/pid").text for _ in range(30)} == {other}
        assert time.monotonic() - began < 15, "not a second for each"
    finally:
        os.kill(stopped_one, signal.SIGCONT)


def test_a_worker_that_hangs_behind_its_answer_is_replaced(serve):
    server = serve(APP, "-c", "conf.py", "--timeout", "1", files={"conf.py": """
import time
def post_request(worker, req, environ, resp):
    if environ["QUERY_STRING"] == "hang":
        hang_in_here()
def hang_in_here():
    time.sleep(60)
"""})
    first = server.get("/pid?hang").text
    assert server.get("/pid", timeout=15).text != first
    log = server.log()
    assert f"WORKER TIMEOUT (pid:{first}): it has been busy for 1.0 s without a request" in log
    assert "in hang_in_here" in log


def test_a_stopped_worker_is_replaced(serve):
    server = serve(APP, "--timeout", "1")
    first = server.get("/pid").text
    os.kill(int(first), signal.SIGSTOP)
    assert server.get("/pid", timeout=15).text != first


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_not_idempotent_is_502(serve, method):
    server = serve(APP)
    assert server.request(method, "/die-once", body=b"x", timeout=30).status == 502
    assert notes(server) == [f"{method} /die-once"]
    server.wait_log(rf"{method} /die-once")
    assert server.get("/pid", timeout=30).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_idempotent_with_a_body_is_run_once_more(serve, method):
    server = serve(APP)
    assert server.request(method, "/die-once", body=b"x" * 100_000, timeout=30).status == 200
    assert notes(server) == [f"{method} /die-once"] * 2


@pytest.mark.parametrize("query", ["", "?length"])
def test_half_an_answer_is_never_a_whole_one(serve, query):
    server = serve(APP)
    with server.connect(timeout=30) as client:
        client.send(build("GET", "/half" + query))
        with pytest.raises((AssertionError, ConnectionResetError)):
            client.response()
    assert notes(server) == ["GET /half" + query], "and it is not run again"
    assert server.get("/pid", timeout=30).status == 200


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 502)])
def test_a_head_that_nobody_has_seen_is_no_answer_yet(serve, method, status):
    # The edge is stopped while the worker sends its head and dies: it finds both at the same time.
    server = serve(APP)
    pid = int(server.get("/pid").body)
    with server.connect(timeout=30) as client:
        holder = hold(server, "go")
        client.send(build(method, "/head-and-die-once", body=b"x" if method == "POST" else None))
        server.wait_taken(client)
        time.sleep(0.1)  # nothing outside shows more: it is queued in the same turn
        with stopped(server.edge()):
            release(server, "go")
            wait_until(lambda: has_ended(pid), "the worker to die")
        assert holder.response().status == 200
        response = client.response()
    assert response.status == status
    assert notes(server).count(f"{method} /head-and-die-once") == (2 if method == "GET" else 1)
    if status == 200:
        assert response.body == b"one two"


def test_all_announced_bytes_are_a_whole_answer_of_a_dead_worker(serve):
    server = serve(APP)
    with server.connect(timeout=30) as client:
        for _ in range(3):
            client.send(build("POST", "/all-and-die", body=b"x"))
            response = client.response()
            assert (response.status, response.body) == (200, b"whole")
    assert notes(server) == ["POST /all-and-die"] * 3, "and it is not run again"


def test_half_an_answer_to_http_1_0_is_a_reset(serve):
    # Without chunks the end of the stream would look like the end of the body.
    server = serve(APP)
    with server.connect(timeout=30) as client:
        client.send(build("GET", "/half", version="1.0"))
        with pytest.raises(ConnectionResetError):
            while client.socket.recv(4096):
                pass


def test_overrun_is_504_with_the_stack(serve):
    server = serve(APP, "--timeout", "1s")
    pid = int(server.get("/pid").body)
    began = time.monotonic()
    assert server.request("POST", "/stuck?token=1", body=b"", timeout=30).status == 504
    assert 0.8 < time.monotonic() - began < 5
    server.wait_log(r"POST /stuck[^\n]*\b1(\.\d+)?\s?s\b")  # what, and how long
    server.wait_log("in stuck_in_here")
    assert int(server.get("/pid", timeout=30).body) != pid
    wait_until(lambda: pid not in server.processes(), "the stuck worker to be gone")
    assert notes(server) == ["POST /stuck?token=1"]


def test_overrun_beside_other_threads_shows_its_stack_at_once(serve):
    server = serve(APP, "--timeout", "1s", "--threads", "2", "--graceful-timeout", "60s")
    assert server.get("/stuck", timeout=30).status == 504
    server.wait_log("in stuck_in_here")


def test_overrun_of_a_get_is_not_run_again(serve):
    server = serve(APP, "--timeout", "1s")
    assert server.get("/stuck", timeout=30).status == 504
    assert server.get("/pid", timeout=30).status == 200
    assert notes(server) == ["GET /stuck"]


def test_overrun_shows_every_thread(serve):
    app = """
    import threading, time

    def background_work():
        time.sleep(60)

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/stuck":
            threading.Thread(target=background_work, daemon=True).start()
            time.sleep(60)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]
    """
    server = serve(app, "--timeout", "1s", "--graceful-timeout", "2s")
    assert server.get("/stuck", timeout=30).status == 504
    server.wait_log("in background_work")
    server.wait_log("in application")


def test_timeout_counts_the_run_not_the_wait(serve):
    server = serve(APP, "--timeout", "3s", "--queue-timeout", "20s")
    clients = [hold(server, "a")]
    threading.Timer(1.8, release, (server, "a")).start()
    threading.Timer(3.6, release, (server, "b")).start()
    second = server.connect(timeout=30)
    second.send(build("GET", "/wait?b"))
    assert clients[0].response().status == 200
    assert second.response().status == 200


def test_full_queue_is_503_at_once(serve):
    server = serve(APP, "--queue-size", "3", "--timeout", "60s", "--edge-threads", "1")
    holder = hold(server, "go")
    queued = [server.connect(timeout=30) for _ in range(3)]
    for client in queued:
        client.send(build("GET", "/queued"))
        server.wait_taken(client)  # one after the other, so that it is the fourth that finds no room
    # While nobody's turn comes.
    began = time.monotonic()
    response = server.get("/too-much")
    assert response.status == 503
    assert int(response.get("Retry-After")) >= 1
    assert time.monotonic() - began < 1
    release(server, "go")
    for client in [holder, *queued]:
        assert client.response().status == 200
    assert "GET /too-much" not in notes(server)


def test_who_leaves_a_full_queue_makes_room(serve):
    server = serve(APP, "--queue-size", "3", "--timeout", "60s", "--edge-threads", "1", "--log-level", "debug")
    holder = hold(server, "go")
    queued = [server.connect(timeout=30) for _ in range(3)]
    for client in queued:
        client.send(build("GET", "/left"))
        server.wait_taken(client)
    assert server.get("/too-much").status == 503
    for client in queued:
        client.close()
    server.wait_log("the client left while it was queued; it never ran", count=3)
    # The only worker is as busy as before.
    late = server.connect(timeout=30)
    late.send(build("GET", "/late"))
    server.wait_taken(late)
    release(server, "go")
    assert [client.response().status for client in (holder, late)] == [200, 200]
    assert "GET /left" not in notes(server)


def test_retry_after_is_the_length_of_the_queue(serve):
    app = """
    import time

    def application(environ, start_response):
        time.sleep(0.25)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]
    """
    server = serve(app, "--queue-size", "12", "--edge-threads", "1")
    with Load(server, clients=14) as load:
        wait_until(lambda: len(load.bodies) >= 8, "two seconds of work")
        refused = wait_until(lambda: [r for r in [server.get()] if r.status == 503], "a full queue")[0]
    # 12 that wait and the one more, a quarter of a second each.
    assert 3 <= int(refused.get("Retry-After")) <= 6


def test_a_burst_within_the_queue_is_served_whole(serve):
    # More at once than the bridge has slots for; a slot that is given back must not be promised twice.
    server = serve(APP, "-w", "2", "--edge-threads", "1")
    for _ in range(3):
        clients = [server.connect(timeout=30) for _ in range(400)]
        for client in clients:
            client.send(build("GET", "/pid") * 3)  # the next is there when the slot of the last is given back
        statuses = [client.response().status for client in clients for _ in range(3)]
        for client in clients:
            client.close()
        assert statuses.count(200) == 1200, f"{statuses.count(503)} times 503"


def test_queued_too_long_is_503(serve):
    server = serve(APP, "--queue-timeout", "1s", "--timeout", "60s")
    holder = hold(server, "go")
    began = time.monotonic()
    response = server.request("POST", "/late", body=b"x")
    assert response.status == 503
    assert int(response.get("Retry-After")) >= 1
    assert 0.8 < time.monotonic() - began < 3
    release(server, "go")
    assert holder.response().status == 200
    assert server.get("/pid").status == 200
    assert "POST /late" not in notes(server)


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_requests_whose_client_left_never_run(serve, ending):
    server = serve(APP, "--timeout", "60s")
    holder = hold(server, "go")
    gone = [server.connect() for _ in range(5)]
    for client in gone:
        client.send(build("GET", "/gone"))
    stays = server.connect(timeout=30)
    stays.send(build("GET", "/stays"))
    server.wait_taken(stays)
    ends = {server.wait_taken(client) for client in gone}
    for client in gone:
        getattr(client, ending)()
    wait_until(lambda: not ends & set(server.descriptors().values()), "the edge to notice")
    release(server, "go")
    assert holder.response().status == 200
    assert stays.response().status == 200
    assert server.get("/pid").status == 200
    assert "GET /gone" not in notes(server)


def test_half_closed_client_has_not_left(serve):
    server = serve(APP, "--timeout", "60s")
    holder = hold(server, "go")
    client = server.connect(timeout=30)
    client.send(build("GET", "/half-closed"))
    server.wait_taken(client)
    client.half_close()
    time.sleep(0.2)  # nothing outside shows that the edge has noticed
    release(server, "go")
    assert holder.response().status == 200
    assert client.response().status == 200


def test_a_slow_request_does_not_hold_back_the_others(serve):
    server = serve(APP, "-w", "2", "--timeout", "60s")
    holder = hold(server, "go")
    began = time.monotonic()
    for _ in range(50):
        assert server.get("/pid").status == 200
    assert time.monotonic() - began < 5
    release(server, "go")
    assert holder.response().status == 200


def test_killing_workers_under_load_fails_no_get(serve):
    # Without the validator a short response is published at once, so that no worker dies in the middle of one.
    server = serve(APP, "-w", "2", validate=False)
    with Load(server, target="/pid") as load:
        for number in range(20):
            time.sleep(0.25)  # the pace of the killing
            workers = server.workers()
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(workers[number % len(workers)], signal.SIGKILL)
    assert not load.failures, load.failures[:3]
    assert len(set(load.bodies)) > 5, "answers of several workers"
