"""One configuration of everything, what cannot be configured together, and its way to JSON and back."""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from actors.config import ActorConfig, EnvConfig, actor_rules, env_rules
from dreamer.config import BehaviorConfig, ModelConfig, behavior_rules, model_rules
from dreamer.pictures import VALID_SIZE, can_block, can_halve
from dreamer.types import NO_CLASS
from learner.config import TrainConfig
from replay.bounds import Rule, first_fault, kinds
from replay.config import ReplayConfig, replay_rules
from replay.errors import UserError

MOST_PORT = 65535
Processes: TypeAlias = Annotated[int, "0 <= x <= 100000"]
ProcessesAtMost: TypeAlias = Annotated[int, "1 <= x <= 100000"]
Seconds: TypeAlias = Annotated[float, "0 < x <= 1e9"]
Silence: TypeAlias = Annotated[float, "5 <= x <= 1e9", "a busy process would be taken for a dead one"]  # seconds
MetricsPort: TypeAlias = Annotated[int, "-1 <= x <= 65535"]


@dataclass(frozen=True)
class ClusterConfig:
    """Processes and ports."""

    actors: Processes = 1  # actor processes wanted, 0 = as many as the cluster's nodes offer, now and later; ours
    max_actors: ProcessesAtMost = 64  # actor processes at most, whatever the nodes offer; ours
    wait_for: Processes = 1  # actor processes without which training does not begin; ours
    wait_seconds: Seconds = 900.0  # for them to find a place; ours: a cloud's machine starts in 2 to 5 minutes
    stall_seconds: Silence = 180.0  # of silence after which a process is killed and started again; ours
    address: str = "local"  # Ray to join: auto or host:port; local = start one on this machine; ours
    host: str = "auto"  # address our servers announce; auto = 127.0.0.1, on a cluster the head's private one; ours
    metrics_port: MetricsPort = 9108  # TCP port of the Prometheus metrics, 0 = any free one, -1 = none; ours


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on."""

    env: EnvConfig = field(default_factory=EnvConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)


SECTIONS: dict[str, Any] = {
    "env": EnvConfig,
    "actor": ActorConfig,
    "replay": ReplayConfig,
    "model": ModelConfig,
    "behavior": BehaviorConfig,
    "train": TrainConfig,
    "cluster": ClusterConfig,
}


def check(config: Config) -> None:
    """Raises a UserError for numbers that cannot work together. The game itself is checked by actors.env.check_game."""
    _refuse(
        first_fault("env", config.env, env_rules),
        first_fault("actor", config.actor, actor_rules),
        first_fault("replay", config.replay, replay_rules),
        first_fault("model", config.model, model_rules),
        first_fault("behavior", config.behavior, behavior_rules),
        first_fault("train", config.train, lambda train: []),
        first_fault("cluster", config.cluster, cluster_rules),
    )
    _refuse(*(message for holds, message in picture_rules(config) + rules_between(config) if not holds))


def check_agent(config: Config) -> None:
    """Raises a UserError where no agent can be made. How it was trained is not asked: it need not be legal any more."""
    _refuse(
        first_fault("env", config.env, env_rules),
        first_fault("model", config.model, model_rules),
        first_fault("behavior", config.behavior, behavior_rules),
    )
    _refuse(*(message for holds, message in picture_rules(config) if not holds))


def _refuse(*faults: str) -> None:
    for fault in filter(None, faults):
        raise UserError(fault)


def picture_rules(config: Config) -> list[Rule]:
    """What must hold between the pictures and the network that sees them."""
    env, model = config.env, config.model
    return [
        (
            model.cnn != "valid" or env.size == VALID_SIZE,
            f"env.size must be {VALID_SIZE} for model.cnn valid, not {env.size}: or take --model.cnn same",
        ),
        (
            model.cnn != "same" or can_halve(env.size),
            f"env.size {env.size} cannot be halved down to 4..7 pixels: take 40, 48, 56, 64, 80 or 96",
        ),
        (
            model.cnn != "blocks" or can_block(env.size),
            f"env.size {env.size} cannot be cut into 4..7 blocks a side: take 40, 48, 56, 64, 80 or 96",
        ),
    ]


def rules_between(config: Config) -> list[Rule]:
    """What must hold between the other sections."""
    env, replay, model = config.env, config.replay, config.model
    return [
        (
            replay.stride * 2 <= replay.length,
            "replay.stride must be at most half of replay.length, or the replay ratio cannot be held exactly",
        ),
        (
            replay.batch * replay.length <= replay.capacity,
            f"replay.batch x replay.length ({replay.batch} x {replay.length} steps) must not exceed replay.capacity "
            f"({replay.capacity}): every step would be trained on several times at once",
        ),
        (
            config.actor.games * replay.length <= replay.capacity,
            f"replay.capacity ({replay.capacity}) must hold a window of replay.length ({replay.length}) steps of each "
            f"of the {config.actor.games} games of actor.games",
        ),
        (  # a game of so many steps has one record more, of its first picture
            env.time_limit + 1 >= replay.length,
            f"env.time_limit ({env.time_limit}) must be at least replay.length - 1 ({replay.length - 1}): games that "
            "are cut off sooner fill no window, and training would never start",
        ),
        (
            config.behavior.start_every < replay.length,
            f"behavior.start_every ({config.behavior.start_every}) must be less than replay.length ({replay.length}): "
            "a dream that begins at the last state of a window cannot be compared with what came after it",
        ),
        (
            model.latent == "categorical" or not replay.stored_state,
            "replay.stored_state must be false for model.latent gaussian: it keeps the class of each variable, and "
            "numbers have none",
        ),
        (
            model.classes <= NO_CLASS or not replay.stored_state,
            f"model.classes must be at most {NO_CLASS} for replay.stored_state, which keeps a class in one byte, "
            f"not {model.classes}",
        ),
    ]


def cluster_rules(cluster: ClusterConfig) -> list[Rule]:
    """What must hold of several values together."""
    local, wanted = cluster.address == "local", min(cluster.actors or cluster.max_actors, cluster.max_actors)
    return [
        (
            cluster.address in ("local", "auto") or is_host_and_port(cluster.address),
            f"cluster.address must be local, auto or HOST:PORT, not {cluster.address!r}",
        ),
        (bool(cluster.host.strip()), "cluster.host must be auto or an address of this machine, not empty"),
        (
            cluster.actors > 0 or not local,
            "cluster.actors must be at least 1, not 0: on one machine no nodes offer places for more",
        ),
        (
            cluster.wait_for <= wanted,
            f"cluster.wait_for must be 0 to the {wanted} actor processes that are wanted, not {cluster.wait_for}",
        ),
    ]


def is_host_and_port(text: str) -> bool:
    """Whether it is written HOST:PORT."""
    host, _, port = text.rpartition(":")
    return bool(host) and re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) <= MOST_PORT


def train_every(config: Config) -> float:
    """Policy steps per update, as the replay ratio says: B * T / ratio."""
    return config.replay.batch * config.replay.length / config.replay.replay_ratio


# --- JSON ---


def to_json(config: Config) -> dict[str, Any]:
    """Nested plain values."""
    return dataclasses.asdict(config)


def from_json(values: dict[str, Any]) -> Config:
    """The other way round. A field that the file lacks keeps its default.

    Raises a UserError for one that nobody knows, or of another type. Bounds are left to `check`: what is out of them
    can still be changed by an option.
    """
    if not isinstance(values, dict):
        raise UserError(f"config.json must hold sections, not {reprlib.repr(values)}")
    return Config(**{section: _section(section, fields) for section, fields in values.items()})


def _section(section: str, fields: dict[str, Any]) -> Any:
    if section not in SECTIONS:
        raise UserError(f"config.json has an unknown section {section!r}: it is of another version")
    if not isinstance(fields, dict):
        raise UserError(f"config.json: {section} must be a section of values, not {reprlib.repr(fields)}")
    known, given = kinds(SECTIONS[section]), {}
    for name, value in fields.items():
        if name not in known:
            raise UserError(f"config.json has an unknown value {section}.{name}: it is of another version")
        given[name] = tuple(value) if isinstance(value, list) else value
        if not known[name].has_type(given[name]):
            raise UserError(f"config.json: {section}.{name} must be {known[name].in_full()}, not {reprlib.repr(value)}")
    return SECTIONS[section](**given)


def flat(config: Config) -> dict[str, Any]:
    """{"env.id": value, ...}"""
    return {f"{section}.{name}": value for section, fields in to_json(config).items() for name, value in fields.items()}


def changed(old: Config, new: Config) -> list[str]:
    """Names of the values that differ: "replay.batch"."""
    before, after = flat(old), flat(new)
    return [name for name in before if not _same(before[name], after[name])]


def changes(old: Config, new: Config) -> list[str]:
    """One line per value that differs: "replay.batch: 16 -> 32"."""
    before, after = flat(old), flat(new)
    return [f"{name}: {before[name]} -> {after[name]}" for name in changed(old, new)]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-12)
    return bool(a == b)
