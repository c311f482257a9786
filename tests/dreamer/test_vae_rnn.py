"""World Models' V and M: numbers by hand, sizes, and which loss trains what."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer.config import ModelConfig
from dreamer.latents import Gaussian
from dreamer.types import Batch, State, Unroll
from dreamer.vae_rnn import VaeRnn, heated, mixture_nll, mixture_sample
from dreamer.world_model import WorldModel, scale_pixels
from tests.dreamer.test_world_model_learns import right_bars, toy_batch, train
from tests.dreamer.tiny import ACTIONS, WORLD_MODELS, bfloat16, make_agent, random_actions, random_batch, random_state

close = torch.testing.assert_close
T, B, EMBED = 5, 4, 7


def mixture(weights: list[float], means: list[float], stds: list[float]) -> Tensor:
    """Statistics of one variable [1, 3*K]."""
    parts = (torch.tensor(weights).log() + 5.0, torch.tensor(means), torch.tensor(stds).log())  # + 5: not normalised
    return torch.cat(parts)[None]


FIRST = mixture([0.25, 0.75], [0.0, 1.0], [1.0, 0.5])
SECOND = mixture([0.5, 0.5], [-1.0, 1.0], [0.5, 0.5])


def density(y: float, weights: list[float], means: list[float], stds: list[float]) -> float:
    return sum(
        w * math.exp(-0.5 * ((y - m) / s) ** 2) / (s * math.sqrt(2 * math.pi))
        for w, m, s in zip(weights, means, stds, strict=True)
    )


@pytest.fixture
def dynamics() -> VaeRnn:
    dynamics = VaeRnn(WORLD_MODELS, num_actions=ACTIONS, embed=EMBED)
    for parameter in dynamics.parameters():
        nn.init.normal_(parameter, std=0.5)
    return dynamics


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """A game begins at t=0, and in row 1 at t=3."""
    is_first = torch.zeros(T, B, dtype=torch.bool)
    is_first[0] = True
    is_first[3, 1] = True
    return torch.randn(T, B, EMBED), random_actions(T, B), is_first


# --- golden numbers ---------------------------------------------------------------------------------------------------


def test_the_loss_of_a_mixture_by_hand() -> None:
    assert -math.log(density(0.5, [0.25, 0.75], [0, 1], [1, 0.5])) == pytest.approx(0.796349, abs=1e-6)
    assert -math.log(density(-0.5, [0.5, 0.5], [-1, 1], [0.5, 0.5])) == pytest.approx(1.400789, abs=1e-6)
    both = mixture_nll(torch.tensor([0.5, -0.5]), torch.cat([FIRST, SECOND]))
    close(both, torch.tensor([0.796349, 1.400789]), atol=1e-5, rtol=0)
    # Each variable has its own mixture: their mean, not one mixture of whole vectors (3.083212 with these weights).
    assert both.mean().item() == pytest.approx(1.098569, abs=1e-5)


def test_draws_have_the_mean_and_variance_of_the_mixture() -> None:
    z = mixture_sample(FIRST.expand(200_000, 1, 6))
    assert z.shape == (200_000, 1, 1)
    close(z.mean(), torch.tensor(0.75), atol=0.01, rtol=0)
    close(z.var(), torch.tensor(0.625), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("temperature", "weights", "stds"),
    [
        (0.5, (0.1, 0.9), (0.707107, 0.353553)),
        (1.0, (0.25, 0.75), (1.0, 0.5)),
        (1.15, (0.277817, 0.722183), (1.072381, 0.536190)),
        (2.0, (0.366025, 0.633975), (1.414214, 0.707107)),
    ],
)
def test_temperature_changes_which_normal_and_how_far(
    temperature: float, weights: tuple[float, ...], stds: tuple[float, ...]
) -> None:
    logits, mean, log_std = heated(FIRST, temperature).chunk(3, -1)
    close(logits.softmax(-1)[0], torch.tensor(weights), atol=1e-5, rtol=0)
    close(log_std.exp()[0], torch.tensor(stds), atol=1e-5, rtol=0)
    close(mean[0], torch.tensor([0.0, 1.0]))
    powers = [w ** (1 / temperature) for w in (0.25, 0.75)]
    close(torch.tensor([p / sum(powers) for p in powers]), torch.tensor(weights), atol=1e-5, rtol=0)


def latents_of(mean: list[float], log_variance: list[float]) -> Tensor:
    """Posterior of one picture [1, 1, S, 2], as V makes it."""
    dynamics = VaeRnn(replace(WORLD_MODELS, stoch=len(mean)), num_actions=ACTIONS, embed=2 * len(mean))
    with torch.no_grad():
        dynamics.post_out.weight.copy_(torch.eye(2 * len(mean)))
        dynamics.post_out.bias.zero_()
    return dynamics.post(torch.tensor([mean, log_variance]).t().reshape(1, 1, -1))


def kl_loss(post: Tensor, **changes: float) -> Tensor:
    """V's KL as it is trained, of pictures [T, B, S, 2] whose prior does not matter."""
    stoch = post.shape[-2]
    config = replace(WORLD_MODELS, stoch=stoch, kl_scale=1.0, free_nats=0.5 * stoch, **changes)
    dynamics = VaeRnn(config, num_actions=ACTIONS, embed=3)
    z = dynamics.latent.sample(post)
    unroll = Unroll(State(torch.zeros(*post.shape[:2], config.deter), z), post, torch.zeros(*post.shape[:3], 9))
    return dynamics.divergence(unroll, config)[1]["kl_loss"]


def test_vs_kl_to_the_standard_normal_by_hand() -> None:
    mean, log_variance = [1.0, 0.0], [0.0, math.log(4)]
    each = [-0.5 * (1 + v - m * m - math.exp(v)) for m, v in zip(mean, log_variance, strict=True)]
    assert each == pytest.approx([0.5, 0.806853], abs=1e-6)
    assert kl_loss(latents_of(mean, log_variance)).item() == pytest.approx(1.306853, abs=1e-6) == sum(each)


def test_half_a_nat_of_each_variable_is_free() -> None:
    post = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]], requires_grad=True)
    loss = kl_loss(post)
    (grad,) = torch.autograd.grad(loss, post)
    assert loss.item() == 1.0 and not grad.any()


def test_the_free_nats_are_those_of_each_picture() -> None:
    """Not of the batch: a picture of much surprise does not pay for one of little."""
    post = torch.cat([latents_of([2.0, 0.0], [0.0, 0.0]), latents_of([0.0, 0.0], [0.0, 0.0])])
    assert kl_loss(post).item() == pytest.approx((2.0 + 1.0) / 2)
    assert kl_loss(post, free_each=False).item() == pytest.approx(1.0)


def test_the_loss_of_a_known_picture() -> None:
    """Squared errors summed over pixels, half of them as everywhere here: so V's KL counts half as well."""
    world, batch = make_agent(model=WORLD_MODELS).world, random_batch()
    with torch.no_grad():
        for weight in world.decoder.parameters():
            weight.zero_()
    out = world.loss(batch)
    m, error = out.metrics, scale_pixels(batch.obs).square().sum() / (5 * 2)
    close(m["image_loss"], error / 2 + 0.5 * math.log(2 * math.pi) * 4096)
    nll = mixture_nll(out.unroll.state.z[..., 0], out.unroll.prior).mean()
    expected = m["image_loss"] + m["reward_loss"] + 5 * m["discount_loss"] + 0.5 * m["kl_loss"] + nll
    close(out.loss.detach(), expected.detach())
    close(m["kl"], (4 * nll - m["post_entropy"]).detach())


# --- sizes -----------------------------------------------------------------------------------------------------------


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_the_papers_networks_have_the_papers_parameter_counts() -> None:
    """CarRacing: three actions as V and M see them. Doom: one; its M is also told, and tells, that a game begins."""
    sizes = ModelConfig(dynamics="vae_rnn", latent="gaussian", cnn_depth=32)
    with torch.device("meta"):
        car = WorldModel(replace(sizes, stoch=32, deter=512), size=64, channels=3, num_actions=3)
        doom = WorldModel(replace(sizes, stoch=64, deter=1024), size=64, channels=3, num_actions=2)
    assert count(car.encoder, car.decoder, car.rssm.post_out) == 4_348_547
    assert count(car.rssm.lstm, car.rssm.prior_out) == 422_368
    assert count(doom.encoder, doom.decoder, doom.rssm.post_out) == 4_446_915
    assert count(doom.rssm.lstm, doom.rssm.prior_out) == 1_678_785 - (512 + 1)  # the end of a game has its own head
    assert car.feat_size == 32 + 2 * 256 and doom.feat_size == 1_088  # z, what the LSTM shows, its cell


# --- recurrence ------------------------------------------------------------------------------------------------------


def test_the_lstm_is_torchs_own_with_a_forget_bias_of_one(dynamics: VaeRnn) -> None:
    units = dynamics.units
    theirs = nn.LSTMCell(WORLD_MODELS.stoch + ACTIONS, units)
    with torch.no_grad():
        write, candidate, keep, show = range(4)  # torch: write, keep, candidate, show
        rows = torch.cat([torch.arange(units) + part * units for part in (write, keep, candidate, show)])
        weight, bias = dynamics.lstm.weight[rows], dynamics.lstm.bias[rows]
        bias[units : 2 * units] += 1
        theirs.weight_ih.copy_(weight[:, :-units])
        theirs.weight_hh.copy_(weight[:, -units:])
        theirs.bias_ih.copy_(bias)
        theirs.bias_hh.zero_()
    prev, action = random_state(B, WORLD_MODELS), random_actions(B)
    expected = theirs(torch.cat([prev.z[..., 0], action], -1), tuple(prev.h.chunk(2, -1)))
    close(dynamics.recur(prev, action), torch.cat(expected, -1))


def test_a_picture_does_not_show_in_its_own_h(dynamics: VaeRnn) -> None:
    """So what plays on [z, h] knows of the picture through z alone, and M foresees it instead of copying it."""
    embed, action, is_first = inputs()
    torch.manual_seed(1)
    before = dynamics.observe(embed, action, is_first)
    t = 1
    embed[t] += 3
    torch.manual_seed(1)
    after = dynamics.observe(embed, action, is_first)
    assert torch.equal(before.state.h[: t + 1], after.state.h[: t + 1])
    assert torch.equal(before.prior[: t + 1], after.prior[: t + 1])
    assert not torch.isclose(before.state.h[t + 1], after.state.h[t + 1]).all(-1).any()
    assert torch.equal(before.post[t + 1], after.post[t + 1])  # V sees one picture alone


def test_the_action_that_led_to_a_picture_shows_in_its_prior(dynamics: VaeRnn) -> None:
    embed, action, is_first = inputs()
    torch.manual_seed(1)
    before = dynamics.observe(embed, action, is_first).prior
    action[2] = action[2].roll(1, -1)
    torch.manual_seed(1)
    after = dynamics.observe(embed, action, is_first).prior
    assert torch.equal(before[:2], after[:2]) and not torch.isclose(before[2], after[2]).all((-2, -1)).any()


@pytest.mark.parametrize("change", ["h", "z", "action"])
def test_is_first_erases_the_past_bit_for_bit(dynamics: VaeRnn, change: str) -> None:
    prev, action, is_first = random_state(2, WORLD_MODELS), torch.eye(ACTIONS)[[0, 0]], torch.tensor([True, False])
    other = State(prev.h + (change == "h"), prev.z + (change == "z"))
    embed, done = torch.randn(2, EMBED), torch.eye(ACTIONS)[[2, 2]] if change == "action" else action
    before, _ = dynamics.observe_step(prev, action, is_first, embed)
    after, _ = dynamics.observe_step(other, done, is_first, embed)
    assert torch.equal(before.h[0], after.h[0]) and not torch.isclose(before.h[1], after.h[1]).all()


def test_observe_equals_repeated_observe_step(dynamics: VaeRnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gaussian, "noise", lambda self, like, *shape: torch.full((*shape, self.stoch, 1), 0.3))
    embed, action, is_first = inputs()
    is_first[0] = False
    for prev in (None, random_state(B, WORLD_MODELS)):
        unroll, state = dynamics.observe(embed, action, is_first, prev), dynamics.initial(B) if prev is None else prev
        for t in range(T):
            state, post = dynamics.observe_step(state, action[t], is_first[t], embed[t])
            close([unroll.state.h[t], unroll.state.z[t], unroll.post[t]], [state.h, state.z, post])
            close(unroll.prior[t], dynamics.prior(state.h))


def test_a_dream_draws_from_the_mixture_of_the_new_h(dynamics: VaeRnn) -> None:
    many = 50_000
    prev, action = random_state(1, WORLD_MODELS), random_actions(1).expand(many, ACTIONS)
    prev = State(prev.h.expand(many, -1), prev.z.expand(many, -1, -1))
    with torch.no_grad():
        state, h = dynamics.imagine_step(prev, action), dynamics.recur(prev, action)
        logits, mean, log_std = dynamics.prior(h[0]).chunk(3, -1)
        weight = logits.softmax(-1)
        expected = (weight * mean).sum(-1)
        variance = (weight * (log_std.exp().square() + mean.square())).sum(-1) - expected.square()
        close(state.h, h)
        close((state.z[..., 0].mean(0) - expected) / variance.sqrt(), torch.zeros(4), atol=0.03, rtol=0)
        close(state.z[..., 0].var(0) / variance, torch.ones(4), atol=0.1, rtol=0)
        hot = dynamics.imagine_step(prev, action, 4.0)
        assert (hot.z[..., 0].var(0) > 1.5 * variance).all()


def test_gradients_flow_through_a_dream_but_not_from_m_to_v(dynamics: VaeRnn) -> None:
    action = random_actions(B).requires_grad_()
    first = dynamics.imagine_step(random_state(B, WORLD_MODELS), action)
    for past in (State(first.h, first.z.detach()), State(first.h.detach(), first.z)):
        z = dynamics.imagine_step(past, random_actions(B)).z
        (grad,) = torch.autograd.grad((z * torch.randn_like(z)).sum(), action, retain_graph=True)
        assert grad.abs().max() > 0
    embed, done, is_first = inputs()
    embed.requires_grad_()
    unroll = dynamics.observe(embed, done, is_first)
    assert torch.autograd.grad(unroll.prior.sum(), embed, allow_unused=True) == (None,)
    assert torch.autograd.grad(unroll.state.z.sum(), embed)[0].abs().max() > 0


def test_everything_stays_float32_in_mixed_precision(dynamics: VaeRnn) -> None:
    with bfloat16():
        unroll = dynamics.observe(*inputs())
        dreamt = dynamics.imagine_step(random_state(B, WORLD_MODELS), random_actions(B), 0.5)
    assert {x.dtype for x in (*unroll.state, unroll.post, unroll.prior, *dreamt)} == {torch.float32}


# --- which loss trains what -------------------------------------------------------------------------------------------

V = ("encoder", "decoder", "rssm.post_out")
M = ("rssm.lstm", "rssm.prior_out")


def reached(world: WorldModel, loss: Tensor) -> set[str]:
    """The parts of the world model that a loss trains."""
    names, weights = zip(*world.named_parameters(), strict=True)
    grads = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
    touched = {name for name, grad in zip(names, grads, strict=True) if grad is not None and grad.abs().max() > 1e-5}
    return {part for part in (*V, *M, "reward", "discount") if any(name.startswith(part) for name in touched)}


def test_no_gradient_crosses_from_one_stage_to_another() -> None:
    world, batch = make_agent(model=WORLD_MODELS).world, random_batch()
    out = {
        scale: make_loss(world, batch, kl_scale=0.0, reward_scale=scale[0], discount_scale=scale[1])
        for scale in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    }
    without = out[0.0, 0.0]
    assert reached(world, without) == {*V, *M}
    assert reached(world, out[1.0, 0.0] - without) == {"reward"}
    assert reached(world, out[0.0, 1.0] - without) == {"discount"}
    unroll = world.observe(batch)
    nll = mixture_nll(unroll.state.z.detach()[..., 0], unroll.prior).mean()
    assert reached(world, nll) == set(M)
    assert reached(world, world.decode(unroll.state).square().sum()) == set(V)
    world.config = replace(WORLD_MODELS, free_nats=0.0)
    kl = world.rssm.divergence(unroll, world.config)[1]["kl_loss"]
    assert reached(world, kl) == {"encoder", "rssm.post_out"}


def make_loss(world: WorldModel, batch: Batch, **scales: float) -> Tensor:
    """The loss with the same draws each time."""
    world.config = replace(WORLD_MODELS, **scales)
    torch.manual_seed(1)
    return world.loss(batch).loss


def test_the_decoder_sees_z_alone() -> None:
    world = make_agent(model=WORLD_MODELS).world
    state = random_state(3, WORLD_MODELS)
    assert torch.equal(world.decode(state), world.decode(State(state.h + 1, state.z)))
    assert not torch.equal(world.decode(state), world.decode(State(state.h, state.z + 1)))


# --- learning --------------------------------------------------------------------------------------------------------


def code_of_actions(time: int, batch: int, shift: int) -> tuple[Tensor, Tensor, Tensor]:
    """A world of two states: the embedding shows the action that led to it (shift 0), or the one chosen after it."""
    action = torch.randint(0, 2, (time + 1, batch))
    shown = action[shift : shift + time].float()[..., None] * 2 - 1
    is_first = torch.zeros(time, batch, dtype=torch.bool)
    is_first[0] = True
    return shown, F.one_hot(action[:time], ACTIONS).float(), is_first


@pytest.mark.parametrize("shift", [0, 1])
def test_m_foresees_what_the_action_before_a_picture_brings_and_nothing_else(shift: int) -> None:
    torch.manual_seed(0)
    config = replace(WORLD_MODELS, stoch=1, deter=32)
    dynamics = VaeRnn(config, num_actions=ACTIONS, embed=1)
    with torch.no_grad():  # V shows its input, almost without noise: mean 1 or -1, deviation 0.1
        dynamics.post_out.weight.copy_(torch.tensor([[1.0], [0.0]]))
        dynamics.post_out.bias.copy_(torch.tensor([0.0, 2 * math.log(0.1)]))
    optimizer = torch.optim.Adam([*dynamics.lstm.parameters(), *dynamics.prior_out.parameters()], lr=1e-2)
    for _ in range(150):
        unroll = dynamics.observe(*code_of_actions(6, 16, shift))
        nll = mixture_nll(unroll.state.z.detach()[..., 0], unroll.prior)[1:].mean()
        optimizer.zero_grad()
        nll.backward()
        optimizer.step()
    noise = 0.5 * math.log(2 * math.pi * math.e) + math.log(0.1)  # what nobody can foresee
    if shift == 0:
        assert nll.item() == pytest.approx(noise, abs=0.25)
    else:
        assert nll.item() > noise + math.log(2) - 0.1  # nor, here, which of the two it will be


def test_the_whole_model_dreams_what_its_actions_bring_about() -> None:
    torch.manual_seed(0)
    model = replace(WORLD_MODELS, stoch=4, deter=64, cnn="blocks", cnn_depth=4, head_units=32)
    world = WorldModel(model, size=64, channels=1, num_actions=ACTIONS)
    train(world, 160, toy_batch)
    assert right_bars(world) > 0.9
    assert right_bars(world, shift=1) < 0.1
