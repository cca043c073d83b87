"""WebDAV's methods that change files: PUT, DELETE, MKCOL, COPY, MOVE."""

import os
import stat

import pytest

CONF = r"""
    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        root %DIR%/root;
        error_log stderr info;
        client_body_buffer_size 1k;
        client_body_temp_path %DIR%/bodies;
        location / { dav_methods PUT DELETE MKCOL COPY MOVE; }
        location /some/ { dav_methods PUT; }
        location /full/ { dav_methods PUT DELETE; create_full_put_path on; dav_access group:rw all:r; min_delete_depth 3; }
        location /limit/ { dav_methods PUT; client_max_body_size 10; }
        location /alias/ { alias %DIR%/elsewhere/; dav_methods PUT COPY MOVE DELETE; }
        location /links/ { disable_symlinks on from=$document_root; dav_methods PUT DELETE COPY MKCOL; }
        location /off/ { dav_methods off; }
        location /mirrored/ { dav_methods PUT; mirror /copy; }
        location /copy { internal; rewrite ^ /copied.txt break; dav_methods PUT; }
    }
"""


@pytest.fixture
def server(serve_nginx):
    server = serve_nginx(CONF, files={
        "root/a.txt": "a", "root/tree/one": "1", "root/tree/in/two": "2", "root/some/x": "x", "root/off/x": "x",
        "root/full/x": "x", "root/limit/x": "x", "root/links/real/x": "x", "elsewhere/e.txt": "e",
        "root/mirrored/x": "x", "outside/secret": "s",
    })
    (server.directory / "root/links/out").symlink_to(server.directory / "outside")
    return server


def at(server, name):
    return server.directory / "root" / name


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_put(server):
    response = server.request("PUT", "/new%20file.txt", body=b"new")
    assert (response.status, response.body) == (201, b"")
    assert response.get("Location") == f"http://test.example:{server.port}/new%20file.txt"
    path = at(server, "new file.txt")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert server.request("PUT", "/new%20file.txt", body=b"").status == 204
    assert path.read_bytes() == b""
    assert server.get("/new%20file.txt").status == 200
    date = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert server.request("PUT", "/dated", date, body=b"x").status == 201
    assert at(server, "dated").stat().st_mtime == 784111777


def test_put_of_a_body_in_a_file_and_in_chunks(server):
    body = os.urandom(300_000)
    assert server.request("PUT", "/large", body=body).status == 201
    assert at(server, "large").read_bytes() == body
    assert server.request("PUT", "/chunked", body=body, chunked=True).status == 201
    assert at(server, "chunked").read_bytes() == body
    assert [name for name in os.listdir(at(server, "")) if name.startswith(".")] == []
    # The directory for bodies is made at the start, and what was in it has no name.
    assert mode(server.directory / "bodies") == 0o700 and os.listdir(server.directory / "bodies") == []


def test_put_replaces_the_name_and_not_what_has_it(server):
    os.link(at(server, "a.txt"), at(server, "other"))
    assert server.request("PUT", "/a.txt", body=b"new").status == 204
    assert (at(server, "a.txt").read_text(), at(server, "other").read_text()) == ("new", "a")


@pytest.mark.parametrize(("method", "target", "fields", "body", "status"), [
    ("PUT", "/tree/", {}, b"x", 409), ("PUT", "/tree", {}, b"x", 409), ("PUT", "/no/way/x", {}, b"x", 500),
    ("PUT", "/x", {"Content-Range": "bytes 0-0/1"}, b"x", 501), ("PUT", "/limit/y", {}, b"x" * 11, 413),
    ("PUT", "/off/x", {}, b"x", 405), ("DELETE", "/some/x", {}, None, 405),
    ("DELETE", "/none", {}, None, 404), ("DELETE", "/a.txt/x", {}, None, 409), ("DELETE", "/tree", {}, None, 409),
    ("DELETE", "/tree/", {"Depth": "0"}, None, 400), ("DELETE", "/a.txt", {"Depth": "1"}, None, 400),
    ("DELETE", "/a.txt", {"Depth": "x"}, None, 400), ("DELETE", "/a.txt", {}, b"x", 415),
    ("MKCOL", "/x", {}, None, 409), ("MKCOL", "/x/", {}, b"x", 415), ("MKCOL", "/tree/", {}, None, 405),
    ("MKCOL", "/no/way/", {}, None, 409),
    ("COPY", "/a.txt", {}, None, 400), ("COPY", "/a.txt", {"Destination": "x"}, None, 400),
    ("COPY", "/a.txt", {"Destination": "http://other.example/x"}, None, 400),
    ("COPY", "/a.txt", {"Destination": "/../x"}, None, 400), ("COPY", "/a.txt", {"Destination": "/%2e%2e/x"}, None, 400),
    ("COPY", "/a.txt", {"Destination": "/x/"}, None, 409), ("COPY", "/a.txt", {"Destination": "/a.txt"}, None, 403),
    ("COPY", "/a.txt", {"Destination": "/tree"}, None, 409),
    ("COPY", "/tree/", {"Destination": "/tree/in/"}, None, 403), ("COPY", "/tree/in/", {"Destination": "/tree/"}, None, 403),
    ("COPY", "/a.txt", {"Destination": "/some/x", "Overwrite": "F"}, None, 412),
    ("COPY", "/a.txt", {"Destination": "/x", "Overwrite": "no"}, None, 400),
    ("COPY", "/a.txt", {"Destination": "/x", "Depth": "1"}, None, 400),
    ("MOVE", "/a.txt", {"Destination": "/x", "Depth": "0"}, None, 400),
    ("COPY", "/none", {"Destination": "/x"}, None, 404), ("COPY", "/a.txt", {"Destination": "/x"}, b"x", 415),
])
def test_what_is_refused_changes_nothing(server, method, target, fields, body, status):
    def tree():
        return sorted((path, path.is_file() and path.read_bytes()) for path in server.directory.rglob("root/**/*"))
    before = tree()
    assert server.request(method, target, fields, body=body).status == status
    assert tree() == before


def test_delete(server):
    assert server.request("DELETE", "/a.txt").status == 204
    assert server.request("DELETE", "/tree/", {"Depth": "infinity"}).status == 204
    assert not at(server, "a.txt").exists() and not at(server, "tree").exists()
    assert server.request("DELETE", "/full/x").status == 409
    (at(server, "full/in")).mkdir()
    (at(server, "full/in/x")).write_text("x")
    assert server.request("DELETE", "/full/in/").status == 409
    assert server.request("DELETE", "/full/in/x").status == 204


def test_delete_does_not_follow_links(server):
    at(server, "tree/link").symlink_to(server.directory / "outside")
    assert server.request("DELETE", "/tree/").status == 204
    assert (server.directory / "outside/secret").read_text() == "s"


def test_make_collection_and_full_path(server):
    response = server.request("MKCOL", "/made/")
    assert response.status == 201 and response.get("Location").endswith("/made/")
    assert mode(at(server, "made")) == 0o700
    assert server.request("PUT", "/full/one/two/x", body=b"x").status == 201
    assert mode(at(server, "full/one/two/x")) == 0o664
    mask = os.umask(0)
    os.umask(mask)
    assert (mode(at(server, "full/one")), mode(at(server, "full/one/two"))) == (0o775 & ~mask,) * 2


def test_copy_and_move_files(server):
    os.utime(at(server, "a.txt"), (1e9, 1e9))
    assert server.request("COPY", "/a.txt", {"Destination": "/b.txt"}).status == 204
    assert (at(server, "b.txt").read_text(), at(server, "b.txt").stat().st_mtime) == ("a", 1e9)
    destination = {"Destination": f"http://test.example:{server.port}/new/dir/c%20d"}
    assert server.request("MOVE", "/b.txt", destination, host=f"test.example:{server.port}").status == 204
    assert at(server, "new/dir/c d").read_text() == "a" and not at(server, "b.txt").exists()


def test_the_port_of_a_destination_may_be_another_s(server):
    assert server.request("COPY", "/a.txt", {"Destination": "http://test.example:1/b"}).status == 204
    assert at(server, "b").read_text() == "a"
    for other in ("http://test.example.org/c", "http://test.example:x/c", "http://other.example/c", "http://test.example"):
        assert server.request("COPY", "/a.txt", {"Destination": other}).status == 400


def test_copy_and_move_collections(server):
    at(server, "tree/link").symlink_to(server.directory / "outside")
    assert server.request("COPY", "/tree/", {"Destination": "/copied/"}).status == 201
    assert (at(server, "copied/one").read_text(), at(server, "copied/in/two").read_text()) == ("1", "2")
    assert not os.path.lexists(at(server, "copied/link"))
    at(server, "copied/old").write_text("old")
    assert server.request("MOVE", "/tree/", {"Destination": "/copied/", "Overwrite": "T"}).status == 201
    assert not at(server, "tree").exists() and not at(server, "copied/old").exists()
    assert at(server, "copied/in/two").read_text() == "2"


def test_alias(server):
    elsewhere = server.directory / "elsewhere"
    assert server.request("PUT", "/alias/new", body=b"n").status == 201
    assert (elsewhere / "new").read_text() == "n"
    assert server.request("COPY", "/alias/e.txt", {"Destination": "/alias/f.txt"}).status == 204
    assert (elsewhere / "f.txt").read_text() == "e"
    for destination in ("/other/f", "/alia", "/aliasx/f"):
        assert server.request("COPY", "/alias/e.txt", {"Destination": destination}).status == 400
    # The path is resolved before a location is looked for: it is `root`'s.
    assert server.request("PUT", "/alias/%2e%2e/new", body=b"x").status == 201
    assert at(server, "new").exists() and not (server.directory / "new").exists()


def test_links_lead_nowhere_where_they_may_not(server):
    assert server.request("PUT", "/links/real/new", body=b"n").status == 201
    for method, target, fields in (
        ("PUT", "/links/out/new", {}), ("DELETE", "/links/out/secret", {}), ("MKCOL", "/links/out/new/", {}),
        ("COPY", "/links/real/x", {"Destination": "/links/out/x"}),
        ("COPY", "/links/out/secret", {"Destination": "/links/real/secret"}),
    ):
        body = b"n" if method == "PUT" else None
        assert server.request(method, target, fields, body=body).status == 403, (method, target)
    assert os.listdir(server.directory / "outside") == ["secret"]
    assert not at(server, "links/real/secret").exists()


def test_the_body_is_there_for_a_mirror_too(server):
    assert server.request("PUT", "/mirrored/y", body=b"the body").status == 201
    with server.connect() as client:
        client.request("GET", "/a.txt")
    assert at(server, "mirrored/y").read_text() == "the body"
    from support import wait_until
    wait_until(lambda: at(server, "copied.txt").exists(), "the copy")
    assert at(server, "copied.txt").read_text() == "the body"


def test_put_without_a_body_or_its_length_leaves_the_file(server):
    with server.connect() as client:
        client.send(b"PUT /a.txt HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n")
        assert client.response("PUT").status == 411
    assert at(server, "a.txt").read_text() == "a"


def test_the_mask_holds_for_directories_and_not_for_files(serve_nginx):
    server = serve_nginx(CONF.replace("location / { dav_methods", "location / { dav_access user:rw group:rw all:rw; "
                                      "create_full_put_path on; dav_methods"), files={"root/x": "x"})
    assert server.request("MKCOL", "/made/").status == 201
    assert server.request("PUT", "/in/side/x", body=b"x").status == 201
    mask = os.umask(0)
    os.umask(mask)
    for made in ("made", "in", "in/side"):
        assert mode(at(server, made)) == 0o777 & ~mask, made
    assert mode(at(server, "in/side/x")) == 0o666
