"""Memory of the edge with ten thousand idle keep-alive connections."""

import time

from . import processes
from .load import Client
from .outcome import OURS, Outcome, mebibytes
from .servers import Fleet

CONNECTIONS = 10_000


def idle(settings, directory):
    files = directory / "files"
    files.mkdir()
    directory.chmod(0o755)
    (files / "small.bin").write_bytes(b"x" * 1024)
    outcome = Outcome(
        "idle",
        f"{CONNECTIONS:,} idle keep-alive connections",
        ["server", "edge before MiB", "edge with them MiB", "bytes each", "all processes MiB", "still open"],
        notes=["PSS of the edge's processes and their master; `all processes` has the Python workers too."],
    )
    totals = {}
    for name in settings.choose("monoceros", "nginx"):
        with Fleet(settings, directory) as fleet:
            server = fleet.start(name, app="hello", path="/static/small.bin", static=files, connections=20_000)
            before = processes.pss(server.edge_pids())
            with Client("idle", server.port, connections=CONNECTIONS, path="/static/small.bin") as client:
                client.message()
                time.sleep(1)  # what the server does once after the last answer belongs to the figure
                with_them = processes.pss(server.edge_pids())
                everything = processes.pss(server.pids())
                still = client.finish()["open"]
            totals[name] = with_them
            each = (with_them - before) / CONNECTIONS
            outcome.rows.append(
                [name, mebibytes(before), mebibytes(with_them), f"{each:,.0f}", mebibytes(everything), f"{still:,}"]
            )
            if name == OURS:
                outcome.bar("connections still open", still, CONNECTIONS, least=True)
    ratio = totals[OURS] / totals["nginx"] if len(totals) == 2 else None
    outcome.bar("memory of the edge no more than nginx's (ours ÷ its)", ratio, 1)
    yield outcome
