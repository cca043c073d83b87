"""Finds the application that `module:name` names."""

import ast
import importlib
import inspect
import os
import traceback
import types


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
        text = "Failed to find attribute %r in %r." % (name, module)
        raise AppImportError(text + instead(module, imported)) from None
    if args is not None:
        found = call_factory(found, args, kwargs)
    if found is None:
        raise AppImportError("Failed to find application object: %r" % target)
    if not callable(found):
        raise AppImportError("Application object must be callable, but %r is %r." % (target, type(found).__name__))
    refuse_asgi(target, found)
    if args is None:
        refuse_factory("%s:%s" % (module, name), found)
    return found


# What modules call it, and how they call what makes it.
USUAL = ("application", "app", "wsgi", "wsgi_app")
USUAL_FACTORIES = ("create_app", "make_app", "get_app", "create_application", "make_application", "app_factory")


def instead(module, imported):
    """What of the module is most likely meant, as an end of the sentence that says what is not there."""
    public = {name: value for name, value in vars(imported).items() if not name.startswith("_")}
    usual = [name for name in USUAL if callable(public.get(name))]
    for name in usual:
        refuse_asgi("%s:%s" % (module, name), public[name])
    for name in usual + [name for name, value in public.items() if is_wsgi(value)]:
        if not wants_no_request(public[name]):
            return " Did you mean '%s:%s'?" % (module, name)
    for name in USUAL_FACTORIES + tuple(usual):
        if wants_no_request(public.get(name)):
            return " Did you mean '%s:%s()'?" % (module, name)
    return ""


def is_wsgi(value):
    """Whether it says by the names of its parameters that it is an application."""
    call = value if is_function(value) else getattr(type(value), "__call__", None)
    return is_function(call) and parameter_names(call)[-1:] == ["start_response"]


def wants_no_request(found):
    """Whether it is a function or a class that can be called without arguments, and not as an application."""
    if not (is_function(found) or is_class(found)):
        return False
    taken = parameters(found)
    return taken is not None and not any(p.default is p.empty or p.name == "start_response" for p in taken)


# By the type, because objects that stand for others (flask.request, django.conf.settings) do not like to be asked.


def is_function(value):
    return type(value) is types.FunctionType


def is_class(value):
    return issubclass(type(value), type)


def parameters(call):
    """What it takes by place; None where that is not known, or any number."""
    try:
        # What a decorator returns is what is called.
        every = inspect.signature(call, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in every):
        return None
    return [p for p in every if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def refuse_factory(target, found):
    """A function that makes the application, named and not called, would be called for each request in its place."""
    rule = "An application is called for each request with two arguments, environ and start_response, "
    if wants_no_request(found):
        raise AppImportError(
            rule + "but %r needs none: it seems to make the application. Did you mean '%s()'?" % (target, target)
        )
    taken = parameters(found) if is_function(found) or is_class(found) else None
    if taken is not None and len(taken) < 2:
        raise AppImportError(rule + "but %r takes one." % target)


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
