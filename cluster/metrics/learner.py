"""The learner's metrics: its time, its losses, and what its world model understands.

"Here" in a healthy range is the run of deploy/agents/breakout-cpu: preset cpu, two cores, one hour; the 5th to the
95th percentile of its log after 300 updates, unless said otherwise.
"""

from __future__ import annotations

from cluster.metrics.spec import COUNTER, GAUGE, LEARNER, Spec

# One argument a line would make this table unreadable.
# fmt: off

PHASES = ("wait", "update", "world_model", "dream", "behavior", "publish", "checkpoint", "pictures", "other")
GPU, PPO, BREAKOUT, EVENTS = "a GPU", "behavior ppo", "Breakout", "such events in the batches"

WORK = (
    Spec(
        "dreamer_learner_updates_total", COUNTER, "updates", "updates done by this process", "here 14 to 19 a second",
        "slower: compare the phases; none: it waits, or has died", LEARNER
    ),
    Spec(
        "dreamer_learner_nonfinite_updates_total", COUNTER, "updates",
        "updates skipped because something was not finite", "flat; single ones do no harm",
        "rising: lower train.model_lr; 100 in a row end the training", LEARNER
    ),
    Spec(
        "dreamer_learner_phase_seconds_total", COUNTER, "seconds",
        "where the learner's time goes. As one CUDA graph the update is one phase, `update`; elsewhere it is told "
        "apart into `world_model`, `dream` and `behavior`. With PPO `behavior` has its minibatches too. With "
        "train.overlap `dream` is the copying of the weights, and `behavior` the waiting for the other thread",
        "nearly all of it in the parts of the update",
        "wait: more actors; publish: raise train.publish_every; pictures: raise train.image_every and video_every",
        LEARNER, labels={"phase": PHASES}
    ),
    Spec(
        "dreamer_learner_wait_seconds_total", COUNTER, "seconds", "time in which the learner had no data",
        "here 0.1 % of the time; on a GPU below 10 %", "more: the games are too slow; more actors or actor.workers",
        LEARNER, labels={"on": ("replay",)}
    ),
    Spec(
        "dreamer_learner_sample_age_updates", GAUGE, "updates",
        "updates since the policy that played the batch, mean: how old the experience is",
        "half of all updates so far until the replay is full, then constant",
        "0 for long: nothing but random play is sampled; are the actors getting weights?", LEARNER
    ),
    Spec(
        "dreamer_learner_checkpoint_timestamp_seconds", GAUGE, "seconds since 1970", "when the agent was last saved",
        "at most train.checkpoint_every (300 s) and some ago", "older: disk full or losses not finite; log.txt tells",
        LEARNER
    ),
    Spec("dreamer_learner_checkpoint_bytes", GAUGE, "bytes", "size of that file", "constant", "", LEARNER),
    Spec(
        "dreamer_learner_gpu_memory_bytes", GAUGE, "bytes", "memory that torch holds on the GPU",
        "constant after the first updates", "near the GPU's: smaller replay.batch; inline: smaller replay.capacity",
        LEARNER, only=GPU
    ),
    Spec(
        "dreamer_learner_gpu_utilisation_ratio", GAUGE, "0 to 1", "share of time in which the GPU computed something",
        "above 0.9", "low: the learner waits for games (see the phases), or batches are too small", LEARNER, only=GPU
    ),
)


def _value(name: str, unit: str, help: str, healthy: str, mend: str, only: str = "") -> Spec:
    """A number of the update: mean over the updates of about a second."""
    return Spec(f"dreamer_learner_{name}", GAUGE, unit, help, healthy, mend, LEARNER, only=only)


# What an update calls its numbers (dreamer/world_model.py, dreamer/behaviors/) -> how they are shown.
VALUES = {
    "model_loss": _value(
        "model_loss", "", "the world model's loss, all parts added up (Eq. 2)", "here 102 to 120",
        "rises for minutes: lower train.model_lr"
    ),
    "image_loss": _value(
        "image_loss", "nats", "error of the reconstructed pictures, summed over the pixels",
        "here 16 to 30; with model.picture normal its floor is pixels x 0.92 x their mean weight: look at moved_mse",
        "does not fall in the first 1,000 updates: look at the reconstructions in TensorBoard"
    ),
    "reward_loss": _value(
        "reward_loss", "nats", "error of the predicted rewards", "here 0.033 to 0.056", "see reward recall"
    ),
    "discount_loss": _value(
        "discount_loss", "nats", "error of the predicted ends of games", "here 0.06 to 0.096, falling",
        "see terminal recall"
    ),
    "kl_loss": _value(
        "kl_loss", "nats", "the KL as it is trained: balanced, with its free nats", "here 9.6 to 12.8", "see kl"
    ),
    "kl": _value(
        "kl_nats", "nats", "KL from prior to posterior: what a picture tells that was not foreseen",
        "here 9.6 to 12.8",
        "near 0: the latent state is dead (collapse), see docs/learning.md; ten times as high: the dynamics "
        "lost track, lower train.model_lr"
    ),
    "prior_entropy": _value(
        "prior_entropy_nats", "nats", "entropy of what the dynamics expect, all latents together",
        "above the posterior's; here 22 to 25", "0: dreams have no chance in them"
    ),
    "post_entropy": _value(
        "post_entropy_nats", "nats", "entropy of what is seen", "here 11.7 to 12.4",
        "equal to the prior's for long: pictures tell nothing, the latent state is dead"
    ),
    "batch_reward": _value(
        "batch_reward", "points per step", "mean reward in the batches: how often the replay scores",
        "here 0.014 to 0.063, rising with the score", "0: nothing in the replay to learn from"
    ),
    "model_grad": _value(
        "model_grad_norm", "", "gradient norm of the world model before clipping",
        "here 65 to 70; clipped at train.grad_clip (100)", "at the clip for long: lower train.model_lr"
    ),
    "actor_grad": _value(
        "actor_grad_norm", "", "gradient norm of the actor before clipping", "here 0.035 to 0.29",
        "0: no advantage, nothing to learn from"
    ),
    "critic_grad": _value(
        "critic_grad_norm", "", "gradient norm of the critic before clipping", "here 0.27 to 0.5",
        "at the clip for long: lower train.critic_lr"
    ),
    "actor_loss": _value(
        "actor_loss", "", "the actor's loss; its sign means nothing", "around 0; here -0.016 to 0.01", ""
    ),
    "critic_loss": _value(
        "critic_loss", "nats", "error of the critic", "here 0.51 to 0.73; bounded",
        "explodes with imagined_return: the values chase themselves; lower train.critic_lr"
    ),
    "actor_entropy": _value(
        "actor_entropy_nats", "nats", "entropy of the policy in dreams; four actions have at most 1.39",
        "falls slowly from 1.39; here 0.26 to 0.56",
        "below 0.05 early: collapsed, raise behavior.entropy_scale; at 1.39 for hours: it learns "
        "nothing, look at imagined returns"
    ),
    "actor_entropy_share": _value(
        "actor_entropy_ratio", "0 to 1", "the same as a share of what it can be at most", "here 0.18 to 0.4",
        "below 0.1: nothing new is tried in dreams; raise behavior.entropy_scale or behavior.unimix"
    ),
    "advantage_abs": _value(
        "advantage_abs", "squashed reward", "how much actions differ in what they bring, in dreams",
        "above 0; here 0.12 to 0.7", "0: dreams have no rewards; see reward recall"
    ),
    "return_scale": _value(
        "return_scale", "squashed reward", "what advantages are divided by: range of the returns",
        "1 where behavior.return_scale is 0, as in cpu; else 1 until returns spread", ""
    ),
    "imagined_reward": _value(
        "imagined_reward", "squashed reward per step", "mean reward in dreams",
        "near batch_reward; here 0.012 to 0.073", "far above batch_reward: the policy exploits the model's errors"
    ),
    "imagined_discount": _value(
        "imagined_discount", "", "mean discount in dreams: gamma x P(the game goes on)",
        "just below model.gamma; here 0.951 to 0.981", "far below: dreams end at once"
    ),
    "imagined_weight": _value(
        "imagined_weight", "", "mean share of a dream that still counts", "here 0.77 to 0.89",
        "near 0: dreams end at once; see terminal precision"
    ),
    "imagined_return": _value(
        "imagined_return", "squashed reward", "mean return of dreams (Eq. 4)",
        "rises with the score; here 0.4 to 4",
        "rises while the score does not: see imagined_reward and ball recall"
    ),
    "imagined_return_std": _value(
        "imagined_return_std", "squashed reward", "how much returns differ between dreams",
        "above 0; here 0.38 to 3.6", "0: no dream is better than another, nothing to learn"
    ),
    "slow_value": _value(
        "slow_value", "squashed reward", "what the target critic expects of dreams, mean", "near imagined_return",
        "far from it for long: behavior.slow_every is too large"
    ),
    "ppo_clipped": _value(
        "ppo_clipped_ratio", "0 to 1", "share of actions whose probability moved beyond the clip", "0.05 to 0.3",
        "more: lower train.actor_lr", PPO
    ),
}

# Ratios of numbers of the update, see dreamer/insight.py: over some 100 updates, because many batches have no event.
SEEN = {
    "moved_recall": _value(
        "moved_recall_ratio", "0 to 1",
        "of the pixels that changed, the share shown nearer to now than to before: is the ball seen?",
        "above 0.9; here 0.91 to 0.98",
        "below 0.6 after 2,000 updates: the ball is not seen; model.motion_weight, env.crop"
    ),
    "moved_mse": _value(
        "moved_mse", "squared brightness", "error of the pixels that changed", "falling; here 0.062 to 0.013",
        "as for moved recall"
    ),
    "reward_recall": _value(
        "reward_recall_ratio", "0 to 1", "of the rewarded steps, the share that the model foresaw",
        "here 0 in the first minute, 0.74 on average, 0.83 at the end",
        "0 after 5,000 updates: model.reward_scale, or nothing in the replay scores", EVENTS
    ),
    "reward_precision": _value(
        "reward_precision_ratio", "0 to 1", "of the rewards foreseen, the share that came", "here 0.59 to 0.8",
        "low: the actor is rewarded for what does not happen", EVENTS
    ),
    "terminal_recall": _value(
        "terminal_recall_ratio", "0 to 1", "of the ends of games (lives), the share foreseen",
        "here 0 in the first minute, then 0.21 to 0.74", "0 after 5,000 updates: dreams do not fear the end", EVENTS
    ),
    "terminal_precision": _value(
        "terminal_precision_ratio", "0 to 1", "of the ends foreseen, the share that came", "here 0.7 to 0.93",
        "low: dreams end without reason", EVENTS
    ),
    "return_dreamt_to_real": _value(
        "return_dreamt_to_real", "", "return of dreams over what really came after the same states in the replay",
        "about 1, above it while the policy is better than those that played the replay",
        "2 and more, and the score stands still: the policy exploits errors of the model", "returns above 0"
    ),
    "value_explained": _value(
        "value_explained", "up to 1",
        "share of the spread of the replay's returns that the target critic explains; more than it deserves, because "
        "where a window ends it says the rest of the return itself",
        "above 0.5; here 0.46 to 0.9",
        "low or negative for long: the critic; raise train.critic_lr", "returns that differ"
    ),
}

BALL = (
    Spec(
        "dreamer_learner_ball_recall_ratio", GAUGE, "0 to 1",
        "of the balls of a batch, the share that the model shows within 2 pixels, so many steps ahead (0 = now)",
        "after an hour: 0.98 now, 0.54 after 5 steps, 0.33 after 15 (docs/results.md)",
        "0 now after 2,000 updates: the ball is not seen, no policy can play", LEARNER,
        labels={"ahead": ("0", "1", "5", "15")}, only=BREAKOUT
    ),
    Spec(
        "dreamer_learner_ball_error_pixels", GAUGE, "pixels",
        "mean distance of the dreamt ball from the real one, so many steps ahead, where both are there",
        "after an hour: 3.4 of 40 after 15 steps (docs/results.md)",
        "does not fall: the dynamics do not know how the ball flies", LEARNER, labels={"ahead": ("1", "5", "15")},
        only=BREAKOUT
    ),
)

LEARNER_METRICS = (*WORK, *VALUES.values(), *SEEN.values(), *BALL)
