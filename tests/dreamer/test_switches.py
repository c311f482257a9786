"""What dreamerv3 and we added, each option by itself: by hand-made numbers, and off where it is not asked for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dreamer import equations
from dreamer.behaviors.parts import update_return_scale
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.equations import (
    bin_values,
    kl_balancing,
    kl_divergence,
    moving,
    normal_nll,
    picture_mean,
    picture_nll,
    scalar_mean,
    scalar_nll,
    two_hot,
    unimix,
)
from dreamer.insight import foresee_events, see_what_moves
from dreamer.nets import Activation
from dreamer.pictures import can_halve, make_decoder, make_encoder
from tests.dreamer.tiny import (
    BEHAVIOR,
    MODEL,
    SWITCHES,
    make_agent,
    make_steps,
    random_batch,
    random_start,
)

close = torch.testing.assert_close


def test_the_defaults_have_every_switch_off() -> None:
    off = {"cnn": "valid", "norm": False, "unimix": 0, "reward_bins": 0, "motion_weight": 0, "free_each": False}
    off |= {"reward_squash": "tanh", "kl_swapped": False, "latent": "categorical", "dynamics": "rssm"}
    assert {name: getattr(ModelConfig(), name) for name in off} == off
    off = {"norm": False, "unimix": 0, "value_bins": 0, "return_scale": 0, "slow_fraction": 1}
    assert {name: getattr(BehaviorConfig(), name) for name in off} == off


# --- Distributions ---


def test_unimix_by_hand_and_off() -> None:
    logits = torch.tensor([0.9, 0.1, 1e-9]).log()
    close(unimix(logits, 0.3).exp(), torch.tensor([0.73, 0.17, 0.1]))
    assert unimix(logits, 0.0) is logits


def test_a_two_hot_code_has_two_shares_whose_mean_is_the_number() -> None:
    values = bin_values(9, torch.device("cpu"))
    close(values[4], torch.tensor(0.0))
    close(values[5], torch.tensor(2.0).exp() - 1)  # MAX_SYMLOG 8 in four classes
    x = torch.tensor([0.0, 1.0, -3.0, float(values[5]), 700.0, 1e9, -1e9])
    code = two_hot(x, 9)
    close(code.sum(-1), torch.ones(7))
    assert ((code > 0).sum(-1) <= 2).all() and (code >= 0).all()
    close(code @ values, x.clamp(values[0], values[-1]))
    close(code[1], torch.tensor([0, 0, 0, 0, 1 - 1 / values[5], 1 / values[5], 0, 0, 0]))


def test_a_head_of_one_output_is_a_normal_and_one_of_many_is_two_hot() -> None:
    target, mean = torch.tensor([1.0, 2.0]), torch.tensor([[0.5], [3.0]])
    close(scalar_nll(target, out=mean), normal_nll(target, mean=mean[:, 0]))
    close(scalar_mean(mean), mean[:, 0])
    logits = torch.randn(2, 9)
    close(scalar_nll(target, out=logits), -(two_hot(target, 9) * logits.log_softmax(-1)).sum(-1))
    close(scalar_mean(logits), logits.softmax(-1) @ bin_values(9, logits.device))


def test_two_hot_heads_begin_by_expecting_nothing() -> None:
    agent, start = make_agent(replace(BEHAVIOR, value_bins=11), model=SWITCHES), random_start()
    feat = start.state.feat()
    close(agent.world.predict_reward(feat), torch.zeros(len(feat)), atol=1e-3, rtol=0)
    close(scalar_mean(agent.behavior.critic(feat)), torch.zeros(len(feat)), atol=1e-3, rtol=0)


def test_rewards_are_squashed_as_the_option_says_whatever_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(target: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        seen.append(target)
        return scalar_nll(target, out=out)

    monkeypatch.setattr("dreamer.world_model.scalar_nll", spy)
    batch = random_batch()
    assert batch.reward.max() > 1
    for how, expected in (("tanh", batch.reward.tanh()), ("clip", batch.reward.clamp(max=1)), ("none", batch.reward)):
        for bins in (0, 11):
            make_agent(model=replace(MODEL, reward_squash=how, reward_bins=bins)).world.loss(batch)
            close(seen[-1], expected)
    assert len(seen) == 6


def test_free_nats_of_every_step_by_itself() -> None:
    post, prior = torch.randn(4, 2, 3, 5) * 2, torch.randn(4, 2, 3, 5)
    kl = kl_divergence(post=post, prior=prior)
    free = kl.median().item()
    found = kl_balancing(post=post, prior=prior, balance=0.8, free_nats=free, free_each=True)
    close(found, kl.clamp(min=free).mean())
    assert found > kl_balancing(post=post, prior=prior, balance=0.8, free_nats=free)


def test_the_seeds_kl_pulls_the_posterior_where_the_paper_trains_the_prior() -> None:
    """KL(prior || post), 0.8 of its gradient in the posterior; not KL(post || prior), 0.8 of its in the prior."""
    losses, gradients = {}, {}
    batch = random_batch()
    for swapped in (False, True):
        torch.manual_seed(0)
        world = make_agent(model=replace(MODEL, kl_swapped=swapped, kl_scale=1e4)).world
        out = world.loss(batch)
        post, prior = out.unroll.post, out.unroll.prior
        expected = kl_divergence(post=prior, prior=post) if swapped else kl_divergence(post=post, prior=prior)
        close(out.metrics["kl_loss"], expected.mean().detach())
        close(out.metrics["kl"], kl_divergence(post=post, prior=prior).mean().detach())  # the number to look at stays
        losses[swapped] = out.metrics["kl_loss"]
        plain = torch.autograd.grad(expected.mean(), (post, prior), retain_graph=True)
        ours = torch.autograd.grad(out.loss, (post, prior))
        # Latents feed other losses as well; against a KL of weight 1e4 they are small.
        gradients[swapped] = [(a.norm() / b.norm() / 1e4).item() for a, b in zip(ours, plain, strict=True)]
    assert losses[False] != losses[True]
    assert gradients[False] == pytest.approx([0.2, 0.8], rel=0.05)
    assert gradients[True] == pytest.approx([0.8, 0.2], rel=0.05)


# --- Networks ---


def test_an_activation_is_elu_or_layer_norm_and_silu() -> None:
    x = torch.randn(3, 8)
    close(Activation(8, norm=False)(x), torch.nn.functional.elu(x))
    centred = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-3).sqrt()
    close(Activation(8, norm=True)(x), centred * centred.sigmoid())


@pytest.mark.parametrize("size", [8, 40, 48, 64, 80])
@pytest.mark.parametrize("norm", [False, True])
def test_pictures_of_other_sizes_are_halved_to_4_to_7_pixels_and_doubled_back(size: int, norm: bool) -> None:
    config = replace(MODEL, cnn="same", norm=norm)
    encoder = make_encoder(config, size=size, channels=1)
    x = torch.rand(2, 1, size, size)
    embed = encoder(x)
    side = next(side for side in (4, 5, 6, 7) if size in [side * 2**n for n in range(1, 6)])
    assert embed.shape == (2, encoder.outputs) and encoder.outputs % side**2 == 0
    decoded = make_decoder(config, feat_size=9, size=size, channels=1)(torch.randn(2, 9))
    assert decoded.shape == x.shape and decoded.dtype == torch.float32


def test_sizes_that_do_not_fit_are_refused() -> None:
    assert [size for size in range(1, 100) if can_halve(size)] == [
        *(8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96)
    ]
    with pytest.raises(ValueError, match="cannot be halved"):
        make_encoder(replace(MODEL, cnn="same"), size=50, channels=1)
    with pytest.raises(ValueError, match="cannot be cut into blocks"):
        make_encoder(replace(MODEL, cnn="blocks"), size=8, channels=1)
    with pytest.raises(ValueError, match=r"model.cnn valid needs pictures of 64 pixels, not 40"):
        make_encoder(MODEL, size=40, channels=1)
    with pytest.raises(ValueError, match=r"model.cnn must be valid, same or blocks, not 'full'"):
        make_encoder(replace(MODEL, cnn="full"), size=64, channels=1)


# --- What moves ---


def test_moving_is_what_changed_and_its_neighbours_but_not_at_a_games_start() -> None:
    image = torch.zeros(3, 2, 1, 5, 5)
    image[1:, :, 0, 2, 2] = 0.5  # appears at t=1 in both rows
    image[2, :, 0, 0, 0] = 0.04  # too little
    is_first = torch.tensor([[1, 1], [0, 1], [0, 0]], dtype=torch.bool)
    exactly = moving(image, is_first, reach=0)
    assert exactly.nonzero().tolist() == [[1, 0, 0, 2, 2]]
    beside = moving(image, is_first, reach=1)
    assert beside[1, 0, 0, 1:4, 1:4].all() and beside.sum() == 9


@pytest.mark.parametrize("reach", [1, 2])
def test_the_neighbours_are_those_of_a_square(reach: int) -> None:
    image = (torch.rand(4, 2, 3, 9, 7) < 0.1).float()
    is_first = torch.rand(4, 2) < 0.3
    changed = moving(image, is_first, reach=0).flatten(0, 1).float()
    near = F.max_pool2d(changed, 2 * reach + 1, stride=1, padding=reach).view_as(image) > 0
    assert torch.equal(moving(image, is_first, reach=reach), near) and near.any() and not near.all()


@pytest.mark.parametrize(("size", "channels"), [(40, 1), (64, 3), (16, 1)])
def test_blocks_are_convolutions_that_do_not_overlap(size: int, channels: int) -> None:
    config = replace(MODEL, cnn="blocks", cnn_depth=3, norm=True)
    encoder = make_encoder(config, size=size, channels=channels)
    decoder = make_decoder(config, feat_size=11, size=size, channels=channels)
    image, feat = torch.rand(2, channels, size, size), torch.rand(2, 11)
    x, side = image, 4
    for layer, activation in zip(encoder.layers, encoder.activations, strict=True):
        kernel = layer.weight.view(len(layer.weight), side, side, -1).permute(0, 3, 1, 2)
        x = F.conv2d(x, kernel, layer.bias, stride=side)
        x = activation(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        side = 2
    assert 4 <= x.shape[-1] <= 7
    close(encoder(image), x.permute(0, 2, 3, 1).flatten(1))
    x = decoder.dense(feat).view(2, decoder.side, decoder.side, -1).permute(0, 3, 1, 2)
    for n, (layer, activation) in enumerate(zip(decoder.layers, decoder.activations, strict=True)):
        side = 4 if n == len(decoder.layers) - 1 else 2
        x = activation(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        kernel = layer.weight.view(side, side, -1, layer.in_features).permute(3, 2, 0, 1)
        bias = layer.bias.view(side, side, -1)
        x = F.conv_transpose2d(x, kernel, stride=side) + bias.permute(2, 0, 1).repeat(1, *x.shape[-2:])
    assert x.shape == (2, channels, size, size)
    close(decoder(feat), x)


def test_a_bernoulli_says_how_probable_white_is() -> None:
    image, drawn = torch.tensor([0.5, -0.5, 0.1]), torch.tensor([2.0, 1.0, -1.0])
    white = [1 / (1 + math.exp(-x)) for x in (2.0, 1.0, -1.0)]
    wanted = [-math.log(white[0]), -math.log(1 - white[1]), -0.6 * math.log(white[2]) - 0.4 * math.log(1 - white[2])]
    close(picture_nll(image, drawn=drawn, what="bernoulli"), torch.tensor(wanted))
    close(picture_mean(drawn, what="bernoulli"), torch.tensor(white) - 0.5)
    assert torch.equal(picture_mean(drawn, what="normal"), drawn)
    close(picture_nll(image, drawn=drawn, what="normal"), 0.5 * (image - drawn) ** 2 + 0.5 * math.log(2 * math.pi))


def test_with_a_bernoulli_the_decoded_picture_stays_on_the_scale_of_pixels() -> None:
    world = make_agent(model=replace(MODEL, picture="bernoulli")).world
    with torch.no_grad():
        state = world.observe(random_batch()).state
        drawn, shown = world.draw(state.feat()) * 50, world.decode(state)
    assert drawn.amax() > 0.5 and shown.amin() > -0.5 and shown.amax() < 0.5
    assert shown.shape == (5, 2, 1, 64, 64)


def test_motion_weight_multiplies_the_loss_of_moving_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equations, "gumbel_like", torch.zeros_like)
    losses = {}
    batch = random_batch()
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        losses[weight] = make_agent(model=replace(MODEL, motion_weight=weight)).world.loss(batch).metrics["image_loss"]
    assert losses[1.0] > losses[0.0]
    close(losses[3.0] - losses[0.0], 3 * (losses[1.0] - losses[0.0]))


def test_seeing_what_moves_counts_pixels_nearer_to_now_than_to_before() -> None:
    image = torch.zeros(2, 1, 1, 2, 2)
    image[1, 0, 0] = torch.tensor([[1.0, 1.0], [0.0, 0.0]])  # two of four pixels changed
    reconstruction = torch.zeros(2, 1, 1, 2, 2)
    reconstruction[1, 0, 0] = torch.tensor([[0.9, 0.4], [0.0, 1.0]])
    is_first = torch.tensor([[True], [False]])
    found = see_what_moves(image, reconstruction=reconstruction, is_first=is_first)
    close(found["moved_pixels"], torch.tensor(0.5))
    close(found["moved_hits"], torch.tensor(0.25))
    close(found["moved_error"], torch.tensor((0.01 + 0.36) / 4))


def test_foreseen_events_by_hand() -> None:
    found = foresee_events(
        reward=torch.tensor([0.0, 1.0, 4.0, 0.0]),
        predicted=torch.tensor([0.7, 0.6, 0.4, 0.0]),
        is_terminal=torch.tensor([True, True, False, False]),
        goes_on=torch.tensor([0.1, 0.9, 0.2, 1.0]),
    )
    expected = {"reward_steps": 2, "reward_guesses": 2, "reward_hits": 1}
    expected |= {"terminal_steps": 2, "terminal_guesses": 2, "terminal_hits": 1}
    for name, count in expected.items():
        close(found[name], torch.tensor(count / 4))


# --- Behaviour ---


def test_the_scale_of_returns_is_a_running_range_of_at_least_one() -> None:
    target, running, fresh = torch.linspace(0, 100, 101).view(101, 1), torch.zeros(2), torch.zeros(2)
    scales = [update_return_scale(x, return_range=running, decay=0.75) for x in (target, target, torch.zeros(5, 1))]
    close(torch.stack(scales), torch.tensor([22.5, 39.375, 29.53125]))  # 1/4 of 95 - 5: the range began at nothing
    close(update_return_scale(target / 100, return_range=fresh, decay=0.5), torch.tensor(1.0))
    close(update_return_scale(target, return_range=None, decay=0.5), torch.tensor(1.0))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_dream_does_not_spoil_the_scale_of_returns_for_ever(bad: float) -> None:
    target, running = torch.linspace(0, 100, 101).view(101, 1), torch.tensor([5.0, 95.0])
    close(update_return_scale(torch.full((101, 1), bad), return_range=running, decay=0.5), torch.tensor(90.0))
    close(update_return_scale(target, return_range=running, decay=0.5), torch.tensor(90.0))


def test_the_slow_critic_goes_a_fraction_of_the_way() -> None:
    agent = make_agent(replace(BEHAVIOR, slow_every=1, slow_fraction=0.25))
    behavior = agent.behavior
    slow = behavior.slow_critic.out.weight.clone()
    behavior.update(agent.world, random_start(), make_steps(behavior))
    close(behavior.slow_critic.out.weight, 0.75 * slow + 0.25 * behavior.critic.out.weight)


def test_every_action_keeps_its_share_under_unimix() -> None:
    agent = make_agent(replace(BEHAVIOR, unimix=0.3))
    agent.behavior.actor.out.bias.data[0] = 100.0
    probs = agent.behavior.policy(torch.randn(5, agent.world.feat_size)).softmax(-1)
    close(probs.min(-1).values, torch.full((5,), 0.1))
