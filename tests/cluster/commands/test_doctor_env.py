"""What `doctor --env` says of games, and that every command says the same of a game that does not start."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cluster.cli import main
from learner import checkpoint
from tests.cluster.tiny import finish, start, train_options

FAULTY = ("--env.import-module", "tests.actors.faulty_games")
PLAIN = ["--env.no-life-loss", "--env.no-auto-fire", "--env.no-binary", "--env.shrink", "area", "--env.size", "32"]
PLAIN += ["--env.crop", "0", "0", "0", "0"]


def findings(capsys: pytest.CaptureFixture[str], name: str, *options: str, preset: str = "paper") -> tuple[int, list]:
    """Exit code, and (level, name, all its words) of every line."""
    module = f"tests.actors.{'toy' if name.startswith('Toy/') else 'faulty'}_games"
    own = () if name.startswith("ALE/") else ("--env.import-module", module)
    code = main(["doctor", "--env", name, "--json", "--preset", preset, *own, *options])
    out, _ = capsys.readouterr()
    return code, [(f["level"], f["name"], f"{f['found']}: {f['mend']}") for f in json.loads(out)]


@pytest.mark.parametrize(
    ("game", "options", "code", "expected"),
    [
        (
            "Toy/Lives-v0",
            "--env.frame-skip 1",
            1,
            ("BAD", "ends", "after 9 policy steps, all before the 50 .*length 10"),
        ),
        ("Toy/Lives-v0", "", 1, ("ok", "lives", "3 to 5")),
        ("Toy/Noop-v0", "", 0, ("ok", "actions", "3: FIRE NOOP UP")),
        ("Toy/NoopTurned-v0", "", 0, ("note", "actions", "3; what they mean is not told, .*no no-ops")),
        ("Toy/Long-v0", "", 0, ("ok", "ends", "no game ended within 100 policy steps")),
        ("Toy/Limited-v0", "--env.frame-skip 1", 1, ("BAD", "ends", "after 6 policy steps")),
        ("Toy/BreakoutOfThree-v0", "", 0, ("note", "emulator", "env.frame_skip and env.sticky come on top")),
        ("Toy/Chance-v0", "", 0, ("note", "seed", "two games of one seed differ .*self.np_random")),
        ("Toy/Seeded-v0", "", 0, ("ok", "chance", "games of two seeds differ: ")),
        ("Toy/Seeded-v0", "", 0, ("ok", "seed", "alike")),
        ("Toy/Long-v0", "--env.sticky 0 --env.noop-max 0", 0, ("note", "chance", "alike under the same actions")),
        ("Toy/Dark-v0", "", 1, ("BAD", "picture", "black: no level above 1 of 255")),
        ("Toy/Black-v0", "", 1, ("BAD", "picture", "black: no level above 0 of 255")),
        ("Toy/Still-v0", "", 1, ("BAD", "picture", "the same at every step: mend the game")),
        (
            "Toy/Faint-v0",
            "--env.no-binary --env.contrast 0.05",
            1,
            ("BAD", "picture", "nothing but level 0: env.crop"),
        ),
        ("Toy/Wide-v0", "--env.crop 0 0 200 0", 1, ("BAD", "settings", "leaves nothing of the 128x192 screen")),
        ("Toy/Wide-v0", "--env.life-loss --env.auto-fire", 1, ("BAD", "settings", "does not tell its lives")),
        ("Toy/Wide-v0", "--env.life-loss --env.auto-fire", 1, ("BAD", "settings", "no action FIRE")),
        ("Faulty/Tiny-v0", "", 0, ("note", "screen", "2x2 pixels, which is tiny")),
        ("Faulty/OneStep-v0", "", 1, ("BAD", "ends", "200 game.s. ended, after 1 policy steps, .*--replay.length 2")),
        ("Faulty/LateNan-v0", "", 1, ("BAD", "steps", "returned the reward nan")),
        ("Faulty/LateRange-v0", "", 1, ("BAD", "steps", "levels 255 to 255 where 0 to 250 are declared")),
        ("Faulty/StrangeLives-v0", "", 0, ("note", "lives", "'lives'. is None")),
        ("Faulty/Large-v0", "", 0, ("note", "rewards", "4000 to 4000.*model.reward_squash")),
        ("Faulty/NoReward-v0", "", 0, ("note", "rewards", "none in random play")),
        ("Faulty/StepFour-v0", "", 2, ("BAD", "game", "4 values .*old Gym API")),
        ("Faulty/StepFour-v0", "", 2, ("note", "gymnasium", "old step API")),
        ("Faulty/NoEntry-v0", "", 2, ("BAD", "game", "raised AttributeError")),
        ("Toy/Nothing-v0", "", 2, ("BAD", "game", "env.id Toy/Nothing-v0 is unknown")),
        ("ALE/Breakout-v5", "", 0, ("ok", "lives", "to 5")),
        ("ALE/Breakout-v5", "", 0, ("ok", "actions", "4: NOOP FIRE RIGHT LEFT")),
    ],
)
def test_what_is_said_of_a_game(
    game: str, options: str, code: int, expected: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found_code, found = findings(capsys, game, *options.split())
    level, name, words = expected
    assert any((level, name) == line[:2] and re.search(words, line[2]) for line in found), found
    assert found_code == code, found


def test_a_good_game_has_a_line_for_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--env", "ALE/Breakout-v5", "--steps", "60"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["game", "actions", "screen", "picture", "rewards", "ends", "lives", "seed", "chance", "speed", "gymnasium"]
    assert [line.split()[1] for line in lines] == names
    assert not any(line.startswith("BAD") for line in lines)


def test_wrong_options_of_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--env"], ["--env", "ALE/Pong-v5", "--steps", "0"], ["--env", "ALE/Pong-v5", "--stepps", "9"]):
        assert main(["doctor", *options]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1 and err.startswith("error: ")


# --- The same words from every command ---


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a game that is right."""
    path = tmp_path_factory.mktemp("games") / "run"
    right = ["--env.id", "Faulty/NumpyBool-v0", *FAULTY, *PLAIN]
    assert (
        main(train_options(path, "--runtime", "inline", "--cluster.metrics-port", "-1", *right, "--updates", "2")) == 0
    )
    return path


@pytest.mark.parametrize(
    "name", ["InitExit", "ResetPictureOnly", "StepFloat", "RewardNan", "ChannelsFirst", "NoModule"]
)
def test_train_evaluate_record_and_doctor_say_the_same(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    game, said = f"Faulty/{name}-v0", set()
    config = json.loads((run / "config.json").read_text())
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "checkpoints").symlink_to(run / "checkpoints")
    (broken / "config.json").write_text(json.dumps(config | {"env": config["env"] | {"id": game}}))
    (broken / "run_id").write_text("0")
    for command in (
        train_options(tmp_path / "new", "--env.id", game, *FAULTY, *PLAIN),
        train_options(tmp_path / "new", "--env.id", game, *FAULTY, *PLAIN, "--runtime", "inline"),
        ["evaluate", str(broken)],
        ["record", str(broken), "--out", str(tmp_path / "film.gif")],
    ):
        capsys.readouterr()
        assert main(command) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1
        said.add(err)
    assert len(said) == 1 and not (tmp_path / "new").exists()
    words = said.pop().removeprefix("error: ").strip()
    assert main(["doctor", "--env", game, *FAULTY]) == 2
    line = capsys.readouterr().out.splitlines()[0].removeprefix("BAD  game       ")
    assert words.startswith(line)


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_a_game_that_breaks_in_the_middle_ends_the_run_in_one_line_and_is_saved(workers: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    late = ["--env.id", "Faulty/LateRaise-v0", *FAULTY, *PLAIN, "--replay.prefill", "40", "--env.frame-skip", "2"]
    code, _, err = finish(start(*train_options(path, "--runtime", "inline", *late, "--actor.workers", workers)))
    assert code == 1 and "Traceback" not in err, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: Faulty/LateRaise-v0: step() raised RuntimeError: engine lost (")
    assert "faulty_games.py:" in line
    saved = checkpoint.load_newest(path / "checkpoints")
    assert saved and saved.update > 0
