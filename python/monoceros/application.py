"""Finds the application that `module:name` names."""

import ast
import importlib
import inspect
import os
import traceback


class AppImportError(Exception):
    """The name leads to no application; the message is all that its user needs."""


def load(target):
    """The WSGI callable of `module`, `module:name` or `module:factory(arguments)`.

    Raises AppImportError for what is wrong with the name, and whatever the module raises.
    """
    module, _, name = target.partition(":")
    name = name or "application"
    try:
        imported = importlib.import_module(module)
    except ImportError:
        if module.endswith(".py") and os.path.exists(module):
            raise AppImportError(
                "Failed to find application, did you mean '%s:%s'?" % (module[:-3].replace("/", "."), name)
            ) from None
        raise
    name, args, kwargs = parse(name)
    try:
        found = getattr(imported, name)
    except AttributeError:
        raise AppImportError("Failed to find attribute %r in %r." % (name, module)) from None
    if args is not None:
        found = call_factory(found, args, kwargs)
    if found is None:
        raise AppImportError("Failed to find application object: %r" % target)
    if not callable(found):
        raise AppImportError("Application object must be callable, but %r is %r." % (target, type(found).__name__))
    refuse_asgi(target, found)
    return found


def parse(text):
    """`name` or `name(literals)` as a name, positional and keyword arguments; None for no call."""
    wrong = AppImportError("Failed to parse %r as an attribute name or function call." % text)
    try:
        expression = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise wrong from None
    if isinstance(expression, ast.Name):
        return expression.id, None, None
    if not isinstance(expression, ast.Call):
        raise wrong
    if not isinstance(expression.func, ast.Name):
        raise AppImportError("Function reference must be a simple name: %r" % text)
    try:
        args = [ast.literal_eval(a) for a in expression.args]
        kwargs = {k.arg: ast.literal_eval(k.value) for k in expression.keywords if k.arg is not None}
    except ValueError:
        raise AppImportError("Failed to parse arguments as literal values: %r" % text) from None
    if len(kwargs) != len(expression.keywords):
        raise AppImportError("Failed to parse arguments as literal values: %r" % text)
    return expression.func.id, args, kwargs


def call_factory(factory, args, kwargs):
    if not callable(factory):
        raise AppImportError("%r is not a function that makes an application." % factory)
    try:
        return factory(*args, **kwargs)
    except TypeError as error:
        # Wrong arguments: the call itself failed, and a traceback of ours would help nobody.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise AppImportError("".join(traceback.format_exception_only(TypeError, error)).strip()) from None
        raise


def refuse_asgi(target, found):
    """ASGI callables are coroutine functions of three arguments, or classes that only take a scope first."""
    call = found if inspect.isroutine(found) or inspect.isclass(found) else getattr(type(found), "__call__", found)
    asynchronous = inspect.iscoroutinefunction(inspect.unwrap(call)) or inspect.isasyncgenfunction(call)
    if not asynchronous and inspect.isclass(found):
        asynchronous = inspect.iscoroutinefunction(getattr(found, "__call__", None)) and has_scope(found)
    if not asynchronous and inspect.isfunction(call):
        # Decorators and partials may hide `async`, but these three names are ASGI's own.
        asynchronous = parameter_names(call)[-3:] == ["scope", "receive", "send"]
    if asynchronous:
        raise AppImportError(
            "%r is an ASGI application. Monoceros runs WSGI applications; ASGI is not there yet. "
            "Django has a WSGI callable in its wsgi.py; other frameworks need an ASGI server until then." % target
        )


def has_scope(found):
    return parameter_names(found)[:1] == ["scope"]


def parameter_names(call):
    try:
        return list(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        return []
