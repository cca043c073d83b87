"""Workers killed and reloads under load: how many requests fail."""

import os
import random
import signal
import time

from .load import Client
from .outcome import OURS, Outcome, number
from .servers import Fleet

CONNECTIONS = 16
COLUMNS = ["server", "{events}", "requests", "failed", "p50 µs", "p99 µs", "worst µs"]


def kill(settings, directory):
    outcome = Outcome(
        "kill",
        f"kill -9 of a random worker every 200 ms for {settings.killing} s",
        [column.format(events="kills") for column in COLUMNS],
    )
    for name in settings.choose("monoceros", "nginx + gunicorn"):
        with Fleet(settings, directory) as fleet:
            server = fleet.start(name, app="hello", path="/")
            kills = 0
            with Client("steady", server.port, connections=CONNECTIONS) as client:
                end = time.monotonic() + settings.killing
                due = time.monotonic()
                while time.monotonic() < end:
                    if workers := server.worker_pids():
                        try:
                            os.kill(random.choice(workers), signal.SIGKILL)
                            kills += 1
                        except ProcessLookupError:
                            pass  # it ended by itself meanwhile
                    due += 0.2
                    time.sleep(max(0, due - time.monotonic()))
                report = client.finish()
        row(outcome, name, kills, report)
        if name == OURS:
            outcome.bar("workers killed", kills, settings.killing * 5 * 0.8, least=True)
            outcome.bar("failed requests", report["failed"], 0)
    yield outcome


def reload(settings, directory):
    outcome = Outcome(
        "reload",
        f"{settings.reloads} HUPs under load, each when the workers of the last one have taken over",
        [column.format(events="reloads") for column in COLUMNS],
    )
    for name in settings.choose("monoceros", "nginx + gunicorn"):
        with Fleet(settings, directory) as fleet:
            server = fleet.start(name, app="hello", path="/")
            done = 0
            with Client("steady", server.port, connections=CONNECTIONS) as client:
                while done < settings.reloads and renewed(server):
                    done += 1
                report = client.finish()
        row(outcome, name, done, report)
        if name == OURS:
            outcome.bar("reloads that took place", done, settings.reloads, least=True)
            outcome.bar("failed requests", report["failed"], 0)
    yield outcome


def renewed(server, patience=15):
    """Sends HUP and waits until two workers run, none of them an old one. False when that does not happen."""
    old = set(server.worker_pids())
    os.kill(server.started[-1][0].pid, signal.SIGHUP)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        workers = set(server.worker_pids())
        if len(workers) == 2 and not workers & old:
            return True
        time.sleep(0.02)
    return False


def row(outcome, name, events, report):
    outcome.rows.append(
        [name, str(events), number(report["requests"]), number(report["failed"])]
        + [number(report[what]) for what in ("p50", "p99", "worst")]
    )
    if report["failed"]:
        outcome.notes.append(f"{name}: failed by reason: {report['failures']}")
        outcome.notes.append(f"{name}: the first: {report['examples'][:2]}")
