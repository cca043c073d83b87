"""What few files of nginx use and mean all the same: bodies in files, fields behind bodies, logs that stay open."""

import os
import re
import time

from support import wait_until

CONF = r"""
    log_format trailer "$uri $sent_trailer_x_a $sent_trailer_x_none";
    log_format length "$request_length";
    map $arg_root $relative { default ""; yes "below"; }
    server {
        listen 127.0.0.1:%PORT%;
        root %DIR%;
        client_body_buffer_size 1k;
        client_body_temp_path %DIR%/bodies;

        location /body/ {
            proxy_pass http://127.0.0.1:%PORT%/answer;
            add_header X-File "$request_body_file";
        }
        location /body/keep { client_body_in_file_only on; proxy_pass http://127.0.0.1:%PORT%/answer;
            add_header X-File "$request_body_file"; }
        location /body/clean { client_body_in_file_only clean; proxy_pass http://127.0.0.1:%PORT%/answer;
            add_header X-File "$request_body_file"; }
        location /answer { return 200 "answer"; }

        location /trailer {
            access_log %DIR%/trailer.log trailer;
            add_trailer X-A one; add_trailer X-A two; add_trailer X-Sent "<$sent_trailer_x_a>";
            return 200 "body";
        }
        location /length { access_log %DIR%/length.log length; return 200; }
        location /relative/ { root $relative; }
        location ~ ^/pattern/(?<name>.*)$ { alias %DIR%/aliased; try_files /$name =404; }

        location /kept {
            open_log_file_cache max=10 inactive=20s valid=1h min_uses=2;
            access_log %DIR%/$arg_dir/kept.log trailer;
            return 200;
        }
        location /anew { access_log %DIR%/$arg_dir/anew.log trailer; return 200; }
        location /rootless { root %DIR%/no-such-directory; access_log %DIR%/$arg_dir/rootless.log trailer; return 200; }

        location = /page.html { ssi on; }
        location /short { subrequest_output_buffer_size 5; return 200 "12345"; }
        location /long { subrequest_output_buffer_size 5; return 200 "123456"; }
    }
"""

def rest_of(client):
    """All that the server sends until it closes."""
    parts = [client.buffer]
    while part := client.socket.recv(65536):
        parts.append(part)
    return b"".join(parts)


FILES = {
    "bodies/.kept": "", "logs/.kept": "", "below/relative/file": "relative", "aliased/there": "there",
    "page.html": '<!--# include virtual="/$arg_c" set="x" -->[<!--# echo var="x" -->]',
}


def test_a_body_has_a_file_of_its_own(serve_nginx):
    server = serve_nginx(CONF, files=FILES)
    os.chmod(server.directory / "bodies", 0o777)
    small, large = b"small", b"0123456789" * 500
    # In memory; in a file that has no name any more.
    assert server.request("POST", "/body/", body=small).get("X-File") in (None, "")
    gone = server.request("POST", "/body/", body=large).get("X-File")
    assert re.fullmatch(re.escape(f"{server.directory}/bodies/") + r"\d{10}", gone) and not os.path.exists(gone)
    for body in (small, large):
        kept = server.request("POST", "/body/keep", body=body).get("X-File")
        with open(kept, "rb") as file:
            assert file.read() == body
        removed = server.request("POST", "/body/clean", body=body).get("X-File")
        assert removed not in (kept, "")
        wait_until(lambda name=removed: not os.path.exists(name), "the file is removed")
        assert os.path.exists(kept)


def test_trailers_are_known_to_each_other_and_to_the_log(serve_nginx):
    server = serve_nginx(CONF, files=FILES)
    with server.connect() as client:
        client.send(b"GET /trailer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = rest_of(client)
    assert answer.endswith(b"0\r\nX-A: one\r\nX-A: two\r\nX-Sent: <one, two>\r\n\r\n"), answer
    wait_until(lambda: (server.directory / "trailer.log").read_text() == "/trailer one, two -\n", "the log's line")


def test_the_length_of_a_request_counts_what_came(serve_nginx):
    server = serve_nginx(CONF, files=FILES)
    requests = [b"GET /length HTTP/1.0\r\nHost: x\r\n\r\n", b"GET /length HTTP/1.0\nHost: x\n\n",
                b"POST /length HTTP/1.0\r\nHost:    x\r\n\r\n"]
    for request in requests:
        with server.connect() as client:
            client.send(request)
            rest_of(client)
    wanted = [str(len(request)) for request in requests]
    wait_until(lambda: (server.directory / "length.log").read_text().split() == wanted, "three lengths")


def test_a_root_that_a_variable_makes_relative_lies_below_the_prefix(serve_nginx):
    server = serve_nginx(CONF, files=FILES)
    assert server.get("/relative/file?root=yes").text == "relative"
    assert server.get("/relative/file").status == 404


def test_try_files_in_a_pattern_location_looks_behind_the_alias(serve_nginx):
    server = serve_nginx(CONF, files=FILES)
    assert server.get("/pattern/there").text == "there"
    assert server.get("/pattern/missing").status == 404


def test_log_files_by_variables_stay_open_only_where_told(serve_nginx):
    server = serve_nginx(CONF, files=FILES)
    logs, moved = server.directory / "logs", server.directory / "moved"
    os.chmod(logs, 0o777)
    for path in ("/kept", "/kept", "/anew", "/rootless"):
        assert server.get(f"{path}?dir=logs").status in (200, 404)

    def lines(path):
        return path.read_text().count("\n") if path.exists() else 0

    wait_until(lambda: (lines(logs / "anew.log"), lines(logs / "kept.log")) == (1, 2), "lines")
    logs.rename(moved)
    for path in ("/kept", "/anew"):
        server.get(f"{path}?dir=logs")
    wait_until(lambda: lines(moved / "kept.log") == 3, "a line in the file that is open")
    server.wait_log(r'access log ".*/logs/anew.log" is not written: No such file')
    server.wait_log(r"rootless.log\" is not written: the request's root is no directory")
    assert lines(moved / "anew.log") == 1
    assert not (moved / "rootless.log").exists()


def test_an_answer_that_is_too_long_for_a_variable_is_an_error(serve_nginx):
    server = serve_nginx(CONF, files=FILES)
    assert server.get("/page.html?c=short").text == "[12345]"
    assert server.get("/page.html?c=long").status == 500
    server.wait_log("too big subrequest response")


def test_a_single_line_is_in_the_log_at_once(serve_nginx):
    server = serve_nginx(CONF, files=FILES)
    log = server.directory / "length.log"
    fastest = 1.0
    for count in range(1, 21):
        server.get("/length")
        begun = time.monotonic()
        # Looked for more often than the bound is long, which wait_until does not.
        while not (log.exists() and log.read_text().count("\n") >= count) and time.monotonic() < begun + 10:
            time.sleep(0.001)
        fastest = min(fastest, time.monotonic() - begun)
    # Lines used to wait for a tick, up to 200 ms; none of twenty came in the first tenth of that by chance.
    assert fastest < 0.02
