"""Settings of training."""

from __future__ import annotations

from dataclasses import dataclass


class Diverged(RuntimeError):
    """Training has come to where nothing is finite any more; the message names what can be gone back to."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimisers, arithmetic and rhythm of the learner."""

    seed: int = 0  # of networks, draws, games and replay; ours
    model_lr: float = 2e-4  # Adam's learning rate of the world model; dreamerv2 model_opt.lr
    actor_lr: float = 4e-5  # of the actor; dreamerv2 actor_opt.lr
    critic_lr: float = 1e-4  # of the critic; dreamerv2 critic_opt.lr
    adam_eps: float = 1e-5  # Adam's epsilon; dreamerv2 model_opt.eps
    adam_keras: bool = True  # epsilon weighs as in Keras' Adam, see adam.py; else as in PyTorch's; dreamerv2
    grad_clip: float = 100.0  # largest global gradient norm, of each optimiser alone; dreamerv2 model_opt.clip
    weight_decay: float = 1e-6  # share of every weight lost per update, not times lr; dreamerv2 model_opt.wd
    nonfinite_limit: int = 100  # updates in a row that may be skipped as not finite before training stops; ours
    precision: str = "float32"  # float32 | bfloat16 (losses, logits and state stay float32); dreamerv2 float16
    capture: bool = True  # on a GPU, the whole update as one CUDA graph; ours
    device: str = "auto"  # cpu | cuda | auto = cuda where there is one; ours
    threads: int = 0  # CPU threads of the learner, 0 = torch decides; ours
    publish_every: int = 10  # updates between broadcasts of the weights; ours
    log_every: float = 10.0  # seconds between lines in metrics.jsonl; ours
    image_every: float = 300.0  # seconds between pictures in TensorBoard, 0 = none; ours
    video_every: float = 600.0  # seconds between films in TensorBoard, 0 = none; ours
    checkpoint_every: float = 300.0  # seconds between checkpoints; ours
    keep_checkpoints: int = 2  # newest checkpoints kept; ours
