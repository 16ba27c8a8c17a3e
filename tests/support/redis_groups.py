# SPDX-License-Identifier: MIT
"""Several Redis servers that belong together: a cluster, and a master with its replica and a sentinel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ports import free_port
from redis_servers import RedisServer, redis_server

SLOTS = 16_384
AT_ONCE = ("--repl-diskless-sync-delay", "0")  # a replica gets the data without waiting for others
NODE_TIMEOUT = 1_000  # ms, after which a node of a cluster counts as failing


@contextlib.contextmanager
def redis_cluster(masters: int = 3, replica_of: int | None = None) -> Iterator[list[RedisServer]]:
    """A cluster: the masters, which share the slots, then the replica of one of them."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in range(masters + (replica_of is not None)):
            options = ("--cluster-enabled", "yes", "--cluster-port", f"{free_port()}", "--cluster-node-timeout")
            more = (f"{NODE_TIMEOUT}", "--cluster-require-full-coverage", "no", *AT_ONCE)
            nodes.append(stack.enter_context(redis_server(*options, *more, port=True)))
        share = SLOTS // masters
        for n, node in enumerate(nodes[:masters]):
            end = SLOTS - 1 if n == masters - 1 else (n + 1) * share - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", n * share, end)
        for node in nodes[1:]:
            bus = nodes[0].ask("CONFIG", "GET", "cluster-port")
            port = bus["cluster-port"] if isinstance(bus, dict) else bus[1]  # type: ignore[index]
            node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, port)
        for node in nodes:
            node.wait_until(lambda node=node: knows(node, len(nodes)))
        for node in nodes[masters:]:
            node.ask("CLUSTER", "REPLICATE", nodes[replica_of or 0].ask("CLUSTER", "MYID"))
            node.wait_until(lambda node=node: replicates(node))
        yield nodes


def knows(node: RedisServer, count: int) -> bool:
    """Whether a node knows so many, and finds all in order."""
    text = str(node.ask("CLUSTER", "INFO"))
    return "cluster_state:ok" in text and f"cluster_known_nodes:{count}" in text and "cluster_slots_ok:16384" in text


def replicates(node: RedisServer) -> bool:
    """Whether a replica has the data of its master."""
    with node.control() as client:
        return client.info("replication").get("master_link_status") == "up"


def knows_replica(sentinel: RedisServer) -> bool:
    """Whether a sentinel has found the replica."""
    with sentinel.control() as client:
        return client.info("sentinel")["master0"]["slaves"] == 1


def cluster_url(nodes: list[RedisServer], prefix: str = "mcp") -> str:
    """For `RedisStore.from_url`."""
    return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}?prefix={prefix}"


@contextlib.contextmanager
def redis_sentinel() -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A master, its replica, and a sentinel that makes the one into the other within seconds."""
    with redis_server(*AT_ONCE, port=True) as master:
        with redis_server(*AT_ONCE, "--replicaof", f"127.0.0.1 {master.port}", port=True) as replica:
            replica.wait_until(lambda: replicates(replica))
            with redis_server(port=True, started=False) as sentinel:
                file = sentinel.folder / "sentinel.conf"
                file.write_text(
                    f"port {sentinel.port}\nbind 127.0.0.1\nunixsocket {sentinel.socket}\n"
                    f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
                    "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
                )
                sentinel.launch_with(str(file), "--sentinel")
                sentinel.wait_until(lambda: knows_replica(sentinel))
                yield master, replica, sentinel
