"""The mold: evaluates the settings file, runs the hooks of the instance, forks the workers.

It has one thread, so that a fork is always safe, and does only what the master tells it.
"""

import faulthandler
import gc
import importlib.machinery
import importlib.util
import os
import select
import signal
import socket
import struct
import sys
import threading
import traceback

from . import application, facade, settings
from . import log as error_log
from .control import Control
from .log import Log, reopen

# gunicorn's exit codes.
BAD_SETTINGS = 1
HOOK_RAISED = 1
PRELOAD_ERROR = 1
WORKER_BOOT_ERROR = 3
APP_LOAD_ERROR = 4

# Between a fork and the worker's own handlers these wait: the default would end it without a word.
HELD = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGABRT}


# Signals to a mold that are meant for the master. systemd sends TERM and its like to everybody: those are not.
PASSED_ON = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2)


class Forked(BaseException):
    """Unwinds a fresh worker out of the mold's frames; carries what it needs."""

    def __init__(self, boot):
        super().__init__()
        self.boot = boot


def main():
    """Runs a mold, and in its forks a worker. Returns the exit code."""
    # The master sends ABRT when booting takes too long: where it hangs is then in the log, even in C code.
    faulthandler.enable(file=2, all_threads=True)
    control = Control(socket.socket(fileno=descriptor("MONOCEROS_CONTROL_FD")))
    os.set_inheritable(descriptor("MONOCEROS_PY_FD"), False)
    extension = descriptor("MONOCEROS_EXT_FD")
    spec = os.environ.get("MONOCEROS_SETTINGS") or None
    started = os.environ.get("MONOCEROS_DIRECTORY")
    version = os.environ.get("MONOCEROS_VERSION", "")
    for name in [n for n in os.environ if n.startswith("MONOCEROS_")]:
        del os.environ[name]
    # A terminal, or systemd, sends these to everybody; they are the master's to answer.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, *PASSED_ON):
        signal.signal(number, nothing)
    # Until here they had to wait.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        return Mold(control, extension, spec, version, started).run()
    except Forked as forked:
        boot = forked.boot
    return boot()


def for_output(fds, captures):
    """The log's descriptors, with one for standard output if that is captured. The master has none for it where
    applications of several minds share a log."""
    return [*fds, os.dup(fds[0])] if captures and len(fds) == 1 else fds


def nothing(number, frame):
    """Not SIG_IGN, which the programs would inherit that hooks and preloaded applications start."""


def descriptor(name):
    fd = int(os.environ[name])
    os.set_inheritable(fd, False)
    return fd


def load_extension(fd):
    """Loads monoceros_worker from a descriptor."""
    name = "monoceros_worker"
    path = "/proc/self/fd/%d" % fd
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[name] = module
    return module


class Fatal(Exception):
    """The mold cannot go on: what to tell the master."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code
        self.text = text


class Child:
    """A worker that this mold has forked."""

    def __init__(self, number, pid, side, worker):
        self.number = number
        self.pid = pid
        self.side = side
        self.worker = worker


class Mold:
    def __init__(self, control, extension, spec, version, started):
        self.control = control
        self.extension_fd = extension
        self.extension = None
        self.spec = spec
        self.version = version
        # Where the program was started; None where that is of no interest.
        self.started = started
        self.log = None
        self.cfg = None
        self.server = None
        self.children = {}
        self.spawned = 0
        self.wakeup = None
        self.frozen = False

    def run(self):
        try:
            code = self.begin()
        except (BrokenPipeError, ConnectionResetError):
            # The master was killed meanwhile: nobody asks any more.
            code = 0
        try:
            return self.serve() if code is None else code
        except Fatal as fatal:
            return self.fail(fatal)

    def fail(self, fatal):
        self.control.send("failed", code=fatal.code, text=fatal.text)
        return fatal.code

    def begin(self):
        """All that comes before the first order. Returns an exit code when there is nothing to serve."""
        try:
            evaluated = self.evaluate()
            message, fds = self.control.receive()
            # Who is told to end before there is anything to do has nothing to say.
            if message is None or message.get("op") == "stop":
                return 0
            # The error log, if it is a file: what goes wrong from here on belongs there.
            if (message.get("body") or {}).get("own_stderr"):
                error_log.part(*fds)
                faulthandler.enable(file=error_log.descriptor(), all_threads=True)
            else:
                values = (message.get("body") or {}).get("settings") or {}
                reopen(for_output(fds, values.get("capture_output")))
            self.configure(evaluated, message)
        except Fatal as fatal:
            return self.fail(fatal)
        self.control.send("ready", pid=os.getpid())
        return None

    # Starting.

    def evaluate(self):
        """Runs the settings file and tells the master what it holds."""
        # gunicorn's settings files and applications import what is here, and what is where the program was started.
        here = os.getcwd()
        enter(here)
        if self.started is not None and self.started not in sys.path:
            sys.path.insert(sys.path.index(here) + 1, self.started)
        where = self.spec
        try:
            evaluated = settings.evaluate(self.spec)
        except settings.SettingsError as error:
            raise Fatal(BAD_SETTINGS, str(error)) from None
        except BaseException as error:  # a settings file may call sys.exit
            print_own_traceback(error)
            raise Fatal(BAD_SETTINGS, "Failed to read config file: %s" % where) from None
        self.control.send(
            "settings",
            body={
                "path": evaluated.path,
                "values": evaluated.values,
                "hooks": sorted(evaluated.hooks),
                "lines": evaluated.lines,
                "python": sys.version.split()[0],
            },
        )
        return evaluated

    def configure(self, evaluated, message):
        if message.get("op") != "configure":
            raise Fatal(WORKER_BOOT_ERROR, "the master sent %r before configure" % message.get("op"))
        body = message.get("body") or {}
        values = body.get("settings", message.get("settings")) or {}
        self.cfg = facade.Config(values, evaluated.hooks)
        self.log = Log(self.cfg.value("loglevel", "info"))
        try:
            self.surroundings()
            self.extension = load_extension(self.extension_fd)
            self.log.cfg = self.cfg
            self.server = facade.Server(self.cfg, self.log, body.get("workers_before"))
            first = message.get("generation", body.get("generation", 1)) <= 1
            # A check of the settings starts nothing, and loads the application as who would load it.
            check = body.get("check", False)
            if check and not self.cfg.value("preload_app", False):
                parent = os.getppid()
                drop_privileges(self.cfg)
                # A change of user undoes what the check has arranged: that its end is this process's.
                self.extension.end_with(parent)
        except Exception as error:
            self.log.exception("Exception in the mold")
            raise Fatal(WORKER_BOOT_ERROR, describe(error)) from None
        self.first_generation = first
        if not check:
            self.run_first("nworkers_changed", self.server.resized, self.cfg.value("workers", 1))
            name = "on_starting" if first else "on_reload"
            self.run_first(name, self.cfg.run, name, self.server)
        if check or self.cfg.value("preload_app", False):
            self.preload()

    def run_first(self, name, call, *arguments):
        """Runs a hook without which there is no start."""
        try:
            call(*arguments)
        except SystemExit as leave:
            raise Fatal(exit_code(leave), hook_left(name, leave)) from None
        except Exception as error:
            self.log.exception("Exception in the hook %s", name)
            raise Fatal(HOOK_RAISED, describe(error)) from None

    def run_hook(self, name, call, *arguments, ends=False):
        """Runs a hook of the master's. As with gunicorn, `sys.exit()` in it ends the program; whether what it raises
        does so, too, is for `ends` to say."""
        try:
            call(*arguments)
        except SystemExit as leave:
            self.control.send("failed", code=exit_code(leave), text=hook_left(name, leave))
        except Exception:
            self.log.exception("Exception in the hook %s", name)
            if ends:
                self.control.send("failed", code=HOOK_RAISED, text="")

    def surroundings(self):
        """Directory, search path, environment and name, as the settings have them."""
        chdir = self.cfg.value("chdir", ".")
        os.chdir(chdir)
        enter(os.getcwd())
        # Each in front of the ones before it, as with gunicorn.
        for path in self.cfg.value("pythonpath", []):
            enter(os.path.abspath(path))
        os.environ.update(self.cfg.env)
        set_title("mold", self.cfg.proc_name)

    def preload(self):
        """Loads the application. Where it cannot be, gunicorn's master ends with a traceback, and so with 1: its codes of
        boots are those of workers."""
        try:
            self.server.app.wsgi()
        except application.AppImportError as error:
            raise Fatal(PRELOAD_ERROR, str(error)) from None
        except SystemExit as leave:
            print_own_traceback(leave)
            # Nobody serves: that is no success.
            raise Fatal(exit_code(leave) or WORKER_BOOT_ERROR, exit_words(leave)) from None
        except BaseException as error:
            print_own_traceback(error)
            raise Fatal(PRELOAD_ERROR, describe(error) + where(error)) from None

    # Serving.

    def serve(self):
        """Does what the master says until it says stop or is gone. Returns the exit code."""
        self.wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Again: a settings file or a preloaded application may have set its own, which would end the mold.
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, nothing)
        self.orders, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.extension.tell_senders(tell, PASSED_ON)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.orders, select.POLLIN)
        poll.register(self.wakeup[0], select.POLLIN)
        self.poll = poll
        while True:
            for fd, _ in poll.poll():
                if fd == self.wakeup[0]:
                    drain(fd)
                    self.reap()
                elif fd == self.orders:
                    self.pass_on()
                elif fd == self.control.fileno():
                    message, fds = self.control.receive()
                    if message is None:
                        self.orphaned()
                        return 0
                    if not self.obey(message, fds):
                        return 0
                else:
                    self.side_message(fd)

    def pass_on(self):
        """To a worker its parent is gunicorn's master: `os.kill(os.getppid(), signal.SIGHUP)` reloads. Who has sent it, and
        when, is passed on, too: what was sent to all processes the master has got itself."""
        size = self.extension.SIGNAL_BYTES
        told = os.read(self.orders, 64 * size)
        for at in range(0, len(told), size):
            number, sender, when = struct.unpack_from("=iiQ", told, at)
            self.control.send("signalled", signal=number, sender=sender, at=when)

    def obey(self, message, fds):
        """Does one order; False when the mold is to end."""
        op = message.get("op")
        if op == "spawn":
            self.spawn(message, fds)
        elif op == "signal":
            self.send_signal(message["worker"], message["signal"])
        elif op == "hook":
            self.hook(message.get("name"), message.get("arguments") or [])
        elif op == "reopen":
            self.reopen(fds)
        elif op == "stop":
            self.reap()
            return False
        else:
            self.log.error("The mold does not know the order %r", op)
            for fd in fds:
                os.close(fd)
        return True

    def spawn(self, order, fds):
        number, age = order["worker"], order["age"]
        fd = fds.pop(0)
        worker = self.server.worker_class(self.server, number, age)
        # Of the first workers it ends the start; later there is something to lose.
        run = self.run_first if self.spawned < self.server.num_workers else self.run_hook
        run("pre_fork", self.cfg.run, "pre_fork", self.server, worker)
        self.before_fork()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for stream in (sys.stdout, sys.stderr, error_log.stream()):
            stream.flush()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        pid = os.fork()
        if pid == 0:
            worker.pid = os.getpid()
            self.leave(ours)
            raise Forked(self.boot(worker, fd, order.get("threads", 1), theirs, mask))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        os.close(fd)
        worker.pid = pid
        self.spawned += 1
        self.server.WORKERS[pid] = worker
        self.server.worker_age = max(self.server.worker_age, age)
        child = Child(number, pid, Control(ours), worker)
        self.children[pid] = child
        self.poll.register(ours, select.POLLIN)
        self.control.send("spawned", worker=number, pid=pid)

    def before_fork(self):
        others = threading.active_count() - 1
        if others and self.server.app.callable is not None:
            names = ", ".join(t.name for t in threading.enumerate() if t is not threading.main_thread())
            self.log.warning(
                "preload: %d thread%s of the application (%s) will not be in the workers; "
                "start threads in the hook post_fork", others, "s" if others > 1 else "", names
            )
        if not self.frozen:
            # What is there now is shared with every worker; a collection in one would copy its pages.
            self.frozen = True
            gc.collect()
            gc.freeze()

    def leave(self, ours):
        """In a fresh worker: lets go of everything that is the mold's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self.wakeup[0])
        os.close(self.wakeup[1])
        os.close(self.orders)
        self.control.close()
        ours.close()
        for child in self.children.values():
            child.side.close()

    def boot(self, worker, fd, threads, side, mask):
        """What a fresh worker goes on with, once the mold's frames are gone."""
        from .worker import Boot

        return Boot(
            server=self.server, worker=worker, extension=self.extension, version=self.version, fd=fd, threads=threads,
            side=Control(side), mask=mask, first_generation=self.first_generation,
        )

    def send_signal(self, number, what):
        number_of = getattr(signal, what if what.startswith("SIG") else "SIG" + what) if isinstance(what, str) else what
        for child in self.children.values():
            if child.number == number:
                os.kill(child.pid, number_of)

    def hook(self, name, arguments):
        if name == "nworkers_changed":
            self.run_hook(name, self.server.resized, arguments[0])
        elif name in settings.HOOKS:
            ends = name in ("when_ready", "on_exit")
            self.run_hook(name, self.cfg.run, name, self.server, *arguments, ends=ends)
        if name == "on_exit":
            # The master waits for it, and only then ends everything.
            self.control.send("hook_done", name=name)

    def reopen(self, fds):
        """Points the log at the new file, here and in every worker."""
        if not fds:
            path = self.cfg.value("errorlog")
            if path in (None, "-"):
                return
            fds = [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)]
        fds = for_output(fds, self.cfg.value("capture_output", False))
        for child in self.children.values():
            try:
                child.side.send("reopen", fds)
                os.kill(child.pid, signal.SIGUSR1)
            except OSError:
                continue
        reopen(fds)

    def side_message(self, fd):
        """A worker tells that a file has changed."""
        for child in self.children.values():
            if child.side.sock.fileno() != fd:
                continue
            try:
                message, _ = child.side.receive(socket.MSG_DONTWAIT)
            except OSError:
                message = None
            if message is None:
                # It ends; SIGCHLD says the rest.
                self.poll.unregister(fd)
            elif message.get("op") == "changed":
                self.control.send("changed", worker=child.number, path=message.get("path"))
            return

    def reap(self):
        """Reports every worker that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self.children.pop(pid, None)
            if child is None:
                continue
            self.server.WORKERS.pop(pid, None)
            try:
                self.poll.unregister(child.side)
            except KeyError:
                pass
            child.side.close()
            child.worker.alive = False
            self.run_hook("child_exit", self.cfg.run, "child_exit", self.server, child.worker)
            if os.WIFSIGNALED(status):
                self.control.send("exited", worker=child.number, pid=pid, signal=os.WTERMSIG(status))
            else:
                self.control.send("exited", worker=child.number, pid=pid, code=os.WEXITSTATUS(status))

    def orphaned(self):
        """The master is gone: so must the workers be."""
        for child in self.children.values():
            try:
                os.kill(child.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue


def enter(path):
    """Puts a directory in front of the search path, once."""
    if path not in sys.path:
        sys.path.insert(0, path)


def drain(fd):
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def drop_privileges(cfg):
    """Becomes the user and group that the settings name, for good."""
    uid, gid = cfg.uid, cfg.gid
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    if os.geteuid() == 0:
        name = user_name(uid)
        if cfg.value("initgroups", False) and name is not None:
            os.initgroups(name, gid)
        else:
            os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def user_name(uid):
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def exit_code(leave):
    """What a process ends with that this SystemExit ends."""
    if isinstance(leave.code, int):
        return leave.code & 0xFF
    return 0 if leave.code is None else 1


def hook_left(name, leave):
    return "The hook %s called sys.exit(%s)" % (name, "" if leave.code is None else repr(leave.code))


def describe(error):
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def where(error):
    """Of an import that failed: who looked for it, and in which directory."""
    user = user_name(os.geteuid()) or os.geteuid()
    if isinstance(error, PermissionError):
        return " (as the user %s)" % user
    if not isinstance(error, ImportError):
        return ""
    version = sys.version.split()[0]
    try:
        directory = os.getcwd()
    except OSError:
        directory = "that is gone"
    if not os.access(directory, os.R_OK | os.X_OK):
        directory += ", which the user %s may not read" % user
    else:
        hidden = hidden_from_user(error.name or "")
        if hidden is not None:
            directory += "; the user %s may not read %s" % (user, hidden)
        elif (hidden := way_to_python_hidden_from_user()) is not None:
            directory += "; the user %s may not read %s, where this Python has its modules" % (user, hidden)
    return " (Python %s, %s, in the directory %s)" % (version, sys.executable, directory)


def hidden_from_user(module):
    """What keeps this user from a module: a directory or file on the way to it that is there and may not be read."""
    parts = module.split(".")
    for base in sys.path:
        path = os.path.abspath(base)
        # Python's own are no place for an application.
        closed = None if "/lib/python" in path else closed_on_the_way(path)
        if closed is not None:
            return closed
        for part in parts:
            if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
                return path
            path = os.path.join(path, part)
            if os.path.isfile(path + ".py") and not os.access(path + ".py", os.R_OK):
                return path + ".py"
    return None


def way_to_python_hidden_from_user():
    """What keeps this user from modules of Python itself, or of its virtual environment: both may lie below the home of who
    has installed them. What was imported before the change of user works, and hides it."""
    ways = (closed_on_the_way(os.path.abspath(base)) for base in sys.path)
    return next((closed for closed in ways if closed is not None), None)


def closed_on_the_way(path):
    """A directory above that may not be entered: below it nothing can be seen."""
    at = path
    while not os.path.exists(at) and at != os.path.dirname(at):
        at = os.path.dirname(at)
    return at if at != path and os.path.isdir(at) and not os.access(at, os.X_OK) else None


def exit_words(leave):
    """Of a SystemExit that nobody has ordered."""
    return "sys.exit(%s) was called before the application was ready" % (
        "" if leave.code is None else repr(leave.code)
    )


def print_own_traceback(error):
    """The traceback of the user's code, without our frames in front of it."""
    frame = error.__traceback__
    while frame is not None and is_ours(frame.tb_frame):
        frame = frame.tb_next
    stream = error_log.stream()
    traceback.print_exception(type(error), error, frame, file=stream)
    stream.flush()


def is_ours(frame):
    name = frame.f_globals.get("__name__", "")
    return name.startswith("monoceros.") or name.startswith("importlib") or "importlib" in frame.f_code.co_filename


def set_title(role, name):
    """Names the process in `ps` and `top`, which would show the text that started it."""
    title = ("monoceros: %s [%s]" % (role, name)).replace("\0", "").encode(errors="replace")
    try:
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(title[:15])
        with open("/proc/self/stat", "rb") as file:
            # Behind the name in brackets, which may hold anything; proc_pid_stat(5) counts from the number before it.
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[48 - 3]), int(fields[49 - 3])
        room = end - start
        if room < 3:
            # A process that may not be looked at is not told.
            return
        # Python keeps no pointer into its arguments. To the kernel, a last byte that is not NUL says that there is a
        # title in their place, which ends at the first NUL.
        title = title[: room - 2]
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(title + b"\0" * (room - 1 - len(title)) + b".")
    except (OSError, ValueError, IndexError):
        return
