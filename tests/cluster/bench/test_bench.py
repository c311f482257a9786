"""The benchmark: what it counts is right, its JSON is the contract's, and a slow part is an error."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from actors.game import AtariGame, PictureGame, open_game
from actors.interface import AnyGames
from actors.parallel import make_parallel_games
from cluster.assemble import make_agent
from cluster.bench import ceilings
from cluster.bench.ceilings import MatrixProduct, Timing
from cluster.bench.parts import bench_actor, bench_env, bench_learner, count_flop, random_play
from cluster.bench.training import bench_training
from cluster.cli import main
from cluster.commands.bench import keep, learners, shortfalls
from cluster.config import Config
from cluster.presets import cpu
from cluster.training import append
from dreamer.agent import Agent
from learner import device
from learner.feed import to_batch
from learner.step import make_optimizers, train_step
from replay import EnvSpec, UserError
from tests.dreamer.tiny import BEHAVIOR, MODEL

CPU = torch.device("cpu")
ceilings_alternate = ceilings.alternate  # the real one


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few repetitions of everything: what they say is not looked at."""
    alternate = ceilings.alternate
    for module in ("cluster.bench.parts", "cluster.bench.ceilings"):
        monkeypatch.setattr(
            f"{module}.alternate", lambda runs, device, **_: alternate(runs, device, warm_up=1, least=2, seconds=0.1)
        )


@pytest.fixture
def config() -> Config:
    small = cpu()
    return replace(
        small,
        env=replace(small.env, size=64, shrink="area"),
        model=MODEL,
        behavior=BEHAVIOR,
        actor=replace(small.actor, games=2),
        replay=replace(small.replay, length=4, stride=2, batch=3),
        train=replace(small.train, threads=0),
    )


@pytest.fixture
def taking(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes everything run once and take the seconds said, in turn."""

    def say(*seconds: float) -> None:
        said = iter(seconds)

        def measure(runs: list[Callable[[], object]], *_: object, **__: object) -> list[Timing]:
            for run in runs:
                run()
            return [Timing(next(said), 0.25) for _ in runs]

        monkeypatch.setattr("cluster.bench.parts.alternate", measure)

    return say


def counted(calls: list[str], name: str, function: Callable) -> Callable:
    """The function, that notes its name at every call."""
    return lambda *args, **named: (calls.append(name), function(*args, **named))[1]


def test_games_are_measured_in_steps_of_all_games_against_bare_emulators(
    config: Config, taking: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def games_of(*args: object) -> AnyGames:
        games = make_parallel_games(*args)
        monkeypatch.setattr(games, "step", counted(calls, "step", games.step))
        return games

    def game_of(*args: object, **named: object) -> AtariGame | PictureGame:
        game = open_game(*args, **named)
        monkeypatch.setattr(game, "frame", counted(calls, "frame", game.frame))
        return game

    monkeypatch.setattr("cluster.bench.parts.make_parallel_games", games_of)
    monkeypatch.setattr("cluster.bench.parts.open_game", game_of)
    taking(2.0, 4.0)
    found = bench_env(config)
    steps, frames = calls.count("step") - 1, calls.count("frame")  # the first one is the reset
    assert (found.games, found.processes, found.spread) == (2, 1, 0.25)
    assert found.steps_per_second == 2 * steps / 2.0
    assert found.raw_emulator_steps_per_second == frames / config.env.frame_skip / 4.0
    assert found.ratio_to_floor == (2 * steps / 2.0) / (frames / 4 / 4.0)


def test_a_policy_is_measured_against_a_matrix_product_and_with_its_games_against_emulators(
    config: Config, taking: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(Agent, "policy_step", counted(calls, "policy", Agent.policy_step))
    monkeypatch.setattr("cluster.bench.parts.append", counted(calls, "append", append))
    taking(0.5, 2.0, 4.0, 8.0)
    found = bench_actor(config, CPU)
    with_games = calls.count("append")
    alone = calls.count("policy") - with_games - 1  # one to count the operations
    assert found.threads == config.actor.threads and found.games == 2
    assert found.steps_per_second == 2 * alone / 0.5
    floor = MatrixProduct(CPU, torch.float32).flop / 2.0 / (found.mflop_per_step * 1e6)
    assert found.floor_steps_per_second == pytest.approx(floor)
    assert found.ratio_to_floor == pytest.approx(2 * alone / 0.5 / floor)
    assert found.steps_per_second_with_games == 2 * with_games / 4.0
    assert found.raw_emulator_steps_per_second == 500 / 8.0
    assert found.ratio_to_emulator == (2 * with_games / 4.0) / (500 / 8.0)


def test_an_update_is_measured_on_real_pictures(
    config: Config, taking: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("learner.loop.train_step", counted(calls, "update", train_step))
    taking(6.0, 3.0)
    found = bench_learner("tiny", config, CPU, "float32")
    updates = len(calls) - 3  # one to count the operations, the first, and one to see how long it takes
    assert (found.batch, found.length, found.mode, found.device) == (3, 4, "eager", "cpu")
    assert found.seconds_per_update == pytest.approx(6.0 / updates)
    assert found.updates_per_second == pytest.approx(updates / 6.0)
    product = MatrixProduct(CPU, torch.float32)
    floor = 3.0 * found.gflop_per_update * 1e9 / product.flop
    assert found.floor_seconds == pytest.approx(floor)
    assert found.ratio_to_floor == pytest.approx(floor / (6.0 / updates))
    assert found.peak_memory_bytes > 50e6
    # 3 * 4 trained steps at ratio 4 belong to 3 policy steps of four frames.
    assert found.frames_per_second == pytest.approx(updates / 6.0 * 3 * 4)
    assert random_play(config).sequences.obs.std() > 1


def test_counted_operations_are_those_of_the_layers(config: Config) -> None:
    """Twice the multiplications of every matrix product: of one dense layer, forward and backward."""
    spec = EnvSpec((64, 64, 1), 4)

    def gflop(**changes: int) -> int:
        sized = replace(config, behavior=replace(config.behavior, **changes))
        agent = make_agent(sized, spec)
        batch = to_batch(random_play(config).sequences, "cpu")
        return count_flop(agent, make_optimizers(agent, sized.train), sized, batch)

    # One more hidden layer in actor, critic and target critic. N = 12 starts, H = 4.
    per_row = 2 * BEHAVIOR.units**2
    dreaming, slow = 4 * 12 * per_row, (5 + 1) * 12 * per_row  # dreamt states, and once more those of the replay
    actor, critic = 3 * 12 * per_row, 4 * 12 * per_row  # H - 1 and H states; forward and twice backward
    assert gflop(layers=2) - gflop(layers=1) == dreaming + slow + 3 * (actor + critic)


def test_things_are_timed_in_turns_and_the_warm_up_is_not_counted() -> None:
    calls: list[str] = []

    def sleep(name: str, seconds: float) -> None:
        calls.append(name)
        time.sleep(seconds if len(calls) > 2 else 10 * seconds)

    short, long = ceilings_alternate(
        [lambda: sleep("short", 0.01), lambda: sleep("long", 0.03)], CPU, warm_up=1, least=3, seconds=0.0
    )
    assert calls == ["short", "long"] * 4
    assert short.seconds >= 0.01 and long.seconds >= 0.03


def test_what_is_below_its_least_is_named() -> None:
    update = {"preset": "paper", "device": "cpu", "precision": "float32", "ratio_to_floor": 0.3}
    result = {"env": {"ratio_to_floor": 0.7}, "learner": [update, update | {"preset": "cpu"}]}
    assert shortfalls(result) == ["learner paper cpu float32 reaches 0.30 of its floor, it must reach 0.5"]


def test_results_are_kept_by_date_machine_and_commit(tmp_path: Path) -> None:
    machine = {"gpu": "NVIDIA H100 80GB HBM3", "commit": "abc1234+"}
    path = keep({"date": "2026-11-22T10:00:00+00:00", "machine": machine}, tmp_path / "new")
    assert path.name == "2026-11-22-nvidia-h100-80gb-hbm3-abc1234.json"
    assert json.loads(path.read_text())["machine"] == machine
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --out"):
        keep({"date": "2026", "machine": machine}, tmp_path / "file")


def test_the_command_prints_the_contracts_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    monkeypatch.setattr("cluster.commands.bench.preset", lambda name: config)
    assert main(["bench", "learner", "--preset", "cpu", "--json", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert {"cpu", "cores", "gpu", "fp32_gflops", "bf16_gflops", "copy_gbps"} <= set(result["machine"])
    assert result["machine"]["fp32_gflops"] > 1
    with_bfloat16 = not device.slow_bfloat16(CPU)
    assert [each["precision"] for each in result["learner"]] == ["float32", "bfloat16"][: 1 + with_bfloat16]
    assert ("lacks AVX-512" in err) != with_bfloat16
    assert {"preset", "device", "precision", "mode", "batch", "length", "seconds_per_update"} <= set(
        result["learner"][0]
    )
    assert "measuring the learner" in err
    assert main(["bench", "learner", "--preset", "cpu", "--device", "cpu"]) == 0
    assert "matrix product" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["actr"], ["learner", "--preset", "huge"], ["--device", "tpu"]])
def test_a_wrong_word_is_one_line_and_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.bench
def test_a_training_run_settles_at_its_replay_ratio() -> None:
    found = bench_training("cpu", runtime="inline", device="cpu", actors=1, minutes=1.0)
    assert found.replay_ratio == pytest.approx(found.replay_ratio_wanted, rel=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_captured(config: Config) -> None:
    found = learners(["fast"], torch.device("cuda"), lambda _: None)
    assert all(each["mode"] == "captured" and each["first_update_seconds"] < 60 for each in found)
