"""One configuration of everything, what cannot be configured together, and its way to JSON and back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from actors.config import ActorConfig, EnvConfig
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.pictures import VALID_SIZE, can_halve
from dreamer.types import NO_CLASS
from learner.config import TrainConfig
from replay.config import ReplayConfig, UserError, check_config

LEAST_STALL = 5.0  # seconds


@dataclass(frozen=True)
class ClusterConfig:
    """Processes and ports."""

    actors: int = 1  # actor processes wanted, 0 = as many as the cluster's nodes offer, now and later; ours
    max_actors: int = 64  # actor processes at most, whatever the nodes offer; ours
    wait_for: int = 1  # actor processes without which training does not begin; ours
    wait_seconds: float = 900.0  # that they may take to find a place; ours: a cloud's machine starts in 2 to 5 minutes
    stall_seconds: float = 180.0  # of silence after which a process is killed and started again; ours
    address: str = "local"  # Ray to join: auto or host:port; local = start one on this machine; ours
    host: str = "auto"  # address our servers announce; auto = 127.0.0.1, on a cluster the head's private one; ours
    metrics_port: int = 9108  # TCP port of the Prometheus metrics, 0 = any free one, -1 = none; ours


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
    check_config(config.replay)
    rules = [
        (config.model.cnn in ("valid", "same"), f"model.cnn must be valid or same, not {config.model.cnn!r}"),
        (
            config.model.reward_squash in ("tanh", "clip", "none"),
            f"model.reward_squash must be tanh, clip or none, not {config.model.reward_squash!r}",
        ),
        (
            config.model.cnn != "valid" or config.env.size == VALID_SIZE,
            f"env.size must be {VALID_SIZE} for model.cnn valid, not {config.env.size}: or take --model.cnn same",
        ),
        (
            config.model.cnn != "same" or can_halve(config.env.size),
            f"env.size {config.env.size} cannot be halved down to 4..7 pixels: take 40, 48, 56, 64, 80 or 96",
        ),
        (
            config.replay.stride * 2 <= config.replay.length,
            "replay.stride must be at most half of replay.length, or the replay ratio cannot be held exactly",
        ),
        (
            config.model.classes <= NO_CLASS or not config.replay.stored_state,
            f"model.classes must be at most {NO_CLASS} for replay.stored_state, which keeps a class in one byte, "
            f"not {config.model.classes}",
        ),
        (config.actor.games > 0, f"actor.games must be at least 1, not {config.actor.games}"),
        (
            0 <= config.actor.workers <= config.actor.games,
            f"actor.workers must be 0 to actor.games ({config.actor.games}), not {config.actor.workers}",
        ),
        (0 <= config.actor.epsilon <= 1, f"actor.epsilon is a share, 0 to 1, not {config.actor.epsilon}"),
        (config.actor.pull_every > 0, f"actor.pull_every must be at least 1, not {config.actor.pull_every}"),
        *cluster_rules(config.cluster),
        (config.behavior.horizon > 1, f"behavior.horizon must be at least 2, not {config.behavior.horizon}"),
        (
            config.behavior.name in ("actor_critic", "ppo"),
            f"behavior.name must be actor_critic or ppo, not {config.behavior.name}",
        ),
        (
            config.behavior.name != "ppo" or config.behavior.rho == 1,
            "behavior.rho must be 1 for ppo: it takes no gradient through the dynamics",
        ),
        (
            min(config.behavior.ppo_minibatches, config.behavior.ppo_batch) > 0,
            "behavior.ppo_minibatches and ppo_batch must be at least 1",
        ),
        (
            0 < config.behavior.ppo_clip < 1,
            f"behavior.ppo_clip must be between 0 and 1, not {config.behavior.ppo_clip}",
        ),
        (
            config.train.precision in ("float32", "bfloat16"),
            f"train.precision must be float32 or bfloat16, not {config.train.precision}",
        ),
        (
            config.train.device in ("auto", "cpu", "cuda"),
            f"train.device must be cpu or cuda, not {config.train.device}",
        ),
        (config.train.publish_every > 0, f"train.publish_every must be at least 1, not {config.train.publish_every}"),
        (
            min(config.train.model_lr, config.train.actor_lr, config.train.critic_lr) > 0,
            "train.model_lr, actor_lr and critic_lr must be positive",
        ),
    ]
    for holds, message in rules:
        if not holds:
            raise UserError(message)


def cluster_rules(cluster: ClusterConfig) -> list[tuple[bool, str]]:
    """What must hold of it, and what to say where it does not."""
    local, wanted = cluster.address == "local", min(cluster.actors or cluster.max_actors, cluster.max_actors)
    return [
        (cluster.actors >= (1 if local else 0), f"cluster.actors must be at least 1, not {cluster.actors}"),
        (cluster.max_actors > 0, f"cluster.max_actors must be at least 1, not {cluster.max_actors}"),
        (
            0 <= cluster.wait_for <= wanted,
            f"cluster.wait_for must be 0 to the {wanted} actor processes that are wanted, not {cluster.wait_for}",
        ),
        (cluster.wait_seconds > 0, f"cluster.wait_seconds must be positive, not {cluster.wait_seconds:g}"),
        (
            cluster.stall_seconds >= LEAST_STALL,
            f"cluster.stall_seconds must be at least {LEAST_STALL:g}, not {cluster.stall_seconds:g}: a busy process "
            "would be taken for a dead one",
        ),
    ]


def train_every(config: Config) -> float:
    """Policy steps per update, as the replay ratio says: B * T / ratio."""
    return config.replay.batch * config.replay.length / config.replay.replay_ratio


# --- JSON ---


def to_json(config: Config) -> dict[str, Any]:
    """Nested plain values."""
    return dataclasses.asdict(config)


def from_json(values: dict[str, Any]) -> Config:
    """The other way round. A field that the file lacks keeps its default; one that nobody knows is a UserError."""
    parts = {}
    for section, fields in values.items():
        if section not in SECTIONS:
            raise UserError(f"config.json has an unknown section {section!r}: it is of another version")
        unknown = set(fields) - {f.name for f in dataclasses.fields(SECTIONS[section])}
        if unknown:
            raise UserError(f"config.json has an unknown value {section}.{min(unknown)}: it is of another version")
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        parts[section] = SECTIONS[section](**given)
    return Config(**parts)


def flat(config: Config) -> dict[str, Any]:
    """{"env.id": value, ...}"""
    return {f"{section}.{name}": value for section, fields in to_json(config).items() for name, value in fields.items()}


def changes(old: Config, new: Config) -> list[str]:
    """One line per value that differs: "replay.batch: 16 -> 32"."""
    before, after = flat(old), flat(new)
    return [f"{name}: {before[name]} -> {after[name]}" for name in before if not _same(before[name], after[name])]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-12)
    return bool(a == b)
