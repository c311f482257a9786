"""What is easily got wrong with gaussian latents and World Models, made on purpose: a test must notice each."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dreamer import vae_rnn
from dreamer.equations import straight_through_sample
from dreamer.latents import Gaussian
from dreamer.rssm import RSSM
from dreamer.types import State
from dreamer.vae_rnn import VaeRnn
from dreamer.world_model import WorldModel
from tests.dreamer import test_latents, test_vae_rnn
from tests.dreamer.test_latents import EMBED
from tests.dreamer.tiny import ACTIONS, GAUSSIAN, WORLD_MODELS

Patch = pytest.MonkeyPatch


def new(kind: type[RSSM] | type[VaeRnn]) -> RSSM | VaeRnn:
    torch.manual_seed(2)
    dynamics = kind(GAUSSIAN if kind is RSSM else WORLD_MODELS, num_actions=ACTIONS, embed=EMBED)
    for parameter in dynamics.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return dynamics


def log_deviation(self: Gaussian, flat: Tensor) -> Tensor:
    return flat.float().reshape(*flat.shape[:-1], self.stoch, 2)


def no_least_deviation(self: Gaussian, flat: Tensor) -> Tensor:
    mean, raw = log_deviation(self, flat).chunk(2, -1)
    return torch.cat([mean, torch.nn.functional.softplus(raw)], -1)


def cut_draw(self: Gaussian, stats: Tensor, noise: Tensor | None = None) -> Tensor:
    mean, std = stats.detach().chunk(2, -1)
    return mean + std * (torch.randn_like(mean) if noise is None else noise)


right_kl = Gaussian.kl


def swapped_kl(self: Gaussian, *, post: Tensor, prior: Tensor) -> Tensor:
    return right_kl(self, post=prior, prior=post)


def mean_kl(self: Gaussian, *, post: Tensor, prior: Tensor) -> Tensor:
    return right_kl(self, post=post, prior=prior) / self.stoch


def mask_h_only(self: RSSM, prev: State, prev_action: Tensor, is_first: Tensor, embed: Tensor) -> tuple[State, Tensor]:
    past = ~is_first[:, None]
    h = self.recur(State(prev.h.where(past, 0.0), prev.z), prev_action.where(past, 0.0))
    post = self.post(h, embed)
    return State(h, self.latent.sample(post)), post


def logits_only(mixture: Tensor, temperature: float) -> Tensor:
    logits, *others = mixture.chunk(3, -1)
    return torch.cat([logits / temperature, *others], -1)


def one_mixture_of_vectors(z: Tensor, mixture: Tensor) -> Tensor:
    logits, mean, log_std = mixture.chunk(3, -1)
    log_normal = -0.5 * ((z[..., None] - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
    joint = (logits[..., 0, :].log_softmax(-1) + log_normal.sum(-2)).logsumexp(-1)
    return -joint[..., None] / z.shape[-1] * torch.ones_like(z)


def weights_over_variables(z: Tensor, mixture: Tensor) -> Tensor:
    logits, mean, log_std = mixture.chunk(3, -1)
    log_normal = -0.5 * ((z[..., None] - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
    return -(logits.log_softmax(-2) + log_normal).logsumexp(-1)


def mean_of_the_mixture(mixture: Tensor) -> Tensor:
    logits, mean, _ = mixture.chunk(3, -1)
    chosen = straight_through_sample(logits)
    return (chosen * mean).sum(-1, keepdim=True)


def into_v(self: VaeRnn, prev: State, prev_action: Tensor, is_first: Tensor) -> Tensor:
    past = ~is_first[:, None]
    prev = State(prev.h.where(past, 0.0), prev.z.where(past[:, None], 0.0))
    return self.recur(prev, prev_action.where(past, 0.0))


right_observe = VaeRnn.observe


def h_of_the_next_step(self: VaeRnn, embed: Tensor, *others: Tensor):
    """h_t knows z_t: what plays would act on what M has yet to foresee."""
    unroll = right_observe(self, embed, *others)
    h = self.remember(unroll.state.flatten(), torch.zeros(embed[..., 0].numel(), ACTIONS), others[1].flatten())
    return unroll._replace(state=State(h.view_as(unroll.state.h), unroll.state.z))


def no_forget_bias(monkeypatch: Patch) -> None:
    monkeypatch.setattr(VaeRnn, "FORGET_BIAS", 0.0)


def replaced(owner: object, name: str, double: Callable) -> Callable[[Patch], None]:
    return lambda monkeypatch: monkeypatch.setattr(owner, name, double)


def in_test_too(name: str, double: Callable) -> Callable[[Patch], None]:
    """Functions of vae_rnn.py, which the test has imported by name."""

    def inject(monkeypatch: Patch) -> None:
        monkeypatch.setattr(vae_rnn, name, double)
        monkeypatch.setattr(test_vae_rnn, name, double)

    return inject


right_loss = WorldModel.loss


def heads_with_gradient(self: WorldModel, batch):
    """Rewards and ends shape V and M."""
    config = self.config
    object.__setattr__(config, "dynamics", "rssm")
    try:
        return right_loss(self, batch)
    finally:
        object.__setattr__(config, "dynamics", "vae_rnn")


latents, wm = test_latents, test_vae_rnn
MISTAKES: dict[str, tuple[Callable[[Patch], None], Callable[[], None]]] = {  # how to make it, who must notice
    "a logarithm taken for a deviation": (
        replaced(Gaussian, "statistics", log_deviation),
        lambda: latents.test_no_normal_is_narrower_than_a_tenth(0.0, 0.793147),
    ),
    "no least deviation": (
        replaced(Gaussian, "statistics", no_least_deviation),
        lambda: latents.test_no_normal_is_narrower_than_a_tenth(-100.0, 0.1),
    ),
    "draws without gradient": (
        replaced(Gaussian, "sample", cut_draw),
        lambda: latents.test_gradients_flow_through_the_draws_of_a_dream(new(RSSM)),
    ),
    "KL swapped": (
        replaced(Gaussian, "kl", swapped_kl),
        lambda: latents.test_kl_of_two_normals((0.5, 0.8), (0.0, 1.0), 0.168144),
    ),
    "KL averaged over the variables": (
        replaced(Gaussian, "kl", mean_kl),
        lambda: latents.test_kl_and_entropy_are_torchs_own_summed_over_the_variables(),
    ),
    "z not masked": (
        replaced(RSSM, "observe_step", mask_h_only),
        lambda: latents.test_is_first_erases_the_past_bit_for_bit(new(RSSM), "z"),
    ),
    "temperature on logits only": (
        in_test_too("heated", logits_only),
        lambda: wm.test_temperature_changes_which_normal_and_how_far(1.15, (0.277817, 0.722183), (1.072381, 0.53619)),
    ),
    "one mixture for the whole vector": (
        in_test_too("mixture_nll", one_mixture_of_vectors),
        lambda: wm.test_the_loss_of_a_mixture_by_hand(),
    ),
    "the softmax over the variables": (
        in_test_too("mixture_nll", weights_over_variables),
        lambda: wm.test_the_loss_of_a_mixture_by_hand(),
    ),
    "dreams without noise": (
        in_test_too("mixture_sample", mean_of_the_mixture),
        lambda: wm.test_a_dream_draws_from_the_mixture_of_the_new_h(new(VaeRnn)),
    ),
    "M's gradient in V": (
        replaced(VaeRnn, "remember", into_v),
        lambda: wm.test_gradients_flow_through_a_dream_but_not_from_m_to_v(new(VaeRnn)),
    ),
    "rewards shape V": (
        replaced(WorldModel, "loss", heads_with_gradient),
        lambda: wm.test_no_gradient_crosses_from_one_stage_to_another(),
    ),
    "h knows its own picture": (
        replaced(VaeRnn, "observe", h_of_the_next_step),
        lambda: wm.test_a_picture_does_not_show_in_its_own_h(new(VaeRnn)),
    ),
    "no forget bias": (no_forget_bias, lambda: wm.test_the_lstm_is_torchs_own_with_a_forget_bias_of_one(new(VaeRnn))),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_made_on_purpose_is_noticed(mistake: str, monkeypatch: Patch) -> None:
    inject, test = MISTAKES[mistake]
    test()  # without it the test passes
    inject(monkeypatch)
    with pytest.raises((AssertionError, RuntimeError)):
        test()
