"""Fixtures of the end-to-end tests. See support/ for what they are made of."""

import itertools
import signal

import pytest
from support import Monoceros, Site

# A shell lets what it runs in the background ignore SIGINT, and so would every server that is started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    # No test may hang the run; those that need longer say so.
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(60))


def _starter(directory):
    servers = []
    numbers = itertools.count()

    def start(app="", *args, wait=True, **options):
        server = Monoceros(directory / f"site{next(numbers)}", app, *args, **options)
        servers.append(server)
        return server.start(wait)

    return start, servers


def _site_starter(directory):
    servers = []
    numbers = itertools.count()

    def start(conf, *args, wait=True, **options):
        server = Site(directory / f"nginx{next(numbers)}", conf, *args, **options)
        servers.append(server)
        return server.start(wait)

    return start, servers


def _stop(servers):
    problems = []
    for server in servers:
        try:
            server.stop()
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, "\n".join(problems)


@pytest.fixture
def serve(tmp_path):
    """Starts a server for one test: `serve(app_source, *arguments)`; see `Monoceros`."""
    start, servers = _starter(tmp_path)
    yield start
    _stop(servers)


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory):
    """Starts a server that all tests of a file share."""
    start, servers = _starter(tmp_path_factory.mktemp("site"))
    yield start
    _stop(servers)


@pytest.fixture
def serve_nginx(tmp_path):
    """Starts a server for one test by the text of an nginx.conf: `serve_nginx(conf, files=…)`; see `Site`."""
    start, servers = _site_starter(tmp_path)
    yield start
    _stop(servers)


@pytest.fixture(scope="module")
def serve_nginx_module(tmp_path_factory):
    """The same for all tests of a file."""
    start, servers = _site_starter(tmp_path_factory.mktemp("nginx"))
    yield start
    _stop(servers)
