"""The learner's loop and the one transposition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from learner.config import TrainConfig
from learner.feed import to_batch
from learner.loop import learn
from learner.step import make_optimizers
from replay import Sample, Sequences
from tests.dreamer.tiny import MODEL, make_agent

CONFIG = TrainConfig()


def make_sample(version: int, batch: int = 3, time: int = 5) -> Sample:
    rng = np.random.default_rng(version + 1)
    sequences = Sequences(
        obs=rng.integers(0, 256, (batch, time, 64, 64, 1), np.uint8),
        prev_action=rng.integers(0, 3, (batch, time), np.int32),
        reward=rng.random((batch, time), np.float32),
        is_first=np.eye(1, time, dtype=bool).repeat(batch, 0),
        is_terminal=np.zeros((batch, time), bool),
        prev_h=rng.random((batch, time, MODEL.deter)).astype(np.float16),
        prev_z=rng.integers(0, MODEL.classes, (batch, time, MODEL.stoch), np.uint8),
    )
    return Sample(sequences, np.full(batch, version, np.int64))


def test_windows_become_time_major_tensors_that_share_nothing() -> None:
    sequences = make_sample(0).sequences
    sequences.obs.flags.writeable = False
    batch = to_batch(sequences, "cpu")
    assert batch.obs.shape == (5, 3, 64, 64, 1) and batch.obs.dtype == torch.uint8
    assert batch.prev_action.dtype == torch.int64 and batch.is_first.dtype == torch.bool
    assert batch.prev_h.dtype == torch.float16 and batch.prev_z.dtype == torch.uint8
    for ours, theirs in zip(batch, sequences, strict=True):
        np.testing.assert_array_equal(ours.numpy().swapaxes(0, 1), theirs)
    before = sequences.reward.copy()
    batch.reward.fill_(9)
    np.testing.assert_array_equal(sequences.reward, before)


@pytest.mark.parametrize("batch", [1, 3])
def test_windows_that_are_tensors_already_become_the_same_batch(batch: int) -> None:
    arrays = make_sample(0, batch=batch).sequences
    tensors = Sequences(*(torch.from_numpy(array) for array in arrays))
    for ours, theirs, source in zip(to_batch(tensors, "cpu"), to_batch(arrays, "cpu"), tensors, strict=True):
        assert ours.dtype == theirs.dtype and ours.is_contiguous() and torch.equal(ours, theirs)
        assert ours.untyped_storage().data_ptr() != source.untyped_storage().data_ptr()


def test_one_report_per_sample_counting_on() -> None:
    agent = make_agent()
    samples = [make_sample(-1), make_sample(98), make_sample(100)]
    reports = list(
        learn(agent, make_optimizers(agent, CONFIG), samples, CONFIG, device=torch.device("cpu"), update=100)
    )
    assert [r.update for r in reports] == [101, 102, 103]
    # Random play counts as the policy of update 0.
    assert [r.policy_age for r in reports] == [100.0, 3.0, 2.0]
    assert all(torch.isfinite(value) for report in reports for value in report.metrics.values())


@pytest.mark.parametrize("overlap", [False, True])
def test_a_world_model_that_takes_no_gradient_stays_as_it_is(overlap: bool) -> None:
    agent, config = make_agent(), replace(CONFIG, overlap=overlap)
    agent.world.requires_grad_(False)
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    samples = [make_sample(n) for n in range(3)]
    optimizers = make_optimizers(agent, config)
    reports = list(learn(agent, optimizers, samples, config, device=torch.device("cpu")))
    assert [report.update for report in reports] == [1, 2, 3]
    metrics = reports[-1].metrics
    assert "imagined_return" in metrics and "model_loss" not in metrics and metrics["nonfinite"] == 0
    changed = {key for key, value in agent.state_dict().items() if not torch.equal(value, before[key])}
    assert {"behavior.actor.out.weight", "behavior.critic.out.weight"} <= changed
    assert all(key.startswith("behavior.") for key in changed)
    assert not optimizers["model"].state
