"""An application that is also asked at an address of its own, as gunicorn is: `bind` in an `app`."""

import hashlib
import os
import re
import select
import signal
import socket

import pytest
from support import build, wait_until
from support.app import APP, hold, notes, release
from support.client import Broken, Client
from support.http2 import Http2

BOUND = """
    app shop {
        wsgi app:application;
        directory %DIR%;
        workers 2;
        bind unix:gunicorn.sock, 127.0.0.1:%PORT1%;
    }
    server {
        listen 127.0.0.1:%PORT%;
        add_header X-Edge yes;
        location / { app_pass shop; }
    }
    add_header X-Http yes;
    client_max_body_size 10;
"""


def at_socket(server, target, fields=(), method="GET", body=None, name="gunicorn.sock"):
    """A request to the application's own socket."""
    with Client(str(server.directory / name)) as client:
        return client.request(method, target, fields, body)


@pytest.fixture(scope="module")
def bound(serve_nginx_module):
    return serve_nginx_module(BOUND, python=True, files={"app.py": APP})


# The application's own addresses

def test_the_application_is_asked_at_its_own_addresses(bound):
    assert at_socket(bound, "/").text == "app"
    with bound.connect("%PORT1%") as client:
        assert client.request("GET", "/").text == "app"
    assert bound.get("/").text == "app"


def test_nothing_of_http_holds_there(bound):
    response = at_socket(bound, "/digest", method="POST", body=bytes(2_000_000))
    assert response.text.endswith(" 2000000")
    assert response.get("X-Http") is None and response.get("X-Edge") is None
    assert bound.request("POST", "/digest", body=bytes(11)).status == 413


def test_a_proxy_at_the_socket_is_believed(bound):
    said = [("Host", "shop.example"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "192.0.2.7"),
            ("SCRIPT_NAME", "/shop"), ("X_Odd", "1")]
    environ = eval(at_socket(bound, "/environ", said).text)
    assert (environ["wsgi.url_scheme"], environ["REMOTE_ADDR"]) == ("https", "192.0.2.7")
    assert (environ["SCRIPT_NAME"], environ["HTTP_HOST"]) == ("/shop", "shop.example")
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https" and "HTTP_X_ODD" not in environ
    # gunicorn's `forwarded_allow_ips` is the loopback's addresses.
    with bound.connect("%PORT1%") as client:
        environ = eval(client.request("GET", "/environ", [("X-Forwarded-Proto", "https")]).text)
    assert environ["wsgi.url_scheme"] == "https"
    # By app_pass, too; but nginx leaves out what has an underscore.
    environ = eval(bound.get("/environ", said, host=None).text)
    assert (environ["wsgi.url_scheme"], environ["REMOTE_ADDR"]) == ("https", "192.0.2.7")
    assert environ["SCRIPT_NAME"] == ""


def test_a_proxy_that_contradicts_itself_is_refused(bound):
    fields = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")]
    assert at_socket(bound, "/", fields).status == 400


def test_what_the_application_says_to_nginx_reaches_whoever_asks(bound):
    response = at_socket(bound, "/accel?/private/x")
    assert (response.status, response.get("X-Accel-Redirect")) == (200, "/private/x")


def test_forwarded_allow_ips_of_the_app_counts(serve_nginx):
    server = serve_nginx("""
        app shop { wsgi app:application; directory %DIR%; bind 127.0.0.1:%PORT%; forwarded_allow_ips 192.0.2.1; }
    """, python=True, files={"app.py": APP})
    environ = eval(server.get("/environ", [("X-Forwarded-Proto", "https")]).text)
    assert environ["wsgi.url_scheme"] == "http" and "HTTP_X_FORWARDED_PROTO" not in environ


def test_a_reload_adds_and_removes_the_socket(serve_nginx):
    conf = """
        app shop { wsgi app:application; directory %DIR%; BIND }
        server { listen 127.0.0.1:%PORT%; location / { app_pass shop; } }
    """
    server = serve_nginx(conf.replace("BIND", ""), python=True, files={"app.py": APP})
    path = server.directory / "own.sock"
    assert not path.exists()
    server.configure(conf.replace("BIND", "bind unix:own.sock;"))
    server.signal(signal.SIGHUP)
    wait_until(path.exists, "the socket")
    wait_until(lambda: at_socket(server, "/", name="own.sock").text == "app", "an answer there")
    server.configure(conf.replace("BIND", ""))
    server.signal(signal.SIGHUP)
    wait_until(lambda: not path.exists(), "the socket to go")
    assert server.get("/").text == "app"


def test_bind_in_a_settings_file_is_told(serve_nginx):
    conf = """
        app shop { wsgi app:application; directory %DIR%; settings gunicorn.conf.py; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass shop; } }
    """
    server = serve_nginx(conf, python=True, files={
        "app.py": APP, "gunicorn.conf.py": "bind = 'unix:own.sock'\n",
    })
    assert not (server.directory / "own.sock").exists()
    checked = server.run("check", "-c", "nginx.conf", "-p", f"{server.directory}/")
    assert "bind changes nothing in the settings file of an `app`" in checked.stderr
    assert "write `bind unix:own.sock;` in the `app` block" in checked.stderr


def test_what_a_settings_file_says_of_the_edge_is_told(serve_nginx):
    conf = """
        app shop { wsgi app:application; directory %DIR%; settings gunicorn.conf.py; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass shop; } }
    """
    said = "accesslog = 'a.log'\nclient_max_body_size = '5m'\ncertfile = 'none.pem'\nworkers = 1\ntimeout = 20\n"
    server = serve_nginx(conf, python=True, files={"app.py": APP, "gunicorn.conf.py": said})
    checked = server.run("check", "-c", "nginx.conf", "-p", f"{server.directory}/")
    for name, instead in (("accesslog", "`access_log`"), ("client_max_body_size", "it stands in"),
                          ("certfile", "`ssl_certificate`")):
        assert f"{name} changes nothing in the settings file of an `app`" in checked.stderr
        assert instead in checked.stderr
    assert "workers changes" not in checked.stderr and "timeout changes" not in checked.stderr
    server.configure(conf.replace("settings gunicorn.conf.py", "certfile none.pem"))
    checked = server.run("check", "-c", "nginx.conf", "-p", f"{server.directory}/")
    assert checked.returncode and "`certfile` is no setting of an app" in checked.stderr


# `proxy_pass` to such an address: straight into the queue

STRAIGHT = """
    log_format seen '$uri addr=$upstream_addr status=$upstream_status length=$upstream_response_length '
                    'connect=$upstream_connect_time header=$upstream_header_time time=$upstream_response_time '
                    'app=$app_name pid=$app_pid cache=$upstream_cache_status';
    proxy_cache_path %DIR%/cache keys_zone=pages:1m;
    upstream shop { server unix:%DIR%/gunicorn.sock fail_timeout=0; keepalive 4; }
    upstream pair { server unix:%DIR%/gunicorn.sock; server unix:%DIR%/gunicorn.sock; }
    app shop {
        wsgi app:application;
        directory %DIR%;
        workers 2;
        bind unix:gunicorn.sock, 127.0.0.1:%PORT1%;
    }
    server {
        listen 127.0.0.1:%PORT%;
        client_max_body_size 0;
        client_body_buffer_size 4k;
        root %DIR%/files;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        access_log %DIR%/access.log seen;
        location / { proxy_pass http://shop; }
        location /socket/ { proxy_pass http://pair/; }
        location /replaced/ { proxy_pass http://unix:%DIR%/gunicorn.sock:/; }
        location /tcp/ { proxy_pass http://127.0.0.1:%PORT1%/; }
        location /told/ { proxy_pass http://shop/; proxy_set_header X-Forwarded-Proto https;
                          proxy_set_header SCRIPT_NAME /mounted; }
        location /made/ { proxy_pass http://shop/; proxy_method POST; proxy_set_body "from $arg_who"; }
        location /bare/ { proxy_pass http://shop/; proxy_pass_request_body off; proxy_set_header Content-Length "";
                          proxy_pass_request_headers off; }
        location /cached/ { proxy_pass http://shop/; proxy_cache pages; proxy_cache_valid 1m;
                            add_header X-Cache $upstream_cache_status; }
        location /pages/ { proxy_pass http://shop/; proxy_intercept_errors on; error_page 404 =200 @page; }
        location @page { return 200 "the edge's page"; }
        location /private/ { internal; alias %DIR%/files/; }
        location /small/ { proxy_pass http://shop/; proxy_buffer_size 1k; }
        location /unbuffered/ { proxy_pass http://shop/; proxy_buffering off; }
        location /upgrade/ { proxy_pass http://shop/; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
                             proxy_set_header Connection upgrade; }
        location /few/ { proxy_pass http://shop/; proxy_max_temp_file_size 0; }
        location /guarded/ { auth_request /yes; proxy_pass http://shop/; }
        location /closed/ { auth_request /no; proxy_pass http://shop/; }
        location = /yes { internal; proxy_pass http://shop/status/204; proxy_pass_request_body off;
                          proxy_set_header Content-Length ""; }
        location = /no { internal; proxy_pass http://shop/status/403; }
        location /mirrored/ { mirror /copy; proxy_pass http://shop/; }
        location = /copy { internal; proxy_pass http://shop/copied; }
        location /stored/ { proxy_store %DIR%/stored/$arg_name; proxy_pass http://shop/; }
        location /cookies/ { proxy_pass http://shop/; proxy_cookie_path / /cookies/; proxy_hide_header X-App; }
        location = /connections { stub_status; access_log off; }
    }
    server { listen 127.0.0.1:%PORT2%; http2 on; location / { proxy_pass http://shop; } }
"""


@pytest.fixture(scope="module")
def straight(serve_nginx_module):
    return serve_nginx_module(STRAIGHT, python=True, files={
        "app.py": APP, "files/large": os.urandom(3_000_000), "files/x": "a file of the edge's",
    })


def accepted(server):
    """Connections that the edge has taken so far, without the one that asks."""
    return int(server.get("/connections").text.split("\n")[2].split()[0]) - 1


def environ_of(server, target, fields=(), **options):
    return eval(server.get(target, fields, **options).text)


@pytest.mark.parametrize("target", ["/", "/replaced/", "/tcp/", "/cached/?1", "/unbuffered/"])
def test_no_connection_is_made(straight, target):
    before = accepted(straight)
    assert straight.get(target).text == "app"
    # The request's own, and the one that asked before.
    assert accepted(straight) - before == 2


def test_of_several_servers_the_socket_is_one(straight):
    before = accepted(straight)
    assert straight.get("/socket/").text == "app"
    assert accepted(straight) - before == 3


@pytest.mark.parametrize("fields", [
    [],
    [("X-Thing", "1"), ("Cookie", "a=b"), ("Accept", "x"), ("Accept", "y")],
    [("X_Under", "1"), ("Connection", "close, x-hop"), ("X-Hop", "1"), ("Expect", "100-continue")],
])
@pytest.mark.parametrize("path", ["environ?a=b%20c", "environ", "%65nviron?%41", "a/../environ"])
def test_the_application_sees_the_same_as_by_the_socket(straight, path, fields):
    by_socket, direct = (environ_of(straight, where + path, fields) for where in ("/socket/", "/replaced/"))
    assert direct["REMOTE_ADDR"] == by_socket["REMOTE_ADDR"] == "127.0.0.1"
    assert direct["SERVER_PORT"] == str(straight.port)
    # What differs is who is at the ends of the connection.
    for name in ("REMOTE_PORT", "SERVER_NAME", "SERVER_PORT"):
        direct.pop(name), by_socket.pop(name)
    assert direct == by_socket


def test_the_request_is_what_nginx_would_make_of_it(straight):
    environ = environ_of(straight, "/environ", host="shop.example:81")
    assert (environ["HTTP_HOST"], environ["SERVER_PROTOCOL"]) == ("shop.example:81", "HTTP/1.0")
    assert environ["HTTP_X_FORWARDED_FOR"] == "127.0.0.1" and environ["HTTP_CONNECTION"] == "close"
    environ = environ_of(straight, "/upgrade/environ", [("Upgrade", "websocket")])
    assert (environ["HTTP_UPGRADE"], environ["SERVER_PROTOCOL"]) == ("websocket", "HTTP/1.1")
    made = straight.get("/made/digest?who=me").text
    assert made == hashlib.sha256(b"from me").hexdigest() + " 7"
    assert notes(straight)[-1] == "POST /digest"
    bare = straight.request("POST", "/bare/digest", [("X-Thing", "1")], body=b"not passed on")
    assert bare.text.endswith(" 0")


def test_only_the_configuration_speaks_for_the_client(straight):
    forged = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Ssl", "on")]
    environ = environ_of(straight, "/environ", forged)
    assert (environ["wsgi.url_scheme"], environ["REMOTE_ADDR"]) == ("http", "127.0.0.1")
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https", "it is passed on, as by nginx"
    assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.9, 127.0.0.1"
    environ = environ_of(straight, "/told/environ", [("X-Forwarded-Proto", "http"), ("SCRIPT_NAME", "/forged")])
    assert (environ["wsgi.url_scheme"], environ["SCRIPT_NAME"]) == ("https", "/mounted")
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https" and "HTTP_SCRIPT_NAME" not in environ


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 5000, 900_000, 5_000_000])
def test_a_body_arrives_intact(straight, size, chunked):
    body = os.urandom(size)
    response = straight.request("POST", "/digest", body=body, chunked=chunked)
    assert response.text == f"{hashlib.sha256(body).hexdigest()} {size}"


@pytest.mark.parametrize("target", ["/events?one", "/unbuffered/events?two"])
def test_what_the_application_says_is_seen_at_once(straight, target):
    with straight.connect() as client:
        client.send(build("GET", target))
        response = client.head()
        assert response.status == 200 and client.chunk() == b"data: one\n\n"
        release(straight, target.partition("?")[2])
        assert client.chunk() == b"data: two\n\n"
        assert client.chunk() == b""


@pytest.mark.parametrize("target", ["/file", "/unbuffered/file"])
def test_a_file_of_the_application(straight, target):
    assert straight.get(target).body == (straight.directory / "files/large").read_bytes()


def test_answers_without_a_body(straight):
    response = straight.request("HEAD", "/environ")
    assert response.status == 200 and int(response.get("Content-Length")) > 100
    for status in (204, 304):
        response = straight.get(f"/status/{status}")
        assert (response.status, response.body) == (status, b"")
    assert straight.request("HEAD", "/file").status == 200


def test_an_answer_is_a_servers_answer(straight):
    response = straight.get("/status/418")
    assert (response.status, response.reason, response.text) == (418, "Of The App", "the application's own page")
    assert response.get("X-App") == "yes"
    intercepted = straight.get("/pages/status/404")
    assert (intercepted.status, intercepted.text) == (200, "the edge's page")
    sent = straight.get("/accel?/private/x")
    assert (sent.status, sent.text, sent.get("X-App")) == (200, "a file of the edge's", None)


def test_a_head_over_proxy_buffer_size_is_502(straight):
    assert straight.get("/small/long?900").status == 200
    assert straight.get("/small/long?1100").status == 502
    straight.wait_log("upstream sent too big header while reading response header from upstream")


def test_answers_are_kept(straight):
    first, second = straight.get("/cached/pid?kept"), straight.get("/cached/pid?kept")
    assert (first.get("X-Cache"), second.get("X-Cache")) == ("MISS", "HIT")
    assert first.text == second.text
    assert notes(straight).count("GET /pid") == 1


def test_variables_tell_of_the_application_as_of_a_server(straight):
    assert straight.get("/status/201?logged").status == 201
    def lines():
        text = (straight.directory / "access.log").read_text()
        return [line for line in text.split("\n") if line.startswith("/status/201 ")]
    line = wait_until(lines, "the line")[0]
    socket = f"unix:{straight.directory}/gunicorn.sock"
    assert re.fullmatch(
        rf"/status/201 addr={socket} status=201 length=26 connect=0.000 header=\d+\.\d+ time=\d+\.\d+ "
        r"app=shop pid=\d+ cache=-", line)
    assert int(re.search(r"pid=(\d+)", line)[1]) in straight.workers()


def test_requests_within_requests_go_straight_too(straight):
    before = accepted(straight)
    assert straight.get("/guarded/").text == "app"
    assert straight.get("/closed/").status == 403
    assert straight.request("POST", "/mirrored/digest", body=b"x" * 9000).text.endswith(" 9000")
    wait_until(lambda: "POST /copied" in notes(straight), "the copy")
    assert accepted(straight) - before == 4


def test_a_client_of_http2_is_served(straight):
    with Http2(("127.0.0.1", straight.ports["%PORT2%"])) as client:
        environ = eval(client.get(1, "/environ").body)
        assert (environ["SERVER_PROTOCOL"], environ["HTTP_HOST"]) == ("HTTP/1.0", "shop")
        assert client.get(3, "/file").body == (straight.directory / "files/large").read_bytes()


@pytest.mark.parametrize("target", ["/file", "/few/file", "/unbuffered/file", "/cached/file"])
def test_a_slow_client_gets_all_of_it(straight, target):
    with straight.connect(receive_buffer=4096, timeout=30) as client:
        client.send(build("GET", target))
        # Others are served meanwhile.
        assert straight.get("/").text == "app"
        assert client.response().body == (straight.directory / "files/large").read_bytes()


def test_what_is_done_to_answers_is_done_to_these(straight):
    cookie = straight.get("/cookies/cookie")
    assert (cookie.get("Set-Cookie"), cookie.get("X-App")) == ("a=b; Path=/cookies/", None)
    assert straight.get("/stored/environ?name=one").status == 200
    stored = straight.directory / "stored/one"
    assert b"QUERY_STRING" in wait_until(lambda: stored.exists() and stored.read_bytes(), "the file")


def test_check_says_so(straight):
    checked = straight.run("check", "-c", "nginx.conf", "-p", f"{straight.directory}/")
    assert checked.returncode == 0
    assert "requests go straight into the queue of the app `shop`" in checked.stderr
    why = "requests go to the app `shop` by its socket: the upstream `pair` has other servers too"
    assert why in checked.stderr
    tested = straight.run("-t", "-c", "nginx.conf", "-p", f"{straight.directory}/")
    assert "straight" not in tested.stderr


# What goes wrong

FAULTS = """
    app shop { wsgi app:application; directory %DIR%; bind unix:gunicorn.sock; queue_size 1; timeout 30; }
    server {
        listen 127.0.0.1:%PORT%;
        location / { proxy_pass http://unix:%DIR%/gunicorn.sock; }
        location /late/ { proxy_pass http://unix:%DIR%/gunicorn.sock:/; proxy_read_timeout 1s; }
        location /kept/ { proxy_pass http://unix:%DIR%/gunicorn.sock:/; proxy_ignore_client_abort on; }
    }
    error_log stderr info;
"""


@pytest.fixture
def faulty(serve_nginx):
    return serve_nginx(FAULTS, python=True, files={"app.py": APP})


def test_a_full_queue_is_503_with_retry_after(faulty):
    holder = hold(faulty, "go")
    waiting = [faulty.connect(timeout=30) for _ in range(2)]
    for client in waiting:
        client.send(build("GET", "/queued"))
    readable, _, _ = select.select([client.socket for client in waiting], [], [], 10)
    refused = [client for client in waiting if client.socket in readable]
    assert len(refused) == 1
    response = refused[0].response()
    assert response.status == 503 and int(response.get("Retry-After")) >= 1
    release(faulty, "go")
    assert holder.response().status == 200
    assert next(client for client in waiting if client not in refused).response().text == "app"


def test_a_worker_that_dies_is_502_where_the_request_may_not_run_twice(faulty):
    for method, status in (("POST", 502), ("GET", 200)):
        count = len(notes(faulty))
        with faulty.connect(timeout=30) as client:
            client.send(build(method, f"/wait?{method}", body=b"" if method == "POST" else None))
            wait_until(lambda count=count: len(notes(faulty)) > count, "the worker to be busy")
            os.kill(int(notes(faulty)[-1].rpartition(" ")[2]), signal.SIGKILL)
            # Who runs it once more finds that it need not wait.
            release(faulty, method)
            assert client.response(method).status == status


def test_a_worker_that_dies_while_it_answers_breaks_the_answer_off(faulty):
    with faulty.connect(timeout=20) as client:
        client.send(build("GET", "/events?never"))
        assert client.head().status == 200 and client.chunk() == b"data: one\n\n"
        os.kill(faulty.workers()[0], signal.SIGKILL)
        with pytest.raises((Broken, OSError)):
            client.chunk()
    assert faulty.get("/", timeout=30).text == "app"


def test_the_socket_of_a_gunicorn_that_still_runs_is_not_taken(serve_nginx, tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "taken.sock"))
        other.listen()
        conf = FAULTS.replace("unix:gunicorn.sock;", f"unix:{tmp_path}/taken.sock;")
        server = serve_nginx(conf, python=True, files={"app.py": APP}, wait=False)
        assert server.exit_code() != 0
        assert "taken.sock" in server.log() and "Address already in use" in server.log()


def test_proxy_read_timeout_is_504(faulty):
    response = faulty.get("/late/wait?never", timeout=20)
    assert response.status == 504
    faulty.wait_log(r"upstream timed out \(110: Connection timed out\) while reading response header from upstream")
    release(faulty, "never")
    assert faulty.get("/").text == "app"
    # A request that is still queued never runs.
    holder = hold(faulty, "go")
    assert faulty.get("/late/queued", timeout=20).status == 504
    release(faulty, "go")
    assert holder.response().status == 200 and faulty.get("/").text == "app"
    assert not any("/queued" in note for note in notes(faulty))


def test_proxy_read_timeout_between_pieces_breaks_the_answer_off(faulty):
    with faulty.connect(timeout=20) as client:
        client.send(build("GET", "/late/events?never"))
        assert client.head().status == 200 and client.chunk() == b"data: one\n\n"
        with pytest.raises((Broken, OSError)):
            client.chunk()
    release(faulty, "never")
    assert faulty.get("/", timeout=30).text == "app"


def test_a_client_that_leaves_takes_its_request_along(serve_nginx):
    faulty = serve_nginx(FAULTS.replace("queue_size 1;", ""), python=True, files={"app.py": APP})
    holder = hold(faulty, "go")
    client = faulty.connect()
    client.send(build("GET", "/left"))
    faulty.wait_taken(client)
    client.reset()
    faulty.wait_log("the client left while it was queued; it never ran .*GET /left HTTP/1.1")
    staying = faulty.connect(timeout=30)
    staying.send(build("GET", "/kept/stays"))
    faulty.wait_taken(staying)
    staying.reset()
    release(faulty, "go")
    assert holder.response().status == 200
    wait_until(lambda: any("/stays" in note for note in notes(faulty)), "what is run though nobody waits")
    assert not any("/left" in note for note in notes(faulty))


def test_a_reload_takes_the_application_away_and_brings_it_back(serve_nginx):
    conf = """
        APP
        server {
            listen 127.0.0.1:%PORT%;
            location / { proxy_pass http://unix:%DIR%/gunicorn.sock; }
        }
    """
    app = "app shop { wsgi app:application; directory %DIR%; bind unix:gunicorn.sock; }"
    server = serve_nginx(conf.replace("APP", app), python=True, files={"app.py": APP})
    assert server.get("/").text == "app"
    for text, status in (("", 502), (app, 200)):
        server.configure(conf.replace("APP", text))
        server.signal(signal.SIGHUP)
        wait_until(lambda status=status: server.get("/").status == status, f"a {status}", 30)
