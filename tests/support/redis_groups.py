# SPDX-License-Identifier: MIT
"""Several Redis servers that belong together: a cluster, and a master with its replica and a sentinel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ports import free_port
from redis_servers import RedisServer, redis_server

SLOTS = 16_384
AT_ONCE = ("--repl-diskless-sync-delay", "0")  # a replica gets the data without waiting for others
# Milliseconds without an answer, after which a node of a cluster counts as failing.  A machine that stands still for a
# second makes no node fail where the test does not wait for it.
NODE_TIMEOUT, FAILOVER_TIMEOUT = 10_000, 1_000
ACKNOWLEDGED = 20_000  # ms until a replica has what its master was told


@contextlib.contextmanager
def redis_cluster(masters: int = 3, replica_of: int | None = None) -> Iterator[list[RedisServer]]:
    """A cluster: the masters, which share the slots, then the replica of one of them."""
    timeout = NODE_TIMEOUT if replica_of is None else FAILOVER_TIMEOUT
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in range(masters + (replica_of is not None)):
            options = ("--cluster-enabled", "yes", "--cluster-port", f"{free_port()}", "--cluster-node-timeout")
            more = (f"{timeout}", "--cluster-require-full-coverage", "no", *AT_ONCE)
            nodes.append(stack.enter_context(redis_server(*options, *more, port=True)))
        share = SLOTS // masters
        for n, node in enumerate(nodes[:masters]):
            end = SLOTS - 1 if n == masters - 1 else (n + 1) * share - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", n * share, end)
        nodes[0].wait_until(lambda: are_acquainted(nodes))
        for replica in nodes[masters:]:
            master = nodes[replica_of or 0]
            replica.ask("CLUSTER", "REPLICATE", identity(master))
            replica.wait_until(lambda replica=replica: replicates(replica))
            for node in nodes:  # each master has a vote, and gives it to no node that it takes for another master
                node.wait_until(lambda node=node, master=master: f"slave {identity(master)} " in table(node))
        yield nodes


def identity(node: RedisServer) -> str:
    """The name of a node in its cluster."""
    return str(node.ask("CLUSTER", "MYID"))


def table(node: RedisServer) -> str:
    """What a node knows of its cluster."""
    return str(node.ask("CLUSTER", "NODES"))


def are_acquainted(nodes: list[RedisServer]) -> bool:
    """Whether each node knows all others; those that do not know the first one are introduced to it.

    A node forgets whom it was to meet after the time of `cluster-node-timeout`.
    """
    first = nodes[0]
    bus = first.ask("CONFIG", "GET", "cluster-port")
    port = bus["cluster-port"] if isinstance(bus, dict) else bus[1]  # type: ignore[index]
    for node in nodes[1:]:
        tables = table(first), table(node)
        known = identity(node) in tables[0] and identity(first) in tables[1]
        if not known and "handshake" not in "".join(tables):
            node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, port)
    return all(knows(node, len(nodes)) for node in nodes)


def knows(node: RedisServer, count: int) -> bool:
    """Whether a node knows so many, and finds all in order."""
    text = str(node.ask("CLUSTER", "INFO"))
    return "cluster_state:ok" in text and f"cluster_known_nodes:{count}" in text and "cluster_slots_ok:16384" in text


def replicates(node: RedisServer) -> bool:
    """Whether a replica has the data of its master."""
    with node.control() as client:
        return client.info("replication").get("master_link_status") == "up"


def replicated(master: RedisServer) -> None:
    """Wait until the replica has all that the master was told."""
    assert master.ask("WAIT", 1, ACKNOWLEDGED) == 1, "the replica does not follow its master"


def knows_replica(sentinel: RedisServer) -> bool:
    """Whether a sentinel has found the replica, and the replica has told it that it follows the master."""
    with sentinel.control() as client:
        return [one["master-link-status"] for one in client.sentinel_slaves("main")] == ["ok"]


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
