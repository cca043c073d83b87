"""Servers side by side: all are up, and take turns in short rounds, so that noise strikes each alike."""

from statistics import median

from . import load, processes
from .outcome import OURS, Outcome, number
from .servers import LOOPBACK, Fleet

CONNECTIONS = (64, 1)
# From this body size on, requests are counted by bytes: the head no longer matters.
LARGE = 1 << 20


def measure(settings, directory, work, title, path, names, bars, **start):
    """Rounds of every server at 64 connections and at 1.

    `bars` is called with the outcome and a Figures to add what this work has to reach.
    """
    outcome = Outcome(
        work,
        title,
        ["server", "connections", "CPU µs/request", "ours ÷ its", "requests/s", "p50 µs", "p99 µs", "errors"],
    )
    if not names:
        return outcome
    with Fleet(settings, directory) as fleet:
        servers = [fleet.start(name, path=path, **start) for name in names]
        bodies = {server.name: server.get(path) for server in servers}
        if len(set(bodies.values())) > 1:
            raise RuntimeError(f"{title}: the servers' answers differ")
        size = len(bodies[names[0]])
        figures = Figures()
        for connections in CONNECTIONS:

            def once(server, seconds, connections=connections):
                one = load.wrk(url(server, path), connections, seconds)
                if size >= LARGE:
                    one.count_by_bytes(size)
                return one

            take_turns(settings, servers, connections, once, figures)
        settings.say("")
    outcome.title = f"{title} ({size:,} bytes)"
    for connections in CONNECTIONS:
        for name in names:
            outcome.rows.append(
                [name, str(connections)]
                + [number(figures.median(name, connections, "cost")), number(figures.ratio(name, connections, "cost"))]
                + [number(figures.median(name, connections, what)) for what in ("rate", "p50", "p99")]
                + [str(sum(one.errors for one in figures.rounds[name, connections]))]
            )
    bars(outcome, figures)
    return outcome


def take_turns(settings, servers, key, once, figures):
    """Rounds of `once(server, seconds)`, which gives back a load.Round; what they cost goes to `figures` under `key`."""
    for server in servers:
        once(server, 1)  # warm up
    for turn in range(settings.rounds):
        # Everyone goes first once: who follows a heavy neighbour must not always be the same.
        first = turn % len(servers)
        for server in servers[first:] + servers[:first]:
            clock = processes.CpuClock(server.roots)
            clock.start()
            one = once(server, settings.seconds)
            one.cpu = clock.stop()
            figures.add(server.name, key, one)
        settings.say(".", end="")


def url(server, path, scheme="http"):
    return f"{scheme}://{LOOPBACK}:{server.port}{path}"


class Figures:
    """All rounds of one work."""

    def __init__(self):
        self.rounds = {}

    def add(self, name, connections, outcome):
        self.rounds.setdefault((name, connections), []).append(outcome)

    def median(self, name, connections, what):
        return median(getattr(one, what) for one in self.rounds[name, connections])

    def ratio(self, peer, connections, what):
        """Median over the rounds of our figure divided by the peer's; None where one was not measured."""
        ours, its = self.rounds.get((OURS, connections)), self.rounds.get((peer, connections))
        if not ours or not its:
            return None
        return median(getattr(mine, what) / getattr(other, what) for mine, other in zip(ours, its))


def errors_bar(outcome, figures):
    ours = [one for (name, _), rounds in figures.rounds.items() if name == OURS for one in rounds]
    outcome.bar("our errors", sum(one.errors for one in ours) if ours else None, 0)


PYTHON_SERVERS = ("monoceros", "granian", "nginx + gunicorn", "nginx + uwsgi", "gunicorn")


def python(settings, directory, work, title, path, app, bars):
    """An application behind every Python server. `bars`: our share of a peer's `cost` or `p99` that is to be reached,
    as (its words, the peer, which of the two, the share), at each number of connections.
    """

    def check(outcome, figures):
        for connections in CONNECTIONS:
            for words, peer, what, share in bars:
                outcome.bar(words.format(at=f"at {connections}"), figures.ratio(peer, connections, what), share)
        errors_bar(outcome, figures)

    names = settings.choose(*PYTHON_SERVERS)
    yield measure(settings, directory, work, title, path, names, check, app=app)


def hello(settings, directory):
    bars = [
        ("CPU at most 0.5 of granian's {at}", "granian", "cost", 0.5),
        ("CPU at most 0.1 of nginx + gunicorn's {at}", "nginx + gunicorn", "cost", 0.1),
        ("p99 below granian's {at} (ours ÷ its)", "granian", "p99", 1),
    ]
    yield from python(settings, directory, "hello", "WSGI hello, 2 workers", "/", "hello", bars)


def large(settings, directory):
    """An answer that no single turn of an event loop can send."""
    bars = [
        ("CPU no more than granian's {at}", "granian", "cost", 1),
        ("CPU at most half of nginx + gunicorn's {at}", "nginx + gunicorn", "cost", 0.5),
    ]
    yield from python(settings, directory, "large", "WSGI 256 KiB, 2 workers", "/big", "hello", bars)


def flask(settings, directory):
    bars = [
        ("CPU at most 0.75 of granian's {at}", "granian", "cost", 0.75),
        ("CPU at most 0.35 of nginx + gunicorn's {at}", "nginx + gunicorn", "cost", 0.35),
    ]
    path = "/items/7?page=2"
    yield from python(settings, directory, "flask", "Flask JSON, 2 workers", path, "flask_json", bars)


# Size of the file, our share of nginx's CPU time at most, our share of its throughput at least.
STATIC = {"1k": (1 << 10, 0.9, None), "100k": (100 << 10, 1.05, 1.0), "10m": (10 << 20, 1.05, 1.0)}
# Two runs of one server differ by this much: less is not a difference.
NOISE = 0.03


def static(settings, directory):
    files = directory / "files"
    files.mkdir()
    directory.chmod(0o755)
    names = settings.choose("monoceros", "nginx")
    for name, (size, most, least) in STATIC.items():
        (files / f"{name}.bin").write_bytes(bytes(range(256)) * (size // 256))

        def bars(outcome, figures, most=most, least=least):
            for connections in CONNECTIONS:
                at = f"at {connections}"
                outcome.bar(f"CPU at most {most} of nginx's {at}", figures.ratio("nginx", connections, "cost"), most)
                if least:
                    outcome.bar(f"throughput no less than nginx's {at} (ours ÷ its, {NOISE:.0%} is noise)",
                                figures.ratio("nginx", connections, "rate"), least - NOISE, least=True)  # fmt: skip
            errors_bar(outcome, figures)

        where = directory / name
        where.mkdir()
        path = f"/static/{name}.bin"
        title = f"static file {name}"
        yield measure(settings, where, f"static-{name}", title, path, names, bars, app="hello", static=files)


# What the server of the address has to look through before it answers.
SITES = {
    "return 200": lambda port: server_block(port),
    "100 servers": lambda port: many(port, 100),
    "1,000 servers": lambda port: many(port, 1000),
    "200 regex locations": lambda port: server_block(port, "".join(
        f"location ~ ^/section{number}/(.+)$ {{ return 404; }}" for number in range(200)
    )),
}


def key(name):
    return name.replace(",", "").replace(" ", "-")


def server_block(port, more="", name="localhost"):
    return f"""server {{
        listen {LOOPBACK}:{port};
        server_name {name};
        {more}
        location / {{ return 200 "Hello, world!"; }}
    }}"""


def many(port, count):
    """The address is asked for by its number, which nobody has: the default server answers."""
    return server_block(port) + "".join(server_block(port, name=f"host{n}.example www.host{n}.example") for n in range(count))


def conf(settings, directory):
    names = settings.choose("monoceros", "nginx")
    for name, site in SITES.items():

        def bars(outcome, figures, most=0.95 if name == "return 200" else 1.0):
            for connections in CONNECTIONS:
                at = f"at {connections}"
                outcome.bar(f"CPU at most {most} of nginx's {at}", figures.ratio("nginx", connections, "cost"), most)
            errors_bar(outcome, figures)

        where = directory / key(name)
        where.mkdir()
        yield measure(settings, where, f"conf-{key(name)}", f"nginx.conf: {name}", "/", names, bars, site=site)


# What is passed on: the name of the work, and bytes of the answer.
PROXIED = {"1k": 1024, "100k": 100 * 1024}


def at_most_nginx(outcome, figures):
    """What passing on has to reach."""
    for connections in CONNECTIONS:
        ratio = figures.ratio("nginx", connections, "cost")
        outcome.bar(f"CPU at most 0.9 of nginx's at {connections}", ratio, 0.9)
    errors_bar(outcome, figures)


def files_behind(fleet, files):
    """The server that answers are asked of."""
    return fleet.start(
        "nginx",
        path="/1k",
        site=lambda port: f"sendfile on; keepalive_requests 1000000000; open_file_cache max=10 inactive=1h;"
        f" server {{ listen {LOOPBACK}:{port}; root {files}; }}",
    )


def proxy(settings, directory):
    """One nginx.conf for both in front of the same nginx, over connections that are kept."""
    names = settings.choose("monoceros", "nginx") if settings.nginx else []
    files = directory / "behind"
    files.mkdir()
    for name, size in PROXIED.items():
        (files / name).write_bytes(b"x" * size)
    where = directory / "behind-server"
    where.mkdir()
    with Fleet(settings, where) as fleet:
        behind = files_behind(fleet, files) if names else None
        for name in PROXIED:

            def site(port):
                return (
                    f"keepalive_requests 1000000000;"
                    f" upstream behind {{ server {LOOPBACK}:{behind.port}; keepalive 64; keepalive_requests 1000000000; }}"
                    f" server {{ listen {LOOPBACK}:{port}; location / {{ proxy_pass http://behind;"
                    f" proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;"
                    f" proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}"
                )

            place = directory / name
            place.mkdir()
            yield measure(settings, place, f"proxy-{name}", "nginx.conf: proxy_pass", f"/{name}", names, at_most_nginx, site=site)


def cache(settings, directory):
    """One nginx.conf for both; after the first request every answer comes from the cache."""
    names = settings.choose("monoceros", "nginx") if settings.nginx else []
    files = directory / "behind"
    files.mkdir()
    (files / "1k").write_bytes(b"x" * 1024)
    where = directory / "behind-server"
    where.mkdir()
    with Fleet(settings, where) as fleet:
        behind = files_behind(fleet, files) if names else None

        def site(port):
            kept = directory / f"kept-{port}"
            kept.mkdir()
            kept.chmod(0o777)
            return (
                f"keepalive_requests 1000000000; sendfile on; open_file_cache max=100 inactive=1h;"
                f" proxy_cache_path {kept} levels=1:2 keys_zone=kept:10m inactive=1h;"
                f" server {{ listen {LOOPBACK}:{port}; location / {{ proxy_pass http://{LOOPBACK}:{behind.port};"
                f" proxy_cache kept; proxy_cache_valid 200 1h; }} }}"
            )

        yield measure(settings, directory, "cache", "nginx.conf: proxy_cache, a hit", "/1k", names, at_most_nginx, site=site)
