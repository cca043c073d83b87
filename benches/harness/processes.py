"""Process trees: what they cost in CPU time and memory, and how they are ended. Linux's /proc only."""

import os
import signal
import subprocess
import time
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def parents():
    """Parent of every process, by pid."""
    found = {}
    for entry in os.listdir(PROC):
        if entry.isdigit():
            try:
                # The name in parentheses may hold anything: what follows the last one is safe to split.
                fields = (PROC / entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # gone since listdir
            found[int(entry)] = int(fields[1])
    return found


def tree(*roots):
    """The given processes and all their descendants, parents before children."""
    children = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found = list(roots)
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def executable(pid):
    """The file that a process runs; None when it has gone."""
    try:
        return os.readlink(PROC / str(pid) / "exe")
    except OSError:
        return None


class CpuClock:
    """CPU time of a set of process trees between `start` and `stop`, exact to the scheduler's nanoseconds.

    The per-thread `schedstat` is exact but forgets threads that ended; the per-process `stat` remembers them
    but counts in ticks. So the first is used unless the second knows of clearly more.
    """

    def __init__(self, roots):
        self.roots = roots

    def start(self):
        self.before = self.sample()

    def stop(self):
        """Seconds used since `start`.

        Raises RuntimeError when a process of the tree ended meanwhile: its time would be missing.
        """
        after = self.sample()
        if missing := self.before.keys() - after.keys():
            raise RuntimeError(f"processes {sorted(missing)} ended during the measurement")
        return sum(self.used(self.before.get(pid, (0, {})), now) for pid, now in after.items())

    @staticmethod
    def used(before, now):
        ticks_before, threads_before = before
        ticks_now, threads_now = now
        exact = (sum(threads_now.values()) - sum(threads_before.values())) / 1e9
        coarse = (ticks_now - ticks_before) / TICKS
        # User and system time are each cut to whole ticks, at both ends.
        return exact if abs(coarse - exact) < 4 / TICKS else max(exact, coarse)

    def sample(self):
        found = {}
        for pid in tree(*self.roots):
            try:
                fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
                if fields[0] == "Z":
                    continue
                threads = {}
                for thread in os.listdir(PROC / str(pid) / "task"):
                    try:
                        text = (PROC / str(pid) / "task" / thread / "schedstat").read_text()
                    except OSError:
                        continue  # the thread ended between listdir and here
                    threads[thread] = int(text.split()[0])
            except OSError:
                continue
            found[pid] = int(fields[11]) + int(fields[12]), threads
        return found


def foreign_load(seconds=1.0):
    """Share of all cores that is busy now, before anything of ours runs: 0 to 1."""

    def sample():
        # user nice system idle iowait irq softirq steal; guest time is in user already.
        times = [int(word) for word in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(times), times[3] + times[4]

    total, rest = sample()
    time.sleep(seconds)
    total_now, rest_now = sample()
    return 1 - (rest_now - rest) / max(1, total_now - total)


def pss(pids):
    """Proportional set size of the processes together, bytes. Memory of the kernel is not in it."""
    total = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def end(process, grace=10):
    """Ends a process that we started and whatever of its tree outlives it, by pid."""
    pids = tree(process.pid)
    identities = {pid: started(pid) for pid in pids}
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    deadline = time.monotonic() + grace
    for pid in pids[1:]:
        # The start time tells our process from a stranger who was given its number since.
        while (since := started(pid)) is not None and since == identities[pid]:
            if time.monotonic() > deadline:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    break
            time.sleep(0.01)


def started(pid):
    """When a process began, in ticks since boot; None when there is none or it is a zombie."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
