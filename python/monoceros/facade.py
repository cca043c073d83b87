"""What hooks see: gunicorn's `cfg`, `server` and `worker`, as far as they have a counterpart here."""

import grp
import os
import pwd
import shlex
import signal
import sys
import time

from . import application
from .settings import HOOKS


class Facade:
    """What gunicorn has and this has not says why, and what does instead."""

    # Names by the sentence that is told of them.
    ABSENT = {}

    def __getattr__(self, name):
        text = "%r object has no attribute %r" % (type(self).__name__, name)
        for why, names in type(self).ABSENT.items():
            if name in names.split():
                text += ": " + why
        raise AttributeError(text)


class Setting:
    """One entry of `cfg.settings`."""

    def __init__(self, name, value):
        self.name = name
        self.value = value

    def get(self):
        return self.value

    def set(self, value):
        self.value = value

    def __repr__(self):
        return "<%s.Setting %s=%r>" % (__name__, self.name, self.value)


def nothing(*_):
    """The hook that nobody has written."""


class Config:
    """gunicorn's `cfg`: every setting is an attribute, hooks included."""

    def __init__(self, values, hooks):
        self.settings = {name: Setting(name, value) for name, value in values.items()}
        self._hooks = hooks
        self.usage = None
        self.prog = os.path.basename(sys.argv[0])
        self.env_orig = os.environ.copy()
        for name in HOOKS:
            self.settings[name] = Setting(name, hooks[name][0] if name in hooks else nothing)

    def __getattr__(self, name):
        settings = self.__dict__.get("settings", {})
        if name not in settings:
            raise AttributeError("No configuration setting for: %s" % name)
        return settings[name].get()

    def __setattr__(self, name, value):
        if name != "settings" and name in self.settings:
            self.set(name, value)
        else:
            super().__setattr__(name, value)

    def set(self, name, value):
        if name not in self.settings:
            raise AttributeError("No configuration setting for: %s" % name)
        self.settings[name].set(value)

    def value(self, name, default=None):
        """A setting's value, or `default` when there is none or it is None."""
        setting = self.settings.get(name)
        return default if setting is None or setting.value is None else setting.value

    def run(self, name, *arguments):
        """Runs a hook, if there is one."""
        hook = self._hooks.get(name)
        if hook is not None:
            function, count = hook
            return function(*arguments[:count])
        return None

    def has_hook(self, name):
        return name in self._hooks

    @property
    def env(self):
        env = {}
        for pair in self.value("raw_env", []):
            name, _, value = pair.partition("=")
            env[name] = value
        return env

    @property
    def address(self):
        """Where to listen: `(host, port)`, the path of a Unix socket, or the number of a descriptor."""
        return [address(bind) for bind in self.value("bind", [])]

    @property
    def proc_name(self):
        return self.value("proc_name") or self.value("default_proc_name", "monoceros")

    @property
    def worker_class_str(self):
        threads = self.value("threads", 1)
        kind = self.value("worker_class", "sync")
        return "gthread" if kind == "sync" and threads > 1 else kind

    @property
    def worker_class(self):
        return ThreadWorker if self.worker_class_str == "gthread" else SyncWorker

    @property
    def logger_class(self):
        from .log import Log

        return Log

    @property
    def is_ssl(self):
        """What gunicorn's is: true where a certificate is named. One that comes by itself (`domain`) is none of it."""
        return self.value("certfile") or self.value("keyfile")

    @property
    def ssl_options(self):
        return {name: self.settings[name].get() for name in SSL if name in self.settings}

    @property
    def paste_global_conf(self):
        return dict(pair.split("=", 1) for pair in self.value("raw_paste_global_conf", []))

    def get_cmd_args_from_env(self):
        return shlex.split(self.env_orig.get("GUNICORN_CMD_ARGS", ""))

    @property
    def uid(self):
        """The user that workers run as: a number. KeyError when there is no such user."""
        user = self.value("user")
        if user is None:
            return os.geteuid()
        return int(user) if str(user).isdigit() else pwd.getpwnam(user).pw_uid

    @property
    def gid(self):
        """The group that workers run as: a number; the user's own when only that is set."""
        group = self.value("group")
        if group is not None:
            return int(group) if str(group).isdigit() else grp.getgrnam(group).gr_gid
        if self.value("user") is not None:
            try:
                return pwd.getpwuid(self.uid).pw_gid
            except KeyError:
                pass
        return os.getegid()

    def __str__(self):
        width = max(map(len, self.settings))
        lines = []
        for name in sorted(self.settings):
            value = self.settings[name].value
            if callable(value):
                value = "<%s()>" % getattr(value, "__qualname__", type(value).__qualname__)
            lines.append("%-*s = %s" % (width, name, value))
        return "\n".join(lines)


# Of gunicorn's section "SSL".
SSL = (
    "keyfile", "certfile", "ssl_version", "cert_reqs", "ca_certs", "suppress_ragged_eofs", "do_handshake_on_connect",
    "ciphers",
)


def address(bind):
    """A `bind` as gunicorn's `parse_address` has it."""
    if bind.startswith("unix:"):
        path = bind[len("unix:") :]
        return path[2:] if path.startswith("//") else path
    if bind.startswith("fd://"):
        return int(bind[len("fd://") :])
    if bind.startswith("tcp://"):
        bind = bind[len("tcp://") :]
    host, _, port = bind.rpartition(":")
    if not port.isdigit():
        host, port = bind, "8000"
    return host.strip("[]").lower() or "0.0.0.0", int(port)


class Application(Facade):
    """gunicorn's application, which `server.app` and `worker.app` are: it loads what is called for each request."""

    ABSENT = {
        "the settings are read before there is an application; `cfg` has them":
            "load_config load_default_config do_load_config load_config_from_file load_config_from_module_name_or_filename "
            "get_config_from_filename init options",
        "the program is running already": "run",
        "HUP to the master reads everything anew; `server.reload()` in a hook of the master sends it": "reload",
    }

    def __init__(self, cfg):
        self.cfg = cfg
        self.usage = None
        self.prog = cfg.prog
        self.logger = None
        self.app_uri = cfg.value("wsgi_app")
        # What hooks put here is taken for the application.
        self.callable = None

    def wsgi(self):
        """What is called for each request; loads it in this process when it is not loaded yet."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable

    def load(self):
        return application.load(self.app_uri)

    load_wsgiapp = load

    def chdir(self):
        os.chdir(self.cfg.value("chdir", "."))


class Listener(Facade):
    """One of `server.LISTENERS` and `worker.sockets`: an address. The socket itself is the edge's."""

    ABSENT = {
        "the edge has the listening sockets, and no process that runs Python does; getsockname() and str() work":
            "sock FAMILY accept bind close connect detach dup family fileno get_backlog get_inheritable getsockopt "
            "getpeername listen makefile proto recv send sendall set_inheritable set_options setblocking setsockopt "
            "settimeout shutdown timeout type",
    }

    def __init__(self, cfg, address):
        self.conf = cfg
        self.cfg_addr = address

    def getsockname(self):
        """The address as `bind` has it; port 0 and `fd://` have no other here."""
        return self.cfg_addr

    def __str__(self):
        if not isinstance(self.cfg_addr, tuple):
            return ("unix:%s" if isinstance(self.cfg_addr, str) else "fd://%s") % self.cfg_addr
        return "%s://%s:%d" % (("https" if self.conf.is_ssl else "http",) + self.cfg_addr)


class PidFile:
    """gunicorn's `server.pidfile`. The file is the master's."""

    def __init__(self, fname):
        self.fname = fname

    @property
    def pid(self):
        """What is in the file; None when that is no number."""
        try:
            with open(self.fname) as file:
                return int(file.read())
        except (OSError, ValueError):
            return None


MASTERS = "the master does that, and runs no Python; "


class Server(Facade):
    """gunicorn's arbiter, as hooks see it. It lives in the mold; workers keep the copy of their fork."""

    ABSENT = {
        MASTERS + "send it a signal: os.kill(os.getppid(), signal.SIGTERM) in a hook of the mold finishes requests and "
        "ends (SIGQUIT with an nginx.conf)": "halt stop",
        MASTERS + "USR2 starts another one where an nginx.conf is served": "reexec",
        MASTERS + "set `server.num_workers` in a hook of the mold":
            "manage_workers spawn_worker spawn_workers murder_workers reap_workers",
        MASTERS + "signals are answered there":
            "SIGNALS SIG_QUEUE init_signals signal signal_chld wakeup wait_for_signals maybe_promote_master "
            "handle_chld handle_cld handle_hup handle_term handle_int handle_quit handle_ttin handle_ttou handle_usr1 "
            "handle_usr2 handle_winch",
        MASTERS + "it has started already": "run setup start",
        "dirty arbiters are not there": "dirty_arbiter dirty_pidfile spawn_dirty_arbiter kill_dirty_arbiter",
    }
    WORKER_BOOT_ERROR = 3
    APP_LOAD_ERROR = 4
    SIG_NAMES = {s.value: s.name[3:].lower() for s in signal.Signals}

    def __init__(self, cfg, log, num_workers):
        self.cfg = cfg
        self.log = log
        self.app = Application(cfg)
        self.pid = os.getpid()
        self.master_pid = 0
        self.master_name = "Master"
        self.reexec_pid = 0
        self.dirty_arbiter_pid = 0
        self.systemd = "LISTEN_FDS" in os.environ
        self.WORKERS = {}
        self.LISTENERS = [Listener(cfg, address) for address in cfg.address]
        self.START_CTX = {"args": [sys.executable] + sys.argv, "cwd": os.getcwd(), 0: sys.executable}
        self.worker_age = 0
        self.proc_name = cfg.proc_name
        self.address = cfg.address
        self.timeout = cfg.value("timeout", 30)
        self.worker_class = cfg.worker_class
        pidfile = cfg.value("pidfile")
        self.pidfile = None if pidfile is None else PidFile(pidfile)
        # None before the first start.
        self._num_workers = num_workers
        self._master = os.getppid()

    @property
    def num_workers(self):
        return self._num_workers

    @num_workers.setter
    def num_workers(self, number):
        """Asks the master for more workers or fewer, whose number changes when it has heard of it."""
        self._in_mold("num_workers")
        difference = number - (self._num_workers or 0)
        for _ in range(abs(difference)):
            os.kill(self._master, signal.SIGTTIN if difference > 0 else signal.SIGTTOU)
            # Two of a kind that nobody has taken yet are one.
            time.sleep(0.05)

    def resized(self, number):
        """There are to be so many workers from now on: runs the hook."""
        old, self._num_workers = self._num_workers, number
        self.cfg.run("nworkers_changed", self, number, old)

    @property
    def worker_class_str(self):
        return self.cfg.worker_class_str

    def reload(self):
        """Has the master read everything anew (HUP)."""
        self._in_mold("reload()")
        os.kill(self._master, signal.SIGHUP)

    def kill_workers(self, sig):
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)

    def kill_worker(self, pid, sig):
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass

    def _in_mold(self, what):
        if os.getpid() != self.pid:
            raise RuntimeError("%s is for hooks that run in the mold (when_ready, child_exit ...): this is a worker" % what)


EDGES = "the edge has the connections, and workers see whole requests; "


class Worker(Facade):
    """gunicorn's worker, as hooks see it."""

    ABSENT = {
        EDGES + "no event loop or pool of gunicorn's is here":
            "PIPE wait_fds poller tpool futures nr_conns accept handle handle_request finish_request reuse_connection "
            "murder_keepalived run_for_one run_for_multiple wait is_parent_alive",
        EDGES + "what cannot be read is answered there": "handle_error",
        "signals are handled by the server; set `signal.signal` in post_worker_init, or write the hooks worker_int and "
        "worker_abort": "SIGNALS init_signals handle_abort handle_exit handle_quit handle_usr1 handle_winch",
        "a worker is started by the server; hooks are post_fork and post_worker_init":
            "init_process load_wsgi run",
    }

    def __init__(self, server, number, age):
        cfg = server.cfg
        self.number = number
        self.age = age
        self.pid = "[booting]"
        self.ppid = server.pid
        self.cfg = cfg
        self.log = server.log
        # Half of it, as in gunicorn, where that is how often a worker has to tell that it is alive.
        self.timeout = cfg.value("timeout", 30) / 2.0
        self.booted = False
        self.aborted = False
        self.sockets = server.LISTENERS
        self.app = server.app
        self.wsgi = None
        self.tmp = Heartbeat()
        self.reloader = None
        self.worker_connections = cfg.value("worker_connections", 1000)
        self.max_requests = cfg.value("max_requests", 0) or sys.maxsize
        self._alive = True
        # Lets every thread finish its request and take no further one.
        self._stop = None
        self._runner = None

    @property
    def nr(self):
        """How many requests it has run."""
        return 0 if self._runner is None else self._runner.requests

    @property
    def alive(self):
        """Set to False, the worker ends when its requests are done, and is replaced."""
        return self._alive

    @alive.setter
    def alive(self, alive):
        self._alive = alive
        if not alive and self._stop is not None:
            self._stop()

    def notify(self):
        self.tmp.notify()

    def __str__(self):
        return "<Worker %s>" % self.pid


class SyncWorker(Worker):
    """`worker_class = "sync"`."""


class ThreadWorker(Worker):
    """`worker_class = "gthread"`."""


class Heartbeat(Facade):
    """gunicorn's `worker.tmp`. Nobody waits for it: `timeout` is each request's, and measured by the edge."""

    ABSENT = {"workers have no heartbeat file; `timeout` is each request's, and measured by the edge": "fileno _tmp"}

    def __init__(self):
        self._last = time.monotonic()

    def notify(self):
        self._last = time.monotonic()

    def last_update(self):
        return self._last

    def close(self):
        pass
