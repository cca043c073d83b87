"""Development's reload: looks at the files of imported modules and tells when one has changed."""

import glob
import os
import sys
import sysconfig
import threading

INTERVAL = 0.5


class Reloader(threading.Thread):
    """Calls `changed(path)` once for each time that a watched file changes."""

    def __init__(self, changed, extra=(), templates=(), known=()):
        super().__init__(name="monoceros-reloader", daemon=True)
        self.changed = changed
        self.extra = list(extra)
        self.templates = ["**/templates/**" if t == "on" else t for t in templates if t != "off"]
        # Files that an import failed in are watched, though no module came of them.
        self.known = set(known)
        self.times = {}
        self.stop = threading.Event()
        self.installed = tuple(
            os.path.join(path, "") for name, path in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib")
        )
        # Here and not in the thread: what changes once the worker is ready must be seen.
        self.look()

    def files(self):
        """Every path to watch now."""
        found = set(self.known)
        directories = set()
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if not isinstance(path, str):
                continue
            if path.endswith((".pyc", ".pyo")):
                path = path[:-1]
            if path.startswith("/proc/self/fd/"):
                continue
            found.add(path)
            if not path.startswith(self.installed) and "site-packages" not in path:
                directories.add(os.path.dirname(path))
        # A module that did not import yet is beside one that did: a fix to it is a change as well.
        for directory in directories:
            try:
                with os.scandir(directory) as entries:
                    found.update(e.path for e in entries if e.name.endswith(".py"))
            except OSError:
                continue
        for pattern in self.extra + self.templates:
            if glob.has_magic(pattern):
                found.update(p for p in glob.iglob(pattern, recursive=True) if os.path.isfile(p))
            else:
                found.add(pattern)
        return found

    def look(self):
        """The first file that has changed since the last look, or None."""
        first = not self.times
        changed = None
        before, self.times = self.times, {}
        for path in self.files():
            try:
                time = os.stat(path).st_mtime_ns
            except OSError:
                # An editor that writes by renaming leaves a moment without the file.
                if path in before:
                    self.times[path] = before[path]
                continue
            self.times[path] = time
            # A file seen for the first time belongs to a late import, and is what that import read.
            if not first and changed is None and path in before and before[path] != time:
                changed = path
        return changed

    def run(self):
        while not self.stop.wait(INTERVAL):
            path = self.look()
            if path is not None:
                self.changed(path)


def files_of(error):
    """The files that an exception went through, and the one that did not parse."""
    files = set()
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frame = error.__traceback__
        while frame is not None:
            files.add(frame.tb_frame.f_code.co_filename)
            frame = frame.tb_next
        if isinstance(error, SyntaxError) and error.filename:
            files.add(error.filename)
        error = error.__cause__ or error.__context__
    return {f for f in files if os.path.isfile(f)}
