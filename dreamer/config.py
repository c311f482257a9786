"""Every number of the algorithm. The defaults are the official Atari configuration: danijar/dreamerv2, configs.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

# What values may be; read by replay/bounds.py, which adds that no number is nan or infinite.
Layers: TypeAlias = Annotated[int, "0 <= x <= 100"]
Units: TypeAlias = Annotated[int, "1 <= x <= 65536"]
Channels: TypeAlias = Annotated[int, "1 <= x <= 4096"]
Classes: TypeAlias = Annotated[int, "2 <= x <= 65536"]
Mixtures: TypeAlias = Annotated[int, "1 <= x <= 1000"]
Bins: TypeAlias = Annotated[int, "0 <= x <= 65536"]
Count: TypeAlias = Annotated[int, "1 <= x <= 1e9"]
Share: TypeAlias = Annotated[float, "0 <= x <= 1"]
Part: TypeAlias = Annotated[float, "0 <= x < 1"]  # not all of it
Weight: TypeAlias = Annotated[float, "0 <= x <= 1e6"]
Discount: TypeAlias = Annotated[float, "0.001 <= x <= 1"]
Temperature: TypeAlias = Annotated[float, "0.05 <= x <= 20"]
Steps: TypeAlias = Annotated[int, "2 <= x <= 1000"]
Way: TypeAlias = Annotated[float, "0 < x <= 1"]
Clip: TypeAlias = Annotated[float, "0 < x < 1"]
Minibatches: TypeAlias = Annotated[int, "1 <= x <= 10000"]
Minibatch: TypeAlias = Annotated[int, "1 <= x <= 1e6"]
Simulations: TypeAlias = Annotated[int, "1 <= x <= 1000"]
SimulationsOrNone: TypeAlias = Annotated[int, "0 <= x <= 1000"]
Unrolled: TypeAlias = Annotated[int, "0 <= x <= 100"]
Plans: TypeAlias = Annotated[int, "2 <= x <= 1e6", "one plan cannot be compared with any"]
Rounds: TypeAlias = Annotated[int, "1 <= x <= 1000"]
Population: TypeAlias = Annotated[int, "4 <= x <= 1e5", "the better half of fewer is no direction"]
StepSize: TypeAlias = Annotated[float, "1e-6 <= x <= 1e3"]

Cnn: TypeAlias = Literal["valid", "same", "blocks"]
Picture: TypeAlias = Literal["normal", "bernoulli"]
Squash: TypeAlias = Literal["tanh", "clip", "none"]
Dynamics: TypeAlias = Literal["rssm", "vae_rnn"]
LatentName: TypeAlias = Literal["categorical", "gaussian"]
BehaviorName: TypeAlias = Literal["actor_critic", "ppo", "cem", "cma_es", "mcts"]
PlanScore: TypeAlias = Literal["sum", "discounted", "value"]


@dataclass(frozen=True)
class ModelConfig:
    """The world model: its sizes and its loss."""

    cnn: Cnn = "valid"  # valid = dreamerv2's, of 64 pixels; same = each halves, dreamerv3; blocks = no overlap, ours
    cnn_depth: Channels = 48  # channels of the first convolution, doubling with each; dreamerv2 encoder.cnn_depth
    norm: bool = False  # layer norm and SiLU after every layer, instead of ELU; dreamerv3
    deter: Units = 600  # D, numbers of the recurrent state h (vae_rnn: LSTM and its cell); dreamerv2 rssm.deter
    hidden: Units = 600  # units of the dense layers around the recurrence; dreamerv2 rssm.hidden
    dynamics: Dynamics = "rssm"  # rssm, or vae_rnn: World Models' V and M, with gaussian latents; dreamerv2
    latent: LatentName = "categorical"  # what z is made of: one of C classes each, or numbers, gaussian; dreamerv2
    stoch: Units = 32  # S, variables of z; dreamerv2 rssm.stoch
    classes: Classes = 32  # C, classes of each, if categorical; dreamerv2 rssm.discrete
    mixtures: Mixtures = 5  # K, normals of the prior of each variable, for vae_rnn; World Models
    head_layers: Layers = 4  # hidden layers of the reward and discount heads; dreamerv2 reward_head.layers
    head_units: Units = 400  # units of each; dreamerv2 reward_head.units
    unimix: Part = 0.0  # share of the uniform distribution in prior and posterior; dreamerv3 0.01
    reward_squash: Squash = "tanh"  # what is learned of a reward r: tanh(r), clip = min(r, 1), none = r; dreamerv2
    reward_bins: Bins = 0  # classes of a two-hot reward head, 0 = a normal of unit variance; dreamerv3 255
    picture: Picture = "normal"  # what a pixel is drawn from; dreamerv2 a normal of variance 1, World Models bernoulli
    motion_weight: Weight = 0.0  # k, pixels on and beside what moves count 1 + k times; ours, after DyMoDreamer
    gamma: Discount = 0.999  # discount per policy step, target of the discount head; dreamerv2 discount [paper: 0.995]
    kl_scale: Weight = 0.1  # beta; dreamerv2 loss_scales.kl
    kl_balance: Share = 0.8  # alpha, share of the KL that trains the prior; dreamerv2 kl.balance
    kl_swapped: bool = False  # prior and posterior in each other's place in both terms of the KL; the blog's mistake
    free_nats: Weight = 0.0  # nats of KL that cost nothing; dreamerv2 kl.free
    free_each: bool = False  # free nats for every step by itself, instead of for the mean of the batch; dreamerv3
    reward_scale: Weight = 1.0  # weight of the reward loss; dreamerv2 loss_scales.reward
    discount_scale: Weight = 5.0  # weight of the discount loss; dreamerv2 loss_scales.discount


def model_rules(config: ModelConfig) -> list[tuple[bool, str]]:
    """What must hold beside the bounds, and what to say where it does not."""
    return [
        (
            config.reward_bins != 1,
            "model.reward_bins must be 0 or at least 2, not 1: a number lies between two classes",
        ),
        (
            config.latent == "categorical" or config.unimix == 0,
            f"model.unimix must be 0 for model.latent gaussian, which has no classes, not {config.unimix}",
        ),
        (
            config.dynamics == "rssm" or config.latent == "gaussian",
            f"model.latent must be gaussian for model.dynamics vae_rnn, not {config.latent}",
        ),
        (
            config.dynamics == "rssm" or config.deter % 2 == 0,
            f"model.deter must be even for model.dynamics vae_rnn, half of it is the LSTM's cell, not {config.deter}",
        ),
        (
            config.dynamics == "rssm" or not config.kl_swapped,
            "model.kl_swapped must be false for model.dynamics vae_rnn: V's KL has a fixed prior",
        ),
    ]


@dataclass(frozen=True)
class BehaviorConfig:
    """How a policy is got out of the world model."""

    name: BehaviorName = "actor_critic"  # which behaviour: see dreamer/behaviors; ours
    layers: Layers = 4  # hidden layers of actor and critic; dreamerv2 actor.layers
    units: Units = 400  # units of each; dreamerv2 actor.units
    horizon: Steps = 15  # H, imagined policy steps; dreamerv2 imag_horizon
    temperature: Temperature = 1.0  # the prior's logits are divided by it in these dreams; ours, after World Models
    start_every: Count = 1  # n: dreams begin at every n-th state of a window; ours
    norm: bool = False  # layer norm and SiLU after every layer, instead of ELU; dreamerv3
    unimix: Part = 0.0  # share of the uniform distribution in the policy; dreamerv3 0.01
    value_bins: Bins = 0  # classes of a two-hot critic, 0 = a normal of unit variance; dreamerv3 255
    return_lambda: Share = 0.95  # lambda of the return; dreamerv2 discount_lambda
    rho: Share = 1.0  # 1 = REINFORCE, 0 = backprop through the dynamics, not for ppo; dreamerv2 actor_grad reinforce
    entropy_scale: Weight = 1e-3  # eta; dreamerv2 actor_ent
    return_scale: Part = 0.0  # decay of the range of returns that divides advantages, 0 = not divided; dreamerv3 0.99
    slow_every: Count = 100  # updates between copies of the critic to the target critic; dreamerv2 slow_target_update
    slow_fraction: Way = 1.0  # how far the target critic then goes towards the critic; dreamerv3 0.02
    ppo_minibatches: Minibatches = 10  # gradient steps of actor and of critic per dream, for ppo; the blog's
    ppo_batch: Minibatch = 512  # M, imagined transitions of each; the blog's
    ppo_clip: Clip = 0.1  # how far the probability of an action may move from the dream's, as a ratio - 1; the blog's
    cem_candidates: Plans = 1000  # J, plans drawn in each round, for cem; planet
    cem_rounds: Rounds = 10  # I, of drawing plans and believing the best; planet. 1 = random shooting
    cem_elites: Count = 100  # K, plans that are believed; planet
    cem_score: PlanScore = "sum"  # what makes a plan good: sum of rewards, discounted, or with a critic's value; planet
    cem_hold: Part = 0.0  # how often a plan of the first round repeats an action instead of drawing one; ours
    cem_mix: Share = 0.1  # share of the uniform distribution in a belief; ours, planet has a normal
    es_population: Population = 64  # controllers of a generation, for cma_es; World Models
    es_starts: Minibatch = 16  # dreams of each; World Models, which has 16 whole games instead
    es_sigma: StepSize = 0.1  # step size of the first generation; World Models
    search_learning: Simulations = 50  # n, nodes of each search that is learned from, for mcts; MuZero
    search_acting: SimulationsOrNone = 50  # nodes of each search that is acted on, 0 = the actor alone; MuZero
    search_unroll: Unrolled = 5  # K, steps ahead of what was seen of which actor and critic learn too; MuZero


def behavior_rules(config: BehaviorConfig) -> list[tuple[bool, str]]:
    """What must hold beside the bounds, and what to say where it does not."""
    return [
        (
            config.value_bins != 1,
            "behavior.value_bins must be 0 or at least 2, not 1: a number lies between two classes",
        ),
        (
            config.name != "ppo" or config.rho == 1,
            "behavior.rho must be 1 for ppo: it takes no gradient through the dynamics",
        ),
        (
            config.cem_elites <= config.cem_candidates,
            f"behavior.cem_elites ({config.cem_elites}) must not be more than behavior.cem_candidates "
            f"({config.cem_candidates}): the best of them are believed",
        ),
    ]
