"""The system's nginx."""

import itertools
import os
import subprocess

from .client import Broken, Client
from .server import free_port, wait_until


def first_accepted(path, directory, make):
    """The first of what `make(attempt)` gives that nginx takes, and the nginx with it. Chance makes some that are none:
    the same directive twice."""
    for attempt in itertools.count():
        conf = make(attempt)
        nginx = Nginx(path, directory / f"theirs{attempt}", conf)
        refused = nginx.verdict()
        if not refused:
            return conf, nginx
        assert attempt < 20, f"{refused}\n{conf}"


class Nginx:
    """The system's nginx, in a directory of its own."""

    def __init__(self, path, directory, conf):
        directory.mkdir()
        self.port = free_port()
        self.directory = directory
        temp = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (directory / "nginx.conf").write_text(
            # The directories of the tests are for who made them.
            ("user root;\n" if os.geteuid() == 0 else "")
            + f"daemon off; pid {directory}/pid; error_log {directory}/error.log; worker_processes 1;\n"
            f"events {{ worker_connections 256; }}\nhttp {{ access_log off; {temp}\n include mime.types;\n"
            + conf.replace("%PORT%", str(self.port)) + "\n}")
        (directory / "mime.types").write_text("types { text/html html htm; text/plain txt; image/png png; }")
        self.argv = [path, "-e", str(directory / "error.log"), "-p", str(directory), "-c", str(directory / "nginx.conf")]
        self.process = None

    def verdict(self):
        """What it says against the configuration; empty: nothing."""
        run = subprocess.run([*self.argv, "-t"], capture_output=True, text=True, timeout=60, check=False)
        return run.stderr if run.returncode else ""

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stderr=subprocess.DEVNULL)

        def answers():
            try:
                with Client(("127.0.0.1", self.port)) as client:
                    client.request("GET", "/")
            except (OSError, Broken):
                return False
            return True

        wait_until(answers, "nginx", 30)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
