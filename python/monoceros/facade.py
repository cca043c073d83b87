"""What hooks see: gunicorn's `server`, `worker`, `req` and `resp`, as far as they have a counterpart here."""

import os
import pwd
import grp

from .settings import HOOKS


class Setting:
    """One entry of `cfg.settings`."""

    def __init__(self, name, value):
        self.name = name
        self.value = value

    def get(self):
        return self.value

    def set(self, value):
        self.value = value


class Config:
    """gunicorn's `cfg`: every setting is an attribute, hooks included."""

    def __init__(self, values, hooks):
        self.settings = {name: Setting(name, value) for name, value in values.items()}
        self._hooks = hooks
        for name in HOOKS:
            self.settings[name] = Setting(name, hooks[name][0] if name in hooks else None)

    def __getattr__(self, name):
        settings = self.__dict__.get("settings", {})
        if name not in settings:
            raise AttributeError("No configuration setting for: %s" % name)
        return settings[name].get()

    def __setattr__(self, name, value):
        if name not in ("settings", "_hooks") and name in self.settings:
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
        return list(self.value("bind", []))

    @property
    def proc_name(self):
        return self.value("proc_name") or self.value("default_proc_name", "monoceros")

    @property
    def worker_class_str(self):
        threads = self.value("threads", 1)
        kind = self.value("worker_class", "sync")
        return "gthread" if kind == "sync" and threads > 1 else kind

    @property
    def is_ssl(self):
        return False

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


class Server:
    """gunicorn's arbiter, as hooks see it. It lives in the mold; workers keep the copy of their fork."""

    def __init__(self, cfg, log):
        self.cfg = cfg
        self.log = log
        self.pid = os.getpid()
        self.WORKERS = {}
        self.worker_age = 0
        self.reexec_pid = 0
        self.proc_name = cfg.proc_name
        self.address = cfg.address

    @property
    def num_workers(self):
        return self.cfg.value("workers", 1)

    @property
    def timeout(self):
        return self.cfg.value("timeout", 30)

    @property
    def worker_class_str(self):
        return self.cfg.worker_class_str


class Worker:
    """gunicorn's worker, as hooks see it."""

    def __init__(self, number, age, ppid, cfg, log):
        self.number = number
        self.age = age
        self.pid = "[booting]"
        self.ppid = ppid
        self.cfg = cfg
        self.log = log
        self.timeout = cfg.value("timeout", 30)
        self.booted = False
        self.aborted = False
        self.alive = True
        self.sockets = []
        self.app = None
        self.wsgi = None
        self.runner = None
        self.max_requests = cfg.value("max_requests", 0)

    @property
    def nr(self):
        """How many requests it has run."""
        return 0 if self.runner is None else self.runner.requests

    def __str__(self):
        return "<Worker %s>" % self.pid


class Request:
    """What pre_request and post_request see of a request; made from its environ."""

    def __init__(self, environ):
        self.method = environ["REQUEST_METHOD"]
        self.uri = environ["RAW_URI"]
        self.path = self.uri.partition("?")[0]
        self.query = environ["QUERY_STRING"]
        self.fragment = ""
        self.scheme = environ["wsgi.url_scheme"]
        major, _, minor = environ["SERVER_PROTOCOL"].partition("/")[2].partition(".")
        self.version = (int(major), int(minor or 0))
        self.remote_addr = (environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"] or 0))
        self.body = environ["wsgi.input"]
        self.trailers = []
        self.headers = []
        for key, value in environ.items():
            if key.startswith("HTTP_"):
                self.headers.append((key[5:].replace("_", "-"), value))
            elif key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                self.headers.append((key.replace("_", "-"), value))

    def get_header(self, name):
        """The value of the header, or None."""
        name = name.upper()
        for key, value in self.headers:
            if key == name:
                return value
        return None

    header = get_header


class Response:
    """What post_request sees of a response."""

    def __init__(self, req, status, headers, length):
        self.req = req
        self.version = "Monoceros"
        self.status = status
        self.headers = headers
        self.sent = length
        self.response_length = length
        self.headers_sent = status is not None
        self.upgrade = False

    @property
    def status_code(self):
        return int(self.status.split(" ", 1)[0]) if self.status else 500
