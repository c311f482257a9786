"""What is the way to a policy worth? The same frozen world models, every behaviour, in one table.

    python -m tests.family runs/family runs/seed-0 runs/seed-1 runs/seed-2 --minutes 20

What has to learn does so by `dream` in the RUN's world model, for as many minutes each; then all play the same games. A
table is printed, and OUT keeps a run directory and a result for each row; one that is complete is not made again. One
thread each. How long a decision takes is measured at the end, when nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from actors.config import EnvConfig
from actors.env import make_games
from cluster.assemble import Loaded, load
from cluster.commands.options import EvaluateOptions, parse
from cluster.look.evaluate import MAX_PARALLEL, seeded
from cluster.run.directory import open_run
from dreamer.agent import Agent
from dreamer.equations import plan_return, squash
from dreamer.types import Start, State
from replay.atomic import write_text
from tests.cluster.tiny import command

PLANS = "--behavior.cem-candidates 64 --behavior.cem-elites 8 --behavior.horizon 10 --behavior.cem-hold 0.5"
CEM = f"--behavior.name cem {PLANS} --behavior.cem-rounds 3"
MCTS = "--behavior.name mcts --behavior.search-learning 8"
AHEAD = 10  # steps of which a behaviour promises something
FIRST, LAST, EVERY = 20, 140, 10  # steps of the games at which it is asked
TIMES = 20  # decisions that are timed
ALONE: dict[str, Any] = {"OMP_NUM_THREADS": "1", "seconds": 6 * 3600.0}  # one thread; however busy the machine
CPU = torch.device("cpu")


class Way(NamedTuple):
    """A row of the table."""

    learns: str | None  # options of `dream`, None = nothing is learned
    plays: str = ""  # options of `evaluate`


WAYS = {
    "the run's own actor": Way(None),
    "actor-critic, anew": Way("--behavior.name actor_critic"),
    "actor-critic by gradients of the dynamics (Dreamer V1)": Way("--behavior.name actor_critic --behavior.rho 0"),
    "PPO in dreams": Way("--behavior.name ppo"),
    "random shooting": Way(None, f"{CEM} --behavior.cem-rounds 1 --behavior.cem-candidates 192"),
    "CEM, plain sum (PlaNet)": Way(None, CEM),
    "CEM, discounted": Way(None, f"{CEM} --behavior.cem-score discounted"),
    "CEM with a critic": Way(f"{CEM} --behavior.cem-score value", ""),
    "CMA-ES (World Models' controller)": Way("--behavior.name cma_es --behavior.es-population 32"),
    "search learned from, its actor alone": Way(f"{MCTS} --behavior.search-acting 0"),
    "the same, search of 8 (MuZero)": Way(f"{MCTS} --behavior.search-acting 0", "--behavior.search-acting 8"),
    "the same, search of 50": Way(f"{MCTS} --behavior.search-acting 0", "--behavior.search-acting 50"),
}


def slug(*words: object) -> str:
    """A file name of words and options."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(map(str, words)).replace("--behavior.", "")).strip("-")


def learned(out: Path, run: Path, way: Way, minutes: float) -> Path:
    """The run directory whose behaviour plays: RUN's own, or that of a dream of it, made where it is missing."""
    if way.learns is None:
        return run
    folder = out / run.name / slug(way.learns, minutes, "minutes")
    done = folder / "learned"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a try that was killed
        limits = ["--minutes", str(minutes), "--seed", "1", "--cluster.metrics-port", "-1", "--device", "cpu"]
        command("dream", str(run), "--run-dir", str(folder), *limits, *way.learns.split(), **ALONE)
        shutil.rmtree(folder / "replay")  # a copy of RUN's
        done.touch()
    return folder


def play(folder: Path, way: Way, kept: Path, games: int) -> dict[str, Any]:
    """What `evaluate` says of a row, played where it is not kept yet."""
    if not kept.exists():
        asked = ["--episodes", str(games), "--seed", "1", "--json", *way.plays.split()]
        write_text(kept, command("evaluate", str(folder), *asked, **ALONE))
    result: dict[str, Any] = json.loads(kept.read_text())
    return result


# --- What a decision costs, and what a behaviour promises itself ---


def loaded(folder: Path, plays: str) -> Loaded:
    """The agent of a row."""
    own = EvaluateOptions(run=folder, behavior=open_run(folder)[1].behavior)
    return load(folder, behavior=parse(EvaluateOptions, plays.split(), command="evaluate", default=own).behavior)


class Promise(NamedTuple):
    """Discounted rewards of the next AHEAD steps, as the model learned them; means over states of training's games."""

    promised: float  # as it dreams them, doing what it would do, at the temperature of its dreams
    kept: float  # as they came


@torch.no_grad()
def promise(agent: Agent, env: EnvConfig, *, gamma: float, seed: int) -> Promise:
    """Asks the agent in the middle of its games what the next steps will bring, and compares.

    The games have the rules of its training: where nobody serves, an agent that learned to be served waits for long,
    and that says nothing of its dreams. A state that ends a life is not asked: what follows it is no consequence.
    """
    states, rewards, ends = [], [], []
    with seeded(seed, CPU), closing(make_games(env, MAX_PARALLEL, seed)) as games:
        state, arrived = agent.initial(MAX_PARALLEL), games.reset()
        for _ in range(LAST + AHEAD):
            obs, prev_action, reward, is_first, is_terminal = map(torch.as_tensor, arrived.step)
            action, state = agent.policy_step(state, obs, prev_action, is_first, sample=True)
            states.append(state)
            rewards.append(squash(reward, agent.world.config.reward_squash))
            ends.append(is_terminal | torch.as_tensor(arrived.is_last))
            arrived = games.step(action.numpy())
        promised, kept = [], []
        for t in range(FIRST, LAST, EVERY):
            ahead = slice(t + 1, t + 1 + AHEAD)
            goes_on = gamma * (1 - torch.stack(ends[ahead]).float())
            kept.append(plan_return(torch.stack(rewards[ahead]), discount=goes_on)[~ends[t]])
            promised.append(dreamt(agent, states[t])[~ends[t]])
    return Promise(torch.cat(promised).mean().item(), torch.cat(kept).mean().item())


def dreamt(agent: Agent, state: State) -> Tensor:
    """Discounted rewards [N] of AHEAD steps that the agent dreams from states [N, ...]."""
    start, heat = Start(state, torch.ones(len(state.h))), agent.behavior.config.temperature
    dream = agent.world.imagine(lambda now: agent.behavior.act(agent.world, now, sample=True), start, AHEAD, heat)
    return plan_return(dream.reward[1:], discount=dream.discount[1:])


@torch.no_grad()
def milliseconds(agent: Agent, games: int) -> float:
    """Median time of one decision for so many games at once, the picture's part left out."""
    state, spent = agent.initial(games), []
    for _ in range(TIMES):
        began = time.perf_counter()
        agent.behavior.act(agent.world, state, sample=True)
        spent.append(time.perf_counter() - began)
    return 1000 * statistics.median(spent[1:])


def model_steps(agent: Agent) -> int:
    """Steps of the world model for one decision."""
    c = agent.behavior.config
    planned = c.cem_candidates * c.cem_rounds * c.horizon
    return {"cem": planned, "mcts": c.search_acting}.get(c.name, 0)


# --- The table ---


class Played(NamedTuple):
    """One row's agent of one run."""

    folder: Path
    scores: list[float]


def row(name: str, played: list[Played]) -> str:
    """One line; scores run by run, then what one decision of the first run's agent costs."""
    scores = [f"{np.mean(x):.1f} +- {np.std(x):.1f} ({np.median(x):g})" for x in (one.scores for one in played)]
    agents = [loaded(one.folder, WAYS[name].plays) for one in played]
    told = [promise(one.agent, one.config.env, gamma=one.config.model.gamma, seed=1) for one in agents]
    gaps = ", ".join(f"{one.promised:.2f} - {one.kept:.2f}" for one in told)
    first = agents[0].agent
    cost = [f"{model_steps(first):,}", f"{milliseconds(first, 1):.1f}", f"{milliseconds(first, 16):.1f}"]
    updates = ", ".join(f"{one.checkpoint.update:,}" for one in agents) if WAYS[name].learns else "-"
    return f"| {name} | {updates} | {' | '.join(scores)} | {' | '.join(cost)} | {gaps} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--minutes", type=float, default=20.0, help="of learning, for each that learns")
    parser.add_argument("--games", type=int, default=50)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows of the table; without it all of them")
    parser.add_argument("--jobs", type=int, default=2, help="trainings or evaluations side by side")
    options = parser.parse_args()
    names: list[str] = options.only or list(WAYS)
    if unknown := [name for name in names if name not in WAYS]:
        parser.error(f"there is no row {unknown[0]!r}: choose among {', '.join(WAYS)}")
    runs, out = [run.resolve() for run in options.runs], options.out.resolve()
    if len({run.name for run in runs}) < len(runs):
        parser.error("two RUNs have the same name")
    torch.set_num_threads(1)

    def made(pair: tuple[Path, str]) -> Played:
        run, name = pair
        folder = learned(out, run, WAYS[name], options.minutes)
        (out / run.name).mkdir(parents=True, exist_ok=True)
        kept = out / run.name / f"{slug(name, WAYS[name].plays, options.minutes, options.games)}.json"
        return Played(folder, play(folder, WAYS[name], kept, options.games)["scores"])

    with ThreadPoolExecutor(options.jobs) as pool:
        ways = {(run, WAYS[name].learns): WAYS[name] for run in runs for name in names}
        list(pool.map(lambda one: learned(out, one[0][0], one[1], options.minutes), ways.items()))
        pairs = [(run, name) for name in names for run in runs]
        played = dict(zip(pairs, pool.map(made, pairs), strict=True))
    seeds = " | ".join(f"{run.name}: score (median)" for run in runs)
    print(f"| way | updates | {seeds} | model steps a decision | ms, 1 game | ms, 16 games | promised - kept |")
    print("|" + "---|" * (6 + len(runs)))
    for name in names:
        print(row(name, [played[run, name] for run in runs]), flush=True)


if __name__ == "__main__":
    main()
