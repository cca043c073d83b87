"""Variables: built in, by map, geo and split_clients, in answers, fields and logs."""

import os
import re

import pytest
from support import build, wait_until

CONF = r"""
    log_format built_in '$request|$status|$body_bytes_sent|$request_length|$request_time|$remote_addr|$remote_user|'
                        '$request_completion|$sent_http_content_type|$sent_http_x_own|$http_referer|$pipe|$bytes_sent';

    map $uri $exact { default none; /map/one first; "/map/two words" second; }
    map $arg_word $by_word {
        default     "d:$arg_word";
        ""          empty;
        Upper       "case is ignored";
        ~^re(\d+)   "regex $1";
        ~*^ANY      "any case";
        ~(?<tail>x.)$  "tail $tail";
        \default    "the word";
        refers      $by_other;
        regular     "before regex";
        ~^regular   "not reached";
    }
    map $arg_other $by_other { default other-$arg_other; }
    map $host $by_host { hostnames; default none; exact.example exact; *.wild.example wild; .both.example both;
                         www.right.* right; }
    map "$arg_a:$arg_b" $combined { default no; "1:2" yes; }
    map $arg_word $from_file { include %DIR%/map.conf; default nothing; }
    map $arg_word $without_default { a b; }

    geo $arg_ip $area { default nowhere; 127.0.0.1 one; 10.0.0.0/8 ten; 10.1.0.0/16 ten-one; 2001:db8::/32 six;
                        192.168.0.0/24 ""; }
    geo $own_area { default far; 127.0.0.0/8 near; }
    geo $arg_ip $ranged { ranges; default none; 10.0.0.0-10.0.0.9 low; 10.0.0.10-10.255.255.255 high; }
    geo $behind { proxy 127.0.0.1; proxy_recursive; default outside; 127.0.0.1 here; 198.51.100.0/24 customer; }

    split_clients "$arg_id" $variant { 25% a; 25% b; * rest; }
    split_clients "$arg_id" $never { 0.01% rare; * ""; }

    server {
        listen 127.0.0.1:%PORT%;
        server_name test.example;
        root %DIR%/root;
        default_type text/plain;
        location / { return 200 "none"; }

        location /map/ { return 200 "$exact"; }
        location = /by-word { return 200 "$by_word"; }
        location = /by-host { return 200 "$by_host"; }
        location = /combined { return 200 "$combined"; }
        location = /from-file { return 200 "$from_file"; }
        location = /without-default { return 200 "[$without_default]"; }
        location = /geo { return 200 "$area"; }
        location = /own-geo { return 200 "$own_area"; }
        location = /ranged { return 200 "$ranged"; }
        location = /behind { return 200 "$behind"; }
        location = /split { return 200 "$variant$never"; }

        location /uri/ { return 200 "$uri $request_uri $document_uri"; }
        location /args { return 200 "$args $query_string $is_args $arg_a $arg_B [$arg_none]"; }
        location /request/ { return 200 "$request_method $scheme $server_protocol $request [$https]"; }
        location /fields { return 200 "$http_x_thing $http_user_agent $content_type $content_length [$http_none]"; }
        location /cookie { return 200 "$cookie_a [$cookie_b] $http_cookie"; }
        location /place { return 200 "$document_root $request_filename $realpath_root"; }
        location /server/ { return 200 "$server_name $server_port $server_addr $host $hostname"; }
        location /client { return 200 "$remote_addr $remote_port"; }
        location /connection { return 200 "$connection $connection_requests"; }
        location /time { return 200 "$msec $time_local $time_iso8601"; }
        location /id { return 200 "$request_id $request_id"; }
        location /process { return 200 "$pid $nginx_version"; }
        location /user { return 200 "$remote_user"; }
        location /binary { return 200 "$binary_remote_addr"; }
        location /dollar { return 200 "${uri}x"; }
        location /changed { set $args "n=1"; return 200 "$args $arg_n $request_uri"; }
        location /rate { set $limit_rate 0; return 200 "$limit_rate"; }
        location /again { set $v "1"; set $v "${v}2"; set $v "$v-3"; return 200 "$v"; }

        location /fields-added {
            add_header X-Uri $uri;
            add_header X-Empty $http_none;
            add_header X-Status $status;
            add_header X-Type $sent_http_content_type;
            add_header X-Length $sent_http_content_length always;
            add_header X-Two one;
            add_header X-Two two;
            add_header X-Always "always" always;
            if ($arg_status) { return 404; }
            return 200 "text";
        }
        location /inherits/ { add_header X-Level one; return 200 "x";
            location /inherits/own/ { add_header X-Other two; return 200 "y"; }
            location /inherits/none/ { return 200 "z"; } }
        location /statuses/ { add_header X-Status $status; add_header X-Sometimes 1;
            location /statuses/201 { return 201 x; } location /statuses/204 { return 204; }
            location /statuses/301 { return 301 /x; } location /statuses/308 { return 308 /x; }
            location /statuses/400 { return 400 x; } location /statuses/500 { return 500; } }
        location /logged { access_log %DIR%/built-in.log built_in; add_header X-Own "own $arg_a"; return 200 "12345"; }
    }
    server { listen 127.0.0.1:%PORT%; server_name ~^(?<sub>.+)\.regex\.example$; return 200 "$sub $1 $server_name"; }
"""


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, files={"map.conf": "in-file found;\n~^in-.* regex;\n", "root/x": "x"})


def text(server, target, fields=(), **options):
    response = server.get(target, fields, **options)
    assert response.status == 200
    return response.text


@pytest.mark.parametrize(("target", "answer"), [
    ("/map/one", "first"), ("/map/ONE", "first"), ("/map/two%20words", "second"), ("/map/none", "none"),
    ("/by-word", "empty"), ("/by-word?word=x-y", "d:x-y"), ("/by-word?word=UPPER", "case is ignored"),
    ("/by-word?word=re17", "regex 17"), ("/by-word?word=RE17", "d:RE17"), ("/by-word?word=anything", "any case"),
    ("/by-word?word=endxz", "tail xz"), ("/by-word?word=default", "the word"),
    ("/by-word?word=refers&other=9", "other-9"), ("/by-word?word=regular", "before regex"),
    ("/combined?a=1&b=2", "yes"), ("/combined?a=1", "no"),
    ("/from-file?word=in-file", "found"), ("/from-file?word=in-other", "regex"), ("/from-file?word=x", "nothing"),
    ("/without-default?word=a", "[b]"), ("/without-default?word=x", "[]"),
])
def test_map(server, target, answer):
    assert text(server, target) == answer


@pytest.mark.parametrize(("host", "answer"), [
    ("exact.example", "exact"), ("a.wild.example", "wild"), ("a.b.wild.example", "wild"), ("wild.example", "none"),
    ("both.example", "both"), ("x.both.example", "both"), ("www.right.org", "right"), ("other.example", "none"),
])
def test_map_by_host_names(server, host, answer):
    assert text(server, "/by-host", host=host) == answer


@pytest.mark.parametrize(("ip", "answer"), [
    ("127.0.0.1", "one"), ("10.2.3.4", "ten"), ("10.1.2.3", "ten-one"), ("2001:db8::7", "six"), ("::1", "nowhere"),
    ("::ffff:10.1.0.1", "ten-one"), ("192.168.0.1", ""), ("8.8.8.8", "nowhere"), ("no-address", "nowhere"), ("", "nowhere"),
])
def test_geo(server, ip, answer):
    assert text(server, f"/geo?ip={ip}") == answer


@pytest.mark.parametrize(("ip", "answer"), [
    ("10.0.0.9", "low"), ("10.0.0.10", "high"), ("10.255.255.255", "high"), ("11.0.0.0", "none"),
])
def test_geo_with_ranges(server, ip, answer):
    assert text(server, f"/ranged?ip={ip}") == answer


def test_geo_of_the_client_and_behind_a_proxy(server):
    assert text(server, "/own-geo") == "near"
    assert text(server, "/behind") == "here"
    assert text(server, "/behind", {"X-Forwarded-For": "198.51.100.7"}) == "customer"
    assert text(server, "/behind", {"X-Forwarded-For": "198.51.100.7, 127.0.0.1"}) == "customer"
    assert text(server, "/behind", {"X-Forwarded-For": "198.51.100.7, 203.0.113.1"}) == "outside"


def murmur2(data):
    """The hash of split_clients as nginx documents it: MurmurHash2, seed 0."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = len(data)
    while len(data) >= 4:
        k = int.from_bytes(data[:4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
        data = data[4:]
    if data:
        h = (h ^ int.from_bytes(data, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_split_clients_is_nginxs_split(server):
    with server.connect() as client:
        for number in range(100):
            hash_ = murmur2(str(number).encode())
            expected = "a" if hash_ < 0x40000000 - 1 else "b" if hash_ < 0x80000000 - 2 else "rest"
            assert client.request("GET", f"/split?id={number}").text.removeprefix("rare") == expected


@pytest.mark.parametrize(("target", "answer"), [
    ("/uri/a%20b/../c?x=y", "/uri/c /uri/a%20b/../c?x=y /uri/c"),
    ("/args?a=1&b=%20&c", "a=1&b=%20&c a=1&b=%20&c ? 1 %20 []"),
    ("/args", "     []"),
    ("/args?xa=2&A=3", "xa=2&A=3 xa=2&A=3 ? 3  []"),
    ("/request/", "GET http HTTP/1.1 GET /request/ HTTP/1.1 []"),
    ("/changed?a=b", "n=1 1 /changed?a=b"),
    ("/again", "12-3"),
    ("/dollar", "/dollarx"),
    ("/rate", "0"),
])
def test_the_requests_variables(server, target, answer):
    assert text(server, target) == answer


def test_fields_and_cookies(server):
    response = server.request("POST", "/fields", [
        ("X-Thing", "a"), ("X_Thing", "ignored"), ("User-Agent", "me"), ("Content-Type", "x/y")], b"123")
    assert response.text == "a me x/y 3 []"
    assert text(server, "/fields", [("X-Thing", "a"), ("x-thing", "b")]) == "a, b    []"
    assert text(server, "/cookie", {"Cookie": "a=1; ab=2; b="}) == "1 [] a=1; ab=2; b="
    assert text(server, "/cookie", [("Cookie", "x=0"), ("Cookie", "a=1")]) == "1 [] x=0; a=1"


def test_places(server):
    root = f"{server.directory}/root"
    assert text(server, "/place").startswith(f"{root} {root}/place ")


def test_realpath_root(server):
    assert text(server, "/place").split(" ")[2] == os.path.realpath(server.directory / "root")


def test_the_server_and_the_client(server):
    assert text(server, "/server/", host="Other.Example:1").split()[:4] == [
        "test.example", str(server.port), "127.0.0.1", "other.example"]
    with server.connect() as client:
        address, port = client.socket.getsockname()
        assert client.request("GET", "/client").text == f"{address} {port}"
        first = client.request("GET", "/connection").text.split()
        second = client.request("GET", "/connection").text.split()
    assert first[0] == second[0] and (first[1], second[1]) == ("2", "3")
    assert server.get("/binary").body == bytes([127, 0, 0, 1])


def test_host_without_a_host_field(server):
    with server.connect() as client:
        client.send(build("GET", "/server/", version="1.0", host=None))
        assert client.response().text.split()[3] == "test.example", "the server's name stands for it"


def test_times_and_ids(server):
    msec, *rest = text(server, "/time").split(" ", 1)
    assert re.fullmatch(r"\d{10}\.\d{3}", msec)
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", rest[0])
    one, same = text(server, "/id").split()
    assert one == same and re.fullmatch("[0-9a-f]{32}", one)
    assert text(server, "/id").split()[0] != one
    pid, version = text(server, "/process").split()
    assert int(pid) in server.processes() and re.fullmatch(r"1\.\d+\.\d+", version)


def test_the_user_that_basic_authentication_names(server):
    assert text(server, "/user", {"Authorization": "Basic YWRhOnNlY3JldA=="}) == "ada"
    assert text(server, "/user") == ""


def test_captures_of_the_server_name(server):
    assert text(server, "/", host="a.b.regex.example") == r"a.b a.b ~^(?<sub>.+)\.regex\.example$"


def test_add_header_with_variables(server):
    response = server.get("/fields-added")
    assert response.get("X-Uri") == "/fields-added"
    assert response.get("X-Empty") is None
    assert response.get("X-Status") == "200"
    assert response.get("X-Type") == "text/plain"
    assert response.all("X-Two") == ["one", "two"]
    response = server.get("/fields-added?status=404")
    assert response.status == 404
    assert response.get("X-Always") == "always"
    assert response.get("X-Uri") is None and response.all("X-Two") == []


def test_add_header_knows_the_length(server):
    assert server.get("/fields-added").get("X-Length") == "4"


def test_add_header_is_inherited_as_a_whole(server):
    assert server.get("/inherits/x").get("X-Level") == "one"
    own = server.get("/inherits/own/x")
    assert (own.get("X-Level"), own.get("X-Other")) == (None, "two")
    assert server.get("/inherits/none/x").get("X-Level") == "one"


@pytest.mark.parametrize(("status", "added"), [
    (201, True), (204, True), (301, True), (308, True), (400, False), (500, False)])
def test_add_header_by_status(server, status, added):
    response = server.get(f"/statuses/{status}")
    assert response.status == status
    assert response.get("X-Status") == (str(status) if added else None)


def test_built_in_variables_of_a_log(server):
    request = build("GET", "/logged?a=b", {"Referer": "http://r.example/", "Authorization": "Basic YWRhOng=",
                                          "Connection": "close"})
    with server.connect() as client:
        client.send(request)
        raw = b""
        while data := client.socket.recv(65536):
            raw += data
    path = server.directory / "built-in.log"
    values = wait_until(lambda: path.exists() and path.read_text(), "the line").rstrip("\n").split("|")
    assert values[:4] == ["GET /logged?a=b HTTP/1.1", "200", "5", str(len(request))]
    assert re.fullmatch(r"\d+\.\d{3}", values[4])
    assert values[5:12] == ["127.0.0.1", "ada", "OK", "text/plain", "own b", "http://r.example/", "."]
    assert values[12] == str(len(raw))


@pytest.mark.parametrize(("conf", "words"), [
    ("map $uri $x { a b c; }", "invalid number of the map parameters"),
    ("map $uri x { a b; }", 'invalid variable name "x"'),
    ("map $uri $x { a 1; a 2; }", 'conflicting parameter "a"'),
    ("geo $x { default 0; 10.0.0.0/33 1; }", 'invalid network "10.0.0.0/33"'),
    ("split_clients $uri $x { 60% a; 50% b; }", "percent total is greater than 100%"),
    ("split_clients $uri $x { 60x a; }", 'invalid percent value "60x"'),
    ("log_format a '$nothing_of_the_kind'; access_log logs a;", 'unknown "nothing_of_the_kind" variable'),
])
def test_mistakes_are_found_at_the_start(serve_nginx, conf, words):
    server = serve_nginx(conf, wait=False)
    assert server.exit_code() == 1
    assert words in server.log()


def test_the_status_of_a_return_is_known_to_its_text(serve_nginx):
    site = serve_nginx("""
        map $status $kind { default other; 404 missing; }
        server {
            listen 127.0.0.1:%PORT%;
            absolute_redirect off;
            location = /200 { return 200 "$status"; }
            location = /404 { add_header X-Status $status always; return 404 "$status $kind"; }
            location = /301 { return 301 /x/$status; }
            location = /before { if ($status = 000) { return 200 "none yet"; } return 200 "$status"; }
            location = /page { error_page 404 /made; return 404; }
            location = /page-own { error_page 404 = /made; return 404; }
            location = /rewritten { rewrite ^ /made last; }
            location = /made { return 200 "made $status"; }
        }
    """)
    for target, status, text in (("/200", 200, "200"), ("/404", 404, "404 missing"), ("/before", 200, "none yet"),
                                 ("/page", 404, "made 404"), ("/page-own", 200, "made 200"),
                                 ("/rewritten", 200, "made 200")):
        response = site.get(target)
        assert (response.status, response.text) == (status, text), target
    assert site.get("/404").get("X-Status") == "404"
    assert site.get("/301").get("Location") == "/x/301"
