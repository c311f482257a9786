"""What train takes where it was not told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cluster.commands.choice import choose_precision, choose_preset, choose_runtime, ignored
from cluster.config import ClusterConfig, Config
from cluster.presets import cpu, fast
from learner.device import has_bfloat16_units

LOCAL = ClusterConfig()
JOINED = ClusterConfig(address="10.0.0.1:6379", actors=0)
THREE = ClusterConfig(actors=3)


@pytest.mark.parametrize(
    ("asked", "before", "cluster", "on_gpu", "fits", "name", "why"),
    [
        (None, None, LOCAL, True, True, "inline", "one machine with a GPU"),
        (None, None, LOCAL, False, False, "ray", ""),
        (None, None, LOCAL, True, False, "ray", "does not fit into the GPU's memory"),
        (None, None, JOINED, True, True, "ray", "cluster.address 10.0.0.1:6379"),
        (None, None, THREE, True, True, "ray", "cluster.actors 3"),
        (None, "ray", LOCAL, True, True, "ray", "as it was before"),
        (None, "inline", LOCAL, False, False, "inline", "as it was before"),
        (None, "inline", JOINED, True, True, "inline", "as it was before"),
        ("ray", "inline", LOCAL, True, True, "ray", ""),
        ("ray", None, LOCAL, True, True, "ray", ""),
        ("inline", "ray", JOINED, False, False, "inline", ""),
        ("inline", None, LOCAL, True, False, "inline", ""),  # then the memory is refused in its own words
    ],
)
def test_the_runtime_follows_the_wish_then_the_run_then_the_machine(
    asked: str | None, before: str | None, cluster: ClusterConfig, on_gpu: bool, fits: bool, name: str, why: str
) -> None:
    chosen = choose_runtime(asked, before, cluster, on_gpu=on_gpu, fits=fits)
    assert chosen.name == name and why in chosen.why and bool(chosen.why) == bool(why)


@pytest.mark.parametrize(
    ("gpu", "device", "name"),
    [(True, None, "fast"), (True, "cuda", "fast"), (True, "cpu", "cpu"), (False, None, "cpu"), (False, "cuda", "cpu")],
)
def test_the_preset_is_that_of_the_device(gpu: bool, device: str | None, name: str) -> None:
    assert choose_preset(gpu=gpu, device=device) == name


def test_a_gpu_without_units_for_bfloat16_computes_in_float32_and_says_so() -> None:
    changed, said = choose_precision(fast(), units=False, asked=False)
    assert changed == replace(fast(), train=replace(fast().train, precision="float32"))
    assert said.startswith("float32: ") and "--train.precision bfloat16" in said
    insisted, said = choose_precision(fast(), units=False, asked=True)
    assert insisted == fast() and "as asked for" in said
    for config, units in ((fast(), True), (cpu(), False)):
        assert choose_precision(config, units=units, asked=False) == (config, "")


@pytest.mark.parametrize(("capability", "units"), [(7, False), (8, True), (9, True)])  # 7: V100, T4, RTX 20xx
def test_units_are_asked_for_not_emulation(capability: int, units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        major = capability

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    # An emulation would be found: it is the wrong question.
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    assert has_bfloat16_units(torch.device("cuda", 0)) == units
    assert has_bfloat16_units(torch.device("cpu"))


def test_what_a_runtime_ignores_is_said() -> None:
    assert ignored(Config(), "ray") == ignored(Config(), "inline") == ignored(fast(), "inline") == []
    assert ignored(fast(), "ray") == ["ignored, only --runtime inline has it: actor.workers 16"]
    several = replace(cpu(), cluster=JOINED, actor=replace(cpu().actor, pull_every=3))
    (line,) = ignored(several, "inline")
    assert "only --runtime ray has it" in line and "actor.pull_every 3" in line
    assert "cluster.actors 0" in line and "cluster.address 10.0.0.1:6379" in line
    assert "cluster.host" not in line and ignored(several, "ray") == []
