"""`config` and `params`: what a preset is made of. Also docs/configuration.md:

python -m cluster.commands.describe > docs/configuration.md
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from cluster import assemble
from cluster.commands.options import PresetOptions, parse
from cluster.config import SECTIONS, Config, to_json
from cluster.console.json_text import print_json
from cluster.presets import PRESETS, preset
from dreamer.behaviors import CmaEs
from replay.bounds import kinds

HEAD = """# Every value of the configuration

Made from the code by `python -m cluster.commands.describe > docs/configuration.md`; a test compares the two.

Each value is an option of `train`: `--model.deter 512`. `python -m cluster config --preset cpu` prints one preset.
A value outside of what it may be is refused with one line and exit code 2. The last column ends with its source.
"""


def config(arguments: list[str]) -> int:
    """Prints every value of a preset, with what it may be, its unit and its source."""
    options = parse(PresetOptions, arguments, command="config")
    chosen = preset(options.preset)
    if options.json:
        print_json(to_json(chosen))
        return 0
    for section, values in to_json(chosen).items():
        notes, allowed = field_comments(SECTIONS[section]), kinds(SECTIONS[section])
        for name, value in values.items():
            print(f"{section + '.' + name:26} {value!s:20} [{allowed[name]}] {notes[name]}")
    return 0


def field_comments(kind: type[Any]) -> dict[str, str]:
    """Field name -> the comment behind it in the source, where unit and origin of every value are written."""
    lines = inspect.getsource(kind).splitlines()
    names = {field.name for field in dataclasses.fields(kind)}
    split = (line.partition("#") for line in lines)
    return {code.split(":")[0].strip(): note.strip() for code, _, note in split if code.split(":")[0].strip() in names}


def params(arguments: list[str]) -> int:
    """Prints parameter counts."""
    options = parse(PresetOptions, arguments, command="params")
    counts = parameter_counts(preset(options.preset))
    if options.json:
        print_json(counts)
        return 0
    for name, count in counts.items():
        print(f"{name:12} {count:>12,}")
    return 0


def parameter_counts(config: Config) -> dict[str, int]:
    """Of every part; the target critic, a copy, is not counted."""
    agent = assemble.make_agent(config, assemble.env_spec(config))
    world, behavior = agent.world, agent.behavior
    parts = {
        "encoder": world.encoder.parameters(),
        "decoder": world.decoder.parameters(),
        "rssm": world.rssm.parameters(),
        "reward": world.reward.parameters(),
        "discount": world.discount.parameters(),
        **behavior.param_groups(),
        "controller": [behavior.mean] if isinstance(behavior, CmaEs) else [],  # bred, not trained
        "world_model": world.parameters(),
    }
    counts = {name: sum(numbers.numel() for numbers in part) for name, part in parts.items()}
    found = {name: count for name, count in counts.items() if count}
    return found | {"total": sum(found.get(name, 0) for name in ("world_model", "actor", "critic", "controller"))}


def document() -> str:
    """docs/configuration.md: every value in every preset."""
    presets = {name: to_json(make()) for name, make in PRESETS.items()}
    lines = [HEAD]
    for section, settings in SECTIONS.items():
        notes, allowed = field_comments(settings), kinds(settings)
        lines += [
            f"## {section}",
            "",
            f"{' '.join((settings.__doc__ or '').split())}",
            "",
            f"| value | {' | '.join(presets)} | may be | meaning; source |",
            "|---|" + "---|" * (len(presets) + 2),
        ]
        for name, note in notes.items():
            values = [_shown(each[section][name]) for each in presets.values()]
            lines.append(
                f"| `{section}.{name}` | {' | '.join(values)} | {allowed[name]} | {note.replace('|', chr(92) + '|')} |"
            )
        lines.append("")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.4g}"
        case list() | tuple():
            return " ".join(map(str, value))
        case _:
            return str(value) or "-"


if __name__ == "__main__":
    print(document(), end="")
