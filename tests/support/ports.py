# SPDX-License-Identifier: MIT
"""Ports for servers that are not there yet, or that come back."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress

# Systems give clients, and servers that ask for any port, one above these: Linux from 32,768, the others from 49,152.
# So nothing takes one of these while no test listens on it.
OWN_PORTS = range(15_000, 32_000)


_given: set[int] = set()  # in this process: a server that is about to start does not hold its port yet


def own_ports() -> range:
    """Those of this process of pytest-xdist.  One that looks at the same moment for a port looks among others."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # above the count after a crash
    share = len(OWN_PORTS) // count
    return OWN_PORTS[number % count * share :][:share]


def free_port() -> int:
    """A port that stays free until a test listens on it, and from then until the test listens on it again."""
    ports = own_ports()
    if len(_given) > len(ports) // 2:
        _given.clear()
    while True:
        port = secrets.choice(ports)  # `random` may be seeded alike in several processes
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
