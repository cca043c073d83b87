"""The error log as Python code sees it: gunicorn's loggers and format.

The master points descriptor 2 at the error log, so that a line from here and one from the edge land in the
same place; or another descriptor, where standard error is the application's own. `gunicorn.error` is a logger of Python's own, because settings files and applications take its
handlers and level for theirs.
"""

import logging
import os
import sys
import threading
import time

from .facade import Facade

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


class Log(Facade):
    """What hooks get as `server.log` and `worker.log`, and gunicorn's `cfg.logger_class`."""

    ABSENT = {
        "the edge writes the access log; `accesslog` and `access_log_format` say where and what":
            "access atoms access_log_enabled access_handlers atoms_wrapper_class",
        "USR1 to the master opens the log files again, everywhere": "reopen_files close_on_exec setup error_handlers",
    }
    LOG_LEVELS = LEVELS
    error_fmt = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = "[%Y-%m-%d %H:%M:%S %z]"
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"

    def __init__(self, level="info"):
        self.cfg = None
        self.logfile = None
        self.lock = threading.Lock()
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")
        self.error_log.propagate = False
        self.access_log.propagate = False
        for handler in list(self.error_log.handlers):
            self.error_log.removeHandler(handler)
        handler = logging.StreamHandler(stream())
        handler.setFormatter(logging.Formatter(self.error_fmt, self.datefmt))
        self.error_log.addHandler(handler)
        # The edge writes the access log; a library that logs here must not fall back to standard error.
        if not self.access_log.handlers:
            self.access_log.addHandler(logging.NullHandler())
        self.level(level)

    def level(self, name):
        self.loglevel = LEVELS.get(name, logging.INFO)
        self.error_log.setLevel(self.loglevel)

    def debug(self, msg, *args, **kwargs):
        self.error_log.debug(msg, *args, **kwargs)

    def info(self, msg, *args, **kwargs):
        self.error_log.info(msg, *args, **kwargs)

    def warning(self, msg, *args, **kwargs):
        self.error_log.warning(msg, *args, **kwargs)

    warn = warning

    def error(self, msg, *args, **kwargs):
        self.error_log.error(msg, *args, **kwargs)

    def critical(self, msg, *args, **kwargs):
        self.error_log.critical(msg, *args, **kwargs)

    def exception(self, msg, *args, **kwargs):
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, level, msg, *args, **kwargs):
        if isinstance(level, str):
            level = LEVELS.get(level.lower(), logging.INFO)
        self.error_log.log(level, msg, *args, **kwargs)

    def now(self):
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")


# Descriptors that are the log's; the second one is standard output where that is captured.
targets = [2, 1]
# Of a log that is not standard error.
own = None


def stream():
    """What writes to the log."""
    return sys.stderr if own is None else own


def descriptor():
    """What the log's descriptor is for as long as this process lives."""
    return targets[0]


def part(log, stderr):
    """From now on `log` is the error log, and what the application writes to standard error goes to `stderr`."""
    global own, targets
    sys.stderr.flush()
    os.dup2(stderr, 2)
    os.close(stderr)
    targets = [log]
    own = open(log, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def reopen(fds, path=None):
    """Points the log (and standard output, with a second descriptor) at a new file; closes `fds`.

    Without descriptors `path` is opened; a path that this process may not open leaves all as it is.
    """
    stream().flush()
    sys.stdout.flush()
    if not fds and path not in (None, "-"):
        try:
            fds = [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)]
        except OSError:
            return
    for target, fd in zip(targets, fds):
        os.dup2(fd, target, inheritable=target < 3)
    for fd in fds:
        os.close(fd)
