#!/usr/bin/env python3
"""Builds Monoceros for those who want the last tenth: optimised by a profile of the works that are measured here.

Three steps: a build that counts how often which way is taken, the works of run.py with it (ours alone, nothing is
compared), and the build that knows the counts. Takes some twenty minutes on two cores. The binary is
target/trained/release/monoceros.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What is done while it is counted: all that runs for long, each for a moment.
WORKS = "hello,flask,static,conf,proxy,cache,http2,tls"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parent / "target")
    parser.add_argument("--target", type=Path, default=target, metavar="DIRECTORY", help="where cargo builds")
    options = parser.parse_args()
    target = options.target.resolve()
    profdata = find_profdata()
    counts, profile = target / "profile", target / "monoceros.profdata"
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir(parents=True)
    counting = build(target / "counting", f"-Cprofile-generate={counts}")
    train(counting)
    run(profdata, "merge", "--output", profile, counts)
    print(build(target / "trained", f"-Cprofile-use={profile}"))


def find_profdata():
    """The llvm-profdata that reads what this rustc writes."""
    version = output("rustc", "-vV")
    major = re.search(r"^LLVM version: (\d+)", version, re.M)[1]
    host = re.search(r"^host: (\S+)", version, re.M)[1]
    of_rust = Path(output("rustc", "--print", "sysroot").strip(), "lib/rustlib", host, "bin/llvm-profdata")
    places = [of_rust, f"llvm-profdata-{major}", f"/usr/lib/llvm-{major}/bin/llvm-profdata"]
    for place in places:
        if found := shutil.which(place):
            return found
    sys.exit(
        f"a trained build needs llvm-profdata of LLVM {major}: `rustup component add llvm-tools`,"
        f" or the package llvm-{major} of Debian or of apt.llvm.org"
    )


def build(target, flag):
    flags = " ".join(filter(None, [os.environ.get("RUSTFLAGS"), flag]))
    # The same profile for both: it is part of the names under which the counts are kept.
    run("cargo", "build", "--release", "-p", "monoceros", env=os.environ | {"CARGO_TARGET_DIR": str(target), "RUSTFLAGS": flags})
    return target / "release/monoceros"


def train(binary):
    arguments = ["--monoceros", binary, "--servers", "monoceros", "--rounds", "1", "--seconds", "2", "--only", WORKS]
    # It exits with 1 where there is nobody to be compared with.
    code = subprocess.run([sys.executable, HERE / "run.py", *arguments], check=False).returncode
    if code not in (0, 1):
        sys.exit(f"the works ended with {code}")


def run(*command, env=None):
    subprocess.run(command, check=True, env=env)


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
