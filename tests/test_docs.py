"""What README and docs name is there, and the commands that they show can be given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cluster.commands import options
from cluster.commands.describe import document
from cluster.commands.options import option_kinds

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
OTHERS = ("pytest", "mypy", "http/server")  # modules that are not ours
TREES = ("cluster", "dreamer", "actors", "learner", "replay", "deploy", "tests", "docs")
MADE = ("runs/", "RUN/", "DIR/", "~", "docs/bench/")  # beginnings of paths that a command makes
KINDS = {
    "train": options.TrainOptions,
    "dream": options.DreamOptions,
    "status": options.StatusOptions,
    "evaluate": options.EvaluateOptions,
    "record": options.RecordOptions,
    "play": options.PlayOptions,
    "export": options.ExportOptions,
    "bench": options.BenchOptions,
    "config": options.PresetOptions,
    "params": options.PresetOptions,
    "monitor": options.MonitorOptions,
    "doctor": options.DoctorOptions,
}
MAKES = {"train-local": "train", "cluster-train": "train", "dream": "dream", "bench": "bench", "monitor": "monitor"}
MAKES |= {"evaluate": "evaluate", "record": "record", "status": "status", "play": "play"}
MAKES |= {"watch": "record"}  # verb -> the command that gets ARGS


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(line.lstrip("#")) for line in page.read_text().splitlines() if line.startswith("#")}


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if target.startswith(("http://", "https://")):
                continue
            name, _, part = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if not file.exists() or (part and part not in anchors(file)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)


def test_every_file_that_is_named_exists() -> None:
    lost = []
    for page in PAGES:
        for name in re.findall(r"`([\w./-]+/[\w.*/-]*)`", page.read_text()):
            if name.startswith(TREES) and not name.startswith(MADE):
                found = any(ROOT.glob(name.rstrip("/"))) or any(ROOT.glob(f"{name}.py"))
                lost += [] if found else [f"{page.relative_to(ROOT)}: {name}"]
    assert not lost, "\n".join(lost)


def shown(page: Path) -> list[str]:
    """The commands of a page: lines of its bash blocks, and what stands between backticks, without comments."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", text, flags=re.S)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    ours = "make|python -m|dreamer|evaluate|export|record|train|dream|doctor|config|bench"
    inline = re.findall(rf"`((?:{ours}) [^`]+)`", text)
    return [line for line in lines + inline if line and not line.startswith("#")]


def fault_of(command: str) -> str:
    """What is wrong with a command that a page shows; "" if it can be given. Only ours are looked at."""
    try:
        words = [word for word in shlex.split(command) if "=" not in word or word.startswith(("-", "ARGS="))]
    except ValueError as error:
        return str(error)
    if words[:3] == ["python", "-m", "cluster"] and len(words) > 3:
        return refusal(words[3], words[4:])
    if words[0] in KINDS or words[0] == "dreamer":
        words = words[words[0] == "dreamer" :]
        return refusal(words[0], words[1:])
    if words[:2] == ["python", "-m"]:
        module = words[2].replace(".", "/")
        there = any((ROOT / module).with_suffix(end).exists() for end in (".py", "")) or module in OTHERS
        return "" if there else f"there is no module {words[2]}"
    if words[0] == "make":
        verbs = set(re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), flags=re.M))
        known = {verb for line in verbs for verb in line.split()}
        if words[1] not in known:
            return f"make knows no {words[1]}"
        given = next((word.removeprefix("ARGS=") for word in words if word.startswith("ARGS=")), "")
        command = MAKES.get(words[1], "")
        return refusal(command, shlex.split(given)) if command else ""
    return ""


def refusal(command: str, arguments: list[str]) -> str:
    """Why our command line would not take it. Words in capitals stand for something; options are what is checked."""
    if command.isupper():  # stands for any
        return ""
    if command not in KINDS:
        return f"there is no command {command}"
    if command == "doctor" and any(word.startswith("--env") for word in arguments):
        known = {"--env", *option_kinds(options.DoctorEnvOptions)}
    else:
        known = set(option_kinds(KINDS[command]))
    names = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    return next((f"no option {name}" for name in names if name not in known), "")


def test_every_command_that_is_shown_can_be_given() -> None:
    faults = [
        f"{page.relative_to(ROOT)}: {command}: {fault}"
        for page in PAGES
        for command in shown(page)
        if (fault := fault_of(command))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("make train-locale", "make knows no train-locale"),
        ('make train-local ARGS="--minuts 3"', "no option --minuts"),
        ("python -m cluster evaluat RUN", "there is no command evaluat"),
        ("evaluate RUN --world-modle", "no option --world-modle"),
        ("python -m tests.nothing OUT", "there is no module tests.nothing"),
    ],
)
def test_a_wrong_command_would_be_noticed(command: str, words: str) -> None:
    assert fault_of(command) == words


def test_the_page_of_the_configuration_is_that_of_the_code() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == document(), "make it again: python -m cluster.commands.describe > docs/configuration.md"


def test_the_readme_is_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
