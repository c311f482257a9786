"""Checkpoints: bit-equal resume, whole or not at all, and the one before when the newest is damaged."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamer.agent import Agent
from learner import checkpoint
from learner.checkpoint import Progress
from learner.config import TrainConfig
from learner.step import Optimizers, make_grad_steps, make_optimizers, train_step
from replay.errors import UserError
from tests.devices import DEVICES
from tests.dreamer.tiny import MODEL, make_agent, random_batch

CONFIG = TrainConfig()


def make_learner() -> tuple[Agent, Optimizers]:
    agent = make_agent()
    return agent, make_optimizers(agent, CONFIG)


def train(agent: Agent, optimizers: Optimizers, updates: int) -> list[float]:
    batch = fixed_batch()
    steps = make_grad_steps(optimizers, clip=100)
    return [train_step(agent, steps, batch, precision="float32")["model_loss"].item() for _ in range(updates)]


def fixed_batch():
    with torch.random.fork_rng():
        torch.manual_seed(99)
        return random_batch()


def save(folder: Path, agent: Agent, optimizers: Optimizers, update: int, **options) -> Path:
    return checkpoint.save(folder, agent, optimizers, config={"a": 1}, progress=Progress(update, 4 * update), **options)


def test_training_goes_on_bit_for_bit_after_a_resume(tmp_path: Path) -> None:
    agent, optimizers = make_learner()
    rng = np.random.default_rng(3)
    train(agent, optimizers, 3)
    rng.random(5)
    save(tmp_path, agent, optimizers, 3, rng=rng)
    expected, draws = train(agent, optimizers, 4), rng.random(3)

    torch.manual_seed(12345)
    other, other_optimizers = make_learner()
    other_rng = np.random.default_rng(0)
    found = checkpoint.load_newest(tmp_path)
    assert found is not None and (found.update, found.policy_step, found.config) == (3, 12, {"a": 1})
    checkpoint.restore(found, other, other_optimizers, other_rng)
    assert train(other, other_optimizers, 4) == expected
    np.testing.assert_array_equal(other_rng.random(3), draws)
    for key, value in agent.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_a_checkpoint_of_a_machine_with_other_gpus_is_read() -> None:
    states = [torch.tensor([n], dtype=torch.uint8) for n in range(3)]
    assert checkpoint.state_of_gpu([], 0) == []
    assert checkpoint.state_of_gpu(states, 1) == [states[1]]  # of all GPUs, as files once were
    assert checkpoint.state_of_gpu(states[:2], 2) == [states[0]]  # fewer there than here
    assert checkpoint.state_of_gpu(states[:1], 1) == [states[0]]  # of the learner's alone, as they are now


@pytest.mark.parametrize("device", DEVICES)
def test_only_the_learners_own_generator_is_saved_and_put_back(device: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    agent = make_agent().to(device)
    optimizers = make_optimizers(agent, CONFIG)
    path = save(tmp_path, agent, optimizers, 1)
    expected = torch.rand(3, device=device)
    found = checkpoint.load(path)
    assert len(found.rng["cuda"]) == (1 if device == "cuda" else 0)
    more = found._replace(rng=found.rng | {"cuda": found.rng["cuda"] * 4})  # of a machine with four GPUs
    for each in (found, more):
        torch.rand(5, device=device)
        checkpoint.restore(each, agent, optimizers)
        assert torch.equal(torch.rand(3, device=device), expected)


def test_only_the_newest_are_kept_and_latest_names_the_newest(tmp_path: Path) -> None:
    agent, optimizers = make_learner()
    for update in (10, 20, 30):
        save(tmp_path, agent, optimizers, update, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "latest",
        "update-000000020.pt",
        "update-000000030.pt",
    ]
    assert (tmp_path / "latest").read_text() == "update-000000030.pt"


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    agent, optimizers = make_learner()
    save(tmp_path, agent, optimizers, 10)
    newest = save(tmp_path, agent, optimizers, 20)
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        found = checkpoint.load_newest(tmp_path)
    assert found is not None and found.update == 10
    assert "damaged" in caplog.text and "the one before" in caplog.text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_damaged_checkpoint_no_longer_counts_among_those_to_keep(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent, optimizers = make_learner()
    save(tmp_path, agent, optimizers, 10)
    save(tmp_path, agent, optimizers, 20).write_bytes(b"rubbish")
    assert checkpoint.load_newest(tmp_path).update == 10  # who only reads changes nothing
    assert names(tmp_path) == ["latest", "update-000000010.pt", "update-000000020.pt"]
    assert checkpoint.load_newest(tmp_path, set_aside=True).update == 10
    assert names(tmp_path) == ["damaged-update-000000020.pt", "latest", "update-000000010.pt"]
    assert (tmp_path / "latest").read_text() == "update-000000010.pt"
    assert "set aside as damaged-update-000000020.pt" in caplog.text
    save(tmp_path, agent, optimizers, 11)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "update-000000011.pt",
        "update-000000010.pt",
    ]


def test_where_none_can_be_read_none_is_renamed(tmp_path: Path) -> None:
    """The next try would otherwise begin anew, without a word."""
    (tmp_path / "update-000000001.pt").write_bytes(b"rubbish")
    for _ in range(2):
        with pytest.raises(UserError, match="none of the 1 checkpoints"):
            checkpoint.load_newest(tmp_path, set_aside=True)


def test_a_file_that_a_later_program_wrote_is_not_called_damaged(tmp_path: Path) -> None:
    agent, optimizers = make_learner()
    save(tmp_path, agent, optimizers, 10)
    torch.save({"format": 99}, save(tmp_path, agent, optimizers, 20))
    assert checkpoint.load_newest(tmp_path, set_aside=True).update == 10
    assert "update-000000020.pt" in names(tmp_path)


def test_the_one_that_latest_names_is_the_newest(tmp_path: Path) -> None:
    """A run that fell back to update 10 and was killed between the two renames of its next save."""
    agent, optimizers = make_learner()
    for update in (10, 20, 30):
        save(tmp_path, agent, optimizers, update, keep=3)
    (tmp_path / "latest").write_text("update-000000010.pt")
    assert [checkpoint.update_of(path) for path in checkpoint.list_checkpoints(tmp_path)] == [10, 30, 20]
    assert checkpoint.load_newest(tmp_path).update == 10
    for rubbish in (b"", b"\xff\xfe", b"update-000000099.pt"):
        (tmp_path / "latest").write_bytes(rubbish)
        assert checkpoint.load_newest(tmp_path).update == 30


def test_the_checkpoint_just_written_is_always_kept(tmp_path: Path) -> None:
    save(tmp_path, *make_learner(), 10, keep=0)
    assert checkpoint.load_newest(tmp_path).update == 10


def test_what_a_killed_save_left_is_gone_after_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".update-000000005.pt.4711").write_bytes(b"half")
    (tmp_path / ".latest.4711").write_bytes(b"half")
    save(tmp_path, *make_learner(), 10)
    assert names(tmp_path) == ["latest", "update-000000010.pt"]


def test_an_error_of_the_device_is_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(content, file) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="illegal memory"):
        save(tmp_path, *make_learner(), 10)
    assert names(tmp_path) == []


def test_nothing_readable_is_an_error_and_nothing_at_all_is_none(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path) is None
    (tmp_path / "update-000000001.pt").write_bytes(b"rubbish")
    with pytest.raises(UserError, match="none of the 1 checkpoints"):
        checkpoint.load_newest(tmp_path)
    with pytest.raises(UserError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "update-000000002.pt")


def test_a_foreign_file_is_refused_without_running_its_code(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (marker,))

    path = tmp_path / "update-000000001.pt"
    torch.save({"format": 1, "agent": Evil()}, path)
    with pytest.raises(UserError, match="not one of ours"):
        checkpoint.load(path)
    assert not marker.exists()


def test_another_network_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, *make_learner(), 1)
    other = make_agent(model=replace(MODEL, deter=MODEL.deter + 1))
    with pytest.raises(UserError, match="another network"):
        checkpoint.restore(checkpoint.load(path), other)


def test_a_full_disk_leaves_the_older_checkpoint_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, optimizers = make_learner()
    save(tmp_path, agent, optimizers, 10)

    def full(content, file) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, agent, optimizers, 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "update-000000010.pt"]
    assert checkpoint.load_newest(tmp_path).update == 10


def test_a_changed_learning_rate_holds_after_a_resume(tmp_path: Path) -> None:
    agent, optimizers = make_learner()
    train(agent, optimizers, 2)
    save(tmp_path, agent, optimizers, 2)
    other = make_agent()
    changed = make_optimizers(other, replace(CONFIG, model_lr=1e-3))
    found = checkpoint.load_newest(tmp_path)
    assert found is not None
    checkpoint.restore(found, other, changed)
    (group,) = changed["model"].param_groups
    assert group["lr"] == 1e-3 and group["weight_decay"] == pytest.approx(1e-3)
    assert all(state["step"] == 2 for state in changed["model"].state.values())


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    agent, optimizers = make_learner()
    kept = save(tmp_path, agent, optimizers, 1)
    agent.world.reward.out.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError):
        save(tmp_path, agent, optimizers, 2)
    assert checkpoint.list_checkpoints(tmp_path) == [kept]
