"""Pages that are put together, by chance: what `ssi`, `gzip_static` and the filters beside them make of the same files.

What is known to differ (docs/reference/differences.md) is not made: an included page leaves variables alone, since nginx
runs it later; nothing is added behind a page, and nothing replaced in it (of a stub nginx loses the last byte then);
every `if` and `block` ends. `SEEDS=1000` tries more.
"""

import gzip
import os
import random
import zlib

import pytest
from support import Client
from support.nginx import first_accepted
from support.server import which

SEEDS = range(int(os.environ.get("SEEDS", "25")))
REQUESTS = 30

PLAIN = {
    "a.txt": "a text of its own\n" * 3, "a.txt.gz": gzip.compress(b"of a compressed file\n"), "dir/index.html": "an index\n",
    "dir/a.html": "in dir\n", "error.html": "page for an error\n", "empty.html": "", "b.html": '<!--#echo var="arg_b" -->b\n',
    # It has errors of its own.
    "c.html": 'c <!--#include virtual="/none" --><!--#nothing -->\n',
}
TARGETS = ["/a.txt", "/b.html", "/c.html", "b.html", "dir/a.html", "/dir/", "/dir/a.html?b=other", "/none", "/empty.html", "/nothing",
           "/answer?$arg_a", "$arg_b", "/$arg_b", "/a%2etxt", "/dir/../a.txt", "/passed/a.txt", "/error/none", "/denied/a.txt"]
VARIABLES = ["arg_a", "arg_b", "x", "y", "uri", "args", "none", "QUERY_STRING", "1", "first"]
CONFIGURATION = r"""
    server {
        listen 127.0.0.1:%PORT%;
        server_name a.test;
        root %ROOT%;
        ssi on;
        location / { %HERE% }
        location /answer { return 200 "answer to $args"; }
        location /nothing { return 204; }
        location /denied/ { deny all; }
        location /error/ { error_page 404 %STATUS% /error.html; }
        location /passed/ { proxy_pass http://127.0.0.1:%PORT%/; proxy_set_header Accept-Encoding ""; }
    }
"""


class Chance:
    """A configuration, pages and requests that a seed makes."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.one = self.random.choice

    def text(self):
        return "".join(self.one(["a", "$arg_a", "${x}b", "\\$", "'", "<", "&", "é", " "]) for _ in range(self.random.randint(0, 3)))

    def expression(self):
        left = "$" + self.one(["arg_a", "arg_b", "x", "none"])
        return self.one([left, f"{left} = a", f"{left} != 'a'", f"{left} = $arg_b", f"{left} = /^(?P<first>.)b?/", f"{left} != /b/", f"{left} ? a"])

    def command(self, depth=0):
        quote = self.one("\"\"'")
        named = self.one(VARIABLES)
        include = f'virtual="{self.one(TARGETS)}"'
        simple = [
            f'<!--#echo var="{named}" -->', f'<!--#echo var="{named}" default="d" -->',
            f'<!--#echo var="{named}" encoding="{self.one(["none", "url", "entity"])}" -->',
            f"<!--#set var={quote}{self.one('xy')}{quote} value=\"{self.text()}\" -->",
            f"<!--#include {include} -->", f"<!--#include {include} -->", f'<!--#include {include} stub="s" -->', f'<!--#include {include} stub="s" -->',
            '<!--#include file="dir/a.html" -->', '<!--#config errmsg="wrong" -->', "<!--#nothing -->", "<!--#include -->", "<!-- no command -->",
            "<!--", "a ", "text\n",
        ]
        if depth == 0 and self.random.random() < .2:
            then, other = self.page(1), self.page(1)
            otherwise = self.one(["", f"<!--#else -->{other}", f'<!--#elif expr="{self.expression()}" -->{other}'])
            return f'<!--#if expr="{self.expression()}" -->{then}{otherwise}<!--#endif -->'
        return self.one(simple)

    def page(self, depth=0):
        return "".join(self.command(depth) for _ in range(self.random.randint(1, 8 if depth == 0 else 3)))

    def pages(self):
        block = '<!--#block name="s" -->in its place <!--#endblock -->'
        return {f"page{number}.html": f"{block}{self.page()}end\n" for number in range(6)}

    def configuration(self):
        candidates = ["gzip_static on;", "gzip_static on; gzip_vary on;", "gzip_static always; gunzip on;", "gunzip on;", "ssi_silent_errors on;",
                      "gzip on; gzip_min_length 1;", "add_before_body /answer;", "charset utf-8;", "error_page 404 /error.html;", "ssi_last_modified on;",
                      "ssi_min_file_chunk 1;"]
        chosen = self.random.sample(candidates, self.random.randint(0, 4))
        return CONFIGURATION.replace("%HERE%", " ".join(chosen)).replace("%STATUS%", self.one(["", "=", "=200", "=404"]))

    def request(self):
        path = self.one([f"/page{number}.html" for number in range(6)] * 2 + ["/a.txt", "/c.html"])
        arguments = self.one(["", "", "?a=a", "?a=ab&b=a.txt", "?a=%3Cb%3E&b=dir/", "?b=c.html", "?a&b=/b.html"])
        fields = [("Host", "a.test"), *([("Accept-Encoding", "gzip")] if self.random.random() < .5 else [])]
        return path + arguments, fields


def asked(port, target, fields):
    """The answer, without what may differ."""
    with Client(("127.0.0.1", port), timeout=20) as client:
        answer = client.request("GET", target, [*fields, ("Connection", "close")], None)
    text = answer.body
    if answer.get("Content-Encoding") == "gzip":
        text = zlib.decompress(text, 31)
    for own in (b"nginx/1.", b"monoceros/0."):
        before, *rest = text.split(own)
        text = before + b"".join(b"SERVER" + part.partition(b"<")[1] + part.partition(b"<")[2] for part in rest)
    kept = [(name, answer.get(name)) for name in ("Content-Type", "Content-Encoding", "Vary", "Last-Modified")]
    return answer.status, kept, text.replace(str(port).encode(), b"PORT")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_chance(seed, serve_nginx, tmp_path):
    nginx = which("nginx")
    assert nginx, "the system's nginx"
    chance = Chance(seed)
    pages = chance.pages()
    for path, text in {**PLAIN, **pages}.items():
        place = tmp_path / "root" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
    conf, theirs = first_accepted(
        nginx, tmp_path, lambda _: chance.configuration().replace("%ROOT%", str(tmp_path / "root")))
    ours = serve_nginx("include mime.types;\n" + conf, files={"mime.types": (theirs.directory / "mime.types").read_text()})
    with theirs:
        for number in range(REQUESTS):
            target, fields = chance.request()
            one, other = (asked(port, target, fields) for port in (theirs.port, ours.port))
            page = pages.get(target.split("?")[0].strip("/"))
            assert other == one, f"request {number}: {target} {fields}\n{page}\n{conf}"
