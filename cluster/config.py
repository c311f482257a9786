"""One configuration of everything, its presets, and its way to JSON and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from actors.config import ActorConfig, EnvConfig
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.pictures import VALID_SIZE, can_halve
from learner.config import TrainConfig
from replay.config import ReplayConfig, UserError, check_config


@dataclass(frozen=True)
class ClusterConfig:
    """Processes and ports."""

    actors: int = 1  # actor processes; ours
    address: str = "local"  # Ray to join, local = start one on this machine; ours
    host: str = "127.0.0.1"  # address that our servers bind and announce; ours
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


def paper() -> Config:
    """The official Atari configuration: the defaults of every field."""
    return Config()


def fast() -> Config:
    """One GPU with 16 cores: the official algorithm, smaller and on clearer pictures. Not yet tuned by measurement."""
    return Config(
        env=breakout(),
        actor=ActorConfig(games=32, workers=16),
        replay=ReplayConfig(length=32, stride=16, batch=32, prefill=4_000, replay_ratio=32.0),
        model=ModelConfig(cnn_depth=32, deter=512, hidden=512, gamma=0.99, reward_scale=5.0),
        behavior=BehaviorConfig(units=512, layers=3),
        train=TrainConfig(precision="bfloat16", device="cuda"),
    )


def cpu() -> Config:
    """Two cores: a small net on clear pictures, many fresh frames per update."""
    return Config(
        env=replace(breakout(), size=40, shrink="max"),
        actor=ActorConfig(games=8),
        replay=ReplayConfig(capacity=500_000, length=16, stride=8, batch=8, prefill=4_000, replay_ratio=8.0),
        model=ModelConfig(
            cnn="same",
            cnn_depth=16,
            deter=256,
            hidden=200,
            stoch=16,
            classes=16,
            norm=True,
            unimix=0.01,
            head_layers=2,
            head_units=200,
            reward_bins=41,
            motion_weight=9.0,
            gamma=0.99,
            # dreamerv3's 1.0 for the prior and 0.1 for the posterior, halved like its squared error of the pictures
            kl_scale=0.55,
            kl_balance=10 / 11,
            free_nats=1.0,
            free_each=True,
            reward_scale=2.5,
        ),
        behavior=BehaviorConfig(
            layers=2,
            units=200,
            horizon=10,
            norm=True,
            unimix=0.01,
            value_bins=41,
            return_scale=0.99,
            slow_every=1,
            slow_fraction=0.02,
            entropy_scale=1e-3,
        ),
        train=TrainConfig(model_lr=4e-4, actor_lr=1e-4, critic_lr=1e-4, device="cpu", threads=2),
    )


def breakout() -> EnvConfig:
    """The seed's BreakoutDeterministic-v4 with a ball that can be seen.

    Score and floor are cut away, the ball's gray 110 becomes white, and the last frame alone shows one ball, not two.
    """
    return EnvConfig(
        frame_skip=4,
        sticky=0.0,
        max_pool=False,
        crop=(34, 16, 0, 0),
        contrast=255 / 110,
        life_loss=True,
        # Without it a policy that does not see the ball yet learns not to serve: no lost life, and games of 2000 steps.
        auto_fire=True,
        time_limit=4_500,
    )


PRESETS: dict[str, Callable[[], Config]] = {"paper": paper, "fast": fast, "cpu": cpu}


def preset(name: str) -> Config:
    """The preset of that name, or a UserError that lists them."""
    if name not in PRESETS:
        raise UserError(f"--preset must be one of {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[name]()


def check(config: Config) -> None:
    """Raises a UserError for numbers that cannot work together. The game itself is checked by actors.env.check_game."""
    check_config(config.replay)
    rules = [
        (config.model.cnn in ("valid", "same"), f"model.cnn must be valid or same, not {config.model.cnn!r}"),
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
        (config.actor.games > 0, f"actor.games must be at least 1, not {config.actor.games}"),
        (
            0 <= config.actor.workers <= config.actor.games,
            f"actor.workers must be 0 to actor.games ({config.actor.games}), not {config.actor.workers}",
        ),
        (config.actor.pull_every > 0, f"actor.pull_every must be at least 1, not {config.actor.pull_every}"),
        (config.cluster.actors > 0, f"cluster.actors must be at least 1, not {config.cluster.actors}"),
        (config.behavior.horizon > 1, f"behavior.horizon must be at least 2, not {config.behavior.horizon}"),
        (config.behavior.name == "actor_critic", f"behavior.name must be actor_critic, not {config.behavior.name}"),
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
