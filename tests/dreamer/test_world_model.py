"""The world model: its size, its loss, its dreams."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamer import equations
from dreamer.agent import Agent
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.types import Batch, Dream, Start, State
from dreamer.world_model import WorldModel, scale_pixels
from tests.dreamer.tiny import ACTIONS, MODEL, bfloat16, make_agent, random_actions, random_batch, random_start

close = torch.testing.assert_close
LOG_2PI = math.log(2 * math.pi)


@pytest.fixture
def world() -> WorldModel:
    return make_agent().world


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equations, "gumbel_like", torch.zeros_like)


def starts(world: WorldModel, batch: Batch) -> Start:
    out = world.loss(batch)
    return Start(out.unroll.state.detach().flatten(), out.discount.flatten())


# --- size ------------------------------------------------------------------------------------------------------------


def test_the_papers_networks_have_the_papers_parameter_counts() -> None:
    with torch.device("meta"):
        agent = Agent(ModelConfig(), BehaviorConfig(), channels=1, num_actions=4)
    world, behavior = agent.world, agent.behavior
    modules = {
        1_549_776: world.encoder,
        10_497_553: world.decoder,
        5_656_448: world.rssm,
        1_131_601: world.reward,
        1_132_804: behavior.actor,
        19_966_979: world,
    }
    for count, module in modules.items():
        assert sum(p.numel() for p in module.parameters()) == count
    for head in (world.discount, behavior.critic, behavior.slow_critic):
        assert sum(p.numel() for p in head.parameters()) == 1_131_601
    assert sum(p.numel() for p in agent.parameters() if p.requires_grad) == 22_231_384


# --- loss ------------------------------------------------------------------------------------------------------------


def test_pixels_are_scaled_without_overflow() -> None:
    obs = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    image = scale_pixels(obs)
    assert image.shape == (1, 1, 16, 16) and image.dtype == torch.float32
    close(image.flatten(), torch.linspace(-0.5, 0.5, 256))


def test_channels_come_first_and_keep_their_pixels() -> None:
    obs = torch.randint(0, 256, (2, 3, 64, 64, 3), dtype=torch.uint8)
    close(scale_pixels(obs)[1, 2, 0], obs[1, 2, :, :, 0] / 255 - 0.5)


def test_encode_and_decode_keep_leading_dimensions(world: WorldModel) -> None:
    batch = random_batch(3, 2)
    embed = world.encode(batch.obs)
    assert embed.shape == (3, 2, world.encoder.outputs)
    close(embed[2, 1], world.encode(batch.obs[2, 1][None])[0])
    state = State(torch.randn(3, 2, MODEL.deter), torch.randn(3, 2, MODEL.stoch, MODEL.classes))
    image = world.decode(state)
    assert image.shape == (3, 2, 1, 64, 64)
    close(image[2, 1], world.decode(State(state.h[2, 1:2], state.z[2, 1:2]))[0])


def test_a_perfect_reconstruction_costs_3764_nats(world: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch()
    monkeypatch.setattr(world, "draw", lambda feat: scale_pixels(batch.obs))
    assert round(world.loss(batch).metrics["image_loss"].item(), 1) == 3764.0


def test_the_image_loss_is_summed_over_pixels_and_channels_and_averaged_over_time_and_batch() -> None:
    world, batch = make_agent(channels=3).world, random_batch(channels=3)
    out = world.loss(batch)
    error = scale_pixels(batch.obs) - world.decode(out.unroll.state)
    expected = error.square().sum() / 2 / (5 * 2) + 0.5 * LOG_2PI * 3 * 4096
    close(out.metrics["image_loss"], expected.detach())


@pytest.mark.usefixtures("no_noise")
def test_twice_the_batch_has_the_same_loss(world: WorldModel) -> None:
    batch = random_batch()
    twice = Batch(*(torch.cat([field, field], 1) for field in batch))
    close(world.loss(twice).loss, world.loss(batch).loss)


def test_the_loss_is_the_scaled_sum_of_its_parts() -> None:
    model = ModelConfig(**{**vars(MODEL), "kl_scale": 0.3, "reward_scale": 7.0, "discount_scale": 11.0})
    out = make_agent(model=model).world.loss(random_batch())
    m = out.metrics
    close(out.loss.detach(), m["image_loss"] + 7 * m["reward_loss"] + 11 * m["discount_loss"] + 0.3 * m["kl_loss"])
    assert all(value.dim() == 0 and not value.requires_grad for value in m.values())


def test_the_kl_loss_knows_its_free_nats() -> None:
    model = ModelConfig(**{**vars(MODEL), "free_nats": 50.0})
    metrics = make_agent(model=model).world.loss(random_batch()).metrics
    assert metrics["kl_loss"].item() == 50.0
    assert metrics["kl"] < 50.0


def test_rewards_are_squashed_once_and_only_for_the_loss(world: WorldModel) -> None:
    batch = random_batch()
    out = world.loss(batch)
    error = batch.reward.tanh() - world.predict_reward(out.unroll.state.feat())
    close(out.metrics["reward_loss"], (error.square().mean() / 2 + LOG_2PI / 2).detach())
    close(out.metrics["batch_reward"], batch.reward.mean())
    feat = torch.randn(4, world.feat_size) * 10
    close(world.predict_reward(feat), world.reward(feat)[:, 0])  # neither squashed again nor unsquashed


def test_discount_targets_are_gamma_and_zero_where_the_game_ended(world: WorldModel) -> None:
    batch = random_batch()
    out = world.loss(batch)
    assert batch.is_terminal.sum() == 1
    close(out.discount, torch.where(batch.is_terminal, 0.0, 0.999))
    logit = world.discount(out.unroll.state.feat()).squeeze(-1)
    close(
        out.metrics["discount_loss"],
        F.binary_cross_entropy_with_logits(logit, out.discount).detach(),
    )


def test_the_discount_head_says_gamma_itself_when_it_is_right(world: WorldModel) -> None:
    """Trained on soft targets it ends at gamma, to which nothing must be multiplied any more."""
    with torch.no_grad():
        world.discount.out.weight.zero_()
        world.discount.out.bias.fill_(math.log(0.999 / 0.001))
    feat = torch.randn(3, world.feat_size)
    close(world.predict_discount(feat), torch.full((3,), 0.999))
    target = torch.full((3,), 0.999)
    loss = equations.bernoulli_nll(target, logit=world.discount(feat).squeeze(-1)).mean()
    (grad,) = torch.autograd.grad(loss, world.discount.out.bias)
    close(grad, torch.zeros(1), atol=1e-6, rtol=0)


def test_the_models_loss_reaches_exactly_the_world_models_parameters() -> None:
    agent = make_agent()
    agent.world.loss(random_batch()).loss.backward()
    with_grad = {name for name, p in agent.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert with_grad == {name for name, _ in agent.named_parameters() if name.startswith("world.")}


@pytest.mark.parametrize("part", ["image_loss", "reward_loss", "discount_loss"])
def test_every_head_sends_its_gradient_into_the_features(world: WorldModel, part: str) -> None:
    batch = random_batch()
    unroll = world.observe(batch)
    feat = unroll.state.feat()
    prediction = {
        "image_loss": lambda: world.decode(unroll.state),
        "reward_loss": lambda: world.predict_reward(feat),
        "discount_loss": lambda: world.predict_discount(feat),
    }[part]()
    (grad,) = torch.autograd.grad(prediction.square().sum(), world.encoder.convs[0].weight)
    assert grad.abs().max() > 0


def test_the_loss_is_float32_in_mixed_precision_and_near_that_of_full_precision(world: WorldModel) -> None:
    batch = random_batch()
    torch.manual_seed(1)
    full = world.loss(batch)
    with bfloat16():
        torch.manual_seed(1)
        mixed = world.loss(batch)
    assert mixed.loss.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in mixed.metrics.values())
    close(mixed.loss, full.loss, rtol=0.01, atol=0)


def test_rewards_and_ends_are_foreseen_on_the_scales_on_which_they_are_learned() -> None:
    """A reward of 1 is learned as tanh 1 = 0.76, of which 0.45 is more than half; a game that goes on as gamma."""
    world = make_agent(model=ModelConfig(**{**vars(MODEL), "gamma": 0.4})).world
    with torch.no_grad():
        for head, says in ((world.reward, 0.45), (world.discount, math.log(0.4 / 0.6))):
            head.out.weight.zero_()
            head.out.bias.fill_(says)
    batch = random_batch()
    metrics = world.loss(batch._replace(reward=torch.ones_like(batch.reward))).metrics
    assert metrics["reward_guesses"] == 1 and metrics["reward_hits"] == 1
    assert metrics["terminal_guesses"] == 0 and metrics["terminal_steps"] > 0


# --- dreams ----------------------------------------------------------------------------------------------------------


def dream_of(world: WorldModel, start: Start, horizon: int = 4) -> Dream:
    with torch.no_grad():
        return world.imagine(lambda state: random_actions(len(state.h)), start, horizon)


def test_a_dream_begins_at_every_posterior_state_of_the_batch(world: WorldModel) -> None:
    batch = random_batch(5, 2)
    out = world.loss(batch)
    start = Start(out.unroll.state.detach().flatten(), out.discount.flatten())
    dream = dream_of(world, start)
    for t in range(5):
        for b in range(2):
            assert torch.equal(dream.state.h[0, t * 2 + b], out.unroll.state.h[t, b])
            assert torch.equal(dream.state.z[0, t * 2 + b], out.unroll.state.z[t, b])
            assert dream.discount[0, t * 2 + b] == out.discount[t, b]
    assert dream.state.h.shape[1] == 10


def test_a_dream_has_the_shapes_of_the_glossary(world: WorldModel) -> None:
    dream = dream_of(world, random_start(6), horizon=4)
    assert dream.state.h.shape == (5, 6, MODEL.deter)
    assert dream.state.z.shape == (5, 6, MODEL.stoch, MODEL.classes)
    assert dream.action.shape == (4, 6, ACTIONS)
    assert dream.reward.shape == dream.discount.shape == (5, 6)


def test_the_first_discount_comes_from_the_data_and_the_others_are_predicted(world: WorldModel) -> None:
    start = random_start()._replace(discount=torch.tensor([0.0, 0.999, 0.0, 0.5, 0.25, 1.0]))
    dream = dream_of(world, start)
    assert torch.equal(dream.discount[0], start.discount)
    close(dream.discount[1:], world.predict_discount(dream.state.feat()[1:]).detach())


def test_action_i_leads_from_state_i_to_the_next_and_rewards_belong_to_the_state_of_their_index(
    world: WorldModel,
) -> None:
    dream = dream_of(world, random_start())
    for i in range(4):
        state = State(dream.state.h[i], dream.state.z[i])
        close(dream.state.h[i + 1], world.rssm.recur(state, dream.action[i]).detach())
    for i in range(5):
        feat = State(dream.state.h[i], dream.state.z[i]).feat()
        close(dream.reward[i], world.predict_reward(feat).detach())


def test_the_policy_of_a_dream_sees_states_cut_from_their_graph(world: WorldModel) -> None:
    seen = []

    def act(state: State) -> Tensor:
        seen.append(state)
        return random_actions(len(state.h)).requires_grad_()

    dream = world.imagine(act, random_start(), 4)
    assert len(seen) == 4 and dream.state.h.requires_grad
    for i, state in enumerate(seen):
        assert not state.h.requires_grad and not state.z.requires_grad
        close(state.h, dream.state.h[i].detach())


def test_a_dream_leaves_no_cast_weights_to_the_next_one(world: WorldModel) -> None:
    """In bfloat16 a dream casts every weight once. The next one needs those of then, and with their gradients."""
    start = random_start()
    with bfloat16():
        dream_of(world, start)
        with torch.no_grad():
            world.reward.out.weight += 1
        dream = world.imagine(lambda state: random_actions(len(state.h)), start, 4)
        torch.testing.assert_close(dream.reward, world.predict_reward(dream.state.feat()), rtol=0, atol=0)
    gradients = torch.autograd.grad(dream.reward.sum(), [world.reward.out.weight, world.rssm.img_in.weight])
    assert all(gradient.abs().max() > 0 for gradient in gradients)


# --- open loop -------------------------------------------------------------------------------------------------------


def open_loop(world: WorldModel, batch: Batch) -> State:
    torch.manual_seed(5)
    return world.open_loop(batch, context=3)


def test_an_open_loop_dream_has_a_state_per_step_and_begins_with_posterior_states(world: WorldModel) -> None:
    batch = random_batch(6, 2)
    state = open_loop(world, batch)
    torch.manual_seed(5)
    seen = world.observe(Batch(*(field[:3] for field in batch))).state
    assert state.h.shape == (6, 2, MODEL.deter) and state.z.shape == (6, 2, MODEL.stoch, MODEL.classes)
    assert torch.equal(state.h[:3], seen.h) and torch.equal(state.z[:3], seen.z)
    h = world.rssm.recur(State(state.h[2], state.z[2]), world.one_hot(batch.prev_action[3]))
    close(state.h[3], h.detach())


def test_an_open_loop_dream_sees_the_actions_but_not_the_pictures_after_its_context(world: WorldModel) -> None:
    batch = random_batch(6, 2)
    before = open_loop(world, batch)
    batch.obs[3:] = 0
    assert torch.equal(open_loop(world, batch).h, before.h)
    batch.prev_action[4] = (batch.prev_action[4] + 1) % ACTIONS
    after = open_loop(world, batch)
    assert torch.equal(after.h[:4], before.h[:4])
    assert not torch.equal(after.h[4], before.h[4])
    batch.obs[:3] = 0
    assert not torch.equal(open_loop(world, batch).z[:3], before.z[:3])


# --- stored states ----------------------------------------------------------------------------------------------------


def test_a_batch_with_states_is_unrolled_from_them_unless_a_game_begins(world: WorldModel) -> None:
    batch = random_batch(6, 3, states=True)
    prev = world.rssm.unpack(batch.prev_h[0], batch.prev_z[0])
    for parts in (world.observe(batch).state, world.open_loop(batch, context=3)):
        h = world.rssm.recur(prev, world.one_hot(batch.prev_action[0]))
        close(parts.h[0, [0, 2]], h[[0, 2]])
        close(parts.h[0, 1], world.rssm.recur(world.rssm.initial(1), torch.zeros(1, ACTIONS))[0])


def test_states_stored_after_the_first_record_are_not_used(world: WorldModel) -> None:
    batch = random_batch(6, 3, states=True)
    torch.manual_seed(1)
    loss = world.loss(batch).loss
    batch.prev_h[1:], batch.prev_z[1:] = 0, 0
    torch.manual_seed(1)
    assert torch.equal(world.loss(batch).loss, loss)


def test_zero_states_change_neither_loss_nor_gradients(world: WorldModel) -> None:
    batch = random_batch()
    h, z = world.rssm.initial(5 * 2).pack()
    results = []
    for each in (batch, batch._replace(prev_h=h.unflatten(0, (5, 2)), prev_z=z.unflatten(0, (5, 2)))):
        torch.manual_seed(1)
        loss = world.loss(each).loss
        results.append([loss, *torch.autograd.grad(loss, list(world.parameters()))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
