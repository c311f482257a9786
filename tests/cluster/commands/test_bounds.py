"""What is no sensible value is refused in one line, wherever it comes from, and nothing is made or changed."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest

from actors.config import MAY_CHANGE, EnvConfig, check_same_game
from cluster import load_agent, presets
from cluster.cli import main
from cluster.commands import options as all_options
from cluster.commands.options import parse
from cluster.config import SECTIONS, Config, check, from_json, to_json
from cluster.run import directory as run_dir
from replay import UserError
from replay.bounds import Kind, first_fault, kinds, misfits, read_bounds
from tests.cluster.test_cli import refused
from tests.cluster.tiny import TINY

INLINE = ("--runtime", "inline")
OPTIONS = [kind for name, kind in vars(all_options).items() if name.endswith("Options")]
FIELDS = [(section, name, kind) for section in SECTIONS for name, kind in kinds(SECTIONS[section]).items()]
CHOICES = [field for field in FIELDS if get_origin(field[2].plain) is Literal]
NUMBERS = [field for field in FIELDS if field[2].plain in (int, float) and not field[2].times]
FREE_TEXT = {
    "env.id",
    "env.import_module",
    "cluster.address",
    "cluster.host",
    "MonitorOptions.target",
    "PlayOptions.host",
    "PlayOptions.token",
    "DoctorOptions.env",
}
ZERO = {  # where it means none, off or any, or is the end of a share
    "env": ("sticky", "noop_max"),
    "actor": ("epsilon", "practice", "workers"),
    "replay": ("prefill", "port"),
    "model": (
        *("head_layers", "unimix", "reward_bins", "motion_weight", "kl_scale", "kl_balance", "free_nats"),
        *("reward_scale", "discount_scale"),
    ),
    "behavior": (
        *("layers", "unimix", "value_bins", "return_lambda", "rho", "entropy_scale", "return_scale"),
        *("cem_hold", "cem_mix", "search_acting", "search_unroll"),
    ),
    "train": ("seed", "weight_decay", "threads", "image_every", "video_every", "checkpoint_every"),
    "cluster": ("metrics_port", "actors", "wait_for"),
}


def changed(section: str, name: str, value: Any) -> Config:
    config = presets.cpu()
    return replace(config, **{section: replace(getattr(config, section), **{name: value})})


def outside(kind: Kind) -> list[Any]:
    """The nearest values beyond both ends."""
    low, high = float(kind.bounds.low), float(kind.bounds.high)
    if kind.plain is int:
        return [int(low) - 1, int(high) + 1]
    below = math.nextafter(low, -math.inf) if kind.bounds.low_is_in else low
    above = math.nextafter(high, math.inf) if kind.bounds.high_is_in else high
    return [below, above]


# --- Every field ---


def test_every_number_has_both_ends_and_every_text_its_choices() -> None:
    wrong = []
    for settings in (*SECTIONS.values(), *OPTIONS):
        section = next((name for name, kind in SECTIONS.items() if kind is settings), settings.__name__)
        for name, kind in kinds(settings).items():
            bounds = kind.bounds
            if kind.plain in (int, float) and not (
                bounds and math.isfinite(float(bounds.low)) and math.isfinite(float(bounds.high))
            ):
                wrong.append(f"{section}.{name} has no bounds")
            if kind.plain is str and f"{section}.{name}" not in FREE_TEXT:
                wrong.append(f"{section}.{name}: a Literal?")
        defaults = {f.name: f.default for f in dataclasses.fields(settings) if f.default is not dataclasses.MISSING}
        wrong += [
            f"{section}.{name} is {value}" for name, value in defaults.items() if kinds(settings)[name].wrong(value)
        ]
    assert not wrong, "\n".join(wrong)


def said_of(section: str, name: str, value: Any) -> str:
    """Why a configuration with this value is refused; "" if it is not."""
    try:
        check(changed(section, name, value))
    except UserError as refusal:
        return str(refusal)
    return ""


def test_a_number_out_of_bounds_is_one_line_that_names_it() -> None:
    wrong = []
    for section, name, kind in NUMBERS:
        zero = [] if name in ZERO[section] else [0, 0.0, -0.0]
        minus = [] if (section, name) == ("cluster", "metrics_port") else [-1, -1.0]
        nonsense = [math.nan, math.inf, -math.inf, float("1e400"), 10**400, -(10**400)]
        mistyped = ["7", True, False, None, [7], (7, 7), *([7.0, 7.5] if kind.plain is int else [])]
        for value in [*zero, *minus, *nonsense, *mistyped, *outside(kind)]:
            line = said_of(section, name, value)
            if not line.startswith(f"{section}.{name} must be ") or "\n" in line or len(line) >= 200:
                wrong.append(f"{section}.{name}: {line!r}")
    assert not wrong, "\n".join(wrong)


def test_the_ends_themselves_are_legal_and_so_is_zero_where_it_means_something() -> None:
    wrong = []
    for section, name, kind in NUMBERS:
        ends = [end for end, is_in in ((kind.bounds.low, kind.bounds.low_is_in), (kind.bounds.high, True)) if is_in]
        legal = [kind.plain(float(end)) for end in ends if kind.bounds.hold(float(end))]
        legal += [kind.plain(0)] if name in ZERO[section] else []
        for value in legal:
            settings = getattr(changed(section, name, value), section)
            wrong += [fault] if (fault := first_fault(section, settings, lambda settings: [])) else []
    assert not wrong, "\n".join(wrong)


def test_a_word_that_is_no_choice_is_one_line_that_lists_them() -> None:
    wrong = []
    for section, name, kind in CHOICES:
        for value in ("nonsense", "", 0, True, None, ["cpu"]):
            line = said_of(section, name, value)
            wrong += (
                [] if line.startswith(f"{section}.{name} must be {kind}, not ") else [f"{section}.{name}: {line!r}"]
            )
    assert not wrong, "\n".join(wrong)


def test_a_crop_is_four_numbers_of_pixels() -> None:
    for value in [(0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, -1), (0, 0, 0, math.nan), [0, 0, 0, 0], "0000", 4]:
        with pytest.raises(UserError, match=r"^env\.crop must be 4 times 0 to 10000, not"):
            check(changed("env", "crop", value))


def test_bounds_are_read_and_said() -> None:
    words = {
        "0 < x <= 1": "above 0 and at most 1",
        "1 <= x": "at least 1",
        "x < 5": "below 5",
        "0 <= x <= 1e9": "0 to 1e9",
    }
    assert {text: str(read_bounds(text)) for text in words} == words
    with pytest.raises(ValueError, match="bounds are written"):
        read_bounds("0..1")


def test_no_fault_is_looked_for_between_values_that_are_wrong_by_themselves() -> None:
    assert list(misfits(EnvConfig())) == []
    broken = replace(EnvConfig(), size="big")
    assert first_fault("env", broken, lambda env: [(env.size > 1, "never asked")]).startswith("env.size must be")


# --- Between sections ---


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("env", {"time_limit": 14}, r"env\.time_limit \(14\) must be at least replay\.length - 1 \(15\)"),
        ("replay", {"capacity": 120, "prefill": 10}, r"8 x 16 steps\) must not exceed replay\.capacity \(120\)"),
        ("actor", {"games": 10_000, "workers": 0}, None),
        ("cluster", {"address": "head"}, r"cluster\.address must be local, auto or HOST:PORT, not 'head'"),
        ("cluster", {"address": "10.0.0.1:99999"}, r"cluster\.address"),
        ("cluster", {"address": "10.0.0.1:6379", "actors": 0, "wait_for": 0}, None),
        ("cluster", {"host": " "}, r"cluster\.host"),
        ("model", {"reward_bins": 1}, r"model\.reward_bins must be 0 or at least 2"),
        ("behavior", {"value_bins": 1}, r"behavior\.value_bins must be 0 or at least 2"),
        ("env", {"import_module": ".games"}, r"env\.import_module must be the name of a Python module"),
        ("env", {"time_limit": 15}, None),
    ],
)
def test_values_that_cannot_work_together(section: str, values: dict[str, Any], words: str | None) -> None:
    config = presets.cpu()
    config = replace(config, **{section: replace(getattr(config, section), **values)})
    if words is None:
        check(config)
    else:
        with pytest.raises(UserError, match=words):
            check(config)


def test_a_replay_too_small_for_its_games_is_refused_before_it_begins() -> None:
    config = changed("actor", "games", 100)
    small = replace(config, replay=replace(config.replay, capacity=1599, prefill=100))
    with pytest.raises(UserError, match=r"replay\.capacity \(1599\) must hold a window .* 100 games"):
        check(small)
    check(replace(small, replay=replace(small.replay, capacity=1600)))


# --- The real command ---


@pytest.mark.parametrize(
    "words",
    [
        "--train.keep-checkpoints 0",
        "--train.grad-clip 0",
        "--train.grad-clip inf",
        "--behavior.slow-every 0",
        "--replay.replay-ratio nan",
        "--replay.replay-ratio=-inf",
        "--replay.replay-ratio 1e400",
        "--train.adam-eps 0",
        "--train.publish-every 0",
        "--train.log-every nan",
        "--train.checkpoint-every -1",
        "--model.gamma 0",
        "--model.kl-balance 2",
        "--behavior.slow-fraction 0",
        "--replay.port 65536",
        "--cluster.metrics-port -2",
        "--train.threads -1",
        "--replay.batch 99999999999999999999999999",
        "--env.crop 1 2 3 -4",
        "--env.time-limit 3",
        "--train.precision float16",
        "--model.deter 60000 --model.hidden 60000",
        "--minutes nan",
        "--minutes -1",
        "--minutes 0",
        "--minutes inf",
        "--steps 0",
        "--steps -5",
        "--updates 0",
        "--updates 1e3",
        "--seed -1",
        "--seed 1.5",
        "--seed 99999999999999999999",
    ],
)
def test_train_refuses_it_and_makes_nothing(words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    option, *_ = words.replace("=", " ").split()
    line = refused(capsys, "train", *TINY, *INLINE, "--run-dir", str(tmp_path / "run"), *words.split())
    assert "must be" in line or "lower the sizes" in line
    assert option.strip("-").split(".")[-1].replace("-", "_") in line.replace("-", "_") or "sizes of model" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("evaluate RUN --episodes 0", "--episodes must be 1 to 1e6, not 0"),
        ("evaluate RUN --episodes many", "--episodes must be a whole number, 1 to 1e6, not 'many'"),
        ("evaluate RUN --sticky 2", "--sticky must be 0 to 1, not 2.0"),
        ("evaluate RUN --sticky nan", "--sticky must be 0 to 1, not nan"),
        ("evaluate RUN --seed -1", "--seed must be 0 to 4294967295, not -1"),
        ("evaluate RUN --perturb fog", "--perturb must be none, background, brightness or noop, not 'fog'"),
        ("record RUN --out OUT.gif --fps 0", "--fps must be 0.1 to 1000, not 0.0"),
        ("record RUN --out OUT.gif --fps nan", "--fps must be 0.1 to 1000, not nan"),
        ("record RUN --out OUT.gif --steps 0", "--steps must be 1 to 1e15, not 0"),
        ("record RUN --out OUT.gif --seed -1", "--seed must be"),
        ("record RUN", "record needs --out"),
        ("evaluate", "evaluate needs RUN: see"),
        ("monitor --port 0", "--port must be 1 to 65535, not 0"),
        ("monitor --target 127.0.0.1:99999", "--target must be HOST:PORT, not '127.0.0.1:99999'"),
        ("monitor --target localhost", "--target must be HOST:PORT, not 'localhost'"),
        ("monitor --port 70000", "--port must be 1 to 65535, not 70000"),
        ("bench all --device tpu", "--device must be cpu or cuda, not 'tpu'"),
        ("bench all_of_it", "PART must be all, env, actor, replay, learner, metrics or train, not 'all_of_it'"),
        (
            "config --preset papper",
            "--preset must be paper, fast, cpu, blog, dreamer1, planet or world_models, not 'papper'",
        ),
        ("train --minutes", "--minutes needs a value: a number, above 0 and at most 1e9"),
        ("train --run-dir", "--run-dir needs a value: a path"),
        ("train --env.crop 1 2", "--env.crop must be 4 times 0 to 10000"),
    ],
)
def test_options_that_are_no_fields(
    words: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "20")  # what is said must not depend on the width of a window
    places = {"RUN": str(tmp_path), "OUT.gif": str(tmp_path / "film.gif")}
    assert says in refused(capsys, *[places.get(word, word) for word in words.split()])
    assert list(tmp_path.iterdir()) == []


def test_config_shows_what_every_value_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "[above 0 and at most 1] how far" in lines["behavior.slow_fraction"]
    assert "[1 to 1e9] newest checkpoints kept" in lines["train.keep_checkpoints"]
    assert "[tanh, clip or none]" in lines["model.reward_squash"]
    assert all(f"[{kind}]" in lines[f"{section}.{name}"] for section, name, kind in FIELDS)


# --- config.json ---


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_dir.create(tmp_path / "run", presets.cpu()).path


def tree(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"replay": {"batch": "many"}}, "replay.batch must be a whole number, 1 to 1e9, not 'many'"),
        ({"replay": {"batch": True}}, "replay.batch must be a whole number"),
        ({"replay": {"batch": 8.5}}, "replay.batch must be a whole number"),
        ({"replay": {"batch": None}}, "replay.batch must be a whole number"),
        ({"replay": {"replay_ratio": "8"}}, "replay.replay_ratio must be a number"),
        ({"env": {"crop": [0, 0]}}, "env.crop must be 4 times 0 to 10000, not [0, 0]"),
        ({"env": {"crop": [0, 0, 0, "x"]}}, "env.crop must be 4 times"),
        ({"env": {"crop": 3}}, "env.crop must be 4 times"),
        ({"env": {"binary": "yes"}}, "env.binary must be true or false, not 'yes'"),
        ({"env": {"id": 7}}, "env.id must be a text, not 7"),
        ({"train": {"precision": "float16"}}, "train.precision must be float32, bfloat16 or auto, not 'float16'"),
        ({"train": {"device": {}}}, "train.device must be cpu, cuda or auto"),
        ({"replay": 5}, "replay must be a section of values, not 5"),
        ({"replay": {"batsh": 5}}, "unknown value replay.batsh"),
        ({"reply": {}}, "unknown section 'reply'"),
    ],
)
def test_a_wrong_type_in_a_config_file_is_one_line(
    change: dict[str, Any], words: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.loads((run / "config.json").read_text())
    for section, fields in change.items():
        values[section] = values.get(section, {}) | fields if isinstance(fields, dict) else fields
    (run / "config.json").write_text(json.dumps(values))
    before = tree(run)
    for command in (["status", str(run)], ["evaluate", str(run)], ["train", "--resume", "--run-dir", str(run)]):
        assert words in refused(capsys, *command)
    assert tree(run) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"x"', "[" * 100_000, "9" * 5000, "\udcff\udcfe"])
def test_a_config_file_that_is_none_is_one_line(text: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    for command in (["status", str(run)], ["train", "--resume", "--run-dir", str(run)]):
        assert "config.json" in refused(capsys, *command)


def test_a_file_is_no_run_directory(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is it a run" in refused(capsys, "status", str(run / "run_id")).replace(str(run / "run_id"), "it")


@pytest.mark.parametrize(("value", "said"), [("NaN", "nan"), ("1e400", "inf"), ("-Infinity", "-inf"), ("0", "0")])
def test_what_is_out_of_bounds_in_a_config_file_can_be_mended_by_an_option(
    value: str, said: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"replay_ratio": 4.0', f'"replay_ratio": {value}'))
    resume = ["train", "--resume", "--run-dir", str(run), *INLINE]
    assert f"replay.replay_ratio must be 0.001 to 1e9, not {said}" in refused(capsys, *resume)
    mended = [*resume, "--replay.replay-ratio", "2", "--env.id", "No/Such-v0"]
    assert "No/Such" in refused(capsys, *mended)  # the next fault is looked for
    assert "no checkpoint yet" in refused(capsys, "evaluate", str(run))  # how it was trained is not asked
    assert main(["status", str(run)]) == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"deter": 256', '"deter": -256', "model.deter must be 1 to 65536, not -256"),
        ('"units": 200', '"units": 1e400', "behavior.units must be a whole number"),
        ('"contrast": 1.0', '"contrast": NaN', "env.contrast must be 0.05 to 255"),
        ('"size": 40', '"size": 41', "env.size 41 cannot be cut into"),
    ],
)
def test_an_agent_that_cannot_be_made_is_one_line(
    old: str, new: str, words: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (run / "config.json").read_text()
    assert old in text
    (run / "config.json").write_text(text.replace(old, new))
    (run / "checkpoints").mkdir()
    for command in (["evaluate"], ["record", "--out", str(run / "x.gif")], ["export", "--out", str(run / "x")]):
        assert words in refused(capsys, *command, str(run))


def test_whole_numbers_stand_for_numbers_in_a_config_file() -> None:
    values = to_json(presets.cpu())
    values["replay"]["replay_ratio"], values["env"]["sticky"] = 4, 0
    assert from_json(values) == presets.cpu()


# --- Another game ---


@pytest.mark.parametrize(
    "words",
    [
        "--env.id ALE/Pong-v5",
        "--env.id BreakoutNoFrameskip-v4",
        "--env.frame-skip 8",
        "--env.crop 0 0 0 0 --env.shrink area",
        "--env.no-binary",
        "--env.full-action-set",
        "--env.perturb background",
        "--env.no-life-loss",
        "--env.contrast 1.5",
        "--preset blog",
    ],
)
def test_a_run_does_not_go_on_in_another_game(words: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(run)
    line = refused(capsys, "train", "--resume", "--run-dir", str(run), *INLINE, *words.split())
    assert "this run's replay was played with env." in line and "another --run-dir" in line
    assert tree(run) == before


def test_what_may_change_in_a_run_is_how_a_game_is_played() -> None:
    other = EnvConfig(
        id="ALE/Pong-v5",
        import_module="games",
        size=40,
        grayscale=False,
        frame_skip=1,
        sticky=0.5,
        noop_max=0,
        max_pool=False,
        full_action_set=True,
        crop=(1, 0, 0, 0),
        shrink="max",
        contrast=1.8,
        binary=True,
        life_loss=True,
        auto_fire=True,
        time_limit=9,
        perturb="noop",
    )
    for name, value in vars(other).items():
        assert value != vars(EnvConfig())[name], f"{name} is not tried"
        try:
            check_same_game(EnvConfig(), replace(EnvConfig(), **{name: value}))
        except UserError as refusal:
            assert name not in MAY_CHANGE and f"env.{name} " in str(refusal)
        else:
            assert name in MAY_CHANGE


def test_an_old_name_of_the_same_game_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_dir.create(tmp_path / "run", presets.cpu()).path
    words = ["--env.id", "BreakoutDeterministic-v4", *INLINE, "--replay.capacity", "99999999999"]
    assert "lower --replay.capacity" in refused(capsys, "train", "--resume", "--run-dir", str(run), *words)


# --- Paths ---


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_home_is_spelled_out_in_every_path(kind: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    default = kind(config=presets.cpu()) if "config" in kinds(kind) else None
    paths = [name for name, allowed in kinds(kind).items() if allowed.plain is Path]
    options = [name for name in paths if name != "run"]
    for form in (lambda name: [f"--{name}=~/{name}"], lambda name: [f"--{name}", f"~/{name}"]):
        words = [word for name in options for word in form(name.replace("_", "-"))]
        words += ["~/run"] if "run" in paths else []
        parsed = parse(kind, words, command="x", default=default)
        for name in paths:
            assert vars(parsed)[name] == tmp_path / name.replace("_", "-")


def test_home_is_spelled_out_by_the_commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for words in ("--run-dir=~/empty", "--run-dir ~/empty", "--run_dir=~/empty"):
        line = refused(capsys, "train", "--resume", *INLINE, *words.split())
        assert f"{tmp_path / 'empty'} holds no run" in line
    assert f"{tmp_path / 'empty'} holds no run" in refused(capsys, "status", "~/empty")
    with pytest.raises(UserError, match=str(tmp_path / "empty")):
        load_agent("~/empty")
    assert "nobody's home" in refused(capsys, "status", "~no_such_user/run")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
