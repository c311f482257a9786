"""The mistakes that re-implementations of Dreamer make again and again, and the tests that catch each.

MISTAKES is the list: number, what goes wrong, the tests. Some are made on purpose in
test_injected_mistakes.py, under the same numbers: those of the official code must notice.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from dreamer.agent import Agent
from dreamer.config import BehaviorConfig, ModelConfig

ROOT = Path(__file__).parents[2]


class Mistake(NamedTuple):
    number: int
    what: str
    tests: list[str]  # "path::function" where a function of ours catches it, "path" where a whole file is about it


EQUATIONS = "tests/dreamer/test_equations.py::"
POLICY = "tests/dreamer/test_behavior_equations.py::"
RSSM_ = "tests/dreamer/test_rssm.py::"
WORLD = "tests/dreamer/test_world_model.py::"
LEARNS = "tests/dreamer/test_world_model_learns.py::"
BEHAVIOR = "tests/dreamer/test_behavior_contract.py::"
AGENT = "tests/dreamer/test_agent.py::"
HERE = "tests/dreamer/test_classic_mistakes.py::"
INJECTED = "tests/dreamer/test_injected_mistakes.py::"
WALLS = "tests/test_walls.py::"
ENV = "tests/actors/test_env.py::"
EVALUATE = "tests/cluster/look/test_evaluate.py::"

MISTAKES = [
    Mistake(
        1,
        "an action is paired with the picture it was chosen at, not with the one it led to",
        [
            LEARNS + "test_the_prior_shows_what_the_action_brings_about",
            LEARNS + "test_the_prior_shows_another_picture_for_another_action",
            LEARNS + "test_actions_stored_one_step_off_would_leave_the_prior_blind",
            RSSM_ + "test_the_action_that_led_to_a_picture_shows_in_the_prior_of_that_picture",
            INJECTED + "test_injected_mistakes_of_the_world_model_change_the_official_numbers",
        ],
    ),
    Mistake(
        2,
        "reward and discount of a state mean arriving in one place and leaving in another",
        [
            EQUATIONS + "test_golden_return_tells_rewards_of_the_next_state_from_those_of_the_same_state",
            LEARNS + "test_a_delayed_reward_is_dreamt_at_the_index_at_which_it_arrives",
            WORLD + "test_action_i_leads_from_state_i_to_the_next_and_rewards_belong_to_the_state_of_their_index",
            INJECTED + "test_injected_mistakes_of_the_behavior_change_the_official_numbers",
        ],
    ),
    Mistake(
        3,
        "is_first masks h but not z or the action, or is not set where a window begins in the middle of a game",
        [
            RSSM_ + "test_is_first_erases_the_past_bit_for_bit",
            RSSM_ + "test_first_step_equals_one_from_the_zero_state_without_any_action",
            RSSM_ + "test_a_game_in_the_middle_of_a_window_is_as_if_the_window_began_there",
            INJECTED + "test_injected_mistakes_of_the_world_model_change_the_official_numbers",
            "tests/replay/test_replay_contract.py::test_windows_are_pieces_of_games",
        ],
    ),
    Mistake(
        4,
        "the discount head learns 0 and 1, and gamma is multiplied twice or never",
        [
            WORLD + "test_discount_targets_are_gamma_and_zero_where_the_game_ended",
            WORLD + "test_the_discount_head_says_gamma_itself_when_it_is_right",
        ],
    ),
    Mistake(
        5,
        "the first discount is predicted; weights are not shifted, or not detached",
        [
            WORLD + "test_the_first_discount_comes_from_the_data_and_the_others_are_predicted",
            EQUATIONS + "test_survival_weight_of_the_golden_dream",
            EQUATIONS + "test_a_discount_weighs_only_the_states_after_its_own",
            EQUATIONS + "test_survival_weight_is_cut_from_its_graph",
        ],
    ),
    Mistake(
        6,
        "REINFORCE through a target with a graph; the actor's gradients reach the world model",
        [
            POLICY + "test_reinforce_sends_no_gradient_into_target_baseline_or_action",
            BEHAVIOR + "test_a_dream_has_a_graph_only_where_gradients_flow_through_it",
            BEHAVIOR + "test_an_update_leaves_the_world_model_alone",
            BEHAVIOR + "test_with_reinforce_each_loss_reaches_its_own_network_and_nothing_else",
        ],
    ),
    Mistake(
        7,
        "the baseline is the value of the wrong state; the advantage has a gradient",
        [
            BEHAVIOR + "test_the_actors_baseline_is_the_slow_value_of_the_state_that_is_left",
            POLICY + "test_reinforce_sends_no_gradient_into_target_baseline_or_action",
            INJECTED + "test_injected_mistakes_of_the_behavior_change_the_official_numbers",
        ],
    ),
    Mistake(
        8,
        "the picture's loss is a mean over pixels, or a sum over the batch",
        [
            WORLD + "test_a_perfect_reconstruction_costs_3764_nats",
            WORLD + "test_the_image_loss_is_summed_over_pixels_and_channels_and_averaged_over_time_and_batch",
            WORLD + "test_twice_the_batch_has_the_same_loss",
        ],
    ),
    Mistake(
        9,
        "KL with its arguments or its balance swapped, averaged over categoricals, or clipped before the mean",
        [
            EQUATIONS + "test_kl_of_the_golden_logits_is_summed_over_categoricals",
            EQUATIONS + "test_golden_kl_tells_post_from_prior",
            EQUATIONS + "test_balance_share_reaches_the_prior_and_the_rest_the_posterior",
            EQUATIONS + "test_free_nats_clip_the_mean_and_not_its_parts",
            INJECTED + "test_injected_swap_of_the_kl_balance_changes_the_official_gradients",
        ],
    ),
    Mistake(
        10,
        "torch's own GRU cell; a norm per gate; the norm's epsilon 1e-5",
        [
            RSSM_ + "test_gru_gives_the_golden_numbers",
            RSSM_ + "test_golden_gru_tells_the_epsilon_and_the_update_bias",
            RSSM_ + "test_gru_normalises_its_three_parts_together",
        ],
    ),
    Mistake(
        11,
        "straight-through samples in half precision, whose probabilities do not sum to one",
        [
            EQUATIONS + "test_bfloat16_logits_lose_no_probability",
            EQUATIONS + "test_categoricals_are_float32_whatever_comes_in",
            RSSM_ + "test_logits_and_states_stay_float32_in_mixed_precision",
        ],
    ),
    Mistake(
        12,
        "torch's default initialisation instead of Glorot-uniform kernels and zero biases",
        [
            RSSM_ + "test_layers_start_glorot_uniform_with_zero_biases",
            HERE + "test_every_layer_of_the_agent_starts_with_a_glorot_kernel_and_zero_bias",
        ],
    ),
    Mistake(
        13,
        "one optimiser or one clip for all; L2 instead of decoupled decay; Adam's epsilon 1e-8",
        ["tests/learner/test_step.py"],
    ),
    Mistake(
        14,
        "the online critic as baseline; a soft update of the target critic",
        [
            BEHAVIOR + "test_targets_and_baseline_come_from_the_slow_critic",
            BEHAVIOR + "test_the_slow_critic_is_copied_after_update_0_and_every_few_and_left_alone_in_between",
        ],
    ),
    Mistake(
        15,
        "rewards squashed in training and raw in dreams; squashed scores reported as game scores",
        [
            WORLD + "test_rewards_are_squashed_once_and_only_for_the_loss",
            EVALUATE + "test_score_is_the_sum_over_all_lives",
        ],
    ),
    Mistake(
        16,
        "a time limit is taken for the end of the game",
        [
            ENV + "test_a_time_limit_ends_the_game_but_is_no_terminal",
            ENV + "test_a_true_end_at_the_time_limit_is_a_terminal",
        ],
    ),
    Mistake(
        17,
        "evaluation with other sticky actions than training; a score per life",
        [
            ENV + "test_sticky_actions_differ_between_seeds_and_none_leave_no_chance",
            ENV + "test_breakout_is_one_game_of_five_lives",
            EVALUATE + "test_score_is_the_sum_over_all_lives",
        ],
    ),
    Mistake(
        18,
        "8-bit arithmetic overflows where pixels are scaled",
        [WORLD + "test_pixels_are_scaled_without_overflow", ENV + "test_contrast_does_not_overflow"],
    ),
    Mistake(
        19,
        "dreams begin at prior states, or only at the last state of each window",
        [
            WORLD + "test_a_dream_begins_at_every_posterior_state_of_the_batch",
            "tests/learner/test_step.py",
        ],
    ),
    Mistake(
        20,
        "the entropy bonus has the wrong sign or states; log_prob sends a gradient into its sample",
        [
            POLICY + "test_descending_the_actor_loss_raises_the_entropy",
            EQUATIONS + "test_log_prob_sends_no_gradient_into_the_choice",
            BEHAVIOR + "test_with_entropy_alone_the_actor_moves_to_more_entropy",
            INJECTED + "test_injected_mistakes_of_the_behavior_change_the_official_numbers",
        ],
    ),
    Mistake(
        21,
        "policy steps counted as frames; the random prefill counted here but not there",
        ["tests/cluster"],
    ),
    Mistake(
        22,
        "the policy's state outlives its game; stored states go stale (by default windows start from zero)",
        [
            AGENT + "test_a_new_game_forgets_the_old_one_and_only_in_its_own_row",
            WALLS + "test_a_record_of_the_replay_stores_no_state_of_the_model_unless_asked_to",
            "tests/actors/test_rollout.py",
        ],
    ),
    Mistake(
        23,
        "the cache of cast weights keeps casts without gradient; reading a number back from the device at every step",
        [
            BEHAVIOR + "test_an_update_works_in_mixed_precision_and_keeps_weights_and_metrics_float32",
            WALLS + "test_the_algorithm_never_waits_for_the_device",
            "tests/learner/test_step.py",
        ],
    ),
    Mistake(
        24,
        "Breakout: the ball is lost by the resize, score digits give the reward away, without FIRE a game never ends",
        [
            ENV + "test_the_ball_is_visible",
            ENV + "test_the_crop_cuts_the_score_away_and_only_that",
            EVALUATE + "test_counts_and_time_limit",
        ],
    ),
]


# --- the list --------------------------------------------------------------------------------------------------------


def test_all_24_mistakes_are_listed_with_a_test() -> None:
    assert [mistake.number for mistake in MISTAKES] == list(range(1, 25))
    assert all(mistake.what and mistake.tests for mistake in MISTAKES)


@pytest.mark.parametrize("name", sorted({test for mistake in MISTAKES for test in mistake.tests}))
def test_every_listed_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert (ROOT / path).exists()
    if function:  # parsed, not imported: tests of games need an emulator
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_layer_of_the_agent_starts_with_a_glorot_kernel_and_zero_bias() -> None:
    agent = Agent(ModelConfig(), BehaviorConfig(), channels=1, num_actions=4)
    layers = [m for m in agent.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert len(layers) == 4 + 6 + 5 + 5 * 5  # encoder, rssm, decoder, five heads
    for layer in layers:
        area = layer.weight[0, 0].numel()
        bound = (6 / (sum(layer.weight.shape[:2]) * area)) ** 0.5
        assert (layer.bias == 0).all()
        assert 0.9 * bound < layer.weight.abs().max() <= bound
