"""Bad input gets one clear line and exit code 2, and nothing is lost or left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import get_args

import pytest
import torch

from cluster import assemble, config, presets
from cluster.cli import main
from cluster.commands import agent as agent_commands
from cluster.commands import train as commands
from cluster.commands.options import Preset, value_of
from cluster.look.evaluate import Evaluation
from tests.cluster.tiny import ROOT, train_options

INLINE = ("--runtime", "inline")
TWO_GAMES = Evaluation([1.0, 3.0], [100, 200], 5.0)


pytestmark = pytest.mark.usefixtures("signals_as_before")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs the command line; asserts exit code 2 and a single line on stderr, which is returned."""
    code = main(list(arguments))
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    return lines[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "run"
    assert main(train_options(path, *INLINE, "--updates", "2")) == 0
    return path


VAE_RNN = ["--model.dynamics", "vae_rnn", "--model.latent", "gaussian"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--replay.batsh", "3"], "did you mean --replay.batch"),
        (["--cluster.actors", "0"], "cluster.actors must be at least 1"),
        (["--cluster.wait-for", "2"], "cluster.wait_for must be 0 to the 1 actor processes"),
        (["--cluster.stall-seconds", "1"], "cluster.stall_seconds must be 5 to 1e9 (a busy process"),
        (["--replay.batch", "many"], "--replay.batch must be a whole number, 1 to 1e9, not 'many'"),
        (["--preset", "papper"], "paper, fast, cpu, blog, dreamer1, planet, world_models"),
        (["--env.id", "ALE/Breakuot-v5"], "ALE/Breakout-v5"),
        (["--env.id", "CartPole-v1"], "not a picture"),
        (["--env.import-module", "no_such_games"], "cannot be imported"),
        (["--env.id", "BreakoutDeterministic-v4", "--env.sticky", "0.25"], "take --env.id ALE/Breakout-v5"),
        (["--env.size", "42"], "env.size 42 cannot be cut into"),
        (["--model.cnn", "valid"], "env.size must be 64 for model.cnn valid, not 40"),
        (["--env.perturb", "fog"], "none, background, brightness or noop, not 'fog'"),
        (["--env.crop", "200", "200", "0", "0"], "leaves nothing"),
        (["--replay.capacity", "2000000000"], "lower --replay.capacity to"),
        (["--replay.prefill", "30000"], "must not exceed replay.capacity"),
        (["--replay.stride", "6"], "at most half of replay.length"),
        (["--behavior.start-every", "100"], "must be less than replay.length"),
        (["--replay.stored-state", "--model.classes", "256"], "model.classes must be at most 255"),
        (
            ["--replay.stored-state", "--model.latent", "gaussian"],
            "replay.stored_state must be false for model.latent gaussian",
        ),
        (
            ["--model.latent", "gaussian", "--model.unimix", "0.1"],
            "model.unimix must be 0 for model.latent gaussian, which has no classes, not 0.1",
        ),
        (["--model.dynamics", "vae_rnn"], "model.latent must be gaussian for model.dynamics vae_rnn, not categorical"),
        ([*VAE_RNN, "--model.deter", "17"], "model.deter must be even for model.dynamics vae_rnn"),
        ([*VAE_RNN, "--model.kl-swapped"], "model.kl_swapped must be false for model.dynamics vae_rnn"),
        (["--actor.workers", "3"], "actor.workers must be 0 to actor.games (2), not 3"),
        (["--actor.epsilon", "1.5"], "actor.epsilon must be 0 to 1, not 1.5"),
        (["--replay.replay-ratio", "0"], "replay.replay_ratio must be 0.001 to 1e9, not 0.0"),
        (["--train.precision", "float16"], "float32, bfloat16 or auto"),
        (["--train.model-lr", "0"], "train.model_lr must be 1e-12 to 1e30, not 0.0"),
        (["--model.reward-squash", "log"], "tanh, clip or none, not 'log'"),
        (["--behavior.name", "sarsa"], "actor_critic, ppo, cem, cma_es or mcts"),
        (["--behavior.cem-elites", "2000"], "behavior.cem_elites (2000) must not be more than behavior.cem_candidates"),
        (["--behavior.cem-score", "max"], "--behavior.cem-score must be sum, discounted or value"),
        (["--behavior.search-learning", "0"], "behavior.search_learning must be 1 to 1000"),
        (["--behavior.es-population", "3"], "behavior.es_population must be 4 to 1e5"),
        (["--behavior.name", "ppo", "--behavior.rho", "0.5"], "behavior.rho must be 1 for ppo"),
        (["--behavior.ppo-clip", "1"], "behavior.ppo_clip must be above 0 and below 1, not 1.0"),
        (["--runtime", "slurm"], "--runtime"),
        (["--resume"], "needs --run-dir"),
        (["--minutes"], "--minutes"),
    ],
)
def test_a_wrong_request_is_refused(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    place = [] if options == ["--resume"] else ["--run-dir", str(run_dir)]
    base = [word for word in train_options(run_dir, *INLINE) if word not in ("--run-dir", str(run_dir))]
    assert words in refused(capsys, *base, *place, *options)
    assert not run_dir.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU another preset and runtime are the default")
@pytest.mark.ray
def test_no_option_at_all_is_a_request_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `make train-local` asks for. Nothing is started here."""
    monkeypatch.setattr("os.environ", dict(os.environ))  # Ray's settings go there
    asked = commands.understand([])
    assert (asked.config, asked.runtime, asked.options.run_dir) == (presets.cpu(), "ray", None)
    assert value_of("--preset", []) is None


def test_a_gpu_that_is_asked_for_and_absent_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    line = refused(capsys, *train_options(tmp_path / "run", *INLINE, "--device", "cuda"))
    assert "no CUDA device" in line and "--device cpu" in line
    assert not (tmp_path / "run").exists()


def test_ports_in_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused(capsys, *train_options(tmp_path / "run", *INLINE, "--cluster.metrics-port", port))
        assert f"port {port} for metrics is in use" in line


def test_a_run_directory_that_holds_a_run_is_left_alone(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert "add --resume" in refused(capsys, *train_options(run, *INLINE))
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_a_directory_of_somebody_else_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert "not empty" in refused(capsys, *train_options(tmp_path, *INLINE))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(capsys, *train_options(tmp_path / "file" / "run", *INLINE))


def test_resuming_what_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "holds no run" in refused(capsys, *train_options(tmp_path / "no", *INLINE, "--resume"))


def test_resuming_with_another_network(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    before = (run / "config.json").read_text()
    assert "another network" in refused(capsys, *train_options(run, *INLINE, "--resume", "--model.deter", "24"))
    assert (run / "config.json").read_text() == before


def test_commands_that_need_a_trained_run(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    gif = str(tmp_path / "x.gif")
    assert "holds no run" in refused(capsys, "evaluate", str(tmp_path))
    assert "no run" in refused(capsys, "record", str(tmp_path), "--out", gif)
    assert ".gif or .mp4" in refused(capsys, "record", str(run), "--out", str(tmp_path / "x.avi"))
    assert "there is no checkpoint" in refused(capsys, "evaluate", str(run), "--checkpoint", str(tmp_path / "no.pt"))
    assert "--episodes must be 1 to 1e6" in refused(capsys, "evaluate", str(run), "--episodes", "0")
    assert "noop" in refused(capsys, "evaluate", str(run), "--perturb", "fog")
    assert "there is no command" in refused(capsys, "trian")


def test_only_damaged_checkpoints(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert main(train_options(path, *INLINE, "--updates", "2")) == 0
    for file in (path / "checkpoints").glob("*.pt"):
        file.write_bytes(file.read_bytes()[:100])
    capsys.readouterr()
    assert main(["evaluate", str(path)]) == 2
    assert "none of the 1 checkpoints" in capsys.readouterr().err


def test_evaluate_prints_one_json_document(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    assert main(["evaluate", str(run), "--episodes", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    keys = {"scores", "mean", "std", "min", "max", "lengths", "frames", "perturb", "sticky", "checkpoint", "random"}
    assert set(result) == keys | {"hazard", "behavior"}
    assert (result["perturb"], result["sticky"], result["behavior"]) == ("none", 0.0, "actor_critic")
    assert len(result["scores"]) == 2 and result["frames"] == 4 * sum(result["lengths"])
    assert result["checkpoint"]["update"] == 2


def test_agent_and_baseline_are_perturbed_alike(
    capsys: pytest.CaptureFixture[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = []
    monkeypatch.setattr(agent_commands, "play_agent", lambda agent, env, **_: played.append(env) or TWO_GAMES)
    monkeypatch.setattr(agent_commands, "play_random", lambda env, **_: played.append(env) or TWO_GAMES)
    perturbed = ["--perturb", "background", "--sticky", "0.1"]
    assert main(["evaluate", str(run), *perturbed, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["perturb"], result["sticky"]) == ("background", 0.1)
    assert [(env.perturb, env.sticky) for env in played] == [("background", 0.1)] * 2
    assert main(["evaluate", str(run), *perturbed]) == 0
    assert "perturb background, sticky 0.1" in capsys.readouterr().out
    assert main(["evaluate", str(run)]) == 0
    assert "perturb none, sticky 0\n" in capsys.readouterr().out


def test_the_world_model_is_judged_on_request(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    assert main(["evaluate", str(run), "--world-model", "--episodes", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["checkpoint"] == {"update": 2} and result["windows"] == 20
    assert {"moved_recall", "ball_recall", "ball_recall_15_ahead"} <= set(result)
    assert main(["evaluate", str(run), "--world-model", "--episodes", "1"]) == 0
    assert "ball_recall_15_ahead" in capsys.readouterr().out


def test_an_exported_agent_plays_alike_and_is_not_trained_on(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "agent"
    assert main(["export", str(run), "--out", str(out)]) == 0
    (exported,), (whole,) = (list((path / "checkpoints").glob("*.pt")) for path in (out, run))
    assert exported.stat().st_size < whole.stat().st_size / 3
    ours, theirs = (assemble.load(path).agent.state_dict() for path in (out, run))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-3, atol=1e-6)
    assert main(["evaluate", str(out), "--episodes", "1", "--json"]) == 0
    capsys.readouterr()
    said = refused(capsys, "export", str(run), "--out", str(out))
    assert "holds a run already: choose another --out" in said
    config = (out / "config.json").read_text()
    assert "can be played with, not trained on" in refused(capsys, *train_options(out, *INLINE, "--resume"))
    assert config == (out / "config.json").read_text()


def test_an_export_that_is_interrupted_leaves_nothing(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_commands.shutil, "copy", lambda *files: os.kill(os.getpid(), signal.SIGINT))
    assert main(["export", str(run), "--out", str(tmp_path / "agent")]) == 130
    assert not (tmp_path / "agent").exists() and capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["play", "reconstruct", "dream"])
def test_record_writes_a_video(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("av", reason="MP4 needs av")
    out = tmp_path / f"{kind}.mp4"
    assert main(["record", str(run), "--kind", kind, "--out", str(out), "--steps", "20"]) == 0
    assert out.stat().st_size > 1000


def test_an_mp4_without_its_package_is_refused_before_anything_is_played(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.look.video.find_spec", lambda name: None)
    assert "record a .gif" in refused(capsys, "record", str(run), "--out", str(tmp_path / "x.mp4"))


def test_params_of_paper_are_the_official_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params", "--preset", "paper", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "encoder": 1549776,
        "decoder": 10497553,
        "rssm": 5656448,
        "reward": 1131601,
        "discount": 1131601,
        "actor": 1132804,
        "critic": 1131601,
        "world_model": 19966979,
        "total": 22231384,
    }


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_a_preset_survives_json_and_shows_every_source(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = presets.preset(name)
    config.check(chosen)
    assert config.from_json(json.loads(json.dumps(config.to_json(chosen)))) == chosen
    assert main(["config", "--preset", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(config.flat(chosen))
    assert all(";" in line for line in lines)


def test_every_preset_can_be_asked_for() -> None:
    assert get_args(Preset) == tuple(presets.PRESETS)


@pytest.mark.parametrize("form", ["--preset {}", "--preset={}"])
def test_the_old_name_of_a_preset_is_still_understood(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for name in ("blog", "seed"):
        assert main(["config", *form.format(name).split()]) == 0
        assert main(["params", *form.format(name).split()]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != ""
    asked = commands.understand([*form.format("seed").split(), "--seed", "3", *INLINE])
    assert (asked.options.preset, asked.config.behavior, asked.config.train.seed) == (
        "blog",
        presets.blog().behavior,
        3,
    )


def test_help_names_presets_as_they_are_called_today(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["config", "--help"])
    assert "{paper,fast,cpu,blog,dreamer1,planet,world_models}" in capsys.readouterr().out


def test_changed_values_are_named_one_by_one() -> None:
    assert "replay.replay_ratio: 50.0 -> 4.0" in config.changes(presets.paper(), presets.cpu())
    assert config.changes(presets.cpu(), presets.cpu()) == []


def test_doctor_checks_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert found["game"]["ok"] and found["torch"]["ok"]
    assert code == (0 if all(check["ok"] for check in found.values()) else 1)
    assert all(check["mend"] for check in found.values() if not check["ok"])


def test_the_ten_lines_of_the_readme_play_a_game(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = text.split("```python")[1].split("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("score ")
