"""How each server is started: one function per server, its whole configuration inline."""

import getpass
import os
import resource
import shutil
import socket
import subprocess
import time
from pathlib import Path

from . import processes

LOOPBACK = "127.0.0.1"


class Server:
    """One running deployment: one process tree, or two (nginx and what stands behind it)."""

    def __init__(self, name, directory):
        self.name = name
        self.directory = directory
        self.port = free_port()
        self.started = []
        self.began = None

    def run(self, command, **options):
        """Starts one process of the deployment; what it prints goes to a file."""
        log = self.directory / f"{Path(command[0]).name}.log"
        self.began = time.monotonic()
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **options,
            )
        self.started.append((process, log))

    @property
    def roots(self):
        return [process.pid for process, _ in self.started]

    def pids(self):
        return processes.tree(*self.roots)

    def edge_pids(self):
        """The processes that hold client connections, and their master."""
        front = self.started[0][0].pid
        program = processes.executable(front)
        return [pid for pid in processes.tree(front) if processes.executable(pid) == program]

    def worker_pids(self):
        """The processes that run the application: gunicorn's are its children, ours the children of a mold.

        The level decides and not who has no children: a mold whose workers have all just died is no worker.
        """
        root = self.started[-1][0].pid
        parents = processes.parents()
        children = {pid for pid, parent in parents.items() if parent == root}
        if self.name == "monoceros":
            return [pid for pid, parent in parents.items() if parent in children]
        return list(children)

    def wait(self, path, seconds=30):
        """Returns when `path` is answered with 200."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.get(path)
                return
            except (OSError, ValueError) as error:
                problem = error
            self.check(problem, time.monotonic() > deadline)
            time.sleep(0.02)

    def check(self, problem="it has ended", is_late=False):
        """Raises RuntimeError with its last words when a process of the deployment has ended, or is late."""
        dead = [process for process, _ in self.started if process.poll() is not None]
        if dead or is_late:
            words = "\n".join(log.read_text(errors="replace")[-2000:] for _, log in self.started)
            raise RuntimeError(f"{self.name} does not answer: {problem}\n{words}")

    def get(self, path, host=LOOPBACK):
        """The body of one GET; ValueError when it is not a whole answer with status 200."""
        with socket.create_connection((LOOPBACK, self.port), timeout=10) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(1 << 18), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        lengths = [line.split(b":")[1] for line in lines[1:] if line.lower().startswith(b"content-length:")]
        if lines[0].split()[1:2] != [b"200"] or [int(length) for length in lengths] != [len(body)]:
            raise ValueError(f"{path} is answered with {lines[0].decode(errors='replace')!r}, {len(body)} bytes")
        return body

    def stop(self):
        for process, _ in self.started:
            processes.end(process)


def free_port():
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


class Fleet:
    """Starts servers of a work by name and ends them all on the way out."""

    def __init__(self, settings, directory):
        self.settings = settings
        self.directory = directory
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.running:
            server.stop()

    def start(self, name, *, path, app=None, static=None, connections=None, site=None):
        """Starts the server called `name` (a key of SERVERS) for `app`, and waits until it answers `path`.

        `site(port)` gives the contents of an `http` block instead, for those that read nginx.conf.
        """
        if site:
            server = self.launch(name, site)
        else:
            server = self.prepare(name)
            SERVERS[name](server, self.settings, app, static, connections)
        server.wait(path)
        return server

    def launch(self, name, site):
        """Starts a server that reads nginx.conf, without waiting until it answers."""
        server = self.prepare(name)
        BY_SITE[name](server, self.settings, site(server.port))
        return server

    def prepare(self, name):
        directory = self.directory / name.replace(" ", "")
        directory.mkdir(exist_ok=True)
        server = Server(name, directory)
        self.running.append(server)
        return server


def application_options(settings):
    """Working directory and environment in which every Python server finds the applications and the venv."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GUNICORN"))}
    environment["VIRTUAL_ENV"] = str(settings.venv)
    environment["PATH"] = f"{settings.venv / 'bin'}:{environment.get('PATH', os.defpath)}"
    return {"cwd": settings.apps, "env": environment}


def monoceros(server, settings, app, static, connections):
    command = [settings.monoceros, f"{app}:application", "-w", "2", "-b", f"{LOOPBACK}:{server.port}"]
    if static:
        command += ["--static", f"/static/={static}"]
    if connections:
        command += ["--edge-connections", str(connections)]
    server.run(command, **application_options(settings))


def granian(server, settings, app, static, connections):
    # One blocking thread is granian's own advice for WSGI on few cores, and the fastest here.
    server.run(
        [settings.venv / "bin/granian", "--interface", "wsgi", "--workers", "2", "--blocking-threads", "1",
         "--http", "1", "--no-ws", "--no-access-log", "--log-level", "warning",
         "--host", LOOPBACK, "--port", str(server.port), f"{app}:application"],
        **application_options(settings),
    )  # fmt: skip


def gunicorn(server, settings, app, static, connections, bind=None):
    server.run(
        [settings.venv / "bin/gunicorn", "-w", "2", "-k", "sync", "--log-level", "warning",
         "-b", bind or f"{LOOPBACK}:{server.port}", f"{app}:application"],
        **application_options(settings),
    )  # fmt: skip


def nginx(server, settings, app, static, connections, upstream="", location=""):
    """nginx at its best: a worker per core, sendfile, open files cached, no access log."""
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    location = location or f"location /static/ {{ alias {static}/; }}"
    configuration = server.directory / "nginx.conf"
    configuration.write_text(f"""\
{user}
daemon off;
worker_processes auto;
worker_rlimit_nofile {files};
pid {server.directory}/nginx.pid;
error_log {server.directory}/error.log warn;
events {{ worker_connections {connections or 4096}; }}
http {{
    {upstream}
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75s;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
    types {{ text/plain txt; application/octet-stream bin; }}
    client_body_temp_path {server.directory}/body;
    proxy_temp_path {server.directory}/proxy;
    fastcgi_temp_path {server.directory}/fastcgi;
    uwsgi_temp_path {server.directory}/uwsgi;
    scgi_temp_path {server.directory}/scgi;
    server {{
        listen {LOOPBACK}:{server.port} backlog=2048;
        {location}
    }}
}}
""")
    server.run([settings.nginx, "-e", server.directory / "error.log", "-c", configuration])


def nginx_gunicorn(server, settings, app, static, connections):
    """The deployment that gunicorn's documentation recommends."""
    back = server.directory / "gunicorn.sock"
    nginx(server, settings, app, static, connections, upstream=f"upstream back {{ server unix:{back}; keepalive 16; }}", location="""
        location / {
            proxy_pass http://back;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }""")  # fmt: skip
    gunicorn(server, settings, app, static, connections, bind=f"unix:{back}")


def nginx_uwsgi(server, settings, app, static, connections):
    back = server.directory / "uwsgi.sock"
    parameters = "".join(
        f"uwsgi_param {name} {value};"
        for name, value in {
            "QUERY_STRING": "$query_string", "REQUEST_METHOD": "$request_method", "CONTENT_TYPE": "$content_type",
            "CONTENT_LENGTH": "$content_length", "REQUEST_URI": "$request_uri", "PATH_INFO": "$document_uri",
            "SERVER_PROTOCOL": "$server_protocol", "REMOTE_ADDR": "$remote_addr", "SERVER_PORT": "$server_port",
            "SERVER_NAME": "$server_name", "REQUEST_SCHEME": "$scheme",
        }.items()
    )  # fmt: skip
    nginx(server, settings, app, static, connections,
          location=f"location / {{ uwsgi_pass unix:{back}; {parameters} }}")  # fmt: skip
    server.run(
        [settings.venv / "bin/uwsgi", "--master", "--die-on-term", "--processes", "2", "--disable-logging",
         "--need-app", "--socket", back, "--virtualenv", settings.venv, "--module", f"{app}:application"],
        **application_options(settings),
    )  # fmt: skip


SERVERS = {
    "monoceros": monoceros,
    "granian": granian,
    "nginx": nginx,
    "nginx + gunicorn": nginx_gunicorn,
    "nginx + uwsgi": nginx_uwsgi,
    "gunicorn": gunicorn,
}


def site_file(server, http):
    """One nginx.conf for both: a worker, or at most an event loop, per core."""
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    configuration = server.directory / "site.conf"
    configuration.write_text(f"""\
{user}
daemon off;
worker_processes auto;
worker_rlimit_nofile {files};
pid {server.directory}/site.pid;
error_log {server.directory}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_timeout 75s;
    server_names_hash_max_size 65536;
    {http}
}}
""")
    return configuration


BY_SITE = {
    "monoceros": lambda server, settings, http: server.run([settings.monoceros, "-c", site_file(server, http)]),
    "nginx": lambda server, settings, http: server.run(
        [settings.nginx, "-e", server.directory / "error.log", "-c", site_file(server, http)]
    ),
}


def available(settings, name):
    """Whether the server called `name` can be started here, and if not, why."""
    if name == "monoceros":
        return settings.monoceros.exists(), "not built: cargo build --release -p monoceros"
    if "nginx" in name and not settings.nginx:
        return False, "not installed: apt-get install nginx-light"
    program = name.rpartition("+ ")[2]
    if program == "nginx":
        return True, ""
    return shutil.which(settings.venv / "bin" / program) is not None, f"{program} did not install"
