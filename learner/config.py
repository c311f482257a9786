"""Settings of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

Seed: TypeAlias = Annotated[int, "0 <= x <= 4294967295"]
Rate: TypeAlias = Annotated[float, "1e-12 <= x <= 1e30"]  # one that is too large shows itself: training stops
Epsilon: TypeAlias = Annotated[float, "1e-30 <= x <= 1"]
Norm: TypeAlias = Annotated[float, "1e-6 <= x <= 1e30", "with less nothing is learned, with more float32 overflows"]
Decay: TypeAlias = Annotated[float, "0 <= x < 1"]
Count: TypeAlias = Annotated[int, "1 <= x <= 1e9"]
Threads: TypeAlias = Annotated[int, "0 <= x <= 1024"]
Interval: TypeAlias = Annotated[float, "0.1 <= x <= 1e9"]  # seconds
IntervalOrNever: TypeAlias = Annotated[float, "0 <= x <= 1e9"]  # seconds, 0 = never
Precision: TypeAlias = Literal["float32", "bfloat16", "auto"]
Device: TypeAlias = Literal["cpu", "cuda", "auto"]

# How long torch's threads spin for the next piece of work before they sleep. Spinning takes the cores from games and
# other processes, sleeping delays the next piece. Preset cpu with batches of 16, on two cores, seconds per update
# alone and beside one busy process: 0: 0.42, 0.56; 10000: 0.29, 0.86; 100000: 0.32, 1.30. Actors mostly wait.
# Measured before the update was made faster; in whole runs since then 0 to 100000 differ by less than the noise.
SPIN = "10000"


class Diverged(RuntimeError):
    """Training has come to where nothing is finite any more; the message names what can be gone back to."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimisers, arithmetic and rhythm of the learner."""

    seed: Seed = 0  # of networks, draws, games and replay; ours
    model_lr: Rate = 2e-4  # Adam's learning rate of the world model; dreamerv2 model_opt.lr
    actor_lr: Rate = 4e-5  # of the actor; dreamerv2 actor_opt.lr
    critic_lr: Rate = 1e-4  # of the critic; dreamerv2 critic_opt.lr
    adam_eps: Epsilon = 1e-5  # Adam's epsilon; dreamerv2 model_opt.eps
    adam_keras: bool = True  # epsilon weighs as in Keras' Adam, see adam.py; else as in PyTorch's; dreamerv2
    grad_clip: Norm = 100.0  # largest global gradient norm, of each optimiser alone; dreamerv2 model_opt.clip
    weight_decay: Decay = 1e-6  # share of every weight lost per update, not times lr; dreamerv2 model_opt.wd
    nonfinite_limit: Count = 100  # updates in a row that may be skipped as not finite before training stops; ours
    precision: Precision = "float32"  # of layers (losses, logits, state: float32); dreamerv2 float16; auto: device.py
    overlap: bool = False  # under Ray, on a CPU: world model and behaviour learn in two threads, overlap.py; ours
    capture: bool = True  # on a GPU, the whole update as one CUDA graph; ours
    device: Device = "auto"  # auto = cuda where there is one; ours
    threads: Threads = 0  # CPU threads of the learner, 0 = torch decides; ours
    publish_every: Count = 10  # updates between broadcasts of the weights; ours
    log_every: Interval = 10.0  # seconds between lines in metrics.jsonl; ours
    image_every: IntervalOrNever = 300.0  # seconds between pictures in TensorBoard, 0 = none; ours
    video_every: IntervalOrNever = 600.0  # seconds between films in TensorBoard, 0 = none; ours
    checkpoint_every: IntervalOrNever = 300.0  # seconds between checkpoints, 0 = only at the end; ours
    keep_checkpoints: Count = 2  # newest checkpoints kept; ours
