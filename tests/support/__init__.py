"""What the end-to-end tests are made of: a server under test, and a client that sends exact bytes."""

from .client import Client, Response, build
from .load import Load
from .server import Monoceros, Site, free_port, wait_until

__all__ = ["Client", "Load", "Monoceros", "Response", "Site", "build", "free_port", "wait_until"]
