#!/usr/bin/env python3
"""Measures Monoceros beside its peers and checks the bars that the project set itself: see README.md.

Needs Python 3.10, nginx, wrk, h2load and openssl; makes a virtual environment for the Python peers beside this file.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import encrypted, faults, groups, many, memory, processes, results, servers, slow, throughput

HERE = Path(__file__).resolve().parent
WORKS = {
    "hello": throughput.hello,
    "large": throughput.large,
    "flask": throughput.flask,
    "static": throughput.static,
    "conf": throughput.conf,
    "proxy": throughput.proxy,
    "groups": groups.groups,
    "cache": throughput.cache,
    "many": many.many,
    "tls": encrypted.tls,
    "http2": encrypted.http2,
    "idle": memory.idle,
    "slow": slow.slow,
    "kill": faults.kill,
    "reload": faults.reload,
}
# Programs that the works need, and Debian's packages of them.
PACKAGES = {"nginx": "nginx-light", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl"}
# Above this share of the cores in use by others, a result says so.
BUSY = 0.05
# The sections of RESULTS.md.
SECTIONS = [
    "hello",
    "large",
    "flask",
    *(f"static-{name}" for name in throughput.STATIC),
    *(f"conf-{throughput.key(name)}" for name in throughput.SITES),
    *(f"proxy-{name}" for name in throughput.PROXIED),
    *(f"groups-{way.replace(' ', '-')}" for way in groups.WAYS),
    "cache",
    *(f"many-{count}" for count in many.SIZES),
    "tls-handshakes",
    "tls-bulk",
    "tls-idle",
    "http2",
    "idle",
    "slow",
    "kill",
    "reload",
]


@dataclasses.dataclass
class Settings:
    """What a run is to do. Times in seconds."""

    monoceros: Path
    nginx: str | None
    venv: Path
    servers: set[str] | None
    rounds: int
    seconds: int
    calm: int = 20
    siege: int = 60
    killing: int = 30
    reloads: int = 100
    apps: Path = HERE / "apps"

    def choose(self, *names):
        """Those of the servers that were asked for and can be run."""
        chosen = []
        for name in names:
            if self.servers and name.replace(" ", "") not in self.servers:
                continue
            there, why = servers.available(self, name)
            if there:
                chosen.append(name)
            else:
                self.say(f"  without {name}: {why}")
        return chosen

    @staticmethod
    def say(text, end="\n"):
        print(text, end=end, flush=True)


def main():
    options = arguments()
    settings = prepare(options)
    failed = False
    for name in options.only:
        settings.say(f"== {name}")
        busy = processes.foreign_load()
        with tempfile.TemporaryDirectory(prefix="monoceros-bench-") as directory:
            Path(directory).chmod(0o755)  # nginx's workers may have given up root
            for outcome in WORKS[name](settings, Path(directory)):
                if not outcome.rows:
                    settings.say("  nothing to measure")
                    continue
                if busy > BUSY:
                    outcome.notes.append(f"The machine was {busy:.0%} busy with other things before this began.")
                settings.say(f"\n{outcome.title}\n" + "\n".join(outcome.lines()) + "\n")
                failed |= any(bar.passed is False for bar in outcome.bars)
                # RESULTS.md holds whole runs only: all servers, full length.
                if not options.quick and not options.servers and settings.monoceros.exists():
                    results.keep(HERE / ".results", outcome, settings)
                    results.write(HERE / ".results", HERE / "RESULTS.md", SECTIONS)
    return 1 if failed else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--monoceros", type=Path, default=HERE.parent / "target/release/monoceros", metavar="BINARY")
    parser.add_argument("--only", type=listed(WORKS), default=list(WORKS), metavar="WORK,…", help=", ".join(WORKS))
    names = [name.replace(" ", "") for name in servers.SERVERS]
    parser.add_argument("--servers", type=listed(names), metavar="SERVER,…", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of one round")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement: short, RESULTS.md stays")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 1
    return options


def listed(allowed):
    """A type for argparse: names separated by commas."""

    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
        return names

    return parse


def prepare(options):
    """Checks what the machine has to have and makes the virtual environment."""
    missing = [program for program in PACKAGES if not which(program)]
    if missing:
        sys.exit(
            f"make bench needs {' and '.join(missing)}; Debian, Ubuntu: apt-get install "
            + " ".join(PACKAGES[program] for program in missing)
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 12_000:
        sys.exit(f"make bench opens 10,000 connections, but only {hard} descriptors are allowed here (ulimit -Hn)")
    settings = Settings(
        monoceros=options.monoceros.resolve(),
        nginx=which("nginx"),
        venv=HERE / ".venv",
        servers=set(options.servers) if options.servers else None,
        rounds=options.rounds,
        seconds=options.seconds,
    )
    if options.quick:
        settings.calm, settings.siege, settings.killing, settings.reloads = 5, 10, 5, 10
    install(settings.venv)
    return settings


def which(program):
    # Debian keeps nginx where only root's PATH looks.
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


def install(venv):
    """Makes the virtual environment with the peers when it is not there or its list has changed."""
    lists = [HERE / "requirements.txt", HERE / "optional-requirements.txt"]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in lists)).hexdigest()
    mark = venv / "installed"
    with contextlib.suppress(OSError):
        if mark.read_text() == wanted:
            return
    Settings.say("making benches/.venv with the peers")
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
    subprocess.run([*pip, lists[0]], check=True)
    if subprocess.run([*pip, lists[1]], capture_output=True, check=False).returncode:
        Settings.say("uWSGI does not build here: its row stays out")
    mark.write_text(wanted)


if __name__ == "__main__":
    sys.exit(main())
