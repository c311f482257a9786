"""Every number of the algorithm. The defaults are the official Atari configuration: danijar/dreamerv2, configs.yaml."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """The world model: its sizes and its loss."""

    cnn: str = "valid"  # strides: valid = the official ones, of 64 pixels; same = each halves, any size; dreamerv3
    cnn_depth: int = 48  # channels of the first convolution, doubling with each; dreamerv2 encoder.cnn_depth
    norm: bool = False  # layer norm and SiLU after every layer, instead of ELU; dreamerv3
    deter: int = 600  # D, units of the recurrent state h; dreamerv2 rssm.deter
    hidden: int = 600  # units of the dense layers around the recurrence; dreamerv2 rssm.hidden
    stoch: int = 32  # S, categorical variables of z; dreamerv2 rssm.stoch
    classes: int = 32  # C, classes of each; dreamerv2 rssm.discrete
    head_layers: int = 4  # hidden layers of the reward and discount heads; dreamerv2 reward_head.layers
    head_units: int = 400  # units of each; dreamerv2 reward_head.units
    unimix: float = 0.0  # share of the uniform distribution in prior and posterior; dreamerv3 0.01
    reward_squash: str = "tanh"  # what is learned of a reward r: tanh(r), clip = min(r, 1), none = r; dreamerv2
    reward_bins: int = 0  # classes of a two-hot reward head, 0 = a normal of unit variance; dreamerv3 255
    motion_weight: float = 0.0  # k, pixels on and beside what moves count 1 + k times; ours, after DyMoDreamer
    gamma: float = 0.999  # discount per policy step, target of the discount head; dreamerv2 discount [paper: 0.995]
    kl_scale: float = 0.1  # beta; dreamerv2 loss_scales.kl
    kl_balance: float = 0.8  # alpha, share of the KL that trains the prior; dreamerv2 kl.balance
    kl_swapped: bool = False  # prior and posterior in each other's place in both terms of the KL; the seed's mistake
    free_nats: float = 0.0  # nats of KL that cost nothing; dreamerv2 kl.free
    free_each: bool = False  # free nats for every step by itself, instead of for the mean of the batch; dreamerv3
    reward_scale: float = 1.0  # weight of the reward loss; dreamerv2 loss_scales.reward
    discount_scale: float = 5.0  # weight of the discount loss; dreamerv2 loss_scales.discount


@dataclass(frozen=True)
class BehaviorConfig:
    """How a policy is got out of the world model."""

    name: str = "actor_critic"  # which behaviour, actor_critic or ppo: see dreamer/behaviors; ours
    layers: int = 4  # hidden layers of actor and critic; dreamerv2 actor.layers
    units: int = 400  # units of each; dreamerv2 actor.units
    horizon: int = 15  # H, imagined policy steps; dreamerv2 imag_horizon
    norm: bool = False  # layer norm and SiLU after every layer, instead of ELU; dreamerv3
    unimix: float = 0.0  # share of the uniform distribution in the policy; dreamerv3 0.01
    value_bins: int = 0  # classes of a two-hot critic, 0 = a normal of unit variance; dreamerv3 255
    return_lambda: float = 0.95  # lambda of the return; dreamerv2 discount_lambda
    rho: float = 1.0  # 1 = REINFORCE, 0 = backprop through the dynamics, not for ppo; dreamerv2 actor_grad reinforce
    entropy_scale: float = 1e-3  # eta; dreamerv2 actor_ent
    return_scale: float = 0.0  # decay of the range of returns that divides advantages, 0 = not divided; dreamerv3 0.99
    slow_every: int = 100  # updates between copies of the critic to the target critic; dreamerv2 slow_target_update
    slow_fraction: float = 1.0  # how far the target critic then goes towards the critic; dreamerv3 0.02
    ppo_minibatches: int = 10  # gradient steps of actor and of critic per dream, for ppo; the seed's
    ppo_batch: int = 512  # M, imagined transitions of each; the seed's
    ppo_clip: float = 0.1  # how far the probability of an action may move from the dream's, as a ratio - 1; the seed's
