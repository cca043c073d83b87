"""A certification authority for tests: Debian's `pebble`, and the server of names that it asks."""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request

import pytest
from cryptography import x509

from .server import free_port, wait_until
from .tls import Authority

# Puts records into pebble-challtestsrv; what it was asked is in a file beside it.
HOOK = """#!{python}
import json, os, sys, time, urllib.request
action, record, value = sys.argv[-3:]
assert os.environ["ACME_ACTION"] == action and os.environ["ACME_RECORD"] == record
with open({log!r}, "a") as log:
    print(action, record, file=log)
while os.path.exists({stall!r}) and action == "present":
    time.sleep(0.05)
path, body = ("set-txt", {{"host": record + ".", "value": value}})
if action == "cleanup":
    path, body = "clear-txt", {{"host": record + "."}}
urllib.request.urlopen("http://127.0.0.1:{port}/" + path, json.dumps(body).encode(), timeout=30).read()
"""


class Pebble:
    """One authority. `http` and `tls` are the ports that it looks at; names are all 127.0.0.1."""

    def __init__(self, directory, env=None, **settings):
        if not shutil.which("pebble"):
            assert not os.environ.get("CI"), "CI has to have pebble"
            pytest.skip("there is no pebble here (Debian's package `pebble`)")
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.http, self.tls, self.port, self.management = (free_port() for _ in range(4))
        self.dns, self.names = free_port(), free_port()
        own = Authority("Authority's own")
        issued = own.issue("127.0.0.1")
        (directory / "own.pem").write_bytes(own.pem)
        (directory / "server.pem").write_bytes(issued.pem)
        (directory / "server.key").write_bytes(issued.key)
        self.trusted = directory / "own.pem"
        self.settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(directory / "server.pem"),
            "privateKey": str(directory / "server.key"),
            "httpPort": self.http,
            "tlsPort": self.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            **settings,
        }
        self.env = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "5", **(env or {})}
        self.log_path = directory / "pebble.log"
        self.processes = []
        self.server_of_names = self._spawn(
            "pebble-challtestsrv", "-dns01", f"127.0.0.1:{self.dns}", "-management", f"127.0.0.1:{self.names}",
            "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "")
        self.start()

    @property
    def uri(self):
        return f"https://127.0.0.1:{self.port}/dir"

    def _spawn(self, *argv):
        with open(self.log_path, "ab") as log:
            process = subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       cwd=self.directory)
        self.processes.append(process)
        return process

    def start(self):
        """Also once more, after a `stop`: it has forgotten everything then, and has other roots."""
        config = self.directory / "pebble.json"
        config.write_text(json.dumps({"pebble": self.settings}))
        self.process = self._spawn("pebble", "-strict", "-dnsserver", f"127.0.0.1:{self.dns}", "-config", str(config))
        wait_until(lambda: self._answers(), "pebble to answer", 30)

    def _answers(self):
        try:
            return self.root()
        except OSError:
            assert self.process.poll() is None, self.log()
            return None

    def stop(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def issued(self):
        """How many certificates it has issued."""
        return len(re.findall(r"Issued certificate serial", self.log()))

    def root(self):
        """What clients are to trust, PEM."""
        trusted = ssl.create_default_context(cafile=str(self.trusted))
        url = f"https://127.0.0.1:{self.management}/roots/0"
        return urllib.request.urlopen(url, timeout=5, context=trusted).read().decode()

    def hook(self):
        """A program for records, with a file that makes it wait as long as it is there, and what it was asked."""
        path, stall, log = (self.directory / name for name in ("hook", "stall", "hook.log"))
        log.touch()
        path.write_text(HOOK.format(python=sys.executable, log=str(log), stall=str(stall), port=self.names))
        path.chmod(0o755)
        return path, stall, log


def shown(address, name, trusted=None, alpn=()):
    """The certificate that a server shows for a name; verified, if there is something to verify it by."""
    import socket
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusted:
        context.load_verify_locations(cadata=trusted)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with socket.create_connection(address, timeout=10) as plain, \
            context.wrap_socket(plain, server_hostname=name) as secured:
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))
