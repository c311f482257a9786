"""What train takes where it was not told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cluster.commands.choice import choose_preset, choose_runtime, ignored, slower_than_float32
from cluster.config import ClusterConfig, Config
from cluster.presets import cpu, fast
from learner.device import choose_precision, has_bfloat16_units

LOCAL = ClusterConfig()
JOINED = ClusterConfig(address="10.0.0.1:6379", actors=0)
THREE = ClusterConfig(actors=3)
CPU = torch.device("cpu")


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


@pytest.mark.parametrize(
    ("precision", "units", "emulated", "said"),
    [("bfloat16", False, True, "100 times"), ("bfloat16", False, False, "twice"), ("bfloat16", True, False, "")]
    + [("float32", units, not units, "") for units in (True, False)],
)
def test_a_precision_that_costs_time_is_said(precision: str, units: bool, emulated: bool, said: str) -> None:
    told = slower_than_float32(precision, units=units, emulated=emulated)
    assert said in told and bool(told) == bool(said)


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
    assert choose_precision("auto", torch.device("cuda", 0)) == ("bfloat16" if units else "float32")


@pytest.mark.parametrize("has", ["", "amx_bf16", "avx512_bf16"])
def test_a_cpu_that_multiplies_bfloat16_itself_does(has: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, has: True})
    assert choose_precision("auto", CPU) == ("bfloat16" if has else "float32")
    assert choose_precision("float32", CPU) == "float32" and choose_precision("bfloat16", CPU) == "bfloat16"


def test_what_a_runtime_ignores_is_said() -> None:
    assert ignored(Config(), "ray") == ignored(Config(), "inline") == ignored(fast(), "inline") == []
    assert ignored(fast(), "ray") == ["ignored, only --runtime inline has it: actor.workers 16"]
    several = replace(cpu(), cluster=JOINED, actor=replace(cpu().actor, pull_every=3))
    (line,) = ignored(several, "inline")
    assert "only --runtime ray has it" in line and "actor.pull_every 3" in line
    assert "cluster.actors 0" in line and "cluster.address 10.0.0.1:6379" in line
    assert "cluster.host" not in line and ignored(several, "ray") == []
