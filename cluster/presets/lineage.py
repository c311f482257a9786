"""The systems that this one descends from, each as a configuration of the same house."""

from __future__ import annotations

from dataclasses import replace

from actors.config import ActorConfig, EnvConfig
from cluster.config import Config
from cluster.presets.dreamerv2 import cpu
from dreamer.config import BehaviorConfig, ModelConfig
from learner.config import TrainConfig
from replay.config import ReplayConfig


def common() -> Config:
    """`cpu` without its practice, which no paper has: each step of ordinary play is trained on 8 times."""
    small = cpu()
    return replace(small, actor=replace(small.actor, practice=0.0), replay=replace(small.replay, replay_ratio=8.0))


def world_models() -> Config:
    """World Models (Ha and Schmidhuber, 2018) on the pictures of `cpu`.

    World Models': an autoencoder of single pictures, whose KL costs nothing below half a nat for each of its 32
    numbers; an LSTM of 256 units that foresees the next ones as mixtures of five normals; a linear controller of what
    the two know, bred by CMA-ES in dreams of temperature 1.15.

    Not World Models': the three learn at once, on the play of the controller of now, and not one after the other on
    random play. Reward and end have heads, which shape neither autoencoder nor LSTM. A generation is 32 controllers in
    8 dreams of 15 steps for every update of the model, instead of 64 in 16 whole games. No weight of a picture's loss
    is halved here: a Bernoulli's nats are what they are. It has not learned Catch (docs/faithful.md).
    """
    small = common()
    return replace(
        small,
        model=ModelConfig(
            cnn=small.model.cnn,
            cnn_depth=small.model.cnn_depth,
            picture=small.model.picture,
            motion_weight=small.model.motion_weight,
            dynamics="vae_rnn",
            latent="gaussian",
            stoch=32,
            deter=512,
            head_layers=2,
            head_units=200,
            reward_squash="none",
            reward_bins=41,
            gamma=0.99,
            kl_scale=1.0,
            free_nats=16.0,
            free_each=True,
        ),
        behavior=BehaviorConfig(name="cma_es", horizon=15, temperature=1.15, es_population=32, es_starts=8),
    )


def planet() -> Config:
    """PlaNet (Hafner et al., Learning Latent Dynamics for Planning from Pixels, 2019) on the pictures of `cpu`.

    PlaNet's: gaussian latents, and nothing is learned but the world model; before every step plans of 12 steps are
    drawn, dreamt and scored by the plain sum of their rewards. Three free nats for each step by itself, a KL of weight
    1 that trains prior and posterior alike (half of 2 each, by our balance), rewards that weigh 10.

    Not PlaNet's: its actions are numbers, here a plan's steps are categorical. 64 plans in 3 rounds instead of 1,000 in
    10, which would take seconds a step on two cores; a plan of the first round holds its action half of the time, in
    place of PlaNet's repeated actions. Games, pictures, batches and nets are those of `cpu`. The head that foresees
    ends is trained, but this score does not ask it: a lost life costs nothing but the rewards that would have followed
    within 12 steps. Playing takes longer than learning, so each step is learned from twice as often. Not yet trained on
    Breakout.
    """
    small = common()
    return replace(
        small,
        replay=replace(small.replay, replay_ratio=16.0),
        model=replace(
            small.model,
            latent="gaussian",
            stoch=30,
            deter=200,
            head_layers=3,
            kl_scale=2.0,
            kl_balance=0.5,
            free_nats=3.0,
            free_each=True,
            reward_scale=10.0,
        ),
        behavior=BehaviorConfig(
            name="cem",
            horizon=12,
            cem_candidates=64,
            cem_rounds=3,
            cem_elites=8,
            cem_score="sum",
            cem_hold=0.5,
        ),
    )


def dreamer1() -> Config:
    """Dreamer V1 (Hafner et al., Dream to Control, 2020) on the pictures of `cpu` and in the time of two cores.

    V1's: gaussian latents, one KL that trains prior and posterior alike with three free nats of the batch's mean, an
    actor that learns through the dynamics alone, no entropy bonus, no target critic; of its settings for Atari (TF1)
    one-hot actions with straight-through gradients, horizon 10, a KL that weighs 0.1, tanh of the rewards, ends that
    weigh 10, and actions at random. Our balance of a half gives prior and posterior half of a KL each, and the nats of
    a Bernoulli are ten times a normal's: its 0.1 is 2 here. With 0.2 the dreams of Catch, which has no negative
    rewards, were worth -0.9 after 460 updates, with 2 they were worth 0.3 (one seed each).

    Not V1's: games, pictures, their blocks and their Bernoulli loss are those of `cpu` (a ball of one to four pixels is
    lost in 64x64 of unit variance), as are batches of 8 x 16 instead of 50 x 50, a replay ratio of 8 instead of
    hundreds, and dreams that begin at every second state. As in V2 the GRU has a layer norm, the heads of reward and
    ends have as many layers, so have actor and critic, and a dream's first state counts. V1 gave up its random actions
    in the course of a run; here every game keeps its share. It has not learned Catch yet (docs/faithful.md).
    """
    small = common()
    return Config(
        env=small.env,
        actor=replace(small.actor, epsilon=0.4),
        replay=small.replay,
        model=ModelConfig(
            cnn=small.model.cnn,
            cnn_depth=small.model.cnn_depth,
            picture=small.model.picture,
            motion_weight=small.model.motion_weight,
            latent="gaussian",
            stoch=30,
            deter=200,
            hidden=200,
            head_layers=2,
            reward_squash="tanh",
            gamma=0.99,
            kl_scale=2.0,
            kl_balance=0.5,
            free_nats=3.0,
            discount_scale=10.0,
        ),
        behavior=BehaviorConfig(
            horizon=10,
            start_every=small.behavior.start_every,
            rho=0.0,
            entropy_scale=0.0,
            slow_every=1,  # copied after every update: no target critic
        ),
        train=replace(small.train, model_lr=6e-4, actor_lr=8e-5, critic_lr=8e-5, adam_keras=True, weight_decay=0.0),
    )


def blog() -> Config:
    """The variant of a blog post, with its KL mended; --model.kl-swapped gives the post's own. Not yet measured.

    "The blog", here and in comments elsewhere, is the post that this project grew out of. Its author trained DreamerV2
    with PPO instead of its actor and critic on BreakoutDeterministic-v4, and saw 30 to 40 points after a week. Where
    the post is public we do not know, so no link stands here.

    His is what stands below: games and pictures, his five actors as five games that act at random by their epsilon,
    reward at most 1, latents, heads, gamma, windows of 20 steps that begin with the player's state of then, no weight
    decay, and PPO on dreams of 8 steps with lambda 1. All else is official: the GRU with its layer norm, convolutions
    and initialisation, shrinking by area, pixels on -0.5 ... 0.5, windows that overlap, the survival weight of what is
    imagined, clipped gradients, and the replay ratio (his actors and learner did not wait for each other). He divided
    the model's loss by 20, which to Adam is an epsilon of 2e-3: we do not.
    """
    return Config(
        env=EnvConfig(  # BreakoutDeterministic-v4
            frame_skip=4, sticky=0.0, noop_max=0, max_pool=False, crop=(38, 12, 0, 0), contrast=1.8, life_loss=True
        ),
        actor=ActorConfig(games=5, epsilon=0.5),
        # His 50 episodes of random play: a game of this Breakout takes 168 policy steps.
        replay=ReplayConfig(capacity=2_000_000, length=20, stride=10, batch=20, prefill=8_400, stored_state=True),
        model=ModelConfig(stoch=24, classes=24, head_layers=3, reward_squash="clip", gamma=0.995, discount_scale=1.0),
        behavior=BehaviorConfig(
            name="ppo",
            layers=3,
            horizon=8,
            return_lambda=1.0,
            entropy_scale=5e-3,
            slow_every=400,
            ppo_minibatches=10,
            ppo_batch=512,
            ppo_clip=0.1,
        ),
        train=TrainConfig(
            model_lr=2e-4, actor_lr=4e-5, critic_lr=1e-4, adam_eps=1e-4, adam_keras=False, weight_decay=0.0
        ),
    )
