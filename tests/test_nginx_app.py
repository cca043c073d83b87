"""Applications in an nginx.conf: `app`, `app_pass`, and everything of nginx's around them."""

import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support import Load, build, wait_until
from support.app import APP, hold, notes, release
from support.server import ROOT

DJANGO = ROOT / "examples/django"
FLASK = ROOT / "examples/flask"


def reload(server, conf):
    server.configure(conf)
    server.signal(signal.SIGHUP)


# One server for everything that leaves it as it was

CONF = """
    log_format app '$uri name=$app_name pid=$app_pid attempts=$app_attempts queued=$app_queue_time '
                   'ran=$app_run_time status=$status';
    app one { wsgi app:application; directory %DIR%; workers 2; }
    server {
        listen 127.0.0.1:%PORT%;
        root %DIR%/files;
        location / { app_pass one; access_log %DIR%/access.log app; }
        location /small/ { client_max_body_size 10; app_pass one; error_page 413 = @large; }
        location /memory/ { client_max_body_size 2m; client_body_buffer_size 2m; app_pass one; }
        location /any/ { client_max_body_size 0; client_body_buffer_size 1k; app_pass one; }
        location @large { return 413 "larger than allowed here"; }
        location /status/ { app_pass one; }
        location = /status/404 {
            app_pass one; app_intercept_errors on; error_page 404 /pages/404.html;
        }
        location = /status/403 {
            app_pass one; app_intercept_errors on; error_page 403 =200 /pages/404.html;
        }
        location = /status/500 {
            app_pass one; app_intercept_errors on; error_page 500 502 = @sorry;
        }
        location = /status/503 { app_pass one; app_intercept_errors on; error_page 503 = @again; }
        location @again { rewrite ^ /digest break; app_pass one; }
        location = /status/302 { app_pass one; app_intercept_errors on; error_page 302 /pages/404.html; }
        location = /status/201 { app_pass one; app_intercept_errors on; error_page 301 /pages/404.html; }
        location = /status/410 { app_pass one; app_intercept_errors on; error_page 404 /pages/404.html; }
        location @sorry { return 200 "sorry for $uri"; }
        location /pages/ { }
        location = /nothing { error_page 418 =204 /again/; return 418; }
        location /internal/ { internal; alias %DIR%/private/; add_header X-Sent-By edge; }
        location /again/ { internal; return 200 "$uri with $args by $request_method"; }
        location @stored { return 200 "named $uri $args"; }
        location /if/ {
            if ($arg_app) { app_pass one; }
        }
        location /v1/ { rewrite ^/v1(/.*)$ $1 break; app_pass one; }
        location /limited/ {
            limit_except GET { app_pass one; }
        }
    }
"""


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, python=True, files={
        "app.py": APP, "files/pages/404.html": "the edge's page", "files/if/x": "a file", "files/limited/x": "a file",
        "private/a b.bin": bytes(range(256)) * 100,
    })


def test_the_application_sees_the_request(server):
    answer = server.get("/environ?a=b%20c", {"X-Thing": "1"}, host="shop.example:8000").text
    environ = eval(answer)
    assert environ["QUERY_STRING"] == "a=b%20c"
    assert environ["HTTP_HOST"] == "shop.example:8000"
    assert environ["HTTP_X_THING"] == "1"
    assert environ["SCRIPT_NAME"] == "" and environ["PATH_INFO"] == "/environ"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["SERVER_PORT"] == str(server.port)
    assert environ["wsgi.url_scheme"] == "http"


def test_who_answers_in_the_applications_place_gets_the_body(server):
    body = b"0123456789" * 1000
    digest = f"{hashlib.sha256(body).hexdigest()} {len(body)}"
    assert server.request("POST", "/status/503", body=body).text == digest


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 1023, 1025, 16_385, 900_000])
def test_an_upload_arrives_intact(server, size, chunked):
    body = os.urandom(size)
    response = server.request("POST", "/digest", body=body, chunked=chunked)
    assert response.text == f"{hashlib.sha256(body).hexdigest()} {size}"


def test_a_body_that_memory_holds_and_the_bridge_does_not_arrives(server):
    for size in (100_000, 131_000, 140_000, 1_500_000):
        assert server.request("POST", "/memory/digest", body=bytes(size)).text.endswith(f" {size}")


def test_a_large_upload_arrives_where_any_length_is_allowed(server):
    body = os.urandom(8_000_000)
    assert server.request("POST", "/any/digest", body=body).text.endswith(" 8000000")


def test_the_default_limit_of_a_body_is_1m(server):
    with server.connect() as client:
        client.send(build("POST", "/digest", {"Content-Length": str((1 << 20) + 1)}))
        assert client.response().status == 413
    assert server.request("POST", "/digest", body=bytes(1 << 20)).status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_locations_limit_is_413(server, chunked):
    assert server.request("POST", "/small/digest", body=b"0123456789", chunked=chunked).text.endswith(" 10")
    before = len(notes(server))
    response = server.request("POST", "/small/digest", body=b"0123456789a", chunked=chunked)
    assert (response.status, response.text) == (413, "larger than allowed here")
    assert len(notes(server)) == before


def test_without_interception_the_applications_errors_are_its_own(server):
    response = server.get("/status/405")
    assert (response.status, response.reason, response.text) == (405, "Of The App", "the application's own page")


@pytest.mark.parametrize(("status", "seen", "text"), [
    (404, 404, "the edge's page"),
    (403, 200, "the edge's page"),
    (500, 200, "sorry for /status/500"),
    (302, 302, "the edge's page"),
    (201, 201, "the application's own page"),
    (410, 410, "the application's own page"),
])
def test_error_page_replaces_what_is_intercepted(server, status, seen, text):
    response = server.get(f"/status/{status}")
    assert (response.status, response.text) == (seen, text)
    assert (response.get("X-App") == "yes") == (text == "the application's own page")


def test_an_error_page_that_becomes_204_has_no_type(server):
    response = server.get("/nothing")
    assert (response.status, response.body, response.get("Content-Type")) == (204, b"", None)


def test_x_accel_redirect_to_what_is_missing_has_the_type_of_the_edges_page(server):
    response = server.get("/accel?/internal/missing.bin")
    assert (response.status, response.all("Content-Type")) == (404, ["text/html"])


def test_x_accel_redirect_to_a_file(server):
    data = bytes(range(256)) * 100
    response = server.get("/accel?/internal/a%20b.bin")
    assert (response.status, response.body) == (200, data)
    # The fields that nginx keeps of the application's response, and no other.
    assert response.get("Content-Type") == "application/x-thing"
    assert response.get("Content-Disposition") == "attachment"
    assert response.all("Set-Cookie") == ["a=b", "c=d"]
    assert response.get("Cache-Control") == "private"
    assert response.get("X-App") is None and response.get("X-Accel-Redirect") is None
    assert response.get("ETag") != '"app"'
    assert response.get("X-Sent-By") == "edge"
    part = server.get("/accel?/internal/a%20b.bin", {"Range": "bytes=1-3"})
    assert (part.status, part.body) == (206, data[1:4])


def test_x_accel_redirect_to_a_named_location(server):
    assert server.get("/accel?@stored").text == "named /accel @stored"


def test_x_accel_redirect_with_arguments(server):
    assert server.get("/accel?/again/x?a=1&b=2").text == "/again/x with a=1&b=2 by GET"
    assert server.get("/accel?/again/x").text == "/again/x with  by GET"


def test_x_accel_redirect_of_a_post_becomes_get(server):
    assert server.request("POST", "/accel?/again/x", body=b"data").text == "/again/x with  by GET"


@pytest.mark.parametrize("target", [
    "/internal/../app.py", "/internal/%2e%2e/app.py",
    "/internal/none", "app.py",
])
def test_x_accel_redirect_leads_nowhere_else(server, target):
    response = server.get(f"/accel?{target}")
    assert response.status in (403, 404) and b"wsgi" not in response.body


def test_the_application_sees_the_rewritten_path(server):
    environ = eval(server.get("/v1/environ?a=b").text)
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/environ", "a=b")


def test_internal_is_404_from_outside(server):
    assert server.get("/internal/a%20b.bin").status == 404


def test_app_pass_in_an_if(server):
    assert server.get("/if/x").text == "a file"
    assert server.get("/if/x?app=1").text == "app"


def test_app_pass_in_limit_except(server):
    assert server.get("/limited/x").text == "a file"
    assert server.request("HEAD", "/limited/x").status == 200
    assert server.request("POST", "/limited/x", body=b"1").text == "app"
    assert server.request("DELETE", "/limited/x").text == "app"


def test_the_access_log_knows_the_application(server):
    server.get("/logged")
    line = wait_until(lambda: re.search(r"^/logged .*$", (server.directory / "access.log").read_text(), re.MULTILINE),
                      "the line")[0]
    values = dict(pair.split("=") for pair in line.split()[1:])
    assert values["name"] == "one" and int(values["pid"]) in server.workers() and values["attempts"] == "1"
    assert re.fullmatch(r"\d\.\d{3}", values["queued"])
    assert values["status"] == "200"


def test_the_access_log_knows_how_long_the_application_ran(server):
    server.get("/timed")
    line = wait_until(lambda: re.search(r"^/timed .*$", (server.directory / "access.log").read_text(), re.MULTILINE),
                      "the line")[0]
    assert re.search(r" ran=\d\.\d{3} ", line)


# Servers of their own

def test_events_pass_at_once(serve_nginx):
    server = serve_nginx("""
        app one { wsgi app:application; directory %DIR%; }
        gzip on; gzip_types text/event-stream;
        server { listen 127.0.0.1:%PORT%; location / { app_pass one; } }
    """, files={"app.py": APP}, python=True)
    with server.connect() as client:
        client.send(build("GET", "/events"))
        assert client.head().get("Content-Type") == "text/event-stream"
        assert client.chunk() == b"data: one\n\n", "before the second is there"
        release(server, "go")
        assert client.chunk() == b"data: two\n\n"
        assert client.chunk() == b""


def test_an_empty_type_is_none_as_in_nginx(serve_nginx):
    source = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", ""), ("X-Empty", "")])
    return [b"abc"]
"""
    server = serve_nginx("app one { wsgi app:application; directory %DIR%; }\n"
                         "server { listen 127.0.0.1:%PORT%; location / { app_pass one; } }",
                         files={"app.py": source}, python=True)
    answer = server.get("/")
    assert (answer.body, answer.all("Content-Type"), answer.all("X-Empty")) == (b"abc", [], [""])


ENVIRON = """
import json
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json"), ("Cache-Control", "max-age=60")])
    if environ["SCRIPT_NAME"]:
        return [environ["SCRIPT_NAME"].encode()]
    return [json.dumps({name: value for name, value in environ.items() if name.startswith("HTTP_")}).encode()]
"""


def test_app_set_header(serve_nginx):
    server = serve_nginx("""
        app one { wsgi app:application; directory %DIR%; header_map dangerous; }
        underscores_in_headers on;
        map $http_x_lang $lang { default en; de de; }
        app_set_header X-Around 1;
        server {
            listen 127.0.0.1:%PORT%;
            location / {
                app_pass one;
                app_set_header X-Request-ID $request_id;
                app_set_header X-Remote-User $arg_user;
                app_set_header X-Lang $lang;
                app_set_header X-Real-IP $remote_addr;
                app_set_header Host inner.example;
                app_set_header Cookie "";
            }
            location /inherits { app_pass one; }
            location /body { app_pass one; app_set_header X-Body $request_body; }
            location /mounted { app_pass one; app_set_header SCRIPT_NAME /mnt; }
            location ~ ^/bad([^~]*)$ { app_pass one; app_set_header X-Bad $1; }
        }
    """, files={"app.py": ENVIRON}, python=True)
    claims = [("X-Remote-User", "admin"), ("x_remote_user", "admin"), ("X-Remote_User", "admin"), ("Cookie", "a=b"),
              ("X-Lang", "de"), ("X-Request-ID", "mine"), ("X-Other", "stays"), ("X-Around", "client's")]
    seen = json.loads(server.get("/", claims).body)
    assert re.fullmatch("[0-9a-f]{32}", seen.pop("HTTP_X_REQUEST_ID"))
    assert seen == {"HTTP_HOST": "inner.example", "HTTP_X_LANG": "de", "HTTP_X_REAL_IP": "127.0.0.1",
                    "HTTP_X_OTHER": "stays", "HTTP_X_AROUND": "client's", "HTTP_CONNECTION": "close"}
    assert json.loads(server.get("/?user=eve", claims).body)["HTTP_X_REMOTE_USER"] == "eve"
    assert json.loads(server.get("/inherits", claims).body)["HTTP_X_AROUND"] == "1"
    assert json.loads(server.get("/inherits", claims).body)["HTTP_COOKIE"] == "a=b"
    assert json.loads(server.get("/bad%09b").body)["HTTP_X_BAD"] == "\tb"
    assert json.loads(server.request("POST", "/body", body=b"abc").body)["HTTP_X_BODY"] == "abc"
    assert server.get("/mounted/x", [("Script_Name", "/evil")]).text == "/mnt"
    assert server.get("/bad%0d%0aX-Remote-User:%20admin").status == 400
    server.wait_log('invalid value of "X-Bad" in app_set_header')


def test_what_app_set_header_says_of_a_host_is_part_of_the_caches_key(serve_nginx):
    server = serve_nginx("""
        app one { wsgi app:application; directory %DIR%; }
        app_cache_path %DIR%/cache keys_zone=one:1m;
        server {
            listen 127.0.0.1:%PORT%;
            app_cache one;
            add_header X-Cache $upstream_cache_status;
            location / {
                app_pass one;
                app_set_header Host $cookie_site.example;
                app_set_header X-Forwarded-Host $cookie_front;
            }
            location /mine { app_pass one; app_set_header Authorization $cookie_token; }
        }
    """, files={"app.py": ENVIRON}, python=True)

    def ask(cookie):
        answer = server.get("/", [("Cookie", cookie)])
        seen = json.loads(answer.body)
        return answer.get("X-Cache"), seen["HTTP_HOST"], seen.get("HTTP_X_FORWARDED_HOST")

    assert ask("site=a") == ("MISS", "a.example", None)
    assert ask("site=b") == ("MISS", "b.example", None)
    assert ask("site=a; front=c") == ("MISS", "a.example", "c")
    assert ask("site=a") == ("HIT", "a.example", None)
    assert ask("site=b") == ("HIT", "b.example", None)
    assert ask("site=a; front=c") == ("HIT", "a.example", "c")
    answer = server.get("/mine", [("Cookie", "token=secret")])
    assert json.loads(answer.body)["HTTP_AUTHORIZATION"] == "secret"
    answer = server.get("/mine")
    assert (answer.get("X-Cache"), "HTTP_AUTHORIZATION" in json.loads(answer.body)) == ("MISS", False)


def test_two_applications_in_one_file(serve_nginx):
    source = """
        import os
        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [f"{__name__} {os.getcwd()} {environ.get('SCRIPT_NAME')} {environ['PATH_INFO']}".encode()]
    """
    server = serve_nginx("""
        app shop { wsgi shop:application; directory %DIR%/a; workers 2; }
        app blog { wsgi blog:application; directory %DIR%/b; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass shop; } location /blog/ { app_pass blog; } }
        server { listen 127.0.0.1:%PORT%; server_name blog.example; location / { app_pass blog; } }
    """, files={"a/shop.py": source, "b/blog.py": source}, python=True)
    assert server.get("/x").text == f"shop {server.directory}/a  /x"
    assert server.get("/blog/x").text == f"blog {server.directory}/b  /blog/x"
    assert server.get("/x", host="blog.example").text == f"blog {server.directory}/b  /x"
    assert len(server.workers()) == 3


def test_overrun_is_504_by_error_page(serve_nginx):
    server = serve_nginx("""
        app one { wsgi app:application; directory %DIR%; timeout 1; }
        server {
            listen 127.0.0.1:%PORT%;
            error_page 504 /late.html;
            location / { app_pass one; }
            location = /late.html { internal; root %DIR%; }
        }
    """, files={"app.py": APP, "late.html": "too late"}, python=True)
    response = server.get("/stuck", timeout=30)
    assert (response.status, response.text) == (504, "too late")
    server.wait_log(r"\[error\] .*request: \"GET /stuck HTTP/1.1\"")
    assert server.get("/", timeout=30).text == "app", "by another worker"


def test_a_full_queue_is_503_with_retry_after(serve_nginx):
    server = serve_nginx("""
        worker_processes 1;
        events {}
        http {
            access_log off;
            app one { wsgi app:application; directory %DIR%; queue_size 1; }
            server {
                listen 127.0.0.1:%PORT%;
                location / { app_pass one; }
                location /page/ { app_pass one; error_page 503 @busy; }
                location @busy { add_header X-Page busy always; return 503 busy; }
            }
        }
    """, files={"app.py": APP}, python=True)
    holder = hold(server, "go")
    # Of two that come at once one finds the queue full: whichever it is, it is told so while the other waits.
    refused = []
    waiting = []
    for _ in range(2):
        client = server.connect(timeout=30)
        client.send(build("GET", "/queued"))
        waiting.append(client)
    readable, _, _ = select.select([c.socket for c in waiting], [], [], 10)
    for client in list(waiting):
        if client.socket in readable:
            refused.append(client.response())
            waiting.remove(client)
    assert [r.status for r in refused] == [503] and len(waiting) == 1
    assert int(refused[0].get("Retry-After")) >= 1
    paged = server.get("/page/x")
    assert (paged.status, paged.text, paged.get("X-Page")) == (503, "busy", "busy")
    release(server, "go")
    assert holder.response().status == 200
    assert waiting[0].response().status == 200


def test_queued_too_long_is_503(serve_nginx):
    server = serve_nginx("""
        app one { wsgi app:application; directory %DIR%; queue_timeout 1; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass one; } }
    """, files={"app.py": APP}, python=True)
    holder = hold(server, "go")
    response = server.get("/late")
    assert response.status == 503 and int(response.get("Retry-After")) >= 1
    release(server, "go")
    assert holder.response().status == 200
    assert "GET /late" not in notes(server)


GENERATION = """
    import os
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{os.environ.get('COLOUR', 'none')}".encode()]
"""


def test_a_reload_changes_the_settings_of_an_application(serve_nginx):
    conf = """
        app one {{ wsgi app:application; directory %DIR%; workers {workers}; raw_env COLOUR={colour}; }}
        server {{ listen 127.0.0.1:%PORT%; location / {{ app_pass one; }} }}
    """
    server = serve_nginx(conf.format(workers=1, colour="red"), files={"app.py": GENERATION}, python=True)
    with Load(server) as load:
        assert len(server.workers()) == 1
        reload(server, conf.format(workers=3, colour="green"))
        wait_until(lambda: load.bodies[-1] == "green", "the new generation")
        wait_until(lambda: len(server.workers()) == 3, "the old one to be gone")
        reload(server, conf.format(workers=2, colour="blue"))
        wait_until(lambda: load.bodies[-1] == "blue" and len(server.workers()) == 2, "the third generation")
    assert load.failures == []
    assert set(load.bodies) == {"red", "green", "blue"}


def test_reloads_add_and_remove_applications_without_a_failed_request(serve_nginx):
    one = "app one { wsgi app:application; directory %DIR%; raw_env COLOUR=one; }"
    two = "app two { wsgi app:application; directory %DIR%; raw_env COLOUR=two; workers 2; }"
    head = "server { listen 127.0.0.1:%PORT%; location / { app_pass one; }"
    alone, both = one + head + "}", two + one + head + "location /two { app_pass two; } }"
    server = serve_nginx(alone, files={"app.py": GENERATION}, python=True)
    with Load(server) as load:
        reload(server, both)
        wait_until(lambda: server.get("/two").text == "two", "the second application", 20)
        wait_until(lambda: len(server.workers()) == 3, "the old generation to end")
        assert load.bodies[-1] == "one", "though it is now the second of the file"
        reload(server, alone)
        wait_until(lambda: len(server.workers()) == 1, "the second application's end", 20)
        assert server.get("/two").text == "one"
    assert load.failures == []
    assert set(load.bodies) == {"one"}


def test_sys_exit_in_a_hook_of_one_application_ends_no_other(serve_nginx):
    server = serve_nginx("""
        app one { wsgi app:application; directory %DIR%; raw_env COLOUR=one; }
        app two { wsgi app:application; directory %DIR%; raw_env COLOUR=two; settings hooks.py; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass one; } location /two { app_pass two; } }
    """, files={"app.py": GENERATION, "hooks.py": "def child_exit(server, worker):\n    raise SystemExit(9)\n"}, python=True)
    before = set(server.workers())
    for pid in before:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: len(server.workers()) == 2 and not before & set(server.workers()), "other workers", 20)
    assert (server.get("/").text, server.get("/two").text) == ("one", "two")
    assert "The hook child_exit called sys.exit(9)" in server.log()


REMOVED = """
    app one { wsgi app:application; directory %DIR%; queue_timeout 3; }
    server { listen 127.0.0.1:%PORT%; location / { app_pass one; } location = /which { return 200 with; } }
"""


def remove(server):
    reload(server, "server { listen 127.0.0.1:%PORT%; return 200 without; }")
    wait_until(lambda: server.get("/which").text == "without", "the new configuration")


def test_a_request_in_the_old_application_ends_in_peace(serve_nginx):
    server = serve_nginx(REMOVED, files={"app.py": APP}, python=True)
    holder = hold(server, "go")
    remove(server)
    release(server, "go")
    assert holder.response().text == "app"
    wait_until(lambda: server.workers() == [], "the worker to end")


def test_a_request_that_is_queued_for_a_removed_application_runs(serve_nginx):
    server = serve_nginx(REMOVED, files={"app.py": APP}, python=True)
    holder = hold(server, "go")
    queued = server.connect(timeout=30)
    queued.send(build("GET", "/queued"))
    remove(server)
    release(server, "go")
    assert holder.response().text == "app"
    assert queued.response().status == 200


def test_a_killed_worker_under_load_fails_no_get(serve_nginx):
    server = serve_nginx("""
        app one { wsgi app:application; directory %DIR%; workers 2; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass one; } }
    """, files={"app.py": GENERATION}, python=True)
    with Load(server) as load:
        for _ in range(3):
            victim = wait_until(lambda: len(server.workers()) == 2 and server.workers()[0], "two workers")
            count = len(load.bodies)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda victim=victim: victim not in server.workers(), "its death")
            wait_until(lambda count=count: len(load.bodies) > count + 50, "service")
    assert load.failures == []


def test_kill_minus_9_of_all_workers_at_once(serve_nginx):
    server = serve_nginx("""
        app one { wsgi app:application; directory %DIR%; workers 2; }
        server { listen 127.0.0.1:%PORT%; error_page 502 503 @sorry; location / { app_pass one; }
                 location @sorry { return 200 sorry; } }
    """, files={"app.py": GENERATION}, python=True)
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    assert server.get(timeout=20).text == "none", "it waits for the new one"


@pytest.mark.parametrize(("conf", "words"), [
    ("server { listen 127.0.0.1:%PORT%; location / { app_pass none; } }", 'unknown app "none"'),
    ("app one { workers 2; }", 'app "one" does not say what to run'),
    ("app one { wsgi a:b; } app one { wsgi a:b; }", 'duplicate app "one"'),
    ("app one { wsgi a:b; wokers 2; }", 'unknown setting "wokers"'),
    ("app one { wsgi a:b; daemon on; }", "`daemon` is no setting of an app"),
    ("app one { wsgi a:b; } server { location / { app_pass one; app_pass one; } }", '"app_pass" directive is duplicate'),
])
def test_mistakes_are_found_at_the_start(serve_nginx, conf, words):
    server = serve_nginx(conf, wait=False, python=True)
    assert server.exit_code() == 1
    assert words in server.log()


# Real frameworks

@pytest.fixture(scope="module")
def frameworks(tmp_path_factory, serve_nginx_module):
    """Both examples behind one edge, each by a name of its own."""
    data = tmp_path_factory.mktemp("shop")
    env = {**os.environ, "SHOP_DATA_DIR": str(data), "PYTHONDONTWRITEBYTECODE": "1"}
    for command in (["migrate", "-v0"], ["collectstatic", "--noinput", "-v0"], ["ensure_user", "admin", "secret"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=DJANGO, env=env, check=True)
    (data / "media").mkdir(exist_ok=True)
    shutil.copytree(FLASK, data / "flask", ignore=shutil.ignore_patterns("__pycache__", ".venv"))
    return serve_nginx_module(f"""
        gzip on;
        app shop {{ wsgi shop.wsgi:application; directory {DJANGO}; workers 2; raw_env SHOP_DATA_DIR={data}; }}
        app greet {{ wsgi "app:create_app(greeting='Salut')"; directory {data}/flask; }}
        server {{
            listen 127.0.0.1:%PORT%;
            client_max_body_size 32m;
            location / {{ app_pass shop; }}
            location /static/ {{ alias {data}/staticfiles/; expires 1d; }}
            location /protected/ {{ internal; alias {data}/media/; }}
        }}
        server {{ listen 127.0.0.1:%PORT%; server_name flask.example; location / {{ app_pass greet; }} }}
    """, python=True)


class Browser:
    """Cookies and forms of the shop."""

    def __init__(self, server):
        self.server, self.cookies = server, {}

    def request(self, method, target, fields=(), body=None):
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        fields = {**dict(fields), "Cookie": cookies, "Origin": "http://localhost"}
        # A password takes long to check, on a busy machine very long.
        response = self.server.request(method, target, fields, body, host="localhost", timeout=30)
        for value in response.all("Set-Cookie"):
            name, _, rest = value.partition("=")
            self.cookies[name] = rest.split(";")[0]
        return response

    def post(self, target, body, boundary="boundary7MA4YWxk", form=None):
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.request("GET", form or target).text)[1]
        part = f'--{boundary}\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{token}\r\n'
        body = part.encode() + body + f"--{boundary}--\r\n".encode()
        return self.request("POST", target, {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body)

    def login(self):
        values = {"username": "admin", "password": "secret"}
        parts = "".join('--boundary7MA4YWxk\r\nContent-Disposition: form-data; '
                        f'name="{name}"\r\n\r\n{value}\r\n' for name, value in values.items())
        return self.post("/admin/login/?next=/", parts.encode())


def test_django_and_its_static_files(frameworks):
    page = frameworks.get("/", host="localhost")
    assert page.status == 200 and "Star chart" in page.text
    style = frameworks.get(re.search(r'href="(/static/[^"]+\.css)"', page.text)[1])
    assert (style.status, style.get("Cache-Control")) == (200, "max-age=86400")
    assert style.get("Content-Type").startswith("text/")
    assert frameworks.get("/", {"Accept-Encoding": "gzip"}, host="localhost").get("Content-Encoding") == "gzip"


def test_djangos_upload_and_protected_download(frameworks):
    browser = Browser(frameworks)
    assert browser.login().status == 302
    content = os.urandom(3_000_000)
    part = (b'--boundary7MA4YWxk\r\nContent-Disposition: form-data; name="file"; filename="thing.bin"\r\n\r\n'
            + content + b"\r\n")
    assert browser.post("/uploads/", part).status == 302
    page = browser.request("GET", "/uploads/").text
    assert hashlib.sha256(content).hexdigest() in page
    target = re.search(r'href="(/uploads/\d+/)"', page)[1]
    download = browser.request("GET", target)
    assert download.body == content and "thing.bin" in download.get("Content-Disposition")
    assert browser.request("GET", target, {"Range": "bytes=5-9"}).body == content[5:10]


def test_flask_beside_django(frameworks):
    answer = json.loads(frameworks.get("/api/hello/Ada", host="flask.example").body)
    assert answer["message"] == "Salut, Ada"
    echoed = frameworks.request("POST", "/api/echo", {"Content-Type": "application/json"}, b'{"a": [1, 2]}',
                                host="flask.example", chunked=True)
    assert json.loads(echoed.body) == {
        "json": {"a": [1, 2]}, "client": "127.0.0.1", "scheme": "http", "host": "flask.example"}
    assert frameworks.get("/api/none", host="flask.example").status == 404


def test_a_dead_mold_takes_only_its_own_applications_workers_along(serve_nginx):
    server = serve_nginx("""
        app one { wsgi app:application; directory %DIR%; }
        app two { wsgi app:application; directory %DIR%; workers 2; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass one; } location /two/ { app_pass two; } }
    """, files={"app.py": APP}, python=True)

    def named(name):
        return {pid: parent for pid, (parent, command) in server.processes().items()
                if command == f"monoceros: worker [{name}]"}

    one, two = named("one"), named("two")
    assert (len(one), len(two)) == (1, 2)
    os.kill(next(iter(two.values())), signal.SIGKILL)
    wait_until(lambda: len(named("two")) == 2 and not set(named("two")) & set(two), "new workers of the second", 30)
    assert named("one") == one
    assert server.get("/").status == server.get("/two/").status == 200


PRINTS = """
import sys

def application(environ, start_response):
    print("said to output", flush=True)
    print("said to error", file=sys.stderr, flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""


CAPTURED = """
    error_log %DIR%/error.log info;
    events {}
    http {
        access_log off;
        app one { wsgi app:application; directory %DIR%; capture_output on; }
        app other { wsgi app:application; directory %DIR%; }
        server { listen 127.0.0.1:%PORT%; location / { app_pass one; } location /other { app_pass other; } }
    }
"""


def test_capture_output_is_each_application_s(serve_nginx):
    """It did nothing, and said nothing."""
    site = serve_nginx(CAPTURED, files={"app.py": PRINTS})
    log = site.directory / "error.log"
    for _ in range(2):
        for target in ("/", "/other"):
            assert site.get(target).status == 200
        wait_until(lambda: log.exists() and log.read_text().count("said to error") == 2, "both errors")
        assert log.read_text().count("said to output") == 1
        os.rename(log, site.directory / "rotated.log")
        site.signal(signal.SIGUSR1)
        wait_until(log.exists, "another log")
        time.sleep(0.5)  # the workers have it a little later
    assert site.out_path.read_text().count("said to output") == 2


LONG_END = """
import time

class Body:
    def __iter__(self):
        yield b"whole"

    def close(self):
        time.sleep(0.5)
        open("closed", "w").close()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return Body()
"""


def test_a_client_that_leaves_with_all_that_was_announced_is_not_told_of(serve_nginx):
    conf = """
        app one { wsgi app:application; directory %DIR%; bind unix:%DIR%/one.sock; }
        server {
            listen 127.0.0.1:%PORT%;
            error_log stderr info;
            location / { app_pass one; }
            location /bound { proxy_pass http://unix:%DIR%/one.sock; }
        }
    """
    site = serve_nginx(conf, files={"app.py": LONG_END})
    for target in ("/", "/bound"):
        (site.directory / "closed").unlink(missing_ok=True)
        with site.connect() as client:
            assert client.request(target=target).body == b"whole"
        wait_until((site.directory / "closed").exists, "the application's end")
    assert "prematurely" not in site.log(), site.log()
