"""An update from fixed places is the same update, and does nothing that a CUDA graph cannot repeat."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dreamer.agent import Agent
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.types import Batch, Metrics
from learner.config import TrainConfig
from learner.graph import StaticUpdate, tensors_of, without_trace
from learner.loop import make_update
from learner.step import Optimizers, make_optimizers
from tests.dreamer.tiny import (
    BEHAVIOR,
    BEHAVIOR_SWITCHES,
    BRED,
    GAUSSIAN,
    MODEL,
    PLANNED,
    SEARCHED,
    SWITCHES,
    WORLD_MODELS,
    make_agent,
    random_batch,
)

CONFIG = TrainConfig(model_lr=1e-3, actor_lr=1e-3, critic_lr=1e-3)
SLOW = replace(BEHAVIOR, slow_every=3)
PPO = replace(SLOW, name="ppo", ppo_minibatches=2, ppo_batch=16)
LATER = replace(BEHAVIOR_SWITCHES, slow_every=3)  # with a model that has everything, too, which `paper` has off
KINDS = {
    "rho 1": SLOW,
    "rho 0.5": replace(SLOW, rho=0.5),
    "ppo": PPO,
    "later work": LATER,
    "cem": replace(LATER, name="cem", cem_score="value", cem_hold=0.5, **PLANNED),
    "cma_es": replace(LATER, name="cma_es", **BRED),
    "mcts": replace(LATER, name="mcts", **SEARCHED),
}
BEHAVIORS = pytest.mark.parametrize("behavior", KINDS.values(), ids=KINDS)
STATES = pytest.mark.parametrize("states", [False, True])
ADAMS = pytest.mark.parametrize("keras", [True, False], ids=["Keras' Adam", "PyTorch's Adam"])
PRECISIONS = pytest.mark.parametrize("precision", ["float32", "bfloat16"])
OTHERS = pytest.mark.parametrize(
    "model", [GAUSSIAN, WORLD_MODELS], ids=["gaussian", "vae_rnn"]
)  # in place of `paper`'s
THROUGH_DYNAMICS = replace(SLOW, rho=0.0, temperature=0.5)


def start(
    device: str = "cpu", behavior: BehaviorConfig = SLOW, model: ModelConfig | None = None
) -> tuple[Agent, Optimizers]:
    torch.manual_seed(0)
    agent = make_agent(behavior, model=model or (SWITCHES if behavior.norm else MODEL)).to(device)
    return agent, make_optimizers(agent, CONFIG)


def batches(count: int, device: str = "cpu", *, states: bool = False) -> list[Batch]:
    torch.manual_seed(7)
    return [Batch(*(x.to(device) for x in random_batch(6, 3, states=states))) for _ in range(count)]


def run(agent: Agent, optimizers: Optimizers, config: TrainConfig, data: list[Batch], *, static: bool) -> list[Metrics]:
    update = make_update(agent, optimizers, config, example=data[0])
    if static:
        update = StaticUpdate(update, data[0])
    torch.manual_seed(1)
    return [{name: value.clone() for name, value in update(batch).items()} for batch in data]


@PRECISIONS
@BEHAVIORS
@STATES
def test_updates_from_fixed_places_are_bit_for_bit_the_plain_ones(
    precision: str, behavior: BehaviorConfig, states: bool
) -> None:
    config, data = replace(CONFIG, precision=precision), batches(8, states=states)
    plain, static = start(behavior=behavior), start(behavior=behavior)
    expected = run(*plain, config, data, static=False)
    found = run(*static, config, data, static=True)
    assert found == expected
    for ours, theirs in zip(tensors_of(*static), tensors_of(*plain), strict=True):
        assert torch.equal(ours, theirs)


@PRECISIONS
@OTHERS
def test_so_are_those_of_other_world_models_and_they_ask_for_nothing_either(precision: str, model: ModelConfig) -> None:
    config, data = replace(CONFIG, precision=precision), batches(4)
    plain, static = start(behavior=THROUGH_DYNAMICS, model=model), start(behavior=THROUGH_DYNAMICS, model=model)
    expected = run(*plain, config, data, static=False)
    found = run(*static, config, data, static=True)
    assert found == expected
    for ours, theirs in zip(tensors_of(*static), tensors_of(*plain), strict=True):
        assert torch.equal(ours, theirs)
    update = StaticUpdate(make_update(*static, config, example=data[0]), data[0])
    with NoQuestions() as guard:
        update(data[1])
    assert guard.seen > 500


def as_recorded(update: StaticUpdate) -> None:
    """From now on every update leaves its metrics where the last one did, as a graph does."""
    place = update._values

    def launch() -> None:
        update.run()
        update._values = place.copy_(update._values)

    update._launch = launch


def test_every_batch_is_used_and_metrics_of_one_update_outlive_the_next() -> None:
    agent, optimizers = start()
    update = StaticUpdate(make_update(agent, optimizers, CONFIG, example=batches(1)[0]), batches(1)[0])
    data = batches(4)
    reports = [update(data[0])]
    as_recorded(update)
    reports += [update(batch) for batch in data[1:]]
    for before, after in pairwise(reports):
        assert before["batch_reward"] != after["batch_reward"]  # not the numbers of one and the same place
    for report, batch in zip(reports, data, strict=True):
        assert report["batch_reward"] == batch.reward.mean()


@BEHAVIORS
@ADAMS
def test_nothing_that_an_update_changes_ever_moves_in_memory(behavior: BehaviorConfig, keras: bool) -> None:
    agent, optimizers = start(behavior=behavior)
    update = make_update(agent, optimizers, replace(CONFIG, adam_keras=keras), example=batches(1)[0])
    update(batches(1)[0])  # makes the moments
    before = [(tensor, tensor.data_ptr(), tensor.clone()) for tensor in tensors_of(agent, optimizers)]
    for batch in batches(SLOW.slow_every):
        update(batch)
    after = list(tensors_of(agent, optimizers))
    assert len(after) == len(before)
    for tensor, (was, address, value) in zip(after, before, strict=True):
        assert tensor is was and tensor.data_ptr() == address
        assert not torch.equal(tensor, value)  # and everything is changed: nothing was left out of the list in vain


def test_a_warm_up_leaves_no_trace() -> None:
    agent, optimizers = start()
    for rounds in range(2):  # before and after there are moments
        expected = [tensor.clone() for tensor in tensors_of(agent, optimizers)]
        update = make_update(agent, optimizers, CONFIG, example=batches(1)[0])
        data, draws = batches(3), torch.get_rng_state()
        with without_trace(agent, optimizers, torch.device("cpu")):
            for batch in data:
                update(batch)
            assert not torch.equal(torch.get_rng_state(), draws)
        assert torch.equal(torch.get_rng_state(), draws)
        found = list(tensors_of(agent, optimizers))
        for tensor, value in zip(found, expected, strict=False):
            assert torch.equal(tensor, value)
        if rounds == 0:
            moments = found[len(expected) :]
            assert moments and all((tensor == 0).all() for tensor in moments)
        update(batches(1)[0])


class NoQuestions(TorchDispatchMode):
    """Fails where the host needs a value, or a shape that depends on values: a device that works ahead would stall.

    And where the host makes a tensor of numbers of its own (lift_fresh), which to bring there no graph can record.
    """

    ASKING = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "unique", "masked_select", "repeat_interleave.T")
    BRINGING = ("lift_fresh",)

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.")
        assert not name.startswith(self.ASKING), f"{name} makes the host wait for the device"
        assert not name.startswith(self.BRINGING), f"{name} brings numbers from the host to the device"
        if name.startswith(("index.", "index_put")):
            masks = [index for index in args[1] or () if isinstance(index, Tensor) and index.dtype == torch.bool]
            assert not masks, f"{name} with a mask makes the host wait for the device"
        if name.startswith(("_to_copy", "copy_")):
            devices = {arg.device for arg in args if isinstance(arg, Tensor)} | {(kwargs or {}).get("device")}
            assert len(devices - {None}) == 1, f"{name} goes from one device to another: {devices}"
        self.seen += 1
        return func(*args, **(kwargs or {}))


def test_the_guard_sees_what_it_must_not_let_pass() -> None:
    x = torch.rand(3)
    ask = [lambda: x.sum().item(), lambda: bool(x[0] > 2), lambda: x[x > 2], lambda: x.nonzero()]
    bring = [lambda: x.new_tensor([0.5]), lambda: torch.tensor([0.5]), lambda: x[[0, 2]]]
    for question in ask + bring:
        with pytest.raises(AssertionError), NoQuestions():
            question()


@PRECISIONS
@BEHAVIORS
@STATES
@ADAMS
def test_an_update_never_asks_the_device_for_a_value(
    precision: str, behavior: BehaviorConfig, states: bool, keras: bool
) -> None:
    agent, optimizers = start(behavior=behavior)
    data, config = batches(2, states=states), replace(CONFIG, precision=precision, adam_keras=keras)
    update = StaticUpdate(make_update(agent, optimizers, config, example=data[0]), data[0])
    update(data[0])  # optimisers may look around once
    with NoQuestions() as guard:
        update(data[1])
    assert guard.seen > 500


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 1e-2)])
@BEHAVIORS
@STATES
@ADAMS
def test_a_captured_update_equals_the_eager_one_over_50_seeded_updates(
    precision: str, tolerance: float, behavior: BehaviorConfig, states: bool, keras: bool
) -> None:
    """The same kernels on the same draws; some add up in another order from run to run."""
    data = batches(50, "cuda", states=states)
    config = replace(CONFIG, precision=precision, adam_keras=keras)
    eager, captured = start("cuda", behavior), start("cuda", behavior)
    expected = run(*eager, replace(config, capture=False), data, static=False)
    found = run(*captured, config, data, static=False)
    for ours, theirs in zip(found, expected, strict=True):
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=tolerance, atol=tolerance, msg=name)
    for ours, theirs in zip(tensors_of(*captured), tensors_of(*eager), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@OTHERS
def test_a_captured_update_of_other_world_models_equals_the_eager_one(model: ModelConfig) -> None:
    data = batches(50, "cuda")
    eager, captured = (start("cuda", THROUGH_DYNAMICS, model) for _ in range(2))
    expected = run(*eager, replace(CONFIG, capture=False), data, static=False)
    found = run(*captured, CONFIG, data, static=False)
    for ours, theirs in zip(found, expected, strict=True):
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-4, msg=name)
    for ours, theirs in zip(tensors_of(*captured), tensors_of(*eager), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_capture_leaves_weights_moments_and_draws_as_they_were() -> None:
    agent, optimizers = start("cuda")
    (example,) = batches(1, "cuda")
    weights, draws = [tensor.clone() for tensor in agent.state_dict().values()], torch.cuda.get_rng_state()
    make_update(agent, optimizers, CONFIG, example=example)
    assert torch.equal(torch.cuda.get_rng_state(), draws)
    assert all(torch.equal(*pair) for pair in zip(agent.state_dict().values(), weights, strict=True))
    moments = list(tensors_of(agent, optimizers))[len(weights) :]
    assert moments and all((tensor == 0).all() for tensor in moments)
