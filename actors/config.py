"""Settings of the games and of those who play them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvConfig:
    """Which game, and how its screen becomes an observation."""

    id: str = "ALE/Breakout-v5"  # Gymnasium id; BreakoutDeterministic-v4 = skip 4, no sticky actions; ours
    import_module: str = ""  # Python module to import first, if it registers the id; ours
    size: int = 64  # pixels, height and width of the observation; dreamerv2 configs.yaml render_size
    grayscale: bool = True  # one channel instead of three; dreamerv2 configs.yaml atari_grayscale
    frame_skip: int = 4  # emulator frames per policy step; dreamerv2 configs.yaml action_repeat
    sticky: float = 0.25  # probability that the emulator repeats the previous action; dreamerv2 envs.py
    noop_max: int = 30  # a game starts with 1..noop_max no-ops, 0 = none; dreamerv2 envs.py
    max_pool: bool = True  # pixelwise maximum of the last two frames, else the last frame; dreamerv2 envs.py
    full_action_set: bool = False  # 18 actions instead of the game's own; dreamerv2 envs.py all_actions
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)  # screen pixels cut away: top, bottom, left, right; ours
    contrast: float = 1.0  # gray levels are multiplied by it, then clipped at 255; the seed used 1.8
    life_loss: bool = False  # a lost life counts as terminal for the discount target, without a reset; the seed's
    time_limit: int = 27_000  # policy steps after which a game is cut off (not a terminal); dreamerv2 configs.yaml
