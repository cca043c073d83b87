"""Six thousand slow clients against two sync workers, and what normal clients notice of them."""

import mmap
import time

from . import processes
from .load import Client
from .outcome import OURS, Outcome, mebibytes, number
from .servers import Fleet

EACH = 2_000
# Eight clients, 50 requests a second each: busy enough to meet every stall, idle enough to leave the machine
# to the server.
NORMAL = {"connections": 8, "pace": 0.02}
# 64 KiB of response buffer for each slow reader, 16 KiB for each other, and something for the rest.
GROWTH = 256 << 20
# What all the slow readers' answers and their buffers in the kernel take together, twice over.
TOUCHED = 2 << 30


def slow(settings, directory):
    outcome = Outcome(
        "slow",
        f"{EACH:,} slow headers, {EACH:,} slow bodies and {EACH:,} slow readers for {settings.siege} s",
        ["server", "requests", "failed", "p99 µs alone", "p99 µs then", "memory alone MiB", "half-time", "at the end"],
        notes=["Normal clients: 8 connections, 400 requests/s together. Memory: PSS of all processes."],
    )
    touch_memory()
    for name in settings.choose("monoceros", "nginx + gunicorn"):
        with Fleet(settings, directory) as fleet:
            server = fleet.start(name, app="hello", path="/", connections=20_000)
            alone = normal(server, settings.calm)
            start = processes.pss(server.pids())
            # Niced: the besiegers must not take the processor from the server on a machine they share.
            with Client("slow", server.port, nice=10, connections=EACH) as besiegers:
                opened = besiegers.message()["open"]
                with Client("steady", server.port, **NORMAL) as client:
                    time.sleep(settings.siege / 2)
                    middle = processes.pss(server.pids())
                    time.sleep(settings.siege / 2)
                    end = processes.pss(server.pids())
                    then = client.finish()
                report = besiegers.finish()
        outcome.rows.append(
            [name, number(then["requests"]), number(then["failed"]), number(alone["p99"]), number(then["p99"])]
            + [mebibytes(value) for value in (start, middle, end)]
        )
        outcome.notes.append(f"{name}: {opened:,} slow clients connected at first; the rest of their story: {report}")
        if then["failed"]:
            outcome.notes.append(f"{name}: failed by reason: {then['failures']}")
        if name == OURS:
            outcome.bar("failed requests of normal clients", then["failed"], 0)
            ratio = then["p99"] / alone["p99"] if then["p99"] and alone["p99"] else None
            outcome.bar("p99 at most twice the unloaded one (then ÷ alone)", ratio, 2)
            outcome.bar("memory grown by at most 256 MiB", (end - start) / (1 << 20), GROWTH / (1 << 20), " MiB")
            late = (end - middle) / (1 << 20)
            outcome.bar("of that in the second half at most 16 MiB", late, 16, " MiB")
    yield outcome


def touch_memory():
    """A virtual machine has its memory from the host when it is first touched, a page at a time, which takes several
    times what filling the page takes. Whichever server is first would pay for it."""
    with mmap.mmap(-1, TOUCHED) as memory:
        for at in range(0, TOUCHED, mmap.PAGESIZE):
            memory[at] = 1


def normal(server, seconds):
    with Client("steady", server.port, **NORMAL) as client:
        time.sleep(seconds)
        return client.finish()
