"""DreamerV2 as it is, and what runs on a GPU or on two cores."""

from __future__ import annotations

from dataclasses import replace

from actors.config import ActorConfig, EnvConfig
from cluster.config import Config
from dreamer.config import BehaviorConfig, ModelConfig
from learner.config import TrainConfig
from replay.config import ReplayConfig


def paper() -> Config:
    """The official Atari configuration: the defaults of every field."""
    return Config()


def fast() -> Config:
    """One GPU with 16 cores: `cpu` with larger nets and batches, and what else dreamerv3 changed. Not yet run on a GPU.

    Without unimix of the latents, scaled returns, a slow critic, free nats of each step and reward weight `cpu` learned
    as well in its hour (docs/learning.md). Whether that is so where returns are large has not been seen: they are here.
    """
    small = cpu()
    return Config(
        env=small.env,
        actor=ActorConfig(games=32, workers=16, practice=0.5),
        replay=ReplayConfig(length=32, stride=16, batch=32, prefill=4_000, replay_ratio=32.0),
        model=replace(
            small.model,
            cnn_depth=32,
            deter=512,
            hidden=512,
            stoch=32,
            classes=32,
            head_units=512,
            reward_bins=255,
            unimix=0.01,
            free_each=True,
            reward_scale=2.5,
        ),
        behavior=replace(
            small.behavior,
            layers=3,
            units=512,
            value_bins=255,
            entropy_scale=3e-4,
            return_scale=0.99,
            slow_every=1,
            slow_fraction=0.02,
        ),
        train=TrainConfig(
            model_lr=2e-4, actor_lr=1e-4, critic_lr=1e-4, adam_keras=False, precision="auto", device="cuda"
        ),
    )


def cpu() -> Config:
    """Two cores: a small net with those of dreamerv3's changes that were seen to help, and a ball that can be seen."""
    return Config(
        env=breakout(),
        actor=ActorConfig(games=8, practice=0.5),
        # Ratio 4: half of the play is practice, and the second core has time for both.
        replay=ReplayConfig(capacity=500_000, length=16, stride=8, batch=8, prefill=4_000, replay_ratio=4.0),
        model=ModelConfig(
            cnn="blocks",
            cnn_depth=16,
            deter=256,
            hidden=200,
            stoch=16,
            classes=16,
            norm=True,
            head_layers=2,
            head_units=200,
            reward_squash="none",
            reward_bins=41,
            picture="bernoulli",
            motion_weight=9.0,
            gamma=0.99,
            # What trains the prior weighs 7.8, the other one 0.2: a Bernoulli's nats are ten times a normal's.
            kl_scale=8.0,
            kl_balance=0.975,
            free_nats=1.0,
        ),
        behavior=BehaviorConfig(
            layers=2,
            units=200,
            horizon=15,
            temperature=0.5,  # no chance is in these games, and a prior that has not learned them yet is too wide
            start_every=2,
            norm=True,
            unimix=0.01,
            value_bins=41,
            entropy_scale=3e-3,
        ),
        # Two threads for each operation (train.threads) were measured before the overlap: 8.7 updates/s instead of 6.1
        # alone on two cores, but 6.1 like one beside actor and replay, and 1.8 instead of 5 beside other work.
        train=TrainConfig(
            model_lr=1e-3,
            actor_lr=4e-4,
            critic_lr=4e-4,
            adam_keras=False,
            precision="auto",
            overlap=True,
            device="cpu",
            threads=1,
        ),
    )


def breakout() -> EnvConfig:
    """The blog's BreakoutDeterministic-v4 with a ball that can be seen, on whatever background.

    Score and floor are cut away, all that is not background becomes white, the last frame alone shows one ball, not
    two, and each block of 4x4 pixels becomes its maximum: a ball of 2x4 pixels is one to four white pixels of 40x40.
    """
    return EnvConfig(
        size=40,
        shrink="max",
        frame_skip=4,
        sticky=0.0,
        max_pool=False,
        crop=(34, 16, 0, 0),
        binary=True,
        life_loss=True,
        # Without it a policy that does not see the ball yet learns not to serve: no lost life, and games of 2000 steps.
        auto_fire=True,
        time_limit=4_500,
    )
