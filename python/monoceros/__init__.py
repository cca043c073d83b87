"""The Python side of Monoceros: settings file, hooks, and the workers that run the application.

Nothing of this is installed anywhere. The master starts the user's interpreter as

    python -c LOADER ARGV…        LOADER is the text of loader.py, ARGV what sys.argv is to be

with these variables, all of which are gone before any code of the user runs:

    MONOCEROS_PY_FD       a zip archive of this package: monoceros/__init__.py, monoceros/mold.py, …
    MONOCEROS_EXT_FD      the extension module monoceros_worker
    MONOCEROS_CONTROL_FD  the control socket (docs/ARCHITECTURE.md)
    MONOCEROS_SETTINGS    the settings file: PATH, file:PATH or python:MODULE; not set: there is none
    MONOCEROS_VERSION     what SERVER_SOFTWARE says
"""

__all__ = []
