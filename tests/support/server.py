"""The server under test: a process tree that is started, waited for, and ended without leftovers."""

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

from .client import Broken, Client

ROOT = Path(__file__).resolve().parents[2]

WRAPPER = """\
from wsgiref.validate import validator
from app import application as unchecked
application = validator(unchecked)
"""


def binary():
    """The program under test: $MONOCEROS, else what cargo built last."""
    for name in ("MONOCEROS", "MONOCEROS_BIN"):
        if os.environ.get(name):
            return os.environ[name]
    built = [path for path in (ROOT / "target").glob("*/monoceros") if path.is_file()]
    assert built, "no binary: `cargo build -p monoceros` first, or set MONOCEROS"
    return str(max(built, key=lambda path: path.stat().st_mtime))


# Below the ports that the kernel gives to clients, each of which could take a port between its test and its use.
_ports = itertools.cycle(range(12_000, 32_000))
_ports = itertools.islice(_ports, random.randrange(20_000), None)


def free_port():
    """A port of 127.0.0.1 that nobody listens on; the same one comes again only after all the others."""
    for port in itertools.islice(_ports, 20_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise AssertionError("every port is taken")


def wait_until(condition, what, timeout=10.0):
    """Polls until `condition()` is true and returns what it gave."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.02)


def _state(path):
    return (path / "stat").read_text().rpartition(")")[2].split()[0]


def has_ended(pid):
    """Whether a process has let go of all that it held. Its environment, which `processes` goes by, is gone sooner
    than its descriptors; and its first thread may be a zombie while another still holds them."""
    path = Path(f"/proc/{pid}")
    try:
        return _state(path) in "ZX" and len(list((path / "task").iterdir())) <= 1
    except OSError:
        return True


@contextlib.contextmanager
def stopped(pid):
    """A process that stands still. STOP is heard by one of its threads, and until that has its turn the others go on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: {_state(task) for task in Path(f"/proc/{pid}/task").iterdir()} == {"T"}, "it to stop")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Monoceros:
    """One instance in a directory of its own.

    `app` is the source of app.py, which defines `application`; it runs inside wsgiref's validator unless
    `validate` is off. `files` are more files for the directory. `spec` replaces what the command line names.
    """

    def __init__(self, directory, app="", *args, files=None, env=None, validate=True, spec=None,
                 bind=None, limits=None, python=True, pass_fds=(), before_exec=None, wrap=()):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = None
        self.marker = uuid.uuid4().hex
        self.limits = limits or {}
        self.pass_fds = pass_fds
        self.before_exec = before_exec
        self.process = None
        self.write("app.py", app)
        self.write("checked.py", WRAPPER)
        for name, text in (files or {}).items():
            self.write(name, text)
        if bind is None:
            self.port = free_port()
            bind = ["-b", f"127.0.0.1:{self.port}"]
        if spec is None:
            spec = ["checked:application" if validate else "app:application"]
        self.argv = [*wrap, binary(), *spec, *bind]
        if python:
            self.argv += ["--python", sys.executable]
        self.argv += [str(arg) for arg in args]
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "RUST_BACKTRACE")
        self.env = {name: os.environ[name] for name in kept if name in os.environ}
        self.env.update(PYTHONDONTWRITEBYTECODE="1", TZ="UTC", MONOCEROS_TEST=self.marker)
        self.env.update(env or {})
        self.log_path = self.directory / "stderr.log"
        self.out_path = self.directory / "stdout.log"

    def write(self, name, text):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(textwrap.dedent(text))
        return path

    # Life

    def start(self, wait=True):
        def prepare():
            import resource
            for which, value in self.limits.items():
                resource.setrlimit(which, (value, value))
            if self.before_exec:
                self.before_exec()

        with open(self.out_path, "ab") as out, open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv, cwd=self.directory, env=self.env, stdin=subprocess.DEVNULL, stdout=out,
                stderr=log, preexec_fn=prepare if self.limits or self.before_exec else None,
                pass_fds=self.pass_fds, start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, address=None, timeout=20.0):
        """Until the edge answers. The probe is refused by it, so that no application sees a request; when its connection
        has ended, its lines are in the logs."""
        address = address or self.address

        def answers():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            try:
                with Client(address, timeout=1) as client:
                    client.send(b"not http\r\n\r\n")
                    return client.response().status == 400 and client.end() is not None
            except (OSError, Broken):
                # Broken: it is at its limit of connections, and closes.
                return False

        try:
            wait_until(answers, "the server to answer", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def stop(self, timeout=15.0):
        """TERM, then nothing may be left: no process, no complaint of the validator."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        problems = []
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            problems.append(f"still running {timeout} s after TERM")
            self.process.kill()
            self.process.wait()
        deadline = time.monotonic() + 5
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid, (_, command) in left.items():
            problems.append(f"left behind: {pid} {command}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process = None
        log = self.log()
        complaints = ("garbage collected without being closed", "panicked at", r'validate\.py", line \d+, in assert_')
        problems += [f"the log has `{pattern}`" for pattern in complaints if re.search(pattern, log)]
        assert not problems, f"{problems}\n{log[-6000:]}"

    def exit_code(self, timeout=20.0):
        """Waits for the end that the program comes to by itself."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.log()}") from None

    def signal(self, number):
        self.process.send_signal(number)

    # Processes

    def processes(self):
        """All processes of this instance: pid → (parent, command line). Found by a variable they inherit."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if f"MONOCEROS_TEST={self.marker}".encode() not in (entry / "environ").read_bytes():
                    continue
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if stat[0] == "Z":
                    continue
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found[int(entry.name)] = (int(stat[1]), command.strip())
        return found

    def edge(self):
        """The edge's pid: the master's child that runs the master's own executable."""
        return next(iter(self._own("edge")), None)

    def edge_has_open(self, path):
        """Whether the edge still has that file open: until it lets go of it, it writes there."""
        for link in Path(f"/proc/{self.edge()}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(link) == str(path):
                    return True
        return False

    def acme(self):
        """The pid of the process that orders certificates."""
        return next(iter(self._own("acme")), None)

    def _own(self, *roles):
        own = os.readlink(f"/proc/{self.process.pid}/exe")
        found = []
        for pid, (parent, command) in self.processes().items():
            with contextlib.suppress(OSError, IndexError):
                if (parent == self.process.pid and os.readlink(f"/proc/{pid}/exe") == own
                        and command.split()[1] in roles):
                    found.append(pid)
        return found

    def workers(self):
        """Pids of the workers: children of the master's children."""
        processes = self.processes()
        molds = self.molds(processes)
        return sorted(pid for pid, (parent, _) in processes.items() if parent in molds)

    def molds(self, processes=None):
        """Pids of the master's children that run Python."""
        own = self._own("edge", "acme")
        processes = self.processes() if processes is None else processes
        return {pid for pid, (parent, _) in processes.items() if parent == self.process.pid and pid not in own}

    def memory(self):
        """Resident bytes of all processes together, what they share counted once."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.search(r"Pss:\s+(\d+) kB", text)[1]) * 1024
        return total

    def descriptors(self):
        """What the edge's descriptors are, by their numbers."""
        found = {}
        for entry in Path(f"/proc/{self.edge()}/fd").iterdir():
            # One that is closed meanwhile is none.
            with contextlib.suppress(FileNotFoundError):
                found[int(entry.name)] = os.readlink(entry)
        return found

    def seconds(self):
        """Processor time that the edge has used."""
        fields = Path(f"/proc/{self.edge()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # Talking to it

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    def connect(self, **options):
        return Client(self.address, **options)

    def request(self, method="GET", target="/", fields=(), body=None, timeout=10.0, **options):
        """One request on a connection of its own."""
        pairs = list(fields.items() if isinstance(fields, dict) else fields)
        if "connection" not in {name.lower() for name, _ in pairs}:
            pairs.append(("Connection", "close"))
        with self.connect(timeout=timeout) as client:
            return client.request(method, target, pairs, body, **options)

    def get(self, target="/", fields=(), **options):
        return self.request("GET", target, fields, **options)

    def wait_taken(self, *clients):
        """Until the edge has read all that these clients (of IPv4) have sent; what its end of the last one's connection
        is among its descriptors. A request is queued in the turn that reads its last byte: nothing outside shows more
        of it."""
        ends = [
            [f":{port:04X}" for port in (client.socket.getsockname()[1], client.socket.getpeername()[1])]
            for client in clients
        ]

        def taken():
            found = {}
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
                _, local, remote, _, queues, _, _, _, _, inode, *_ = line.split()
                sends, receives = (int(part, 16) for part in queues.split(":"))
                found[local[-5:], remote[-5:]] = sends, receives, inode
            for ours, theirs in ends:
                here, there = found.get((ours, theirs)), found.get((theirs, ours))
                # Nothing is on its way, and nothing lies there.
                if not (here and there and here[0] == 0 and there[1] == 0):
                    return None
            return f"socket:[{there[2]}]"

        return wait_until(taken, "the edge to read what was sent")

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, pattern, timeout=10.0, count=1):
        """Until the error log matches, `count` times; the last match."""
        def found():
            matches = list(re.finditer(pattern, self.log()))
            return matches[-1] if len(matches) >= count else None

        try:
            return wait_until(found, f"`{pattern}` in the log", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-6000:]}") from None


class Site(Monoceros):
    """One instance by the text of an nginx.conf, in a directory of its own that is also its prefix.

    In the text `%PORT%` is the port of `address`, `%PORT1%` to `%PORT9%` are more of them (`ports`), `%DIR%` is the
    directory. A text without `http {` is what stands within it. `name` is what the program is called by: with `nginx`
    its arguments are nginx's, and it stays in the foreground (`daemon off`).
    """

    def __init__(self, directory, conf, *args, files=None, env=None, name="monoceros", limits=None, python=False,
                 before_exec=None, wrap=()):
        super().__init__(directory, "", files=files, env=env, bind=[], spec=[], limits=limits, python=False,
                         before_exec=before_exec)
        self.ports = {}
        self.port = self._port("%PORT%")
        self.configure(conf)
        self.name = name
        program = binary()
        if name != "monoceros":
            link = self.directory / "bin" / name
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(program)
            program = str(link)
        self.program = program
        self.argv = [*wrap, program, "-c", "nginx.conf", "-p", f"{self.directory}/"]
        if name == "nginx":
            self.argv += ["-g", "daemon off;"]
        self.argv += [str(arg) for arg in args]
        if python:
            self.env["VIRTUAL_ENV"] = str(Path(sys.executable).parents[1])

    def _port(self, word):
        if word not in self.ports:
            self.ports[word] = free_port()
        return self.ports[word]

    def text(self, conf):
        """The configuration with everything put in."""
        conf = textwrap.dedent(conf)
        if not re.search(r"^\s*http\s*\{", conf, re.MULTILINE):
            conf = f"events {{}}\nhttp {{\naccess_log off;\n{conf}\n}}\n"
        conf = conf.replace("%DIR%", str(self.directory))
        return re.sub(r"%PORT\d?%", lambda match: str(self._port(match[0])), conf)

    def configure(self, conf):
        """Writes another configuration; HUP has it read."""
        self.write("nginx.conf", self.text(conf))

    def run(self, *args, **options):
        """The program called once more in the same place, with other arguments, to its end."""
        return subprocess.run([self.program, *map(str, args)], cwd=self.directory, env=self.env, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=30, **options)

    def connect(self, port="%PORT%", **options):
        return Client(("127.0.0.1", self.ports[port]), **options)


def which(program):
    found = shutil.which(program)
    assert found, f"this test needs {program}"
    return found
