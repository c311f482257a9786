"""The two kinds of latents: numbers by hand, and what is easily got wrong with gaussian ones."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dreamer import equations
from dreamer.config import ModelConfig
from dreamer.equations import kl_balancing
from dreamer.latents import Categorical, Gaussian, make_latent
from dreamer.rssm import RSSM
from dreamer.types import State
from tests.dreamer.tiny import ACTIONS, GAUSSIAN, bfloat16, make_agent, random_actions, random_batch, random_state

close = torch.testing.assert_close
ONE = Gaussian(1)
T, B, EMBED = 5, 4, 7


def normal(mean: float, std: float) -> Tensor:
    """Statistics of one variable [1, 2]."""
    return torch.tensor([[mean, std]])


def kl_by_hand(mean: float, std: float, prior_mean: float, prior_std: float) -> float:
    return math.log(prior_std / std) + (std**2 + (mean - prior_mean) ** 2) / (2 * prior_std**2) - 0.5


@pytest.fixture
def rssm() -> RSSM:
    rssm = RSSM(GAUSSIAN, num_actions=ACTIONS, embed=EMBED)
    for parameter in rssm.parameters():  # no zero anywhere, so that nothing is invisible by chance
        nn.init.normal_(parameter, std=0.7)
    return rssm


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """A game begins at t=0, and in row 1 at t=3."""
    is_first = torch.zeros(T, B, dtype=torch.bool)
    is_first[0] = True
    is_first[3, 1] = True
    return torch.randn(T, B, EMBED), random_actions(T, B), is_first


# --- golden numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("post", "prior", "golden"),
    [
        ((0.5, 0.8), (0.0, 1.0), 0.168144),
        ((0.0, 0.1), (0.0, 1.0), 1.807585),
        ((0.0, 1.0), (0.0, 0.1), 47.197415),  # the same two in each other's place
    ],
)
def test_kl_of_two_normals(post: tuple[float, float], prior: tuple[float, float], golden: float) -> None:
    found = ONE.kl(post=normal(*post), prior=normal(*prior)).item()
    assert found == pytest.approx(kl_by_hand(*post, *prior), rel=1e-5) == pytest.approx(golden, abs=5e-5)


def test_kl_and_entropy_are_torchs_own_summed_over_the_variables() -> None:
    post, prior = (torch.stack([torch.randn(3, 2, 5), torch.rand(3, 2, 5) + 0.1], -1) for _ in range(2))
    q, p = (torch.distributions.Normal(*stats.unbind(-1)) for stats in (post, prior))
    latent = Gaussian(5)
    close(latent.kl(post=post, prior=prior), torch.distributions.kl_divergence(q, p).sum(-1))
    close(latent.entropy(post), q.entropy().sum(-1))


@pytest.mark.parametrize(("raw", "std"), [(0.0, 0.793147), (-10.0, 0.100045), (-100.0, 0.1), (3.0, 3.148587)])
def test_no_normal_is_narrower_than_a_tenth(raw: float, std: float) -> None:
    """softplus(raw) + 0.1: neither a logarithm taken for a deviation nor V2's sigmoid (1.1 at 0)."""
    stats = ONE.statistics(torch.tensor([7.0, raw]))
    close(stats, torch.tensor([[7.0, std]]), atol=1e-6, rtol=0)
    assert std == pytest.approx(math.log1p(math.exp(raw)) + 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("kls", "mean_clipped", "each_clipped"),
    [((5.0, 2.0), 3.5, 4.0), ((4.0, 1.0), 3.0, 3.5), ((2.0, 1.0), 3.0, 3.0)],
)
def test_three_free_nats_of_the_mean_or_of_each(
    kls: tuple[float, float], mean_clipped: float, each_clipped: float
) -> None:
    """Dreamer V1 clips the mean of the batch, PlaNet (but for a constant) every step by itself."""
    prior = normal(0.0, 1.0).expand(2, 1, 1, 2)
    means = torch.tensor([math.sqrt(2 * kl) for kl in kls])
    post = torch.stack([means, torch.ones(2)], -1).view(2, 1, 1, 2).requires_grad_()
    close(ONE.kl(post=post, prior=prior).detach().flatten(), torch.tensor(kls))
    for each, golden in ((False, mean_clipped), (True, each_clipped)):
        loss = kl_balancing(post=post, prior=prior, balance=0.5, free_nats=3.0, free_each=each, kl=ONE.kl)
        assert loss.item() == pytest.approx(golden, rel=1e-6)
        (grad,) = torch.autograd.grad(loss, post)
        trained = [kl > 3 if each else sum(kls) / 2 > 3 for kl in kls]
        assert (grad[:, 0, 0, 0] != 0).tolist() == trained
    # PlaNet writes max(0, KL - 3): three nats less, the same gradient.
    assert sum(max(0.0, kl - 3) for kl in kls) / 2 == pytest.approx(each_clipped - 3)


def test_dreamer_v1s_kl_is_balance_a_half_and_twice_its_scale() -> None:
    post, prior = (torch.stack([torch.randn(3, 2, 5), torch.rand(3, 2, 5) + 0.1], -1) for _ in range(2))
    post, prior = post.requires_grad_(), prior.requires_grad_()
    latent = Gaussian(5)
    ours = 2 * kl_balancing(post=post, prior=prior, balance=0.5, free_nats=0.0, kl=latent.kl)
    plain = latent.kl(post=post, prior=prior).mean()
    for a, b in zip(torch.autograd.grad(ours, (post, prior)), torch.autograd.grad(plain, (post, prior)), strict=True):
        close(a, b)


# --- draws -----------------------------------------------------------------------------------------------------------


def test_a_draw_knows_how_mean_and_deviation_move_it() -> None:
    stats = torch.stack([torch.randn(4, 3), torch.rand(4, 3) + 0.1], -1).requires_grad_()
    noise = torch.randn(4, 3, 1)
    z = Gaussian(3).sample(stats, noise)
    assert z.shape == (4, 3, 1)
    close(z, stats[..., :1] + stats[..., 1:] * noise)
    (grad,) = torch.autograd.grad(z.sum(), stats)
    close(grad, torch.cat([torch.ones(4, 3, 1), noise], -1))


@pytest.mark.parametrize("temperature", [0.25, 1.0, 2.0])
def test_heat_multiplies_the_variance(temperature: float) -> None:
    stats = ONE.heated(normal(3.0, 0.5).expand(100_000, 1, 2), temperature)
    z = ONE.sample(stats)
    close(z.mean(), torch.tensor(3.0), atol=0.02, rtol=0)
    close(z.std(), torch.tensor(0.5 * math.sqrt(temperature)), rtol=0.02, atol=0)


def test_noise_of_a_window_is_that_of_its_steps() -> None:
    like, latent = torch.empty(0, dtype=torch.bfloat16), Gaussian(4)
    torch.manual_seed(0)
    window = latent.noise(like, 3, 4)
    assert window.shape == (3, 4, 4, 1) and window.dtype == torch.float32
    torch.manual_seed(0)
    assert torch.equal(window, torch.stack([latent.noise(like, 4) for _ in range(3)]))


def test_a_categorical_is_what_the_equations_say(monkeypatch: pytest.MonkeyPatch) -> None:
    latent = make_latent(replace(ModelConfig(), stoch=3, classes=4, unimix=0.1))
    assert latent == Categorical(3, 4, 0.1) and latent.parameters == latent.values == 4
    logits = latent.statistics(torch.randn(2, 12))
    assert logits.softmax(-1).amin() >= 0.1 / 4 - 1e-6
    close(latent.entropy(logits), equations.entropy(logits).sum(-1))
    assert latent.heated(logits, 1.0) is logits
    noise = latent.noise(logits, 2)
    assert noise.shape == (2, 3, 4)
    assert torch.equal(latent.sample(logits, noise), equations.one_hot_mode(logits + noise))


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"model\.latent must be categorical or gaussian, not 'beta'"):
        make_latent(replace(ModelConfig(), latent="beta"))  # type: ignore[arg-type]


# --- the recurrent model with gaussian latents ------------------------------------------------------------------------


def test_an_unroll_of_gaussians_has_numbers_and_their_normals(rssm: RSSM) -> None:
    unroll = rssm.observe(*inputs())
    assert unroll.state.z.shape == (T, B, 4, 1)
    assert unroll.post.shape == unroll.prior.shape == (T, B, 4, 2)
    assert unroll.state.feat().shape == (T, B, 4 + GAUSSIAN.deter)
    assert unroll.post[..., 1].amin() >= 0.1 and unroll.prior[..., 1].amin() >= 0.1


def test_the_zero_state_is_zero_and_not_a_prior(rssm: RSSM) -> None:
    h, z = rssm.initial(3)
    assert z.shape == (3, 4, 1) and not h.any() and not z.any()


@pytest.mark.parametrize("change", ["h", "z", "action"])
def test_is_first_erases_the_past_bit_for_bit(rssm: RSSM, change: str) -> None:
    embed, is_first = torch.randn(2, EMBED), torch.tensor([True, False])
    prev, action = random_state(2, GAUSSIAN), torch.eye(ACTIONS)[[0, 0]]
    other = State(prev.h + (change == "h"), prev.z + (change == "z"))
    found = []
    for state, done in ((prev, action), (other, torch.eye(ACTIONS)[[2, 2]] if change == "action" else action)):
        torch.manual_seed(1)
        found.append(rssm.observe_step(state, done, is_first, embed))
    (state, post), (other_state, other_post) = found
    assert torch.equal(post[0], other_post[0]) and torch.equal(state.feat()[0], other_state.feat()[0])
    assert not torch.isclose(state.h[1], other_state.h[1]).all()  # the other game remembers


def test_a_game_in_the_middle_of_a_window_is_as_if_the_window_began_there(
    rssm: RSSM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gaussian, "noise", lambda self, like, *shape: torch.full((*shape, self.stoch, 1), 0.3))
    embed, action, is_first = inputs()
    whole = rssm.observe(embed, action, is_first)
    part = rssm.observe(embed[3:, 1:2], action[3:, 1:2], is_first[3:, 1:2])
    close([x[3:, 1:2] for x in (*whole.state, whole.post, whole.prior)], [*part.state, part.post, part.prior])


def test_a_dream_draws_from_the_prior_of_the_new_h(rssm: RSSM) -> None:
    many = 50_000
    prev, action = random_state(1, GAUSSIAN), random_actions(1).expand(many, ACTIONS)
    prev = State(prev.h.expand(many, -1), prev.z.expand(many, -1, -1))
    with torch.no_grad():
        h = rssm.recur(prev, action)
        mean, std = rssm.prior(h[0]).unbind(-1)
        for temperature in (1.0, 0.25):
            state = rssm.imagine_step(prev, action, temperature)
            close(state.h, h)
            close((state.z[..., 0].mean(0) - mean) / std, torch.zeros(4), atol=0.03, rtol=0)
            close(state.z[..., 0].std(0) / std, torch.full((4,), math.sqrt(temperature)), rtol=0.03, atol=0)


def test_gradients_flow_through_the_draws_of_a_dream(rssm: RSSM) -> None:
    """Two steps on, through h and through z: Dreamer V1 learns by nothing else."""
    action = random_actions(B).requires_grad_()
    first = rssm.imagine_step(random_state(B, GAUSSIAN), action)
    for past in (State(first.h, first.z.detach()), State(first.h.detach(), first.z)):
        z = rssm.imagine_step(past, random_actions(B)).z
        (grad,) = torch.autograd.grad((z * torch.randn_like(z)).sum(), action, retain_graph=True)
        assert grad.abs().max() > 0


def test_statistics_and_draws_stay_float32_in_mixed_precision(rssm: RSSM) -> None:
    with bfloat16():
        unroll = rssm.observe(*inputs())
        dreamt = rssm.imagine_step(random_state(B, GAUSSIAN), random_actions(B), 0.5)
    assert {x.dtype for x in (*unroll.state, unroll.post, unroll.prior, *dreamt)} == {torch.float32}


# --- the world model --------------------------------------------------------------------------------------------------


def test_the_loss_of_gaussians_reaches_exactly_the_world_model() -> None:
    agent = make_agent(model=GAUSSIAN)
    out = agent.world.loss(random_batch())
    out.loss.backward()
    with_grad = {name for name, p in agent.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert with_grad == {name for name, _ in agent.named_parameters() if name.startswith("world.")}
    close(out.metrics["kl"], Gaussian(4).kl(post=out.unroll.post, prior=out.unroll.prior).mean().detach())


def test_a_policy_step_and_a_dream_work_with_gaussians() -> None:
    agent, batch = make_agent(model=GAUSSIAN), random_batch()
    action, state = agent.policy_step(
        agent.initial(2), batch.obs[0], batch.prev_action[0], batch.is_first[0], sample=True
    )
    assert action.shape == (2,) and state.z.shape == (2, 4, 1)
    assert agent.world.feat_size == GAUSSIAN.deter + GAUSSIAN.stoch == state.feat().shape[-1]
    assert agent.world.open_loop(batch, context=2).z.shape == (5, 2, 4, 1)


def test_numbers_are_not_packed_as_classes() -> None:
    with pytest.raises(AssertionError):
        random_state(2, GAUSSIAN).pack()
