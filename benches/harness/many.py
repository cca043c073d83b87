"""Many server blocks in one nginx.conf: start, reload and memory, each beside nginx."""

import os
import signal
import time
from statistics import median

from . import processes
from .outcome import OURS, Outcome, mebibytes, number
from .servers import Fleet

SIZES = (1, 100, 1_000, 10_000)
# From here on everything is measured three times at most: nginx takes ten seconds for each.
LARGE = 10_000
# Between two looks whether the server answers yet.
LOOK = 0.002
LOCATIONS = """\
        location = /status {{ return 204; }}
        location /static/ {{ alias /srv/site{n}/static/; expires 30d; }}
        location ~ \\.(jpg|png|css|js)$ {{ root /srv/site{n}/assets; add_header X-Site {n}; }}
        location /old{n}/ {{ rewrite ^/old{n}/(.*)$ /new/$1 permanent; }}
        location / {{ return 200 "{body}"; }}
"""


def site(port, count, body):
    """The contents of an `http` block with so many servers; each answers `/` with `body`."""
    servers = (
        f"    server {{\n        listen 127.0.0.1:{port};\n        server_name {name(n)} www.{name(n)};\n"
        f"        root /srv/site{n}/www;\n{LOCATIONS.format(n=n, body=body)}    }}\n"
        for n in range(count)
    )
    return "server_names_hash_bucket_size 128;\n" + "".join(servers)


def name(n):
    return f"site{n}.example.com"


def many(settings, directory):
    names = settings.choose("monoceros", "nginx")
    for count in SIZES:
        rounds = min(settings.rounds, 3) if count >= LARGE else settings.rounds
        outcome = Outcome(
            f"many-{count}",
            f"nginx.conf: {count:,} servers with 5 locations each",
            ["server", "start s", "reload s", "after start MiB", "after reload MiB"],
            notes=[
                "Until a request to the last server gets its (new) answer; medians of "
                f"{rounds} rounds. PSS of all processes, once the processes of before the reload have gone."
            ],
        )
        found = {name: [] for name in names}
        for _ in range(rounds):
            for server in names:
                found[server].append(one(settings, directory, server, count))
            settings.say(".", end="")
        settings.say("")
        medians = {server: [median(column) for column in zip(*rows)] for server, rows in found.items()}
        for server, (start, reload, before, after) in medians.items():
            outcome.rows.append([server, number(start), number(reload), mebibytes(before), mebibytes(after)])
        ratios = [None] * 4
        if len(medians) == 2:
            ratios = [ours / its for ours, its in zip(medians[OURS], medians["nginx"])]
        if count >= LARGE:
            outcome.bar("start no slower than nginx (ours ÷ its)", ratios[0], 1)
            outcome.bar("reload no slower than nginx (ours ÷ its)", ratios[1], 1)
            outcome.bar("memory no more than 1.5 times nginx's, after start (ours ÷ its)", ratios[2], 1.5)
            outcome.bar("memory no more than 1.5 times nginx's, after reload (ours ÷ its)", ratios[3], 1.5)
        yield outcome


def one(settings, directory, which, count):
    """Seconds to start and to reload, bytes after each."""
    with Fleet(settings, directory) as fleet:
        server = fleet.launch(which, lambda port: site(port, count, "first"))
        start = until(server, count, b"first") - server.began
        before = settled(server, set())
        old = set(server.pids()) - set(server.roots)
        configuration = server.directory / "site.conf"
        configuration.write_text(configuration.read_text().replace('return 200 "first"', 'return 200 "second"'))
        begin = time.monotonic()
        os.kill(server.roots[0], signal.SIGHUP)
        reload = until(server, count, b"second") - begin
        # Our edge stays the same process.
        after = settled(server, old if which == "nginx" else set())
        return start, reload, before, after


def until(server, count, body, seconds=120):
    """When the last server answers with `body`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if server.get("/", host=name(count - 1)) == body:
                return time.monotonic()
        except (OSError, ValueError):
            pass
        server.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} does not serve {count} servers within {seconds} s")
        time.sleep(LOOK)


def settled(server, leaving, seconds=60):
    """Memory of all processes, a second after those that leave have gone."""
    deadline = time.monotonic() + seconds
    while leaving & set(server.pids()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    return processes.pss(server.pids())
