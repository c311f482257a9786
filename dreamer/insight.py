"""Does the world model learn what matters? Numbers beside the loss, which is mostly about what never changes."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer.equations import moving
from dreamer.types import Metrics

LIKELY = 0.5  # of the smallest reward that counts, and of the discount of a game that goes on


def see_what_moves(image: Tensor, *, reconstruction: Tensor, is_first: Tensor) -> Metrics:
    """Pictures and their reconstructions [T, B, C, H, W], is_first [T, B] -> means that add up over batches.

    moved_hits / moved_pixels: the share of changed pixels whose reconstruction is nearer to what is there now than to
    what was there before. A ball shown as a gray streak along its usual path is nearer to neither, half of the time.
    """
    moved = moving(image, is_first, reach=0)[1:]
    now, before, shown = image[1:], image[:-1], reconstruction[1:].float()
    error = (shown - now).square()
    return {
        "moved_pixels": moved.float().mean(),
        "moved_error": (error * moved).mean(),
        "moved_hits": (moved & (error < (shown - before).square())).float().mean(),
    }


def foresee_events(*, reward: Tensor, predicted: Tensor, is_terminal: Tensor, goes_on: Tensor) -> Metrics:
    """Rewards as the model is taught them, its predictions, ends, and P(the game goes on), all [T, B].

    hits / steps is recall, hits / guesses precision; they are apart because many batches have no event at all.
    """
    event = reward > 0
    least = torch.where(event, reward, torch.inf).amin()  # the smallest reward of the batch; infinite where none is
    guess = predicted > LIKELY * least.clamp(max=1.0)
    end, guessed_end = is_terminal, goes_on < LIKELY
    return {
        "reward_steps": event.float().mean(),
        "reward_guesses": guess.float().mean(),
        "reward_hits": (event & guess).float().mean(),
        "terminal_steps": end.float().mean(),
        "terminal_guesses": guessed_end.float().mean(),
        "terminal_hits": (end & guessed_end).float().mean(),
    }


# What can be said once the means above are added up over many batches: name -> (numerator, denominator).
RATIOS = {
    "moved_recall": ("moved_hits", "moved_pixels"),
    "moved_mse": ("moved_error", "moved_pixels"),
    "reward_recall": ("reward_hits", "reward_steps"),
    "reward_precision": ("reward_hits", "reward_guesses"),
    "terminal_recall": ("terminal_hits", "terminal_steps"),
    "terminal_precision": ("terminal_hits", "terminal_guesses"),
    # Of dreams beside the replay, see dreamer/behaviors/parts.py.
    "return_dreamt_to_real": ("start_return", "replay_return"),
    "value_explained": ("replay_return_explained", "replay_return_spread"),
}
