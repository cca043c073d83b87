"""Configurations by chance: the same requests to the system's nginx and to Monoceros, which must answer the same.

What is known to differ (docs/reference/differences.md) is not made. A seed that fails makes the same configuration and
the same requests again: `pytest tests/peers/test_same_as_nginx.py -k 'seed-17'`.
"""

import os
import random
import re

import pytest
from support import Client, free_port
from support.client import Broken
from support.nginx import first_accepted
from support.server import which
from support.upstream import Upstream, response

# Each is a configuration and its requests. `SEEDS=1000` tries more of them.
SEEDS = range(int(os.environ.get("SEEDS", "80")))
REQUESTS = 40

FILES = {
    "root/f.txt": "file f\n" * 40, "root/a/f.txt": "a file\n", "root/a/index.html": "<html>index of a</html>\n",
    "root/dir/e.html": "<b>e</b>\n", "root/dir/sub/index.htm": "sub\n", "root/b/x.php": "<?php\n",
    "root/e.html": "<html>eeee</html>", "root/50x.html": "error\n", "root/404.html": "not found\n",
    "root/img/a/f.txt": "deep\n", "root/big.txt": "0123456789" * 3000, "users": "ann:{PLAIN}secret\n",
}
SEGMENTS = ["a", "b", "img", "x.php", "f.txt", "dir", "e.html", "sub", ""]
REGEXES = [r"^/a(.*)$", "^/(img|dir)/(.*)$", r"\.php$", r"(\.txt|html)$", "^/b/?$", "/(?<named>[ab])/", "^/(.)(.*)",
           "f", "^/A", r"x\.php(.*)", "^(.*)/sub/(.+)$", "(?i)IMG", "^/?$"]
VARIABLES = ["uri", "args", "request_uri", "query_string", "is_args", "host", "http_x", "arg_a", "arg_b", "cookie_c", "1",
             "v1", "v2", "mapped", "split", "geo", "scheme", "content_type", "named", "server_protocol"]
CONFIGURATION = r"""
    map %MAPPED% $mapped { default d; /a x; ~^/(?<inner>a) m$inner; b $arg_b; ~*IMG i$uri; }
    split_clients $uri$args $split { 30% one; 20% two; * rest; }
    geo $arg_a $geo { default no; 127.0.0.0/8 here; 10.1.0.0/16 ten; }
    upstream group { server 127.0.0.1:%UP%; }
    upstream backed { server 127.0.0.1:%NOBODY% max_fails=0; server 127.0.0.1:%UP% backup; }
    server {
        listen 127.0.0.1:%PORT%;
        server_name a.test *.a.test "~^(?<named>n.*)\.test$";
        root %ROOT%;
        set $v1 x; set $v2 y;
        location ~ ^/never(.*)(.*)$ { return 200 $1$2; }
        location = /allowed { internal; return 204; }
        location = /forbidden { internal; return 403; }
        location = /unknown { internal; %BODILESS% proxy_pass http://group/u?~s=401&~xa=1; %INTERCEPT% }
        location = /refused { internal; %BODILESS% proxy_pass http://group/r?~s=403&~xa=2; %INTERCEPT% }
        location ~ ^/granted(.*)$ { internal; %BODILESS% proxy_pass http://group/g$1?~s=204&~xa=3; set $v2 "$1"; }
        location = /broken { internal; proxy_pass http://127.0.0.1:%NOBODY%; }
        add_header X-Seen "u=$uri a=$args v=$v1,$v2 m=$mapped s=$split g=$geo 1=$1 n=$named" always;
        %REST%
    }
"""


# Without it nginx promises who is asked a body that it does not send.
BODILESS = 'proxy_pass_request_body off; proxy_set_header Content-Length "";'


class Chance:
    """Directives and requests that a seed makes."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.taken = set()
        self.one = self.random.choice

    def odds(self, of):
        return self.random.random() < of

    def path(self, most=3):
        return "/" + "/".join(self.one(SEGMENTS) for _ in range(self.random.randint(0, most)))

    def text(self):
        parts = ["t", "x/", "-", "q=", "", f"${{{self.one(VARIABLES)}}}", f"${{{self.one(VARIABLES)}}}", self.path(2)]
        return '"' + "".join(self.one(parts) for _ in range(self.random.randint(1, 3))) + '"'

    def rewrite(self):
        to = self.one([self.path(), self.path(2) + "?z=$args", "$uri", "/$1", "/$1?r=1", "/e.html?", "/a$uri",
                       "/dir/$arg_a", "http://ex.test/$1", "https://$host/z", "/$v1", "/named$named"])
        return f'rewrite "{self.one(REGEXES)}" {to} {self.one(["", "last", "break", "redirect", "permanent"])};'

    def answer(self):
        return self.one([
            f"return {self.one([200, 201, 404, 403, 301, 302, 307, 410, 500, 204, 303])};",
            f"return {self.one([200, 404, 302, 500, 301, 403])} {self.text()};",
            f"return {self.one(['http://r.test/$1', 'https://r.test', '$scheme://h$uri'])};",
            f"return 301 {self.one([self.path(2), '$uri?x=1', '//h/p', 'rel/p'])};",
        ])

    def condition(self):
        variable = "$" + self.one(VARIABLES)
        return self.one([
            variable, f"{variable} = {self.text()}", f"{variable} != b", f'{variable} ~ "{self.one(REGEXES)}"',
            f"{variable} ~* A", f'{variable} !~ "{self.one(REGEXES)}"', "-f $request_filename", "!-f $request_filename",
            "-d $request_filename", "!-e $request_filename", "-e $document_root/a", "$request_method = POST",
        ])

    def rewriting(self, in_location=True):
        made = []
        for _ in range(self.random.randint(0, 2)):
            inner = [self.rewrite(), self.answer(), f"set $v1 {self.text()};", "break;"]
            if in_location:
                inner += [f"add_header X-If {self.text()};", "expires 1h;", "error_page 404 = /e.html;"]
            made.append(self.one([
                self.rewrite(), f"set $v{self.one([1, 2])} {self.text()};", "break;", self.answer(),
                f"if ({self.condition()}) {{ {self.one(inner)} }}",
            ]))
        return made

    def others(self):
        candidates = [
            (.3, f"add_header X-{self.one('AB')} {self.text()}{self.one(['', ' always'])};"),
            (.12, f"expires {self.one(['1h', '-1', 'max', 'epoch', 'off', 'modified 1h'])};"),
            (.1, f"default_type {self.one(['text/plain', 'x/y', 'text/html', 'image/png'])};"),
            (.25, f"error_page {self.one(['404', '403', '500 404', '405', '410', '401 403', '401'])} "
                  f"{self.one(['', '=', '=200', '=404', '=302'])} "
                  f"{self.one(['/404.html', '/e.html', '@one', '@two', 'http://err.test/x', '/50x.html?q=1'])};"),
            (.1, f"index {self.one(['index.html', 'index.htm index.html', 'e.html', 'f.txt /e.html', 'none'])};"),
            (.06, "recursive_error_pages on;"),
            (.06, f"charset {self.one(['utf-8', 'off'])};"),
            (.05, "types { text/css txt; text/x html php; }"),
            (.05, f"etag {self.one(['on', 'off'])};"),
            (.05, f"max_ranges {self.one([0, 1, 5])};"),
            (.05, f"if_modified_since {self.one(['off', 'exact', 'before'])};"),
            (.06, f"deny {self.one(['all', '10.0.0.0/8'])};"),
            (.05, f"allow {self.one(['all', '127.0.0.1'])};"),
            (.04, f"satisfy {self.one(['any', 'all'])};"),
            (.05, "absolute_redirect off;"),
            (.03, "port_in_redirect off;"),
            (.03, f"client_max_body_size {self.one([1, 100, 0])};"),
            (.04, f"auth_basic realm; auth_basic_user_file {'%USERS%'};"),
            (.08, f"auth_request {self.one(['/allowed', '/forbidden', '/unknown', '/refused', '/granted/x', '/broken'])};"),
            (.03, "auth_request_set $v2 $upstream_http_x_a;"),
        ]
        return [directive for of, directive in candidates if self.odds(of)]

    def passing(self, prefix):
        to = self.one(["http://127.0.0.1:%UP%", "http://group", "http://backed"])
        behind = self.one(["", "", "/", "/z/", "/z?q=1", "$request_uri"]) if prefix else self.one(["", "$request_uri"])
        candidates = [
            (1, f"proxy_pass {to}{behind};"),
            (.3, "proxy_http_version 1.1;"),
            (.3, f"proxy_set_header {self.one(['X', 'X-A', 'Host', 'Cookie', 'Range'])} "
                 f"{self.one(['$http_x', '$uri', '$proxy_host', 'v', chr(34) * 2, '$host:$proxy_port'])};"),
            (.15, f"proxy_redirect {self.one(['off', 'http://r.test/ /x/', '/a/ /b/', '~^/(a)(.*) /$1-$2'])};"),
            (.1, f"proxy_cookie_domain {self.one(['a.test b.test', 'off', 'x.test $host'])};"),
            (.1, f"proxy_cookie_path {self.one(['/ /p/', 'off', '/a/ $uri'])};"),
            (.1, f"proxy_hide_header {self.one(['X-A', 'Set-Cookie', 'ETag', 'Location'])};"),
            (.15, "proxy_intercept_errors on;"),
            (.1, "proxy_buffering off;"),
            (.1, f"proxy_next_upstream {self.one(['error', 'http_500 http_404', 'off'])};"),
            (.5, 'add_header X-Up "$upstream_status $upstream_http_x_a $upstream_cookie_s" always;'),
        ]
        return [directive for of, directive in candidates if self.odds(of)]

    def location(self, depth=0, within=None):
        kind = self.one(["~", "~*"]) if within == "~" else self.one(["=", "^~", "~", "~*", "", "", ""])
        is_regex = kind.startswith("~")
        pattern = self.one(REGEXES) if is_regex else ((within or "") + self.path(2)).replace("//", "/")
        key = ("" if kind == "^~" else kind, pattern, within)
        if key in self.taken:
            return ""
        self.taken.add(key)
        directives = []
        if self.odds(.12):
            directives.append(f"root %ROOT%{self.one(['', '/a', '/dir', '/$arg_a'])};")
        if self.odds(.15):
            directives.append(
                f"try_files {self.one(['$uri', '$uri $uri/', '/$arg_a $uri', '$uri.html', '/dir$uri'])} "
                f"{self.one(['=404', '/e.html', '@one', '@two', '/a/f.txt?$args', '/$v1'])};")
        if self.odds(.06):
            directives.append("internal;")
        if self.odds(.06):
            directives.append(f"limit_except {self.one(['GET', 'POST'])} {{ deny all; }}")
        if self.odds(.4):
            directives += self.passing(not is_regex)
        directives += [*self.rewriting(), *self.others()]
        if self.odds(.15):
            directives.append(self.answer())
        if depth < 2 and kind != "=" and self.odds(.2):
            directives.append(self.location(depth + 1, "~" if is_regex else pattern))
        return f'location {kind} "{pattern}" {{\n  ' + "\n  ".join(directives) + "\n}"

    def configuration(self):
        rest = [*self.rewriting(in_location=False), *self.others()]
        rest += [self.location() for _ in range(self.random.randint(2, 8))]
        for name in ("@one", "@two"):
            rest.append(f"location {name} {{ {self.one(['return 200 named$uri;', 'return 404;', 'root %ROOT%/a;', 'try_files /f.txt =404;'])} }}")
        intercept = self.one(["", "proxy_intercept_errors on;"])
        mapped = self.one(["$uri", "$args", "$arg_a", "$host"])
        return CONFIGURATION.replace("%MAPPED%", mapped).replace("%REST%", "\n".join(rest)).replace("%INTERCEPT%", intercept).replace("%BODILESS%", BODILESS)

    def request(self):
        segments = [*SEGMENTS, "A", "ab", ".", "%2F", "q+", "index.html", "%41", "big.txt", "404.html", "x;y", "p%25", "a/.."]
        target = "/" + "/".join(self.one(segments) for _ in range(self.random.randint(0, 4)))
        arguments = ["a=b", "a=f.txt&b=2", "a=10.1.2.3", "x", "a=/e.html", "a=a&a=c"]
        # What the server behind is to answer.
        said = {"s": ["404", "500", "302", "201", "204", "403"], "loc": ["/a/b", "http://r.test/x", "rel"], "xr": ["/f.txt", "/none"],
                "sc": ["s=v;%20Path=/a/x;%20Domain=a.test", "s=w;%20path=/;%20HttpOnly"], "et": ['"t"', 'W/"t"'], "xa": ["1"],
                "ct": ["text/html", "image/png"]}
        chosen = [self.one(arguments)] if self.odds(.3) else []
        chosen += [f"~{name}={self.one(values)}" for name, values in said.items() if self.odds(.12)]
        fields = [("Host", self.one(["a.test", "x.a.test", "nn.test", "zz", "A.TEST:81", "127.0.0.1"]))]
        candidates = [
            (.2, "X", ["a", "b", ""]), (.1, "Cookie", ["c=1; d=2"]),
            (.15, "Range", ["bytes=0-3", "bytes=2-", "bytes=-2", "bytes=0-1,3-4", "bytes=0-0,-1", "bytes=5-2"]),
            (.12, "If-Modified-Since", ["%WRITTEN%", "Thu, 01 Jan 1970 00:00:00 GMT", "x"]),
            (.1, "If-None-Match", ["*", '"x"']), (.05, "If-Match", ["*", '"x"']),
            (.05, "Authorization", ["Basic YW5uOnNlY3JldA==", "Basic eDp5", "Bearer x"]),
        ]
        fields += [(name, self.one(values)) for of, name, values in candidates if self.odds(of)]
        method = self.one(["GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"])
        if method not in ("GET", "HEAD"):
            # Who has changed something is not told 304 or 412 for it.
            fields = [(name, value) for name, value in fields if not name.startswith("If-")]
        body = self.one([b"", b"x", b"a=1&b=2" * 20]) if method in ("POST", "PUT") else None
        return method, target + ("?" + "&".join(chosen) if chosen else ""), fields, body


def behind(seen, _):
    """Answers with the request, as its arguments want it."""
    told = dict(re.findall(r"~(\w+)=([^&]*)", seen.target.replace("%20", " ")))
    status = told.get("s", "200")
    names = {"loc": "Location", "xr": "X-Accel-Redirect", "sc": "Set-Cookie", "et": "ETag", "xa": "X-A"}
    fields = [(name, told[short]) for short, name in names.items() if short in told]
    fields.append(("Content-Type", told.get("ct", "text/plain")))
    text = "\n".join([seen.line, *(f"{name}: {value}" for name, value in seen.fields)]).encode("latin-1") + b"\n" + seen.body
    if status == "204":
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    whole = response(text, f"{status} X", fields)
    return whole.split(b"\r\n\r\n")[0] + b"\r\n\r\n" if seen.method == "HEAD" else whole


@pytest.fixture(scope="module")
def nginx():
    path = which("nginx")
    assert path, "the system's nginx"
    return path


def asked(port, method, target, fields, body):
    """The answer, without what may differ."""
    try:
        with Client(("127.0.0.1", port), timeout=20) as client:
            answer = client.request(method, target, [*fields, ("Connection", "close")], body)
    except Broken as error:
        return str(error)
    own = ("date", "server", "connection", "transfer-encoding", "content-length", "keep-alive")
    kept = sorted((name.lower(), value.replace(str(port), "PORT")) for name, value in answer.fields if name.lower() not in own)
    # A second more between the two is a second more.
    kept = [(name, "soon" if name == "expires" and " 20" in value and "2037" not in value else value) for name, value in kept]
    kept = [(name, re.sub(r"max-age=3[56]\d\d$", "max-age=soon", value)) for name, value in kept]
    kept = [(name, re.sub("boundary=.*", "boundary=", value)) for name, value in kept]
    if answer.status == 416:
        # nginx runs its filters twice.
        kept = sorted({(name, value) for name, value in kept if name in ("content-type", "content-range")})
    if "~xr=" in target:
        # On its way in a circle nginx gathers cookies.
        kept = [(name, value) for name, value in kept if answer.status != 500 or name != "set-cookie"]
        kept = sorted(set(kept))
    text = answer.body.replace(str(port).encode(), b"PORT")
    text = re.sub(rb"\r\n--\w{8,}", b"\r\n--", text)
    return answer.status, kept, re.sub(rb"<hr><center>(nginx|monoceros)[^<]*</center>", b"<hr>", text)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_chance(seed, nginx, serve_nginx, tmp_path):
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    with Upstream(behind) as up:
        places = {"ROOT": tmp_path / "root", "USERS": tmp_path / "users", "UP": up.port, "NOBODY": free_port()}
        chances = []

        def make(attempt):
            chances.append(Chance(f"{seed} {attempt}"))
            conf = chances[-1].configuration()
            for name, value in places.items():
                conf = conf.replace(f"%{name}%", str(value))
            return conf

        conf, theirs = first_accepted(nginx, tmp_path, make)
        chance = chances[-1]
        ours = serve_nginx("include mime.types;\n" + conf, files={"mime.types": (theirs.directory / "mime.types").read_text()})
        with theirs:
            for number in range(REQUESTS):
                method, target, fields, body = chance.request()
                written = asked(theirs.port, "GET", "/big.txt", [("Host", "none")], None)
                changed = dict(written[1]).get("last-modified", "x") if isinstance(written, tuple) else "x"
                fields = [(name, value.replace("%WRITTEN%", changed)) for name, value in fields]
                one, other = (asked(port, method, target, fields, body) for port in (theirs.port, ours.port))
                assert other == one, f"request {number}: {method} {target} {fields} {body}\n{conf}"
