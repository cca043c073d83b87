"""TLS and HTTP/2, each beside nginx with the same certificate, the same curve and the same files."""

import subprocess
import time

from . import load, processes
from .outcome import OURS, Outcome, mebibytes, number
from .servers import LOOPBACK, Fleet
from .throughput import NOISE, Figures, errors_bar, take_turns, url

IDLE = 2_000
SMALL, MEDIUM = 1 << 10, 100 << 10


def tls(settings, directory):
    names = settings.choose("monoceros", "nginx")
    site = encrypted_site(directory)
    with Fleet(settings, directory) as fleet:
        servers = [launch(fleet, name, site) for name in names]
        yield handshakes(settings, servers)
        yield bulk(settings, servers)
    yield idle(settings, directory, names, site)


def handshakes(settings, servers):
    """New connections with one small request each; a resumed one has a ticket of the one before."""
    outcome = Outcome(
        "tls-handshakes",
        "TLS 1.3 handshakes with one request each: ECDSA P-256, X25519",
        ["server", "kind", "CPU µs each", "ours ÷ its", "a second", "errors"],
    )
    figures = Figures()
    for kind in ("full", "resumed"):

        def once(server, seconds, kind=kind):
            with load.Client(f"tls-{kind}", server.port, path="/none") as client:
                time.sleep(seconds)
                one = load.Round(**client.finish())
            if not one.requests:
                raise RuntimeError(f"{server.name}: not one {kind} handshake in {seconds} s")
            return one

        take_turns(settings, servers, kind, once, figures)
    settings.say("")
    for kind in ("full", "resumed"):
        for server in servers:
            rounds = figures.rounds[server.name, kind]
            outcome.rows.append(
                [server.name, kind]
                + [number(figures.median(server.name, kind, "cost")), number(figures.ratio(server.name, kind, "cost"))]
                + [number(figures.median(server.name, kind, "rate")), str(sum(one.errors for one in rounds))]
            )
    for kind, least in (("full", 1.2), ("resumed", 1.0)):
        ratio = figures.ratio("nginx", kind, "cost")
        outcome.bar(f"{kind} handshakes per CPU second at least {least} of nginx's",
                    1 / ratio if ratio else None, least, least=True)  # fmt: skip
    errors_bar(outcome, figures)
    return outcome


def bulk(settings, servers):
    outcome = Outcome(
        "tls-bulk",
        f"static file of {MEDIUM:,} bytes over TLS 1.3, 64 connections",
        ["server", "CPU µs/request", "ours ÷ its", "requests/s", "p50 µs", "p99 µs", "errors"],
    )
    figures = Figures()
    take_turns(settings, servers, 64, lambda server, seconds: load.wrk(url(server, "/100k.bin", "https"), 64, seconds), figures)
    settings.say("")
    for server in servers:
        outcome.rows.append(
            [server.name, number(figures.median(server.name, 64, "cost")), number(figures.ratio(server.name, 64, "cost"))]
            + [number(figures.median(server.name, 64, what)) for what in ("rate", "p50", "p99")]
            + [str(sum(one.errors for one in figures.rounds[server.name, 64]))]
        )
    ratio = figures.ratio("nginx", 64, "cost")
    outcome.bar(f"throughput per CPU second at least nginx's ({NOISE:.0%} is noise)",
                1 / ratio if ratio else None, 1 - NOISE, least=True)  # fmt: skip
    errors_bar(outcome, figures)
    return outcome


def idle(settings, directory, names, site):
    outcome = Outcome(
        "tls-idle",
        f"{IDLE:,} idle keep-alive connections by TLS 1.3",
        ["server", "edge before MiB", "edge with them MiB", "bytes each", "still open"],
        notes=["PSS of the edge's processes and their master."],
    )
    each = {}
    for name in names:
        with Fleet(settings, directory) as fleet:
            server = launch(fleet, name, site)
            before = processes.pss(server.edge_pids())
            with load.Client("tls-idle", server.port, path="/1k.bin", connections=IDLE) as client:
                client.message()
                time.sleep(1)  # what the server does once after the last answer belongs to the figure
                with_them = processes.pss(server.edge_pids())
                still = client.finish()["open"]
            each[name] = (with_them - before) / IDLE
            outcome.rows.append([name, mebibytes(before), mebibytes(with_them), f"{each[name]:,.0f}", f"{still:,}"])
            if name == OURS:
                outcome.bar("connections still open", still, IDLE, least=True)
    ratio = each[OURS] / each["nginx"] if len(each) == 2 else None
    outcome.bar("memory of a connection at most 0.7 of nginx's (ours ÷ its)", ratio, 0.7)
    return outcome


def http2(settings, directory):
    names = settings.choose("monoceros", "nginx")
    files(directory)

    def site(port):
        return f"server {{ listen {LOOPBACK}:{port} http2; root {directory}; keepalive_requests 100000000; {CACHE} }}"

    outcome = Outcome(
        "http2",
        f"HTTP/2 in clear text: static file of {SMALL:,} bytes, 64 connections of 32 streams",
        ["server", "CPU µs/request", "ours ÷ its", "requests/s", "errors"],
    )
    figures = Figures()
    with Fleet(settings, directory) as fleet:
        servers = [launch(fleet, name, site, wait=load.h2_answers) for name in names]

        def once(server, seconds):
            return load.h2load(url(server, "/1k.bin"), 64, 32, seconds)

        take_turns(settings, servers, 64, once, figures)
        settings.say("")
    for name in names:
        outcome.rows.append(
            [name, number(figures.median(name, 64, "cost")), number(figures.ratio(name, 64, "cost"))]
            + [number(figures.median(name, 64, "rate")), str(sum(one.errors for one in figures.rounds[name, 64]))]
        )
    outcome.bar("CPU at most 0.9 of nginx's", figures.ratio("nginx", 64, "cost"), 0.9)
    errors_bar(outcome, figures)
    yield outcome


CACHE = "open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;"


def files(directory):
    directory.chmod(0o755)
    (directory / "1k.bin").write_bytes(bytes(range(256)) * (SMALL // 256))
    (directory / "100k.bin").write_bytes(bytes(range(256)) * (MEDIUM // 256))


def encrypted_site(directory):
    """Contents of an `http` block that serves `directory` by TLS, by the port."""
    files(directory)
    key, chain = directory / "key.pem", directory / "chain.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain],
        check=True, capture_output=True,
    )  # fmt: skip
    return lambda port: f"""
    ssl_certificate {chain};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ecdh_curve X25519;
    ssl_session_tickets on;
    server {{
        listen {LOOPBACK}:{port} ssl;
        root {directory};
        keepalive_requests 100000000;
        {CACHE}
        location = /none {{ return 204; }}
    }}"""


def launch(fleet, name, site, wait=load.tls_answers):
    server = fleet.launch(name, site)
    deadline = time.monotonic() + 30
    while not wait(server.port):
        server.check("no answer by TLS or HTTP/2", time.monotonic() > deadline)
        time.sleep(0.05)
    return server
