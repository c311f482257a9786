"""A step with its chance from outside is the world model's own step, in torch and as ONNX."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from actors.env import action_names
from cluster.assemble import make_agent
from cluster.look.evaluate import full_games, seeded
from cluster.look.video import as_batch, decode, make_film, watch
from cluster.play.dream import INPUTS, OUTPUTS, DreamStep, Seen, draw_noise
from cluster.play.onnx_file import SMALL, as_onnx
from cluster.play.starts import StartingPoint
from cluster.presets import blog, cpu, fast, paper
from dreamer import equations
from dreamer.agent import Agent
from dreamer.equations import one_hot_mode, scalar_mean, straight_through_sample
from dreamer.types import State
from replay.experience import EnvSpec
from tests.cluster.play.conftest import Shipped

STEPS = 50
LARGEST = 12e6  # bytes of an exported model


def action_of(agent: Agent, number: int) -> torch.Tensor:
    return agent.world.one_hot(torch.tensor([number % agent.world.num_actions]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@torch.no_grad()
def test_a_step_is_that_of_the_world_model_with_the_noise_that_it_was_given(
    shipped: Shipped, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    state, noise = shipped.starts[0].state, draw_noise(shipped.starts[0].state.z, torch.Generator().manual_seed(1))
    action = action_of(shipped.agent, 3)
    # The model divides the logits by the temperature, so that the noise is as large as it is here.
    monkeypatch.setattr(equations, "straight_through_sample", lambda logits, _: straight_through_sample(logits, noise))
    wanted = shipped.agent.world.rssm.imagine_step(state, action, temperature)
    h, z, *seen = DreamStep(shipped.agent)(*state, action, noise, torch.tensor(temperature))
    assert torch.equal(h, wanted.h) and torch.equal(z, wanted.z)
    feat, found = wanted.feat(), Seen(*seen)
    picture = (shipped.agent.world.decode(wanted)[0] + 0.5) * 255
    torch.testing.assert_close(found.picture[0, :, :, 0], picture[0].clamp(0, 255))
    assert torch.equal(found.reward, shipped.agent.world.predict_reward(feat))
    assert torch.equal(found.discount, shipped.agent.world.predict_discount(feat))
    assert torch.equal(found.value, scalar_mean(shipped.agent.behavior.critic(feat)))
    assert found.policy.sum().item() == pytest.approx(1)


@torch.no_grad()
def test_the_numbers_beside_the_picture_are_those_of_a_film(shipped: Shipped) -> None:
    """`record` and the page, asked of the same states of a real game."""
    agent, env = shipped.agent, shipped.env
    with seeded(0, torch.device("cpu")), closing(full_games(agent, env, slots=1, seed=0)) as game:
        ticks = list(islice(game, 40))
        batch = as_batch(ticks, torch.device("cpu"))
        state = watch(agent, batch)
    film = make_film(agent, action_names(env), ticks, batch, state)
    seen = DreamStep(agent).look(State(state.h[:, 0], state.z[:, 0]))
    for shown, filmed in (
        (seen.reward, film.predicted_reward),
        (seen.discount, film.predicted_discount),
        (seen.value, film.value),
    ):
        np.testing.assert_allclose(shown.numpy(), filmed, atol=1e-5)
    assert np.array_equal(seen.picture.round().byte().numpy(), decode(agent, state)[:, 0])


@torch.no_grad()
def test_at_temperature_zero_the_most_probable_class_is_taken(shipped: Shipped) -> None:
    dream, state, action = DreamStep(shipped.agent), shipped.starts[1].state, action_of(shipped.agent, 0)
    chance = torch.Generator().manual_seed(0)
    drawn = [dream(*state, action, draw_noise(state.z, chance), torch.zeros(()))[1] for _ in range(3)]
    rssm = shipped.agent.world.rssm
    best = one_hot_mode(rssm.prior(rssm.recur(state, action)))
    assert all(torch.equal(z, best) for z in drawn)
    hot = [dream(*state, action, draw_noise(state.z, chance), torch.ones(()))[1] for _ in range(3)]
    assert not all(torch.equal(z, best) for z in hot)


def test_the_noise_is_gumbel() -> None:
    noise = draw_noise(torch.zeros(100_000), torch.Generator().manual_seed(0))
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)  # Euler's constant
    assert noise.std().item() == pytest.approx(1.2825, abs=0.02)  # pi / sqrt(6)


# --- As a file for ONNX Runtime ---


def rounded(agent: Agent) -> Agent:
    """The same agent with weights as the file has them."""
    with torch.no_grad():
        for weight in agent.parameters():
            weight.copy_(weight.half().float())
    return agent


@torch.no_grad()
def differences(agent: Agent, start: State) -> dict[str, float]:
    """The largest one of each output over STEPS seeded steps, each way going on from its own states."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    exported = onnxruntime.InferenceSession(as_onnx(DreamStep(agent)), options, providers=["CPUExecutionProvider"])
    assert [each.name for each in exported.get_inputs()] == list(INPUTS)
    assert [each.name for each in exported.get_outputs()] == list(OUTPUTS)
    dream, chance = DreamStep(agent), torch.Generator().manual_seed(3)
    ours, theirs = tuple(start), tuple(part.numpy() for part in start)
    worst = dict.fromkeys(OUTPUTS, 0.0)
    for step in range(STEPS):
        rest = action_of(agent, step), draw_noise(start.z, chance), torch.tensor(1.0)
        found = dream(*ours, *rest)
        arrays = [*theirs, *(tensor.numpy() for tensor in rest)]
        beside = exported.run(None, dict(zip(INPUTS, arrays, strict=True)))
        ours, theirs = found[:2], beside[:2]
        for name, mine, other in zip(OUTPUTS, found, beside, strict=True):
            assert mine.shape == other.shape, name
            worst[name] = max(worst[name], float(np.abs(mine.numpy() - other).max()))
    worst["picture"] /= 255
    return worst


def test_the_exported_step_is_torchs(shipped: Shipped) -> None:
    """The shipped weights are float16 numbers, so nothing is lost in the file."""
    start: StartingPoint = shipped.starts[2]
    worst = differences(shipped.agent, start.state)
    assert max(worst.values()) < 1e-4, worst
    assert worst["next_z"] == 0  # all draws are the same


@pytest.mark.parametrize("preset", [cpu, blog, paper, fast])
def test_every_preset_can_be_exported(preset, caplog: pytest.LogCaptureFixture) -> None:
    """All kinds of encoders, heads, activations and behaviours; narrow ones, for the time that it takes."""
    config = preset()
    narrow = {"cnn_depth": 8, "deter": 32, "hidden": 32, "head_units": 32, "stoch": 4, "classes": 6}
    config = replace(config, model=replace(config.model, **narrow), behavior=replace(config.behavior, units=32))
    size, channels = config.env.size, 1 if config.env.grayscale else 3
    agent = rounded(make_agent(config, EnvSpec((size, size, channels), 4)).eval())
    with caplog.at_level(logging.WARNING):
        worst = differences(agent, agent.initial(1))
    assert max(worst.values()) < 1e-4, worst
    assert not caplog.records


def test_the_file_is_small_and_has_no_path_of_this_machine(shipped: Shipped) -> None:
    data = as_onnx(DreamStep(shipped.agent))
    assert len(data) < LARGEST
    weights = [numpy_helper.to_array(weight) for weight in onnx.load_from_string(data).graph.initializer]
    assert all(weight.dtype != np.float32 or weight.size <= SMALL for weight in weights)
    assert b"site-packages" not in data and b".py" not in data
