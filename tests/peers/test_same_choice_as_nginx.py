"""Which server of a group gets a request, by chance: round robin, weights, `hash`, `ip_hash`, `least_conn`, servers that are
down, kept for need or dead. Every request is answered by the same server as behind nginx. `SEEDS=1000` tries more.
"""

import os
import random

import pytest
from support import Client
from support.nginx import Nginx, first_accepted
from support.server import free_port, which

SEEDS = range(int(os.environ.get("SEEDS", "12")))
GROUPS = 6
REQUESTS = 60

METHODS = ["", "", "hash $arg_k;", "hash $arg_k consistent;", "hash $request_uri;", "ip_hash;", "least_conn;"]


class Chance:
    """Groups and requests that a seed makes."""

    def __init__(self, seed, ports, dead):
        self.random = random.Random(seed)
        self.one, self.ports, self.dead = self.random.choice, ports, dead

    def often(self, share, text):
        return text if self.random.random() < share else ""

    def group(self, number):
        method = self.one(METHODS)
        may_wait = "hash" not in method
        first, *others = self.random.sample(self.ports, self.one([1, 2, 3, 5, len(self.ports)]))
        servers = [f"{first}{self.weight()}"]
        servers += [f"{port}{self.weight()}{self.often(.1, ' down') or self.often(.15 * may_wait, ' backup')}" for port in others]
        if self.random.random() < .35:
            servers.append(f"{self.dead} max_fails={self.one([0, 1, 1, 2])} fail_timeout=600s{self.weight()}")
        self.random.shuffle(servers)
        listed = "\n".join(f"server 127.0.0.1:{server};" for server in servers)
        return f"upstream g{number} {{ {method}\n{listed}\n{self.often(.3, 'keepalive 4;')} }}\n"

    def weight(self):
        return self.often(.5, f" weight={self.one([2, 3, 5, 10])}")

    def configuration(self):
        groups = "".join(self.group(number) for number in range(GROUPS))
        places = "".join(
            f"location /g{number}/ {{ proxy_pass http://g{number}; proxy_next_upstream_tries {self.one([0, 0, 1, 2])};"
            " add_header X-Upstream $upstream_addr always; }\n" for number in range(GROUPS))
        return f"""{groups}
            set_real_ip_from 127.0.0.1;
            real_ip_header X-Address;
            server {{ listen 127.0.0.1:%PORT%; location / {{ return 204; }}
            {places} }}"""

    def request(self, number):
        key = self.one(["", "a", str(self.random.random()), "x" * self.one([1, 50]), "%20"])
        octets = ".".join(str(self.random.randrange(1, 255)) for _ in range(4))
        address = self.one(["192.0.2.4", octets, "::1", f"2001:db8::{self.random.randrange(9999):x}"])
        return f"/g{number}/?k={key}", address


def asked(port, target, address):
    with Client(("127.0.0.1", port), timeout=20) as client:
        answer = client.request("GET", target, [("Host", "a.test"), ("X-Address", address), ("Connection", "close")], None)
    return answer.status, answer.status == 200 and answer.body, answer.get("X-Upstream")


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """Seven servers that tell their ports."""
    nginx = which("nginx")
    assert nginx, "the system's nginx"
    chosen = [free_port() for _ in range(7)]
    listens = "".join(f"listen 127.0.0.1:{port};" for port in ["%PORT%", *chosen])
    with Nginx(nginx, tmp_path_factory.mktemp("servers") / "theirs", f"server {{ {listens} return 200 $server_port; }}"):
        yield chosen


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_chance(seed, ports, serve_nginx, tmp_path):
    chance = Chance(seed, ports, free_port())
    conf, theirs = first_accepted(which("nginx"), tmp_path, lambda _: chance.configuration())
    ours = serve_nginx(conf)
    served = set()
    with theirs:
        for number in range(GROUPS):
            for _ in range(REQUESTS):
                target, address = chance.request(number)
                one, other = (asked(port, target, address) for port in (theirs.port, ours.port))
                assert other == one, f"{target} from {address}\n{conf}"
                served.add(one[1])
    assert len(served) > 3, "hardly any server was asked"
