"""What `train` takes where it was not told: preset and runtime; and the words for it and for the precision."""

from __future__ import annotations

from typing import NamedTuple

from cluster.config import ClusterConfig, Config, flat

# Read by one runtime alone: what the other one does with it is nothing, and that is to be said.
ONLY_RAY = (
    *(f"cluster.{name}" for name in ("actors", "max_actors", "wait_for", "wait_seconds", "stall_seconds", "address")),
    "actor.pull_every",
    "actor.threads",
    "replay.port",
    "train.publish_every",
)
ONLY_INLINE = ("actor.workers",)


class Runtime(NamedTuple):
    """How a run trains."""

    name: str  # ray | inline
    why: str  # in words; "" = it was asked for, or nothing needs saying


def choose_preset(*, gpu: bool, device: str | None) -> str:
    """The preset of who names none; `device` as he named it."""
    return "fast" if gpu and device != "cpu" else "cpu"


def choose_runtime(
    asked: str | None, before: str | None, cluster: ClusterConfig, *, on_gpu: bool, fits: bool
) -> Runtime:
    """As asked; on resume as it was; with the learner on a GPU in one process; else with Ray.

    before: the runtime of the run that is gone on with. on_gpu: whether the learner is. fits: the replay into the GPU's
    memory. On one machine the GPU path is
    made for one process: replay in the GPU's memory, nothing copied there but new steps, games in actor.workers
    processes. Who names a cluster, or several actors, means Ray.
    """
    if asked:
        return Runtime(asked, "")
    if before:
        return Runtime(before, "as it was before")
    plain = ClusterConfig()
    if cluster.address != plain.address:
        return Runtime("ray", f"for cluster.address {cluster.address}")
    if cluster.actors != plain.actors:
        return Runtime("ray", f"for cluster.actors {cluster.actors}")
    if on_gpu and not fits:
        return Runtime("ray", "the replay does not fit into the GPU's memory: --runtime inline needs less of it")
    if on_gpu:
        return Runtime("inline", "one machine with a GPU: the replay lives on it; --runtime ray has a process per role")
    return Runtime("ray", "")


def slower_than_float32(precision: str, *, units: bool, emulated: bool) -> str:
    """What to say of a precision that was asked for, where float32 would be faster ("": nothing).

    units: the learner's device multiplies bfloat16 itself. emulated: it does so without any help.
    """
    if units or precision != "bfloat16":
        return ""
    much = "some 100 times" if emulated else "perhaps twice"
    return f"bfloat16 as asked for, though nothing here multiplies it: {much} slower than --train.precision float32"


def ignored(config: Config, runtime: str) -> list[str]:
    """What was set and means nothing to this runtime: one line, or none."""
    names, other = (ONLY_INLINE, "inline") if runtime == "ray" else (ONLY_RAY, "ray")
    now, plain = flat(config), flat(Config())
    found = [f"{name} {now[name]}" for name in names if now[name] != plain[name]]
    return [f"ignored, only --runtime {other} has it: {', '.join(found)}"] if found else []
