"""Groups of other servers: what a request costs must not grow with how many there are to choose from."""

from statistics import median

from . import load
from .outcome import OURS, Outcome, number
from .servers import LOOPBACK, Fleet
from .throughput import Figures, files_behind, take_turns, url

SIZES = (10, 10_000)
CONNECTIONS = 64
# What decides who is next, and the directive for it.
WAYS = {"round robin": "", "hash": "hash $connection-$connection_requests;"}
# What the largest group may cost of what the smallest does.
MOST = 1.1


def groups(settings, directory):
    names = settings.choose("monoceros", "nginx") if settings.nginx else []
    files = directory / "behind"
    files.mkdir()
    (files / "1k").write_bytes(b"x" * 1024)
    behind_server = directory / "behind-server"
    behind_server.mkdir()
    with Fleet(settings, behind_server) as fleet:
        behind = files_behind(fleet, files) if names else None
        for way, directive in WAYS.items():
            yield measure(settings, directory, names, behind, way, directive)


def measure(settings, directory, names, behind, way, directive):
    """All servers with groups of each size, side by side."""
    key = way.replace(" ", "-")
    outcome = Outcome(
        f"groups-{key}",
        f"nginx.conf: proxy_pass to a group, {way}",
        ["server", "servers in the group", "CPU µs/request", "÷ that of the smallest", "requests/s", "errors"],
        notes=[
            "All servers of a group are one and the same nginx, so that connections to it are kept in each case and "
            "only the choice differs."
        ],
    )
    if not names:
        return outcome
    figures = Figures()
    with Fleet(settings, directory) as fleet:
        running = []
        for name in names:
            for size in SIZES:
                place = directory / f"{key}-{size}"
                place.mkdir(exist_ok=True)
                fleet.directory = place
                server = fleet.start(name, path="/1k", site=lambda port, size=size: site(port, behind.port, directive, size))
                server.name = (name, size)
                running.append(server)
        take_turns(settings, running, CONNECTIONS, once, figures)
        settings.say("")
    for name in names:
        for size in SIZES:
            rounds = figures.rounds[(name, size), CONNECTIONS]
            outcome.rows.append([
                name, f"{size:,}",
                number(figures.median((name, size), CONNECTIONS, "cost")),
                number(growth(figures, name, size)),
                number(figures.median((name, size), CONNECTIONS, "rate")),
                str(sum(one.errors for one in rounds)),
            ])  # fmt: skip
    if OURS in names:
        value = growth(figures, OURS, SIZES[-1])
        outcome.bar(f"CPU with {SIZES[-1]:,} servers at most {MOST} of that with {SIZES[0]}", value, MOST)
        for size in SIZES:
            outcome.bar(f"our errors with {size:,} servers", sum(one.errors for one in figures.rounds[(OURS, size), CONNECTIONS]), 0)
    return outcome


def growth(figures, name, size):
    """What a request costs in a group of this size, divided by what it costs in the smallest, within each round."""
    pairs = zip(figures.rounds[(name, size), CONNECTIONS], figures.rounds[(name, SIZES[0]), CONNECTIONS])
    return median(large.cost / small.cost for large, small in pairs)


def once(server, seconds):
    return load.wrk(url(server, "/1k"), CONNECTIONS, seconds)


def site(port, behind, directive, size):
    servers = f"server {LOOPBACK}:{behind};" * size
    return (
        f"keepalive_requests 1000000000;"
        f" upstream behind {{ {directive} {servers} keepalive 64; keepalive_requests 1000000000; }}"
        f" server {{ listen {LOOPBACK}:{port}; location / {{ proxy_pass http://behind;"
        f" proxy_http_version 1.1; proxy_set_header Connection ''; }} }}"
    )
