"""X-Accel-Redirect and X-Sendfile from the application, within configured internal prefixes."""

import pytest

APP = """
def application(environ, start_response):
    import os
    path = environ["PATH_INFO"]
    fields = [("Content-Type", "application/x-thing"), ("Content-Disposition", "attachment; filename=x"),
              ("Set-Cookie", "a=b"), ("Cache-Control", "private")]
    query = environ["QUERY_STRING"]
    if path == "/accel":
        fields.append(("X-Accel-Redirect", query))
    elif path == "/sendfile":
        fields.append(("X-Sendfile", os.path.join(os.getcwd(), query)))
    else:
        fields = [("Content-Type", "text/plain")]
    start_response("200 OK", fields)
    return [b"from the application " + path.encode()]
"""

DATA = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APP, "--accel", "/internal/=private", files={
        "private/a b.bin": DATA, "private/a.bin": DATA, "secret.txt": "secret", "private2/secret.txt": "secret",
    })


def test_redirect_sends_the_file_with_the_applications_fields(server):
    response = server.get("/accel?/internal/a.bin")
    assert (response.status, response.body) == (200, DATA)
    assert response.get("Content-Type") == "application/x-thing"
    assert response.get("Content-Disposition") == "attachment; filename=x"
    assert response.get("Set-Cookie") == "a=b"
    assert response.get("Cache-Control") == "private"
    assert response.get("Content-Length") == str(len(DATA))
    assert response.get("X-Accel-Redirect") is None


def test_redirect_is_decoded(server):
    assert server.get("/accel?/internal/a%20b.bin").body == DATA


def test_ranges_and_conditions_hold(server):
    response = server.get("/accel?/internal/a.bin", {"Range": "bytes=10-19"})
    assert (response.status, response.body) == (206, DATA[10:20])
    tag = server.get("/accel?/internal/a.bin").get("ETag")
    assert server.get("/accel?/internal/a.bin", {"If-None-Match": tag}).status == 304


def test_sendfile(server):
    response = server.get("/sendfile?private/a.bin")
    assert (response.status, response.body) == (200, DATA)
    assert response.get("X-Sendfile") is None


def test_head(server):
    with server.connect() as client:
        response = client.request("HEAD", "/accel?/internal/a.bin")
        assert response.get("Content-Length") == str(len(DATA))
        assert client.request("GET", "/").status == 200


def test_clients_cannot_ask_for_the_internal_prefix(server):
    for target in ("/internal/a.bin", "//internal/a.bin", "/x/../internal/a.bin", "/%69nternal/a.bin"):
        response = server.get(target)
        assert DATA not in response.body
        assert response.status in (200, 404)


@pytest.mark.parametrize("query", [
    "/internal/../secret.txt", "/internal/%2e%2e/secret.txt", "/internal/none", "/elsewhere", "secret.txt",
    "/internal/../private2/secret.txt", "http://other.example/x",
])
def test_no_way_out_by_redirect(server, query):
    response = server.get("/accel?" + query)
    assert b"secret" not in response.body and response.status >= 400


@pytest.mark.parametrize("query", ["secret.txt", "private/../secret.txt", "private2/secret.txt", "/etc/passwd"])
def test_no_way_out_by_sendfile(server, query):
    response = server.get("/sendfile?" + query)
    assert b"secret" not in response.body and b"root:" not in response.body and response.status >= 400


def test_without_configuration_the_field_is_not_obeyed(serve):
    response = serve(APP).get("/accel?/internal/a.bin")
    assert response.body == b"from the application /accel" or response.status >= 400


def test_without_a_place_it_is_told_once_what_to_set(serve):
    server = serve(APP)
    for _ in range(3):
        response = server.get("/accel?/internal/a.bin")
        # As before: somebody in front may obey it.
        assert (response.status, response.get("X-Accel-Redirect")) == (200, "/internal/a.bin")
    server.wait_log(r"\[WARNING\] .*`X-Accel-Redirect`.*--accel /internal/=")
    server.stop()
    assert server.log().count("told once") == 1
