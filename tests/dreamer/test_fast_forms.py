"""Forms made for speed compute what the plain ones do: values, gradients, and the same draws."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer import pictures, world_model
from dreamer.config import ModelConfig
from dreamer.fast_observe import StepLinear, fast_observe
from dreamer.rssm import RSSM
from tests.dreamer.tiny import (
    ACTIONS,
    GAUSSIAN,
    MODEL,
    SWITCHES,
    bfloat16,
    make_agent,
    random_actions,
    random_batch,
    random_state,
)

T, B, EMBED = 9, 4, 7


def gradients_of(loss: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return [grad / grad.abs().max().clamp(min=1e-20) for grad in torch.autograd.grad(loss, inputs)]


def run_observe(
    observe: Callable, rssm: RSSM, *, model: ModelConfig = MODEL, from_zero: bool = True
) -> tuple[list[Tensor], list[Tensor]]:
    """Everything that an unroll gives, and the gradients of a loss that uses everything; the same inputs each time."""
    torch.manual_seed(3)
    embed = torch.randn(T, B, EMBED, requires_grad=True)
    is_first = torch.rand(T, B) < 0.2
    action = random_actions(T, B)
    is_first[0] = torch.arange(B) == 2  # the others go on from `prev`
    unroll = observe(rssm, embed, action, is_first, None if from_zero else random_state(B, model))
    torch.manual_seed(4)
    values = [unroll.state.h, unroll.state.z, unroll.post, unroll.prior]
    loss = sum((value * torch.randn(value.shape)).sum() + value.square().mean() for value in values)
    return values, gradients_of(loss, [*rssm.parameters(), embed])


@pytest.mark.parametrize("model", [MODEL, SWITCHES, GAUSSIAN], ids=["plain", "switches", "gaussian"])
@pytest.mark.parametrize("from_zero", [True, False])
def test_fast_observe_equals_the_plain_one_in_values_draws_and_gradients(model: ModelConfig, from_zero: bool) -> None:
    torch.manual_seed(0)
    rssm = RSSM(model, num_actions=ACTIONS, embed=EMBED)
    values, grads = run_observe(fast_observe, rssm, model=model, from_zero=from_zero)
    plain_values, plain_grads = run_observe(RSSM.observe, rssm, model=model, from_zero=from_zero)
    if model.latent == "categorical":  # gaussian ones are rounded like everything else
        assert torch.equal(values[1], plain_values[1])  # z: the very same draws
    torch.testing.assert_close(values, plain_values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grads, plain_grads, rtol=0, atol=2e-6)


def test_fast_observe_in_bfloat16_is_as_near_to_float32_as_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    rssm = RSSM(MODEL, num_actions=ACTIONS, embed=EMBED)
    # A draw may fall otherwise where logits are rounded: all take the same ones.
    draws = F.one_hot(torch.randint(0, MODEL.classes, (T, B, MODEL.stoch)), MODEL.classes).float()

    def run(observe: Callable) -> list[Tensor]:
        left = iter(draws)

        def draw(logits: Tensor, noise: Tensor | None = None) -> Tensor:
            return next(left) + (logits.softmax(-1) - logits.softmax(-1).detach())

        monkeypatch.setattr("dreamer.equations.straight_through_sample", draw)
        return run_observe(observe, rssm)[1]

    exact = run(RSSM.observe)
    with bfloat16():
        plain, fast = run(RSSM.observe), run(fast_observe)
    plain_error = max((a - b).abs().max().item() for a, b in zip(plain, exact, strict=True))
    fast_error = max((a - b).abs().max().item() for a, b in zip(fast, exact, strict=True))
    assert fast_error < max(1.5 * plain_error, 0.02)


@pytest.mark.parametrize(
    ("model", "states"), [(MODEL, False), (MODEL, True), (GAUSSIAN, False)], ids=["zeros", "states", "gaussian"]
)
def test_a_world_model_update_is_the_same_with_either_observe(
    monkeypatch: pytest.MonkeyPatch, model: ModelConfig, states: bool
) -> None:
    agent, batch = make_agent(model=model), random_batch(6, 4, states=states)
    results = []
    for observe in (fast_observe, RSSM.observe):
        monkeypatch.setattr(world_model, "fast_observe", observe)
        torch.manual_seed(1)
        out = agent.world.loss(batch)
        results.append((out.loss, gradients_of(out.loss, list(agent.world.parameters()))))
    (fast, fast_grads), (plain, plain_grads) = results
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=0)
    torch.testing.assert_close(fast_grads, plain_grads, rtol=0, atol=2e-6)


def test_step_linear_is_a_linear_layer_and_wants_its_steps_in_turn() -> None:
    weight, base = torch.randn(3, 2, requires_grad=True), torch.randn(4, 5, 3, requires_grad=True)
    xs, push = torch.randn(4, 5, 2, requires_grad=True), torch.randn(4, 5, 3)
    layer = StepLinear(weight, base)
    y = torch.stack([layer(t, xs[t]) for t in range(4)])
    expected = F.linear(xs, weight) + base
    torch.testing.assert_close(y, expected)
    ours = torch.autograd.grad((y * push).sum(), [weight, base, xs])
    torch.testing.assert_close(ours, torch.autograd.grad((expected * push).sum(), [weight, base, xs]))
    with pytest.raises(AssertionError):
        StepLinear(weight, base)(1, xs[1])


CONVS: dict[str, tuple[Callable, Callable[[int, int], nn.Module], tuple[int, ...]]] = {
    "6x6 to 2x2": (pictures.conv_to_2x2, lambda i, o: nn.Conv2d(i, o, 4, stride=2), (6, 6)),
    "one pixel": (pictures.transposed_conv_of_one_pixel, lambda i, o: nn.ConvTranspose2d(i, o, 5, stride=2), ()),
    "phases": (pictures.transposed_conv_by_phases, lambda i, o: nn.ConvTranspose2d(i, o, 6, stride=2), (30, 30)),
}


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_convolution_in_fast_form_equals_torchs_own(name: str, outputs: int) -> None:
    form, make, size = CONVS[name]
    torch.manual_seed(0)
    conv = make(5, outputs)
    pictures.channels_last([conv])
    nn.init.normal_(conv.bias)
    x = torch.randn(4, 5, *size, requires_grad=True)
    plain = conv(x if size else x[..., None, None])
    fast = form(x, conv)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    push = torch.randn(plain.shape)
    inputs = [x, *conv.parameters()]
    torch.testing.assert_close(
        gradients_of((fast * push).sum(), inputs), gradients_of((plain * push).sum(), inputs), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_lie_in_memory_as_their_weights_do(channels: int) -> None:
    """A fused optimiser goes through both by address: with another layout it would mix up the numbers."""
    world = make_agent(channels=channels).world
    names, weights = zip(*world.named_parameters(), strict=True)
    loss = world.loss(random_batch(5, 3, channels=channels)).loss
    for name, weight, grad in zip(names, weights, torch.autograd.grad(loss, weights), strict=True):
        assert weight.stride() == grad.stride(), name
