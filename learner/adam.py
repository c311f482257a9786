"""Adam as Keras computes it, with which the official code trains.

    PyTorch    w -= lr / c1 * m / (sqrt(v) / c2 + eps)          c1 = 1 - beta1^t
    Keras      w -= lr * c2 / c1 * m / (sqrt(v) + eps)          c2 = sqrt(1 - beta2^t)

The same epsilon weighs 1 / c2 times as much in Keras: 32 times at the first update, 1.26 times at the 1,000th. Where
gradients are as small as epsilon, which those of a young actor are, the first hundreds of steps are so much smaller.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.adam import adam


@torch.no_grad()
def keras_step(optimizer: torch.optim.AdamW, gradients: list[Tensor], *, good: Tensor) -> None:
    """One step on gradients like the parameters; good: bool [], without it neither weights nor moments change.

    PyTorch's fused kernel at an infinite count, where its own corrections are 1, with Keras' correction as the rate.
    Settings, moments and counts are the optimiser's, so a checkpoint is the same. The device is asked for nothing, and
    everything keeps its place: a CUDA graph can repeat it.
    """
    (group,) = optimizer.param_groups
    parameters, (beta1, beta2) = group["params"], group["betas"]
    states = [_state(optimizer, parameter) for parameter in parameters]
    counts = [state["step"] for state in states]
    torch._foreach_add_(counts, [good.float()] * len(counts))
    t = counts[0].double().clamp(min=1)  # 0 where not even the first gradient was good: then nothing happens anyway
    rate = group["lr"] * (1 - torch.pow(beta2, t)).sqrt() / (1 - torch.pow(beta1, t))
    # The official decay knows no rate and no correction, see make_optimizers.
    torch._foreach_mul_(parameters, torch.where(good, 1 - group["lr"] * group["weight_decay"], 1.0))
    adam(
        parameters,
        gradients,
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [t.new_full((), math.inf, dtype=torch.float32)] * len(states),
        fused=True,
        found_inf=(~good).float(),
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=rate.float(),
        weight_decay=0.0,
        eps=group["eps"],
        maximize=False,
    )


def _state(optimizer: torch.optim.AdamW, parameter: Tensor) -> dict[str, Tensor]:
    """What PyTorch keeps of a parameter; made at its first step, as there."""
    state = optimizer.state[parameter]
    if not state:
        state["step"] = torch.zeros((), device=parameter.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    return state
