"""Which location answers, and what its directives make of the path: matching, files, rewriting, pages for errors."""

import re

import pytest

FILES = {
    "root/index.html": "root index",
    "root/file.txt": "a file",
    "root/name with space.txt": "spaced",
    "root/dir/index.html": "dir index",
    "root/empty/.keep": "",
    "root/list/b.txt": "bb",
    "root/list/a & <b>.txt": "aaaa",
    "root/list/sub/x": "x",
    "root/list/.hidden": "h",
    "root/many/second.html": "second",
    "root/php/index.php": "php source",
    "root/try/there.html": "there",
    "root/try/page.html": "page",
    "root/try/folder/index.html": "folder index",
    "root/errors/404.html": "custom 404",
    "root/errors/50x.html": "custom 50x",
    "root/if/image.png": "png",
    "root/if-add/index.html": "x",
    "aliased/thing.txt": "aliased thing",
    "aliased/deep/er.txt": "deeper",
    "aliased/index.html": "aliased index",
    "users/ada/pages/x.html": "ada's x",
}

CONF = r"""
    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        root %DIR%/root;
        default_type text/plain;
        absolute_redirect off;

        # Matching
        location /match/ { return 200 "prefix"; }
        location = /match/ { return 200 "exact"; }
        location /match/longer/ { return 200 "longer prefix"; }
        location ^~ /match/static/ { return 200 "no regex"; }
        location ~ ^/match/.*\.php$ { return 200 "regex"; }
        location ~ ^/match/.*\.p { return 200 "second regex"; }
        location ~* ^/match/.*\.JPG$ { return 200 "any case"; }
        location = /match/exact.php { return 200 "exact before regex"; }
        location /match/space%20name { return 200 "escaped"; }
        location "/match/space name" { return 200 "spaced"; }
        location ~ ^/capture/(?<first>[^/]+)/(.+)$ { return 200 "$first|$1|$2"; }
        location /nested/ {
            return 200 "outer";
            location /nested/inner/ { return 200 "inner"; }
            location ~ \.x$ { return 200 "inner regex"; }
        }
        location ~ ^/nested/.*\.x$ { return 200 "outer regex"; }
        location /nested2/ {
            location ~ \.x$ { return 200 "nested regex"; }
            location ^~ /nested2/calm/ { return 200 "calm"; }
        }
        location ~ \.x$ { return 200 "general regex"; }

        # Named and internal
        location /to-named/ { try_files /nowhere @named; }
        location @named { return 200 "named $uri?$args"; }
        location /to-no-name/ { error_page 404 = @nobody; return 404; }
        location /secret/ { internal; return 200 "secret $uri"; }
        location /to-secret/ { rewrite ^/to-secret/(.*)$ /secret/$1; }
        location = /by-error { error_page 404 = /secret/error; return 404; }

        # Files
        location /aliased/ { alias %DIR%/aliased/; }
        location /alias-file { alias %DIR%/aliased/thing.txt; }
        location ~ ^/users/([^/]+)/(.*)$ { alias %DIR%/users/$1/pages/$2; }
        location /aliased-no-slash { alias %DIR%/aliased; }
        location /other-root/ { root %DIR%/rooted; }
        location /many/ { index first.html second.html; }
        location /absolute-index/ { index nothing.html /file.txt; }
        location /php/ { index index.php; location ~ \.php$ { return 200 "ran $uri"; } }
        location /list/ { autoindex on; }
        location /json/ { alias %DIR%/root/list/; autoindex on; autoindex_format json; }
        location /exact/ { alias %DIR%/root/list/; autoindex on; autoindex_exact_size off; }

        # try_files
        location /try/ { try_files $uri $uri.html $uri/ =404; }
        location /try-uri/ { rewrite ^/try-uri/(.*)$ /x/$1 break; try_files $uri /fallback?from=$uri&$args; }
        location = /fallback { return 200 "fallback $args"; }
        location /try-status/ { try_files $uri =410; }
        location /try-dir/ { try_files /empty/ =404; }
        location /try-alias/ { alias %DIR%/aliased/; try_files $uri $uri.txt =404; }

        # error_page
        location /errors/ { }
        location /e404/ { error_page 404 /errors/404.html; }
        location /e404-200/ { error_page 404 =200 /errors/404.html; }
        location /e404-own/ { error_page 404 = /coded; }
        location = /coded { return 418 "teapot for $request_uri at $uri"; }
        location /e404-url/ { error_page 404 http://other.example/x; }
        location /e404-301/ { error_page 404 =301 http://other.example/x; }
        location /e404-named/ { error_page 404 @named404; }
        location @named404 { return 200 "named page"; }
        location /e404-named-own/ { error_page 404 = @named-own; }
        location @named-own { return 202 "named page"; }
        location /e404-var/ { error_page 404 /errors/$arg_code.html; }
        location /several/ { error_page 403 404 405 500 /errors/50x.html; return 405; }
        location /missing-page/ { error_page 404 /nowhere.html; }
        location /recursive/ { recursive_error_pages on; error_page 404 /recursive2/x; }
        location /recursive2/ { recursive_error_pages on; error_page 404 /errors/404.html; }
        location /not-recursive/ { error_page 404 /recursive2/x; }
        location /post-error/ { error_page 405 /method; return 405; }
        location = /method { return 200 "$request_method"; }
        location /inherited/ { error_page 404 /errors/404.html; location /inherited/own/ { error_page 403 /x; } }

        # return
        location = /return/text { return 200 "text"; }
        location = /return/type { default_type application/json; return 200 '{"a": 1}'; }
        location = /return/empty { return 204; }
        location = /return/page { return 403; }
        location = /return/moved { return 301 /elsewhere; }
        location = /return/url { return http://other.example/$uri; }
        location = /return/303 { return 303 http://other.example/; }
        location = /return/308 { return 308 https://$host$request_uri; }
        location = /return/444 { return 444; }
        location = /return/599 { return 599 "odd"; }

        # rewrite
        location /rw/last/ { rewrite ^/rw/last/(.*)$ /rw/seen/$1 last; return 200 "not reached"; }
        location /rw/seen/ { return 200 "seen $uri?$args"; }
        location /rw/plain/ { rewrite ^/rw/plain/a$ /rw/plain/b; rewrite ^/rw/plain/b$ /rw/seen/ab; }
        location /rw/break/ { rewrite ^/rw/break/(.*)$ /$1 break; rewrite ^ /rw/seen/no; }
        location /rw/redirect/ { rewrite ^/rw/redirect/(.*)$ /new/$1 redirect; }
        location /rw/permanent/ { rewrite ^/rw/permanent/(.*)$ /new/$1 permanent; }
        location /rw/drop/ { rewrite ^/rw/drop/(.*)$ /rw/seen/$1? last; }
        location /rw/args/ { rewrite ^/rw/args/(.*)$ /rw/seen/$1?a=1 last; }
        location /rw/drop-redirect/ { rewrite ^ /new? redirect; }
        location /rw/scheme/ { rewrite ^/rw/scheme/(.*)$ http://other.example/$1; }
        location /rw/loop/ { rewrite ^/rw/loop/(.*)$ /rw/loop/$1x last; }
        location /rw/named/ { rewrite ^/rw/named/(?<word>\w+)$ /rw/seen/$word-$word last; }
        location /rw/case/ { rewrite (?i)^/rw/case/ABC$ /rw/seen/abc last; return 200 no; }
        location /rw/break-alone/ { break; return 200 "not reached"; }
        location /rw/encoded/ { rewrite ^/rw/encoded/(.*)$ /new/$1 redirect; }

        # set and if
        location /if/ {
            set $said nothing;
            set $twice "$arg_a$arg_a";
            if ($arg_a) { set $said "a"; }
            if ($arg_a = 0) { set $said "zero"; }
            if ($arg_b = yes) { set $said "b=yes"; }
            if ($arg_b != yes) { set $other "b!=yes"; }
            if ($http_user_agent ~ "Fire(fox|bird)/(\d+)") { set $said "fire$1 $2"; }
            if ($http_user_agent ~* "^CURL") { set $said "curl"; }
            if ($http_user_agent !~ ".") { set $agent "none"; }
            if ($request_method = POST) { return 405 "no post"; }
            if (-f $document_root$uri) { set $file "file"; }
            if (-d $document_root$uri) { set $file "directory"; }
            if (!-e $document_root$uri) { set $file "missing"; }
            return 200 "$said $twice $other $agent $file";
        }
        location /if-add/ {
            add_header X-Outer outer;
            if ($arg_inner) { add_header X-Inner inner; }
        }
        location /if-try/ { try_files /file.txt =404; if ($arg_inner) { set $x y; } }
        location /if-rewrite/ { if ($arg_go) { rewrite ^ /rw/seen/if last; } return 200 stayed; }
        location /if-break/ { set $v 1; if ($arg_stop) { break; } return 200 "not stopped"; }
    }
    server {
        listen 127.0.0.1:%PORT%;
        server_name server.example;
        set $at_server yes;
        rewrite ^/old/(.*)$ /new/$1;
        if ($arg_gone) { return 410; }
        location /new/ { return 200 "new $uri $at_server"; }
        location / { return 200 "$uri"; }
    }
    server {
        listen 127.0.0.1:%PORT%;
        server_name absolute.example *.wild.example ~^re(?<number>\d+)\.example$;
        location /dir { root %DIR%/root; }
        location /to { return 302 /x; }
        location /no-port { port_in_redirect off; return 302 /x; }
        location /name { server_name_in_redirect on; return 302 /x; }
        location /host { return 200 "$host $server_name $number"; }
    }
"""


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, files={**FILES, "rooted/other-root/x.txt": "rooted"})


def text(server, target, **options):
    response = server.get(target, **options)
    return response.status, response.text


@pytest.mark.parametrize(("target", "answer"), [
    ("/match/", "exact"),
    ("/match/?a", "exact"),
    ("/match/x", "prefix"),
    ("/match/longer/x", "longer prefix"),
    ("/match/longer", "prefix"),
    ("/match/x.php", "regex"),
    ("/match/longer/x.php", "regex"),
    ("/match/x.png", "second regex"),
    ("/match/static/x.php", "no regex"),
    ("/match/x.jPg", "any case"),
    ("/match/exact.php", "exact before regex"),
    ("/match/%78.php", "regex"),
    ("/match/longer/../x", "prefix"),
    ("/match//longer///x", "longer prefix"),
    ("/match/./longer/x", "longer prefix"),
    ("/match/space%20name", "spaced"),
    ("/match/space%2520name", "escaped"),
    ("/capture/one/two/three", "one|one|two/three"),
    ("/nested/x", "outer"),
    ("/nested/inner/x", "inner"),
    ("/nested/a.x", "inner regex"),
    ("/nested/inner/a.x", "inner regex"),
    ("/nested2/a.x", "nested regex"),
    # `^~` within a location keeps off that location's expressions, not the server's.
    ("/nested2/calm/a.x", "general regex"),
    ("/nested2/calm/a", "calm"),
    ("/other.x", "general regex"),
])
def test_the_location_that_matches(server, target, answer):
    assert text(server, target) == (200, answer)


def test_named_and_internal_locations(server):
    assert text(server, "/to-named/x?a=b") == (200, "named /to-named/x?a=b")
    assert server.get("/@named").status == 404
    assert server.get("/to-no-name/x").status == 500
    assert server.get("/secret/x").status == 404
    assert text(server, "/by-error") == (200, "secret /secret/error")


def test_a_rewritten_request_is_internal(server):
    assert text(server, "/to-secret/x") == (200, "secret /secret/x")


@pytest.mark.parametrize(("target", "answer"), [
    ("/file.txt", "a file"),
    ("/name%20with%20space.txt", "spaced"),
    ("/", "root index"),
    ("/dir/", "dir index"),
    ("/aliased/thing.txt", "aliased thing"),
    ("/aliased/deep/er.txt", "deeper"),
    ("/aliased/", "aliased index"),
    ("/alias-file", "aliased thing"),
    ("/aliased-no-slash/thing.txt", "aliased thing"),
    ("/users/ada/x.html", "ada's x"),
    ("/other-root/x.txt", "rooted"),
    ("/many/", "second"),
    ("/php/", "ran /php/index.php"),
])
def test_the_file_that_is_sent(server, target, answer):
    assert text(server, target) == (200, answer)


@pytest.mark.parametrize(("target", "status"), [
    ("/none", 404), ("/file.txt/", 404), ("/file.txt/x", 404), ("/empty/", 403), ("/aliased/none", 404),
    ("/users/ada/../../../../etc/passwd", 400), ("/users/ada/%2e%2e/%2e%2e/x", 404),
    ("/many/none/", 404),
])
def test_what_is_no_file(server, target, status):
    assert server.get(target).status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_file_takes_get_and_head_only(server, method):
    assert server.request(method, "/file.txt", body=b"x").status == 405
    assert server.request("HEAD", "/file.txt").get("Content-Length") == "6"


def test_a_directory_without_its_slash_is_redirected(server):
    response = server.get("/dir?a=b")
    assert (response.status, response.get("Location")) == (301, "/dir/?a=b")
    assert server.get("/aliased").status == 404, "that is no directory, and only passed locations are redirected"
    assert server.get("/aliased/deep").get("Location") == "/aliased/deep/"


def test_an_absolute_index_is_the_last_resort(server):
    (server.directory / "root/absolute-index").mkdir(exist_ok=True)
    assert text(server, "/absolute-index/") == (200, "a file")


def test_autoindex_lists_a_directory(server):
    response = server.get("/list/")
    assert (response.status, response.get("Content-Type")) == (200, "text/html")
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', response.text)
    assert links == [("../", "../"), ("sub/", "sub/"), ("a%20%26%20%3Cb%3E.txt", "a &amp; &lt;b&gt;.txt"),
                     ("b.txt", "b.txt")]
    assert "<title>Index of /list/</title>" in response.text
    assert re.search(r'">b\.txt</a> +\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d +2\r\n', response.text)
    assert re.search(r'">sub/</a> +\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d +-\r\n', response.text)


def test_autoindex_in_json(server):
    import json
    response = server.get("/json/")
    assert response.get("Content-Type") == "application/json"
    entries = json.loads(response.text)
    assert [(e["name"], e["type"], e.get("size")) for e in entries] == [
        ("sub", "directory", None), ("a & <b>.txt", "file", 4), ("b.txt", "file", 2)]
    assert all(re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", e["mtime"])
               for e in entries)


@pytest.mark.parametrize(("target", "status", "answer"), [
    ("/try/there.html", 200, "there"),
    ("/try/page", 200, "page"),
    ("/try/folder/", 200, "folder index"),
    ("/try/none", 404, None),
    ("/try-uri/a?b=c", 200, "fallback from=/x/a&b=c"),
    ("/try-status/x", 410, None),
    ("/try-alias/thing", 200, "aliased thing"),
    ("/try-alias/thing.txt", 200, "aliased thing"),
    ("/try-alias/none", 404, None),
])
def test_try_files(server, target, status, answer):
    response = server.get(target)
    assert response.status == status
    assert answer is None or response.text == answer


def test_try_files_finds_a_directory_as_if_asked_for_without_its_slash(server):
    assert server.get("/try/folder?a=b").get("Location") == "/try/folder/?a=b"
    assert server.get("/try-dir/x").get("Location") == "/empty/"


@pytest.mark.parametrize(("target", "status", "answer"), [
    ("/e404/x", 404, "custom 404"),
    ("/e404-200/x", 200, "custom 404"),
    ("/e404-own/x", 418, "teapot for /e404-own/x at /coded"),
    ("/e404-named/x", 404, "named page"),
    ("/e404-named-own/x", 202, "named page"),
    ("/e404-var/x?code=50x", 404, "custom 50x"),
    ("/several/", 405, "custom 50x"),
    ("/recursive/x", 404, "custom 404"),
    ("/inherited/x", 404, "custom 404"),
])
def test_error_page(server, target, status, answer):
    assert text(server, target) == (status, answer)


def test_error_page_with_a_url_redirects(server):
    response = server.get("/e404-url/x")
    assert (response.status, response.get("Location")) == (302, "http://other.example/x")
    response = server.get("/e404-301/x")
    assert (response.status, response.get("Location")) == (301, "http://other.example/x")


@pytest.mark.parametrize("target", ["/missing-page/x", "/inherited/own/x", "/none"])
def test_where_error_page_ends_a_small_page_answers(server, target):
    response = server.get(target)
    assert response.status == 404
    assert response.get("Content-Type") == "text/html" and "404 Not Found" in response.text


def test_a_page_found_without_recursion_ends_it(server):
    assert "404 Not Found" in server.get("/not-recursive/x").text


def test_error_page_is_asked_for_with_get(server):
    response = server.request("POST", "/post-error/", body=b"data")
    assert (response.status, response.text) == (405, "GET")


def test_return(server):
    response = server.get("/return/text")
    assert (response.status, response.text, response.get("Content-Type")) == (200, "text", "text/plain")
    response = server.get("/return/type")
    assert (response.text, response.get("Content-Type")) == ('{"a": 1}', "application/json")
    response = server.get("/return/empty")
    assert (response.status, response.body, response.get("Content-Type")) == (204, b"", None)
    assert "403 Forbidden" in server.get("/return/page").text
    response = server.get("/return/599")
    assert (response.status, response.text) == (599, "odd")


@pytest.mark.parametrize(("target", "status", "location"), [
    ("/return/moved", 301, "/elsewhere"),
    ("/return/url", 302, "http://other.example//return/url"),
    ("/return/303", 303, "http://other.example/"),
    ("/return/308?a=b", 308, "https://test.example/return/308?a=b"),
    ("/rw/redirect/x?a=b", 302, "/new/x?a=b"),
    ("/rw/permanent/x", 301, "/new/x"),
    ("/rw/drop-redirect/x?a=b", 302, "/new"),
    ("/rw/scheme/x?a=b", 302, "http://other.example/x?a=b"),
    ("/rw/encoded/a%20b", 302, "/new/a%20b"),
])
def test_redirects(server, target, status, location):
    response = server.get(target)
    assert (response.status, response.get("Location")) == (status, location)


def test_444_closes_without_an_answer(server):
    from support import build
    with server.connect() as client:
        client.send(build("GET", "/return/444"))
        assert client.end() == "eof"


@pytest.mark.parametrize(("target", "answer"), [
    ("/rw/last/x?a=b", "seen /rw/seen/x?a=b"),
    ("/rw/plain/a", "seen /rw/seen/ab?"),
    ("/rw/break/file.txt", "a file"),
    ("/rw/drop/x?a=b", "seen /rw/seen/x?"),
    ("/rw/args/x?b=2", "seen /rw/seen/x?a=1&b=2"),
    ("/rw/args/x", "seen /rw/seen/x?a=1"),
    ("/rw/named/abc", "seen /rw/seen/abc-abc?"),
    ("/rw/case/aBc", "seen /rw/seen/abc?"),
])
def test_rewrite(server, target, answer):
    assert text(server, target) == (200, answer)


def test_break_ends_the_rewrite_module(server):
    assert server.get("/rw/break-alone/x").status == 404


def test_a_rewrite_cycle_is_500_and_logged(server):
    assert server.get("/rw/loop/x").status == 500
    server.wait_log(r'\[error\] .*rewrite or internal redirection cycle while processing "/rw/loop/x+"')


@pytest.mark.parametrize(("target", "fields", "answer"), [
    ("/if/x", {}, "nothing  b!=yes none missing"),
    ("/if/x?a=1", {}, "a 11 b!=yes none missing"),
    ("/if/x?a=0", {}, "zero 00 b!=yes none missing"),
    ("/if/x?a=", {}, "nothing  b!=yes none missing"),
    ("/if/x?b=yes", {}, "b=yes   none missing"),
    ("/if/image.png", {}, "nothing  b!=yes none file"),
    ("/if/", {}, "nothing  b!=yes none directory"),
    ("/if/x?b=yes", {"User-Agent": "Firefox/99"}, "firefox 99    missing"),
    ("/if/x?b=yes", {"User-Agent": "curl/8"}, "curl    missing"),
])
def test_if_and_set(server, target, fields, answer):
    assert text(server, target, fields=fields) == (200, answer)


def test_if_returns(server):
    response = server.request("POST", "/if/x", body=b"")
    assert (response.status, response.text) == (405, "no post")


def test_an_if_is_a_place_of_its_own(server):
    outer = server.get("/if-add/")
    assert (outer.get("X-Outer"), outer.get("X-Inner")) == ("outer", None)
    inner = server.get("/if-add/?inner=1")
    assert (inner.get("X-Outer"), inner.get("X-Inner")) == (None, "inner")
    assert server.get("/if-try/x").text == "a file"
    assert server.get("/if-try/x?inner=1").status == 404, "try_files is not inherited"


def test_rewrite_and_break_in_an_if(server):
    assert text(server, "/if-rewrite/?go=1") == (200, "seen /rw/seen/if?go=1")
    assert text(server, "/if-rewrite/") == (200, "stayed")
    assert text(server, "/if-break/") == (200, "not stopped")
    assert server.get("/if-break/?stop=1").status == 404


def test_rewriting_in_a_server(server):
    assert text(server, "/old/x", host="server.example") == (200, "new /new/x yes")
    assert server.get("/x?gone=1", host="server.example").status == 410
    assert text(server, "/x", host="server.example") == (200, "/x")


def test_redirects_are_absolute_by_default(server):
    port = server.port
    host = "absolute.example"
    assert server.get("/to", host=host).get("Location") == f"http://{host}:{port}/x"
    assert server.get("/dir", host=host).get("Location") == f"http://{host}:{port}/dir/"
    assert server.get("/no-port", host=host).get("Location") == f"http://{host}/x"
    assert server.get("/to", host="a.wild.example:99").get("Location") == f"http://a.wild.example:{port}/x"
    assert server.get("/name", host="a.wild.example").get("Location") == f"http://{host}:{port}/x"


def test_server_names(server):
    assert text(server, "/host", host="a.b.wild.example") == (200, "a.b.wild.example absolute.example ")
    assert text(server, "/host", host="RE17.example:80") == (200, "re17.example absolute.example 17")
    assert text(server, "/return/text", host="unknown.example") == (200, "text"), "the first server is the default"
    assert server.get("/return/text", host="wild.example").text == "text", "*. wants something before the dot"


@pytest.mark.parametrize(("conf", "words"), [
    ("server { location /a { } location /a { } }", 'duplicate location "/a"'),
    ("server { location /a { location /b { } } }", 'location "/b" is outside location "/a"'),
    ("server { location = /a { location /a/b { } } }", "cannot be inside the exact location"),
    ("server { location /a { location @b { } } }", "named location \"@b\" can be on the server level only"),
    ("server { location ~ ( { } }", "pcre2_compile() failed|unmatched|missing"),
    ("server { location / { alias /x; root /y; } }", '"root" directive is duplicate|"alias" directive was specified'),
    ("server { location / { try_files $uri; } }", 'invalid number of arguments in "try_files" directive'),
    ("server { location / { return 1000; } }", "invalid return code"),
    ("server { location / { rewrite ^ /x sometimes; } }", 'invalid parameter "sometimes"'),
    ("server { location / { return 200 $nothing_of_the_kind; } }", 'unknown "nothing_of_the_kind" variable'),
    ("server { location / { if ($a { } } }", "invalid condition|unknown|unexpected"),
    ("location / { }", '"location" directive is not allowed here'),
])
def test_mistakes_are_found_at_the_start(serve_nginx, conf, words):
    server = serve_nginx(conf, wait=False)
    assert server.exit_code() == 1
    assert re.search(words.replace("(", r"\(").replace(")", r"\)"), server.log())


def test_the_last_of_try_files_has_only_the_arguments_that_it_says(serve_nginx):
    site = serve_nginx(r"""
        server {
            listen 127.0.0.1:%PORT%;
            location / { try_files $uri /none/ /say; }
            location /own/ { try_files $uri /say?x=$arg_a; }
            location /all/ { try_files $uri /say?$args; }
            location = /say { return 200 "$uri?$args"; }
        }
    """)
    assert site.get("/x?a=b").text == "/say?"
    assert site.get("/own/x?a=b").text == "/say?x=b"
    assert site.get("/all/x?a=b").text == "/say?a=b"


def test_a_page_for_an_error_that_is_answered_as_200_is_like_any_other(serve_nginx):
    # As applications of one page have it: `error_page 404 =200 /index.html`.
    site = serve_nginx(r"""
        server {
            listen 127.0.0.1:%PORT%;
            root %DIR%;
            error_page 404 =200 /page.html;
            error_page 410 = /page.html;
            error_page 403 /page.html;
            location /gone { return 410; }
            location /forbidden { return 403; }
        }
    """, files={"page.html": "0123456789"})
    for path in ("/none", "/gone"):
        whole = site.get(path)
        assert (whole.status, whole.text, whole.get("Accept-Ranges")) == (200, "0123456789", "bytes")
        tag, changed = whole.get("ETag"), whole.get("Last-Modified")
        assert site.get(path, {"If-None-Match": tag}).status == 304
        assert site.get(path, {"If-Modified-Since": changed}).status == 304
        assert site.get(path, {"If-Match": '"other"'}).status == 412
        part = site.get(path, {"Range": "bytes=2-4"})
        assert (part.status, part.text, part.get("Content-Range")) == (206, "234", "bytes 2-4/10")
        assert site.get(path, {"Range": "bytes=20-"}).status == 416
    # What is an error stays one, and says nothing of when the page was written.
    for fields in ({}, {"If-None-Match": tag}, {"If-Modified-Since": changed}, {"Range": "bytes=2-4"}):
        page = site.get("/forbidden", fields)
        assert (page.status, page.text) == (403, "0123456789")
        assert page.get("Accept-Ranges") is None and page.get("Last-Modified") is None


def test_what_held_where_a_path_was_rewritten_holds_no_more_where_no_location_is(serve_nginx):
    site = serve_nginx(r"""
        server {
            listen 127.0.0.1:%PORT%;
            root %DIR%;
            add_header X-Place server always;
            client_max_body_size 3;
            location ~ ^/a/(.*)$ { add_header X-Place location always; client_max_body_size 100; rewrite ^/a(/.*)$ $1 last; return 200; }
        }
    """, files={"file": "text"})
    for path, status in (("/a/file", 200), ("/a/none", 404), ("/none", 404)):
        answer = site.get(path)
        assert (answer.status, answer.get("X-Place")) == (status, "server")
    # What holds for a server is asked of where no location is, too.
    assert site.request("POST", "/none", body=b"xxxx").status == 413
    assert site.request("POST", "/a/none", body=b"xxxx").status == 413
    assert site.request("POST", "/none", body=b"xxx").status in (404, 405)


def test_an_exact_location_beside_a_prefix_of_others_leads_to_the_slash(serve_nginx):
    # `Location` was empty.
    site = serve_nginx(r"""
        server {
            listen 127.0.0.1:%PORT%;
            server_name test.example;
            location /app/ { proxy_pass http://127.0.0.1:1; location /app/in/ { fastcgi_pass 127.0.0.1:1; }
                             location = /app/in/ { return 200 "in"; } }
            location = /app/ { return 200 "index"; }
            location /own/ { proxy_pass http://127.0.0.1:1; }
            location = /own/ { absolute_redirect off; return 200 "index"; }
            location /closed/ { proxy_pass http://127.0.0.1:1; }
            location = /closed/ { internal; return 200 "index"; }
        }
    """)
    host = f"http://test.example:{site.port}"
    for target, to in {
        "/app": host + "/app/", "/app?x=1": host + "/app/?x=1", "/app/in": host + "/app/in/", "/own?x=1": "/own/?x=1",
    }.items():
        response = site.get(target, host="test.example")
        assert (response.status, response.all("Location")) == (301, [to]), target
    assert (site.get("/app/").text, site.get("/closed").status) == ("index", 404)


def test_what_the_filters_refuse_has_a_page_of_error_page(serve_nginx):
    site = serve_nginx(r"""
        server {
            listen 127.0.0.1:%PORT%;
            root %DIR%;
            location /url/ { alias %DIR%/; error_page 416 http://x.test/y; }
            location /page/ { alias %DIR%/; error_page 416 412 /page.html; }
            location /named/ { alias %DIR%/; error_page 416 =202 @said; }
            location /added/ { alias %DIR%/; error_page 416 @said; add_after_body /file; addition_types *; }
            location /round/ { alias %DIR%/; recursive_error_pages on; error_page 416 =200 /round/file; }
            location /none/ { alias %DIR%/; error_page 404 /page.html; }
            location @said { return 200 "said"; }
        }
    """, files={"file": "0123456789", "page.html": "page"})
    far = {"Range": "bytes=20-"}
    gone = site.get("/url/file", far)
    assert (gone.status, gone.get("Location")) == (302, "http://x.test/y")
    for path, status, text in (("/page/file", 416, "page"), ("/named/file", 202, "said")):
        page = site.get(path, far)
        assert (page.status, page.text, page.get("Content-Range")) == (status, text, "bytes */10"), path
    page = site.get("/page/file", {"If-Match": '"other"'})
    assert (page.status, page.text, page.get("Content-Range")) == (412, "page", None)
    assert site.get("/page/file", {"Range": "bytes=2-3"}).text == "23"
    # A body that others are put into has no ranges.
    assert site.get("/added/file", far).status == 200
    assert site.get("/round/file", far).status == 500, "it ends"
    assert "416" in site.get("/none/file", far).text
    assert site.request("HEAD", "/page/file", far).get("Content-Length") == "4"


def test_a_204_with_a_text_that_answers_another_status_has_its_text(serve_nginx):
    site = serve_nginx(r"""
        server {
            listen 127.0.0.1:%PORT%;
            default_type text/plain;
            location /ok { error_page 404 =200 @x; return 404; }
            location /same { error_page 404 @x; return 404; }
            location /own { error_page 404 = @x; return 404; }
            location /bare { error_page 404 =204 @y; return 404; }
            location @x { return 204 "text"; }
            location @y { return 200 "text"; }
        }
    """)
    for path, status, text in (("/ok", 200, "text"), ("/same", 404, "text"), ("/own", 204, ""), ("/bare", 204, "")):
        answer = site.get(path)
        assert (answer.status, answer.text) == (status, text), path
        assert answer.get("Content-Type") == ("text/plain" if text else None)
    assert site.request("HEAD", "/ok").get("Content-Length") == "4"


def test_who_names_no_host_is_led_to_the_address(serve_nginx):
    site = serve_nginx(r"""
        server {
            listen 127.0.0.1:%PORT%;
            server_name name.example;
            location / { return 301 /x; }
            location /own { server_name_in_redirect on; return 301 /x; }
        }
    """)
    for line, host in (
        ("GET / HTTP/1.0", "127.0.0.1"),
        ("GET /own HTTP/1.0", "name.example"),
        ("GET http://asked.example/ HTTP/1.0", "asked.example"),
    ):
        with site.connect() as client:
            client.send(f"{line}\r\n\r\n".encode())
            assert f"Location: http://{host}:{site.port}/x\r\n" in client.socket.recv(65536).decode(), line
