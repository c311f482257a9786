"""Which process runs on which machine, and the Ray that they run on.

Roles are custom resources of Ray's nodes. The head offers `head_node`: learner, replay and mailbox go there, beside the
driver. Every other machine offers `actor_node`, as many as it has room for actor processes, and an actor takes one. So
an actor without a place is a demand that makes a cluster's autoscaler start a machine. On one machine our own Ray
offers both.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from itertools import count
from threading import Thread
from typing import Any, NamedTuple, TypeVar

import psutil
import ray

from cluster.config import ClusterConfig, Config
from cluster.console.signals import withheld
from cluster.errors import HeadLost, RunFailed, in_one_line
from cluster.run.directory import Run
from replay.errors import UserError
from replay.experience import EnvSpec

log = logging.getLogger("placement")
HEAD_NODE = "head_node"  # these two names stand in the cluster files, too
ACTOR_NODE = "actor_node"
ON_HEAD = {HEAD_NODE: 0.01}  # so small that several runs fit
ON_ACTOR_NODE = {ACTOR_NODE: 1}
CONNECT_SECONDS = 10.0  # that the head may take to answer
SAY_SECONDS = 15  # between two lines on a head that owes an answer
LOCAL_STORE = 512 * 2**20  # bytes of shared memory of a Ray of our own

T = TypeVar("T")


class Place(NamedTuple):
    """What every process of a run knows."""

    config: Config
    run: Run
    spec: EnvSpec
    mailbox: Any  # handle of the Mailbox
    replay_address: str


@contextmanager
def ray_of(cluster: ClusterConfig, *, namespace: str) -> Iterator[str]:
    """Joins the Ray at cluster.address, or starts one on this machine -> the address of this machine there.

    Raises UserError where there is none, or not the head. Leaves everything as it was.
    """
    try:
        if is_local(cluster):
            start_local(cluster, namespace=namespace)
        else:
            _join(cluster.address, namespace)
        yield cluster.host if cluster.host != "auto" else ray.util.get_node_ip_address()
    finally:
        ray.shutdown()


def ask_head(question: Callable[[], T]) -> T:
    """What `question` answers, which may wait for Ray's head. Raises HeadLost if the head is dead.

    Ray itself would wait for a minute and then end the process without a word of ours; hence the thread. A head that
    lives but is silent is waited for: without it not even ray.shutdown comes back.
    """
    answer: Future[T] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except Exception as error:
            answer.set_exception(error)

    _check_head()  # first, so that a death that is known leaves no thread behind
    Thread(target=ask, daemon=True).start()
    for second in count(1):
        if wait([answer], timeout=1.0).done:
            break
        _check_head()
        if second % SAY_SECONDS == 0:
            log.warning("the head of Ray has not answered for %d s: waiting for it", second)
    return answer.result()


def _check_head() -> None:
    """Raises HeadLost if Ray's head has died: what is still running would end by itself within a minute or two.

    The driver stands on the same machine, so that a refused connection is no cut link.
    """
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError as error:
        raise HeadLost(f"the head of Ray at {host}:{port} has died, and the run with it") from error
    except OSError:  # busy
        return


def is_local(cluster: ClusterConfig) -> bool:
    """Whether the run starts a Ray of its own on this machine."""
    return cluster.address == "local"


def start_local(cluster: ClusterConfig, *, namespace: str) -> None:
    """A Ray of our own on this machine, which offers both roles. Raises RunFailed."""
    try:
        with withheld():
            ray.init(
                address="local",
                namespace=namespace,
                include_dashboard=False,
                # Roles are placed by hand and counted as 0 CPUs: two cores must be enough for all of them.
                resources={HEAD_NODE: 1, ACTOR_NODE: min(cluster.actors, cluster.max_actors)},
                object_store_memory=LOCAL_STORE,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # whatever it is, forty lines of it help nobody
        raise RunFailed(f"Ray does not start on this machine: {in_one_line(error)}") from error


def _join(address: str, namespace: str) -> None:
    check_answers(address)
    try:
        ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"no Ray at cluster.address {address}: {reason}") from error
    here = ray.get_runtime_context().get_node_id()
    heads = [node for node in _nodes() if node["Resources"].get(HEAD_NODE)]
    if not heads:
        raise UserError(
            f"no node of the cluster at {address} offers {HEAD_NODE} ({found()}): start its head with "
            f"""ray start --head --resources='{{"{HEAD_NODE}": 1}}'"""
        )
    if here not in [node["NodeID"] for node in heads]:
        where = heads[0]["NodeManagerAddress"]
        raise UserError(f"train must be started on the node that offers {HEAD_NODE}, {where}: it serves the run's data")


def check_answers(address: str) -> None:
    """Raises UserError where nobody listens at host:port: Ray itself would try for a quarter of an hour.

    What "auto" means is Ray's own to find out.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(f"no Ray answers at cluster.address {address} ({error}): start it (make cluster-up)") from error


def who_reaches(cluster: ClusterConfig, port: int, interfaces: dict[str, list[str]] | None = None) -> str:
    """A line on who else can reach the replay server, and the rule that closes it; "" where nobody can.

    interfaces: addresses by name, asked of the system if None. Reverb listens on every one, whatever it is told.
    """
    outer = outer_addresses(_interfaces() if interfaces is None else interfaces)
    if not outer:
        return ""
    rule = (
        "nft -f deploy/firewall.nft (with your nodes' addresses in it)"
        if not is_local(cluster)
        else "nft 'add table inet dreamer; add chain inet dreamer replay { type filter hook input priority 0; }; "
        f"""add rule inet dreamer replay iifname != "lo" tcp dport {port} drop'"""
    )
    return (
        f"the replay server listens on port {port} of every address of this machine ({', '.join(outer)}) and knows no "
        f"password; where others reach it, close it as root: {rule}"
    )


def outer_addresses(interfaces: dict[str, list[str]]) -> list[str]:
    """Those that another machine may reach: not loopback, and no bare link-local ones."""
    found = [ipaddress.ip_address(text.partition("%")[0]) for each in interfaces.values() for text in each]
    return [str(address) for address in found if not (address.is_loopback or address.is_link_local)]


def _interfaces() -> dict[str, list[str]]:
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    kinds = (socket.AF_INET, socket.AF_INET6)
    everything = psutil.net_if_addrs().items()
    return {name: [each.address for each in found if each.family in kinds] for name, found in everything if name in up}


def offered() -> int:
    """Actor processes that the nodes of the cluster have room for now. Raises HeadLost."""
    return int(sum(node["Resources"].get(ACTOR_NODE, 0) for node in _nodes()))


def wanted(cluster: ClusterConfig, room: int) -> int:
    """Actor processes that there should be where the nodes have room for `room`; some may have to wait for nodes."""
    return min(cluster.actors or room, cluster.max_actors)


def found() -> str:
    """What the cluster is made of, in words."""
    nodes = _nodes()
    kinds = Counter(
        " and ".join(f"{name} {node['Resources'][name]:g}" for name in (HEAD_NODE, ACTOR_NODE) if has(node, name))
        or "neither"
        for node in nodes
    )
    return f"{len(nodes)} node(s): " + ", ".join(f"{count} with {kind}" for kind, count in sorted(kinds.items()))


def addresses() -> list[str]:
    """Of the nodes that are there now. Raises HeadLost."""
    return [node["NodeManagerAddress"] for node in _nodes()]


def has(node: dict, resource: str) -> bool:
    """Whether a node offers any of it."""
    return bool(node["Resources"].get(resource))


def _nodes() -> list[dict]:
    return [node for node in ask_head(ray.nodes) if node["Alive"]]
