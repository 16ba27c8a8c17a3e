# SPDX-License-Identifier: MIT
"""Ports for servers that are not there yet, or that come back."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

# Systems give clients, and servers that ask for any port, one above these: Linux from 32,768, the others from 49,152.
# So nothing takes one of these while no test listens on it.
OWN_PORTS = range(15_000, 32_000)


def free_port() -> int:
    """A port that stays free until a test listens on it, and from then until the test listens on it again."""
    while True:
        port = secrets.choice(OWN_PORTS)  # `random` may be seeded alike in several processes
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
