"""What a user gets without a world model: PPO on the same games, for as many minutes.

    python -m tests.ppo runs/ppo --minutes 60                     # Atari's usual pictures, 84x84, four of them
    python -m tests.ppo runs/ppo-small --minutes 60 --pictures cpu   # those of preset cpu, 40x40, four of them
    ... --practice 0.5            # half of the games begin before lost lives, as they do for preset cpu

The algorithm is Stable-Baselines3's, with the numbers that its own benchmark (rl-baselines3-zoo, ppo.yml, atari) and
CleanRL use: 8 games, 128 steps, 4 epochs, batches of 256, rate 2.5e-4 and clip 0.1 falling to 0. They fall with the
time that has passed: how many steps an hour is, nobody knows before. OUT/episodes.jsonl has a line for every game of
training (all lives, raw score), OUT/result.json the evaluation: 50 full games, as `evaluate` plays ours.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from actors.config import EnvConfig
from actors.interface import AnyGames, Arrived
from actors.parallel import make_parallel_games
from cluster.look.evaluate import MAX_PARALLEL, quotas
from cluster.presets import preset
from replay.atomic import write_text

GAMES, STACKED = 8, 4
# DeepMind's pictures; serves and lost lives as in training of preset cpu.
ATARI = EnvConfig(size=84, sticky=0.0, max_pool=True, life_loss=True, auto_fire=True, time_limit=4_500)
PICTURES = {"atari": ATARI, "cpu": preset("cpu").env}


class Steps(VecEnv):
    """Our games as Stable-Baselines3 wants them: rewards are their signs, a lost life ends an episode.

    A game that is over takes one step more, which resets it: one transition in some hundreds means nothing.
    """

    def __init__(self, games: AnyGames, heard: Callable[[float, int], None]) -> None:
        self.games, self._heard = games, heard
        high, wide, channels = games.spec.obs_shape
        pictures = spaces.Box(0, 255, (high, wide, channels), np.uint8)
        super().__init__(games.num, pictures, spaces.Discrete(games.spec.num_actions))  # type: ignore[no-untyped-call]
        self._score, self._length = np.zeros(games.num), np.zeros(games.num, int)

    def reset(self) -> np.ndarray:
        return self.games.reset().step.obs

    def step_async(self, actions: np.ndarray) -> None:
        self.games.send(actions.astype(np.int32))

    def step_wait(self) -> VecEnvStepReturn:
        arrived = self.games.receive()
        self._count(arrived)
        done = arrived.is_last | arrived.step.is_terminal
        told: list[dict[str, Any]] = [
            {"terminal_observation": obs, "TimeLimit.truncated": bool(last and not end)}
            for obs, last, end in zip(arrived.step.obs, arrived.is_last, arrived.step.is_terminal, strict=True)
        ]
        return arrived.step.obs, np.sign(arrived.step.reward), done, told

    def _count(self, arrived: Arrived) -> None:
        self._score += arrived.step.reward
        self._length += 1
        for e in np.flatnonzero(arrived.is_last):
            if not arrived.practice[e]:
                self._heard(float(self._score[e]), int(self._length[e]))
            self._score[e], self._length[e] = 0.0, 0

    def close(self) -> None:
        self.games.close()

    def get_attr(self, attr_name: str, indices: object = None) -> list[Any]:
        return [None] * self.num_envs  # render_mode: there is none

    def set_attr(self, attr_name: str, value: object, indices: object = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *args: object, indices: object = None, **kwargs: object) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: type, indices: object = None) -> list[bool]:
        return [False] * self.num_envs


class UntilTime(BaseCallback):
    """Ends training after so many seconds; says every ten how it goes."""

    def __init__(self, seconds: float, scores: list[float]) -> None:
        super().__init__()
        self._seconds, self._scores, self._began, self._said = seconds, scores, time.monotonic(), 0.0

    def left(self, _: float = 0.0) -> float:
        """The share of the time that is left."""
        return max(0.0, 1 - (time.monotonic() - self._began) / self._seconds)

    def _on_step(self) -> bool:
        passed = time.monotonic() - self._began
        if passed - self._said > 10:
            self._said = passed
            last = self._scores[-100:]
            mean = f"{np.mean(last):.2f} (last {len(last)} games)" if last else "-"
            speed = self.num_timesteps / passed
            print(
                f"{passed / 60:.1f} min | {self.num_timesteps:,} steps | {speed:.0f} steps/s | score {mean}", flush=True
            )
        return passed < self._seconds


def train(out: Path, env: EnvConfig, *, minutes: float, seed: int, workers: int, practice: float) -> PPO:
    """Trains; every game of training gets a line in `out`/episodes.jsonl."""
    began, scores = time.monotonic(), list[float]()
    with (out / "episodes.jsonl").open("w", buffering=1) as lines:

        def heard(score: float, length: int) -> None:
            scores.append(score)
            line = {"seconds": time.monotonic() - began, "policy_step": ppo.num_timesteps, "score": score}
            lines.write(json.dumps(line | {"length": length}) + "\n")

        with closing(stacked(make_parallel_games(env, GAMES, seed, workers, practice=practice), heard)) as games:
            until = UntilTime(60 * minutes, scores)
            ppo = PPO(
                "CnnPolicy",
                games,
                n_steps=128,
                n_epochs=4,
                batch_size=256,
                learning_rate=lambda _: 2.5e-4 * until.left(),
                clip_range=lambda _: 0.1 * until.left(),
                vf_coef=0.5,
                ent_coef=0.01,
                seed=seed,
                device="cpu",
            )
            ppo.learn(total_timesteps=10**12, callback=until)
    return ppo


def evaluate(ppo: PPO, env: EnvConfig, *, episodes: int, seed: int) -> list[float]:
    """Scores of full games with all lives. PPO was served the balls in training and cannot serve: it is served here."""
    slots = min(MAX_PARALLEL, episodes)
    quota = quotas(episodes, slots)
    counted: list[list[float]] = [[] for _ in quota]
    whole = replace(env, life_loss=False)
    ended: list[float] = []
    with closing(stacked(make_parallel_games(whole, slots, seed, 0), lambda score, _: ended.append(score))) as games:
        obs = games.reset()
        while any(len(scores) < most for scores, most in zip(counted, quota, strict=True)):
            actions, _ = ppo.predict(obs, deterministic=False)  # type: ignore[arg-type]
            obs, _, done, _ = games.step(actions)
            for slot in np.flatnonzero(done):
                score = ended.pop(0)
                if len(counted[slot]) < quota[slot]:
                    counted[slot].append(score)
    return [score for scores in counted for score in scores]


def stacked(games: AnyGames, heard: Callable[[float, int], None]) -> VecFrameStack:
    """Four pictures, one behind the other: where the ball flies shows."""
    return VecFrameStack(Steps(games, heard), STACKED)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the results; made")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pictures", choices=PICTURES, default="atari")
    parser.add_argument("--episodes", type=int, default=50, help="games of the evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that step the games")
    parser.add_argument("--practice", type=float, default=0.0, help="actor.practice of our presets; ours, not PPO's")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    env = PICTURES[options.pictures]
    how = {name: getattr(options, name) for name in ("minutes", "seed", "workers", "practice")}
    ppo = train(options.out, env, **how)
    scores = evaluate(ppo, env, episodes=options.episodes, seed=options.seed + 1)
    result: dict[str, Any] = {"pictures": options.pictures, **how}
    result |= {"policy_steps": ppo.num_timesteps, "scores": scores, "mean": np.mean(scores), "std": np.std(scores)}
    write_text(options.out / "result.json", json.dumps(result, indent=2) + "\n")
    print(f"{len(scores)} games after {ppo.num_timesteps:,} steps: {np.mean(scores):.2f} +- {np.std(scores):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
