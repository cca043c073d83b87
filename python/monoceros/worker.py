"""A worker, from its fork to its end."""

import atexit
import faulthandler
import gc
import os
import random
import re
import signal
import socket
import sys
import threading
import time
import traceback

from . import application, cache, exchange
from . import log as error_log
from .log import reopen
from .mold import (
    APP_LOAD_ERROR,
    WORKER_BOOT_ERROR,
    describe,
    drop_privileges,
    exit_words,
    nothing,
    print_own_traceback,
    set_title,
    where,
)

# SIGSTKFLT, which Linux never sends and Python has no name for before 3.11. The master sends it.
SHOW_STACKS = 16


class Leave(SystemExit):
    """The end of this worker, by a signal's order; any other SystemExit is the application's."""


class Boot:
    """Calling it boots the worker and runs it to its end; returns the exit code."""

    def __init__(self, server, worker, extension, version, fd, threads, side, mask, first_generation):
        self.server = server
        self.worker = worker
        self.cfg = worker.cfg
        self.log = worker.log
        self.extension = extension
        self.version = version
        self.fd = fd
        self.threads = threads
        self.side = side
        self.mask = mask
        self.first_generation = first_generation
        self.link = None
        self.reloader = None

    def __call__(self):
        code = 0
        try:
            set_title("worker", self.cfg.proc_name)
            self.log.info("Booting worker with pid: %s", self.worker.pid)
            # A program that the hook starts, and a thread, would have blocked what is held back.
            self.signals()
            self.cfg.run("post_fork", self.server, self.worker)
            self.initialise()
            self.serve()
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else 0 if leave.code is None else 1
            if not self.worker.booted and not isinstance(leave, Leave):
                self.log.error("%s", exit_words(leave))
                print_own_traceback(leave)
            elif isinstance(leave.code, str):
                print(leave.code, file=sys.stderr)
            if not self.worker.booted and code == 0:
                code = WORKER_BOOT_ERROR
        except application.AppImportError as error:
            for stream in {error_log.stream(), sys.stderr}:
                print(error, file=stream)
            code = APP_LOAD_ERROR
        except BaseException as error:
            if self.worker.booted:
                self.log.exception("Exception in worker process")
            else:
                self.log.error("Exception in worker process%s", where(error))
                print_own_traceback(error)
            code = 255 if self.worker.booted else WORKER_BOOT_ERROR
        finally:
            # A second signal must not break the hook below.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, nothing)
            self.log.info("Worker exiting (pid: %s)", self.worker.pid)
            try:
                self.cfg.run("worker_exit", self.server, self.worker)
            except Exception:
                self.log.warning("Exception during worker exit:\n%s", traceback.format_exc())
        return self.finish(code)

    def initialise(self):
        self.drop_privileges()
        random.seed()
        # Again: as with gunicorn, what the hook has set does not stay.
        self.signals()
        try:
            self.link = cache._link = self.extension.connect(self.fd, self.threads)
        except ConnectionError:
            # The edge has ended meanwhile, and with it all that a worker is for. The master says why.
            raise SystemExit(0) from None
        self.load()
        self.cfg.run("post_worker_init", self.worker)
        # The hook may have put middleware around what is called: `worker.wsgi = Traced(worker.wsgi)`.
        self.runner = self.worker._runner = self.extension.Runner(
            self.link,
            self.worker.wsgi,
            multithread=self.threads > 1,
            multiprocess=self.server.num_workers > 1,
            server_software="monoceros/" + self.version if self.version else "monoceros",
            errors=error_log.stream(),
            log=self.log.error_log,
            leave=Leave,
            before=self.before if self.cfg.has_hook("pre_request") or self.cfg.has_hook("post_request") else None,
            after=self.after if self.cfg.has_hook("post_request") else None,
            logged=self.logged_variables(),
        )
        if self.cfg.value("reload", False) and self.reloader is None:
            self.watch()
        # What is there now stays: collections in the middle of requests need not look through it.
        gc.collect()
        gc.freeze()
        self.worker._stop = self.link.stop
        if not self.worker.alive:
            self.link.stop()
        self.worker.booted = True

    def drop_privileges(self):
        """Becomes the user and group that the settings name, for good."""
        if self.cfg.value("umask", 0):
            # gunicorn's default of 0 is for its sockets; an application keeps the mask it was started with.
            os.umask(self.cfg.value("umask"))
        drop_privileges(self.cfg)

    def signals(self):
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # The default would stop it; gunicorn's workers have the master's handlers, which do nothing in them.
        for number in (signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, nothing)
        signal.signal(signal.SIGTERM, self.on_term)
        signal.signal(signal.SIGINT, self.on_quit)
        signal.signal(signal.SIGQUIT, self.on_quit)
        signal.signal(signal.SIGUSR1, self.on_usr1)
        # The mold's ends the process at once, and would not be set again below.
        faulthandler.disable()
        signal.signal(signal.SIGABRT, self.on_abort)
        # A log line is no reason for an application's system call to fail.
        signal.siginterrupt(signal.SIGUSR1, False)
        # The stacks are written by C code in the signal handler itself: they come even when Python is stuck. Then the
        # handler above follows, because it is what was there before. A crash of C code shows its stack, too.
        faulthandler.enable(file=error_log.descriptor(), all_threads=True)
        faulthandler.register(SHOW_STACKS, file=error_log.descriptor(), all_threads=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def load(self):
        """Loads the application; with reload a broken one is shown instead of ending the first workers."""
        try:
            self.worker.wsgi = self.worker.app.wsgi()
        except Exception as error:
            if not (self.cfg.value("reload", False) and self.first_generation):
                raise
            if isinstance(error, application.AppImportError):
                self.log.error("%s", error)
            else:
                self.log.error("The application did not load; waiting for a change%s", where(error))
                print_own_traceback(error)
            from .reloader import files_of

            self.watch(files_of(error))
            self.worker.wsgi = Broken(error)

    def logged_variables(self):
        """Of the environ, what the edge needs for the access log and does not know by itself."""
        if self.cfg.value("accesslog") is None:
            return []
        names = re.findall(r"%\(\{([^}]+)\}e\)", self.cfg.value("access_log_format", ""))
        return sorted({name.lower() for name in names if not name.lower().startswith("http_")})

    def watch(self, known=()):
        from .reloader import Reloader

        self.reloader = Reloader(
            self.changed,
            extra=self.cfg.value("reload_extra_files", []),
            templates=self.cfg.value("reload_templates", []),
            known=known,
        )
        self.reloader.start()

    def changed(self, path):
        try:
            self.side.send("changed", path=path)
        except OSError:
            pass

    def serve(self):
        """Runs requests until the edge, a signal or an error ends it."""
        # Python's handlers run on the main thread, so that is where signals must arrive to interrupt a wait: threads of
        # ours that run no Python never let one in.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.link.ready()
        threads = []
        if self.threads > 1:
            ended, end = os.pipe()
            os.set_blocking(end, False)
            for i in range(self.threads):
                arguments = (i, end, mask)
                threads.append(threading.Thread(target=self.run, args=arguments, name="worker-%d" % i, daemon=True))
            for thread in threads:
                thread.start()
            # A signal that comes just before a lock is waited for, as join() does, would not end the wait, and its
            # handler would never run. A byte in a pipe cannot be missed.
            signal.set_wakeup_fd(end, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if not threads:
            self.runner.run(0)
            return
        running = len(threads)
        while running:
            # Zeros are threads that ended, all others numbers of signals, whose handlers have run by then.
            running -= os.read(ended, 512).count(0)
        for thread in threads:
            thread.join()

    def run(self, claimer, end, mask):
        """One of many threads."""
        # A program that a request starts inherits it, and with TERM blocked would not end by it. The kernel prefers the
        # main thread nevertheless, and the byte in the pipe wakes that one whoever has got the signal.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            self.runner.run(claimer)
        finally:
            os.write(end, b"\0")

    def finish(self, code):
        """The end of the process. Threads that still run a request must not hold it up."""
        if threading.current_thread() is threading.main_thread() and not any(
            t.daemon and t.name.startswith("worker-") and t.is_alive() for t in threading.enumerate()
        ):
            return code
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr, error_log.stream()):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
        os._exit(code)

    # Hooks around a request.

    def before(self, environ):
        request = exchange.Request(self.cfg, environ)
        try:
            self.cfg.run("pre_request", self.worker, request)
        except BaseException:
            # As with gunicorn, there is nothing yet that the other hook could look at.
            try:
                self.cfg.run("post_request", self.worker, request, {}, None)
            except Exception:
                self.log.exception("Exception in post_request hook")
            raise
        return request

    def after(self, request, environ, status, headers, sent):
        self.cfg.run("post_request", self.worker, request, environ, exchange.Response(request, status, headers, sent))

    # Signals.

    def on_term(self, number, frame):
        """Finishes what runs, then ends."""
        self.worker._alive = False
        if self.link is None:
            raise Leave(0)
        self.link.stop()

    def on_quit(self, number, frame):
        """Ends at once."""
        self.worker._alive = False
        try:
            self.cfg.run("worker_int", self.worker)
        except SystemExit as leave:
            raise Leave(leave.code) from None
        except Exception:
            self.log.exception("Exception in the hook worker_int")
        if self.link is not None:
            self.link.stop()
        time.sleep(0.1)
        raise Leave(0)

    def on_abort(self, number, frame):
        """The master found a request that overran; its stacks are in the log already."""
        self.worker._alive = False
        self.worker.aborted = True
        try:
            self.cfg.run("worker_abort", self.worker)
        except SystemExit as leave:
            raise Leave(leave.code) from None
        except Exception:
            self.log.exception("Exception in the hook worker_abort")
        raise Leave(1)

    def on_usr1(self, number, frame):
        """Writes to the new log file from now on."""
        try:
            message, fds = self.side.receive(socket.MSG_DONTWAIT)
        except OSError:
            message, fds = None, []
        if message is None:
            fds = []
        reopen(fds, self.cfg.value("errorlog"))


class Broken:
    """Development: stands for an application that did not load, and shows why."""

    def __init__(self, error):
        if isinstance(error, application.AppImportError):
            self.text = describe(error)
        else:
            self.text = "".join(traceback.format_exception(type(error), error, error.__traceback__))

    def __call__(self, environ, start_response):
        body = ("The application did not load.\n\n%s" % self.text).encode("utf-8", "replace")
        start_response(
            "500 Internal Server Error",
            [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
        )
        return [body]
