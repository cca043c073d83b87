"""The settings file: a Python program whose global names are settings."""

import ast
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import types

# Each hook with the numbers of arguments that it may take; the first is the full one.
HOOKS = {
    "on_starting": ("server",),
    "on_reload": ("server",),
    "when_ready": ("server",),
    "pre_fork": ("server", "worker"),
    "post_fork": ("server", "worker"),
    "post_worker_init": ("worker",),
    "worker_int": ("worker",),
    "worker_abort": ("worker",),
    "pre_exec": ("server",),
    "pre_request": ("worker", "req"),
    "post_request": ("worker", "req", "environ", "resp"),
    "child_exit": ("server", "worker"),
    "worker_exit": ("server", "worker"),
    "nworkers_changed": ("server", "new_value", "old_value"),
    "on_exit": ("server",),
    "ssl_context": ("config", "default_ssl_context_factory"),
    "on_dirty_starting": ("arbiter",),
    "dirty_post_fork": ("arbiter", "worker"),
    "dirty_worker_init": ("worker",),
    "dirty_worker_exit": ("arbiter", "worker"),
}
# gunicorn passes fewer arguments to a function that takes fewer.
FEWEST = {"post_request": 2}


class SettingsError(Exception):
    """What is wrong with the settings file, in a line for each thing, which names it."""


class Settings:
    """An evaluated settings file."""

    def __init__(self, path, names, lines):
        self.path = path
        self.hooks = {}
        self.values = {}
        wrong = []
        for name, value in names.items():
            if name.startswith("_") or isinstance(value, types.ModuleType):
                continue
            if name in HOOKS and value is None:
                continue
            if name in HOOKS and callable(value):
                try:
                    self.hooks[name] = (value, arguments_taken(name, value, path, lines.get(name)))
                except SettingsError as error:
                    wrong.append((lines.get(name, 0), str(error)))
            elif isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
                continue
            else:
                self.values[name] = plain(value)
        if wrong:
            raise SettingsError("\n".join(text for _, text in sorted(wrong)))
        self.lines = {n: lines[n] for n in lines if n in self.values or n in self.hooks}


def evaluate(spec):
    """Runs the settings file that `spec` names: PATH, file:PATH or python:MODULE; None is no file."""
    if spec is None:
        return Settings(None, {}, {})
    if spec.startswith("python:"):
        module = importlib.import_module(spec[len("python:") :])
        path = getattr(module, "__file__", None) or spec
        return Settings(path, vars(module), lines_of(path))
    path = spec[len("file:") :] if spec.startswith("file:") else spec
    if not os.path.exists(path):
        raise SettingsError("%s does not exist" % path)
    # Apps and tools look for gunicorn's settings under this name.
    name = "__config__"
    loader = importlib.machinery.SourceFileLoader(name, os.path.abspath(path))
    spec = importlib.util.spec_from_file_location(name, os.path.abspath(path), loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return Settings(path, vars(module), lines_of(path))


def lines_of(path):
    """The line on which each global name was last bound; a guess where that depends on the run."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), path)
    except (OSError, SyntaxError, ValueError):
        return {}
    lines = {}
    todo = list(reversed(tree.body))
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            lines[node.name] = node.lineno
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                lines[(alias.asname or alias.name).split(".")[0]] = node.lineno
            continue
        if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            lines[node.id] = node.lineno
        todo.extend(reversed(list(ast.iter_child_nodes(node))))
    return lines


def arguments_taken(name, hook, path, line):
    """How many arguments `hook` is called with; SettingsError when it takes none of the right numbers."""
    wanted = HOOKS[name]
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):
        return len(wanted)
    for count in range(len(wanted), FEWEST.get(name, len(wanted)) - 1, -1):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    raise SettingsError(
        "%s%s: %s must take %d argument%s (%s), but it is %s%s"
        % (path, ":%d" % line if line else "", name, len(wanted), "s" if len(wanted) > 1 else "",
           ", ".join(wanted), name, signature)
    )


def plain(value):
    """`value` as JSON can hold it. What it cannot hold becomes text, so that the check names it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, type):
        return "%s.%s" % (value.__module__, value.__qualname__)
    return repr(value)
