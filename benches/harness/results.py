"""Keeps the outcome of each work and writes RESULTS.md from all that are kept."""

import dataclasses
import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path

from .outcome import Bar, Outcome

HEAD = """\
# Results

Written by `make bench`; how it is measured: [README.md](README.md). A section is replaced when its work is measured again.

"""


def keep(directory, outcome, settings):
    """Stores an outcome beside the others, with what it was measured on."""
    directory.mkdir(exist_ok=True)
    data = dataclasses.asdict(outcome) | {
        "date": datetime.date.today().isoformat(),
        "machine": machine(settings),
        "trained": "trained" in settings.monoceros.parts,
        "rounds": f"{settings.rounds} rounds of {settings.seconds} s",
    }
    (directory / f"{outcome.work}.json").write_text(json.dumps(data, indent=1))


def write(directory, path, order):
    """Writes RESULTS.md: the works in `order`, then any others."""
    kept = {file.stem: json.loads(file.read_text()) for file in sorted(directory.glob("*.json"))}
    names = sorted(kept, key=lambda name: (order.index(name) if name in order else len(order), name))
    if not names:
        return
    text = [HEAD]
    common = kept[names[-1]]["machine"]
    text.append(f"Machine: {common}\n\n")
    for name in names:
        data = kept[name]
        bars = [Bar(**bar) for bar in data["bars"]]
        outcome = Outcome(name, data["title"], data["columns"], data["rows"], bars, data["notes"])
        text.append(f"## {outcome.title}\n\n{data['date']}")
        text.append(f", {data['rounds']}" if "connections" in outcome.columns else "")
        text.append(", built by `make release`" if data.get("trained") else "")
        text.append("" if data["machine"] == common else f"; on {data['machine']}")
        text.append("\n\n" + "\n".join(outcome.lines()) + "\n\n")
    path.write_text("".join(text).rstrip() + "\n")


def machine(settings):
    """Cores, kernel and versions, in one line, without anything that names this machine."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) // (1 << 20)
    python = settings.venv / "bin/python"
    versions = json.loads(output(python, "-c", VERSIONS)) if python.exists() else {}
    facts = [
        f"{os.cpu_count()} cores" + (f" ({cpu[1].strip()})" if cpu else ""),
        f"{memory} GiB",
        f"Linux {platform.release().split('-')[0]}",
        output(python, "-V") if python.exists() else "",
        output(settings.nginx, "-v").replace("nginx version: nginx/", "nginx ") if settings.nginx else "",
        *(f"{name} {version}" for name, version in versions.items()),
    ]
    return ", ".join(fact for fact in facts if fact)


VERSIONS = """
import json
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in ("granian", "gunicorn", "uWSGI", "Flask"):
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def output(*command):
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return (run.stdout or run.stderr).strip()
