"""The load: wrk for figures, our own client (`client.py`, a process of its own) where each request counts."""

import json
import re
import socket
import ssl
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CLIENT = Path(__file__).with_name("client.py")

# wrk's own report rounds; its script interface gives the exact figures.
REPORT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n@ {"requests": %d, "bytes": %.0f, "seconds": %.6f, "p50": %.1f, "p99": %.1f, "errors": %d}\\n',
    summary.requests, summary.bytes, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass
class Round:
    """One server's round: latencies in microseconds."""

    requests: float
    bytes: int
    seconds: float
    p50: float
    p99: float
    errors: int
    cpu: float = 0.0

    def count_by_bytes(self, size):
        """Sets `requests` from the bytes that came.

        With large bodies, what is under way when the round ends is a good part of the work.
        """
        self.requests = self.bytes / size

    @property
    def rate(self):
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def cost(self):
        """CPU microseconds of the server's processes for one request."""
        return self.cpu / self.requests * 1e6


def wrk(url, connections, seconds):
    """One run of wrk with one thread. Raises RuntimeError when it fails or nothing is answered."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(REPORT)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script.name, url]
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    found = [line[2:] for line in run.stdout.splitlines() if line.startswith("@ ")]
    if run.returncode or not found:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stdout}{run.stderr}")
    outcome = Round(**json.loads(found[0]))
    if not outcome.requests:
        raise RuntimeError(f"{url}: not one answer in {seconds} s")
    return outcome


def h2load(url, connections, streams, seconds):
    """One run of h2load with one thread, so many streams on each connection. Latencies are not in it.

    Raises RuntimeError when it fails or nothing is answered.
    """
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", url]
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    took = re.search(r"finished in ([\d.]+)(m?s)", run.stdout)
    counts = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored", run.stdout)
    size = re.search(r"traffic: .* \((\d+)\) total", run.stdout)
    if run.returncode or not (took and counts and size):
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stdout}{run.stderr}")
    done, failed, errored = map(int, counts.groups())
    if not done:
        raise RuntimeError(f"{url}: not one answer in {seconds} s")
    length = float(took[1]) / (1000 if took[2] == "ms" else 1)
    return Round(done, int(size[1]), length, p50=None, p99=None, errors=failed + errored)


def tls_answers(port):
    """Whether a server shakes hands on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(plain):
                return True
    except OSError:
        return False


def h2_answers(port):
    """Whether a server speaks HTTP/2 in clear text on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            return client.recv(9)[3:4] == b"\x04"
    except OSError:
        return False


class Client:
    """`client.py` in a process of its own; a context manager that ends it."""

    def __init__(self, kind, port, nice=0, **options):
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        self.process = subprocess.Popen(
            ["nice", "-n", str(nice), sys.executable, CLIENT, kind, "--port", str(port), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def message(self):
        """The next line that the client says, read as JSON."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client ended with {self.process.wait()}")
        return json.loads(line)

    def finish(self):
        """Asks the client to end and returns its report."""
        self.process.stdin.close()
        return self.message()
