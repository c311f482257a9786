"""One update: three optimisers of their own, official clipping and decay, nothing shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamer.agent import Agent
from dreamer.types import Batch, Dream, Start
from learner.config import TrainConfig
from learner.step import counted, dream_step, make_grad_steps, make_optimizers, train_step
from tests.dreamer.tiny import BEHAVIOR_SWITCHES, make_agent, random_batch

CONFIG = TrainConfig()
DECAY = 2.0**-13  # a share that float32 takes off exactly


def weights(agent: Agent) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in agent.state_dict().items()}


def test_every_group_has_its_own_adam_with_the_official_numbers() -> None:
    optimizers = make_optimizers(make_agent(), CONFIG)
    rates = {"model": 2e-4, "actor": 4e-5, "critic": 1e-4}
    assert set(optimizers) == set(rates)
    for name, optimizer in optimizers.items():
        (group,) = optimizer.param_groups
        assert group["lr"] == rates[name]
        assert group["eps"] == 1e-5
        assert group["betas"] == (0.9, 0.999)
    trained = [id(p) for optimizer in optimizers.values() for p in optimizer.param_groups[0]["params"]]
    assert len(trained) == len(set(trained)), "a weight is trained by two optimisers"


def test_weight_decay_is_decoupled_from_the_learning_rate() -> None:
    for rate in (1e-4, 1e-2):
        agent = make_agent()
        optimizers = make_optimizers(agent, replace(CONFIG, model_lr=rate))
        before = weights(agent)
        # Without any gradient only the decay moves a weight.
        loss = sum((p * 0).sum() for p in agent.world.parameters())
        make_grad_steps(optimizers, clip=100)["model"](loss)
        after = agent.state_dict()
        weight = "world.rssm.img_in.weight"
        torch.testing.assert_close(after[weight], before[weight] * (1 - 1e-6), rtol=1e-7, atol=0)


def test_adam_step_equals_the_formula_by_hand() -> None:
    agent = make_agent()
    optimizers = make_optimizers(agent, replace(CONFIG, weight_decay=0.0))
    bias = agent.behavior.critic.out.bias
    before = bias.detach().clone()
    loss = 3.0 * bias.sum() + sum((p * 0).sum() for p in agent.behavior.critic.parameters())
    make_grad_steps(optimizers, clip=100)["critic"](loss)
    # First step: m = (1 - b1) g, v = (1 - b2) g^2.
    moved = 1e-4 * 0.001**0.5 / 0.1 * 0.1 * 3.0 / (0.001**0.5 * 3.0 + 1e-5)
    torch.testing.assert_close(bias.detach(), before - moved)


@pytest.mark.parametrize("keras", [True, False])
@pytest.mark.parametrize(("size", "clipped"), [(1e3, 100.0), (50.0, 50.0)])
def test_the_global_norm_is_clipped_per_group_and_reported_unclipped(size: float, clipped: float, keras: bool) -> None:
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    steps = make_grad_steps({"model": optimizer}, clip=100.0, keras=keras)
    norm = steps["model"]((parameter * size / 2).sum())
    assert norm.item() == pytest.approx(size)
    moment = optimizer.state[parameter]["exp_avg"]  # a tenth of the first gradient
    assert moment.norm().item() == pytest.approx(0.1 * clipped)


def test_a_step_changes_its_own_group_only() -> None:
    agent = make_agent()
    steps = make_grad_steps(make_optimizers(agent, CONFIG), clip=100)
    before = weights(agent)
    everything = sum(p.square().sum() for p in agent.parameters() if p.requires_grad)
    steps["actor"](everything)
    changed = {key for key, value in agent.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(key.startswith("behavior.actor.") for key in changed)
    assert all(p.grad is None for p in agent.parameters())


def test_an_update_trains_everything_and_starts_dreams_from_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, batch = make_agent(), random_batch(4, 3)  # whose only end has another place time-major and batch-major
    steps = make_grad_steps(make_optimizers(agent, CONFIG), clip=100)
    before, starts = weights(agent), []
    imagine = agent.world.imagine
    monkeypatch.setattr(
        agent.world, "imagine", lambda act, start, *how: starts.append(start) or imagine(act, start, *how)
    )
    metrics = train_step(agent, steps, batch, precision="float32")
    still = {key for key, value in agent.state_dict().items() if torch.equal(value, before[key])}
    assert not still, still
    assert starts[0].state.h.shape[0] == 12 and not starts[0].state.h.requires_grad
    expected = 0.999 * (1 - batch.is_terminal.float())
    torch.testing.assert_close(starts[0].discount, expected.flatten())
    assert all(value.ndim == 0 and not value.requires_grad for value in metrics.values())


def test_dreams_run_on_the_new_world_model_from_the_old_states(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, batch = make_agent(), random_batch(4, 2)
    optimizers = make_optimizers(agent, CONFIG)
    order: list[str] = []
    steps = {
        name: lambda loss, name=name, step=step: (step(loss), order.append(name))[0]  # after it
        for name, step in make_grad_steps(optimizers, clip=100).items()
    }
    imagine = agent.world.imagine
    monkeypatch.setattr(agent.world, "imagine", lambda *args: (order.append("dream"), imagine(*args))[1])
    train_step(agent, steps, batch, precision="float32")
    assert order == ["model", "dream", "actor", "critic"]


def test_dreams_in_bfloat16_run_on_the_new_weights_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast keeps what it has cast, unless told not to: dreams would run on the weights of before the step."""
    agent, batch = make_agent(), random_batch(4, 2)
    imagine, found = agent.world.imagine, []

    def spy(act, start: Start, *how: float) -> Dream:
        dream = imagine(act, start, *how)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            found.append((dream.reward, agent.world.predict_reward(dream.state.feat())))
        return dream

    monkeypatch.setattr(agent.world, "imagine", spy)
    steps = make_grad_steps(make_optimizers(agent, replace(CONFIG, model_lr=0.1)), clip=100)
    for _ in range(2):
        train_step(agent, steps, batch, precision="bfloat16")
    assert len(found) == 2 and all(torch.equal(ours, fresh) for ours, fresh in found)


def test_bfloat16_stays_near_float32() -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        agent, batch = make_agent(), random_batch(6, 4)
        steps = make_grad_steps(make_optimizers(agent, CONFIG), clip=100)
        torch.manual_seed(1)
        values = [train_step(agent, steps, batch, precision=precision) for _ in range(20)]
        assert all(v.dtype == torch.float32 for v in values[-1].values())
        losses[precision] = [v["image_loss"].item() for v in values]
    assert losses["float32"][-1] < losses["float32"][0]
    torch.testing.assert_close(torch.tensor(losses["bfloat16"]), torch.tensor(losses["float32"]), rtol=5e-3, atol=0)


def test_the_same_seed_gives_the_same_weights() -> None:
    def train() -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        agent, batch = make_agent(), random_batch(4, 2)
        steps = make_grad_steps(make_optimizers(agent, CONFIG), clip=100)
        for _ in range(3):
            train_step(agent, steps, batch, precision="float32")
        return weights(agent)

    first, second = train(), train()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_time_major_batches_reach_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, batch = make_agent(), random_batch(5, 3)
    seen: list[Batch] = []
    loss = agent.world.loss
    monkeypatch.setattr(agent.world, "loss", lambda b: seen.append(b) or loss(b))
    train_step(agent, make_grad_steps(make_optimizers(agent, CONFIG), clip=100), batch, precision="float32")
    assert seen[0].obs.shape[:2] == (5, 3)


def test_bfloat16_learns_as_float32_does() -> None:
    """The curve of the world model's loss on one batch: both fall, and nearly alike."""
    curves = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        agent, batch = make_agent(), random_batch(8, 4)
        batch.obs[:, :, :, :20], batch.obs[:, :, :, 20:] = 255, 100  # a picture that can be learned
        config = replace(CONFIG, model_lr=3e-3)
        step = make_grad_steps(make_optimizers(agent, config), clip=config.grad_clip)
        torch.manual_seed(1)
        losses = [train_step(agent, step, batch, precision=precision)["image_loss"].item() for _ in range(80)]
        curves[precision] = torch.tensor(losses) - 4096 * 0.9189385  # without the constant of the normal's density
    high, low = curves["float32"], curves["bfloat16"]
    assert high[-1] < 0.1 * high[0]
    torch.testing.assert_close(low, high, rtol=0.1, atol=0.01 * high[0].item())


@pytest.mark.parametrize("keras", [True, False])
def test_a_batch_that_is_not_finite_changes_nothing_and_is_counted(keras: bool) -> None:
    agent = make_agent(BEHAVIOR_SWITCHES)
    optimizers = make_optimizers(agent, CONFIG)
    steps = make_grad_steps(optimizers, clip=CONFIG.grad_clip, keras=keras)
    good = random_batch()
    bad = good._replace(reward=good.reward + torch.inf, is_terminal=good.is_terminal)
    bad = bad._replace(reward=torch.where(bad.reward > 0, torch.nan, bad.reward))
    assert train_step(agent, steps, good, precision="float32")["nonfinite"] == 0
    before = weights(agent)
    moments = {id(p): s["exp_avg"].clone() for o in optimizers.values() for p, s in o.state.items()}
    metrics = train_step(agent, steps, bad, precision="float32")
    assert metrics["nonfinite"] == 1 and all(value.isfinite() for value in metrics.values())
    world = {key: value for key, value in agent.state_dict().items() if key.startswith("world.")}
    assert all(torch.equal(value, before[key]) for key, value in world.items())
    model = optimizers["model"].state
    assert all(torch.equal(state["exp_avg"], moments[id(p)]) for p, state in model.items())
    assert train_step(agent, steps, good, precision="float32")["nonfinite"] == 0
    assert all(value.isfinite().all() for value in agent.state_dict().values())
    assert not torch.equal(agent.state_dict()["world.rssm.img_in.weight"], before["world.rssm.img_in.weight"])


@pytest.mark.parametrize("keras", [True, False])
def test_a_hundred_steps_are_those_of_the_formulas(keras: bool) -> None:
    """Of gradients as small as epsilon, where Keras' Adam and PyTorch's differ; the tenth is not finite."""
    rng = np.random.default_rng(0)
    parameter = torch.nn.Parameter(torch.from_numpy(rng.normal(size=8)))  # float64
    optimizer = torch.optim.AdamW([parameter], lr=2e-4, eps=1e-5, weight_decay=DECAY / 2e-4, fused=True)
    step = make_grad_steps({"model": optimizer}, clip=100.0, keras=keras)["model"]
    w, m, v, t = parameter.detach().numpy().copy(), np.zeros(8), np.zeros(8), 0
    for n in range(100):
        g = rng.normal(size=8) * 10.0 ** rng.uniform(-6, -3, 8) * (np.nan if n == 9 else 1.0)
        step((parameter * torch.from_numpy(g)).sum())
        if n != 9:
            t, m, v = t + 1, 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            c1, c2 = 1 - 0.9**t, (1 - 0.999**t) ** 0.5
            w *= 1 - DECAY
            w -= 2e-4 * c2 / c1 * m / (v**0.5 + 1e-5) if keras else 2e-4 / c1 * m / (v**0.5 / c2 + 1e-5)
        np.testing.assert_allclose(parameter.detach().numpy(), w, rtol=1e-6)  # rates are float32
    assert optimizer.state[parameter]["step"] == 99


def test_the_behaviour_alone_learns_what_it_learns_in_a_whole_update() -> None:
    """Where the world model would not move: from the same draws come the same starts, dreams and steps."""
    still = replace(CONFIG, model_lr=1e-12, weight_decay=0.0, adam_keras=False)
    learned = []
    for one in (train_step, dream_step):
        torch.manual_seed(0)
        agent = make_agent()
        step = make_grad_steps(make_optimizers(agent, still), clip=100, keras=False)
        torch.manual_seed(1)
        metrics = one(agent, step, random_batch(), precision="float32")
        learned.append((agent.behavior.state_dict(), metrics))
    (whole, told), (alone, less) = learned
    assert {"model_loss", "model_grad"} <= set(told) - set(less) and set(less) <= set(told)
    for key, value in whole.items():
        torch.testing.assert_close(alone[key], value, rtol=1e-5, atol=1e-7)
    for name, value in less.items():
        torch.testing.assert_close(value, told[name], rtol=1e-4, atol=1e-6)


def test_a_behaviour_that_tells_nothing_is_counted_as_finite() -> None:
    assert {name: float(value) for name, value in counted({}).items()} == {"nonfinite": 0.0}
