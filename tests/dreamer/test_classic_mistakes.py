"""The mistakes that re-implementations of Dreamer make again and again, and the tests that catch each.

MISTAKES is the list: number, what goes wrong, the tests. The numbers in test_injected_* are the same ones: there the
mistake is made on purpose, and the numbers of the official code must notice.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dreamer.behaviors.actor_critic as actor_critic
import dreamer.equations as equations
import dreamer.world_model as world_model
from dreamer.agent import Agent
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.nets import LayerNormGRUCell
from dreamer.rssm import RSSM
from dreamer.types import Batch, Start, State
from tests.dreamer.official import weights as official
from tests.dreamer.test_official import NUMBERS, parameter_names, to_ours

ROOT = Path(__file__).parents[2]


class Mistake(NamedTuple):
    number: int
    what: str
    tests: list[str]  # "path::function" where a function of ours catches it, "path" where a whole file is about it


EQUATIONS = "tests/dreamer/test_equations.py::"
RSSM_ = "tests/dreamer/test_rssm.py::"
WORLD = "tests/dreamer/test_world_model.py::"
BEHAVIOR = "tests/dreamer/test_behavior_contract.py::"
AGENT = "tests/dreamer/test_agent.py::"
OFFICIAL = "tests/dreamer/test_official.py::"
HERE = "tests/dreamer/test_classic_mistakes.py::"
WALLS = "tests/test_walls.py::"
ENV = "tests/actors/test_env.py::"
EVALUATE = "tests/cluster/look/test_evaluate.py::"

MISTAKES = [
    Mistake(
        1,
        "an action is paired with the picture it was chosen at, not with the one it led to",
        [
            WORLD + "test_the_prior_shows_what_the_action_brings_about",
            WORLD + "test_the_prior_shows_another_picture_for_another_action",
            WORLD + "test_actions_stored_one_step_off_would_leave_the_prior_blind",
            RSSM_ + "test_the_action_that_led_to_a_picture_shows_in_the_prior_of_that_picture",
            HERE + "test_injected_mistakes_of_the_world_model_change_the_official_numbers",
        ],
    ),
    Mistake(
        2,
        "reward and discount of a state mean arriving in one place and leaving in another",
        [
            EQUATIONS + "test_golden_return_tells_rewards_of_the_next_state_from_those_of_the_same_state",
            WORLD + "test_a_delayed_reward_is_dreamt_at_the_index_at_which_it_arrives",
            WORLD + "test_action_i_leads_from_state_i_to_the_next_and_rewards_belong_to_the_state_of_their_index",
            HERE + "test_injected_mistakes_of_the_behavior_change_the_official_numbers",
        ],
    ),
    Mistake(
        3,
        "is_first masks h but not z or the action, or is not set where a window begins in the middle of a game",
        [
            RSSM_ + "test_is_first_erases_the_past_bit_for_bit",
            RSSM_ + "test_first_step_equals_one_from_the_zero_state_without_any_action",
            RSSM_ + "test_a_game_in_the_middle_of_a_window_is_as_if_the_window_began_there",
            HERE + "test_injected_mistakes_of_the_world_model_change_the_official_numbers",
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
            EQUATIONS + "test_reinforce_sends_no_gradient_into_target_baseline_or_action",
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
            EQUATIONS + "test_reinforce_sends_no_gradient_into_target_baseline_or_action",
            HERE + "test_injected_mistakes_of_the_behavior_change_the_official_numbers",
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
            HERE + "test_injected_swap_of_the_kl_balance_changes_the_official_gradients",
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
            EQUATIONS + "test_descending_the_actor_loss_raises_the_entropy",
            EQUATIONS + "test_log_prob_sends_no_gradient_into_the_choice",
            BEHAVIOR + "test_with_entropy_alone_the_actor_moves_to_more_entropy",
            HERE + "test_injected_mistakes_of_the_behavior_change_the_official_numbers",
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


# --- the mistakes, made on purpose -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official_agent() -> Agent:
    agent = Agent(ModelConfig(), BehaviorConfig(horizon=official.H), channels=1, num_actions=official.A)
    names = parameter_names()
    arrays = {names[name]: torch.tensor(to_ours(name, array)) for name, array in official.weights().items()}
    agent.load_state_dict(arrays, strict=False)
    return agent


@pytest.fixture(scope="module")
def official_batch() -> Batch:
    data = {key: torch.tensor(value).transpose(0, 1) for key, value in official.batch().items()}
    return Batch(data["image"], data["action"].argmax(-1), data["reward"], data["is_first"], data["is_terminal"])


@pytest.fixture(autouse=True)
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equations, "gumbel_like", torch.zeros_like)


def set_config(agent: Agent, monkeypatch: pytest.MonkeyPatch, **changes: float) -> None:
    monkeypatch.setattr(agent.world, "config", ModelConfig(**changes))


def mask_state_only(self: RSSM, prev: State, prev_action: Tensor, is_first: Tensor, embed: Tensor):
    keep = 1.0 - is_first.float()
    h = self.recur(State(prev.h * keep[:, None], prev.z * keep[:, None, None]), prev_action)
    post = self.post_logits(h, embed)
    return State(h, equations.straight_through_sample(post)), post


def mask_nothing(self: RSSM, prev: State, prev_action: Tensor, is_first: Tensor, embed: Tensor):
    h = self.recur(prev, prev_action)
    post = self.post_logits(h, embed)
    return State(h, equations.straight_through_sample(post)), post


def norm_per_gate(self: LayerNormGRUCell, u: Tensor, h: Tensor) -> Tensor:
    """Every gate with its own norm."""
    parts = self.dense(torch.cat([u, h], -1)).unflatten(-1, (3, -1))
    parts = F.layer_norm(parts, parts.shape[-1:], eps=1e-3).flatten(-2) * self.norm.weight + self.norm.bias
    reset, cand, update = parts.chunk(3, -1)
    update = torch.sigmoid(update - 1)
    return update * torch.tanh(torch.sigmoid(reset) * cand) + (1 - update) * h


def mean_over_pixels(target: Tensor, *, mean: Tensor) -> Tensor:
    nll = equations.normal_nll(target, mean=mean)
    return nll / 4096 if nll.dim() == 5 else nll


kl_balancing = equations.kl_balancing


def swapped_kl(*, post: Tensor, prior: Tensor, balance: float, free_nats: float, free_each: bool) -> Tensor:
    return kl_balancing(post=prior, prior=post, balance=balance, free_nats=free_nats, free_each=free_each)


def mean_kl(*, post: Tensor, prior: Tensor, balance: float, free_nats: float, free_each: bool) -> Tensor:
    kl = kl_balancing(post=post, prior=prior, balance=balance, free_nats=free_nats, free_each=free_each)
    return kl / post.shape[-2]


Inject = Callable[[Agent, Batch, pytest.MonkeyPatch], Batch | None]  # a changed batch, or None

WORLD_MISTAKES: dict[str, tuple[str, Inject]] = {  # mistake -> (metric that notices, how to make it)
    "1 action of the next record": ("model_kl", lambda a, b, m: b._replace(prev_action=b.prev_action.roll(-1, 0))),
    "2 reward of the next record": ("reward_loss", lambda a, b, m: b._replace(reward=b.reward.roll(-1, 0))),
    "2 discount of the next record": (
        "discount_loss",
        lambda a, b, m: b._replace(is_terminal=b.is_terminal.roll(-1, 0)),
    ),
    "3 action not masked": ("model_kl", lambda a, b, m: m.setattr(RSSM, "observe_step", mask_state_only)),
    "3 nothing masked": ("model_kl", lambda a, b, m: m.setattr(RSSM, "observe_step", mask_nothing)),
    "4 hard discount target": ("discount_loss", lambda a, b, m: set_config(a, m, gamma=1.0)),
    "8 mean over pixels": ("image_loss", lambda a, b, m: m.setattr(world_model, "normal_nll", mean_over_pixels)),
    "9 KL swapped": ("kl_loss", lambda a, b, m: m.setattr(world_model, "kl_balancing", swapped_kl)),
    "9 mean over categoricals": ("kl_loss", lambda a, b, m: m.setattr(world_model, "kl_balancing", mean_kl)),
    "10 no update bias": ("model_kl", lambda a, b, m: m.setattr(LayerNormGRUCell, "UPDATE_BIAS", 0.0)),
    "10 epsilon 1e-5": ("model_kl", lambda a, b, m: m.setattr(a.world.rssm.gru.norm, "eps", 1e-5)),
    "10 a norm per gate": ("model_kl", lambda a, b, m: m.setattr(LayerNormGRUCell, "forward", norm_per_gate)),
    "15 reward squashed twice": ("reward_loss", lambda a, b, m: b._replace(reward=b.reward.tanh())),
}
OURS = {"model_kl": "kl"}  # official name -> ours, where they differ


@pytest.mark.parametrize("mistake", WORLD_MISTAKES)
def test_injected_mistakes_of_the_world_model_change_the_official_numbers(
    official_agent: Agent, official_batch: Batch, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    metric, inject = WORLD_MISTAKES[mistake]
    monkeypatch.setattr(world_model, "fast_observe", RSSM.observe)  # mistakes are made in the plain form
    batch = inject(official_agent, official_batch, monkeypatch) or official_batch
    with torch.no_grad():
        metrics = official_agent.world.loss(batch).metrics
    ours, theirs = metrics[OURS.get(metric, metric)].item(), NUMBERS[metric]
    assert abs(ours / theirs - 1) > 5e-5  # five times the tolerance of test_official


def test_without_a_mistake_the_numbers_are_the_official_ones(official_agent: Agent, official_batch: Batch) -> None:
    with torch.no_grad():
        metrics = official_agent.world.loss(official_batch).metrics
    for metric in {metric for metric, _ in WORLD_MISTAKES.values()}:
        assert abs(metrics[OURS.get(metric, metric)].item() / NUMBERS[metric] - 1) < 1e-5


def prior_gradient(agent: Agent, batch: Batch) -> float:
    (grad,) = torch.autograd.grad(agent.world.loss(batch).loss, agent.world.rssm.prior_out.weight)
    return grad.norm().item()


def test_injected_swap_of_the_kl_balance_changes_the_official_gradients(
    official_agent: Agent, official_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = NUMBERS["grad_norms"]["rssm.prior_out.weight"]
    assert abs(prior_gradient(official_agent, official_batch) / expected - 1) < 1e-3
    set_config(official_agent, monkeypatch, kl_balance=0.2)
    assert prior_gradient(official_agent, official_batch) / expected < 0.5


actor_loss, lambda_return = equations.actor_loss, equations.lambda_return


def next_reward(reward: Tensor, *, discount: Tensor, value: Tensor, lambda_: float) -> Tensor:
    return lambda_return(reward.roll(-1, 0), discount=discount, value=value, lambda_=lambda_)


def next_discount(reward: Tensor, *, discount: Tensor, value: Tensor, lambda_: float) -> Tensor:
    return lambda_return(reward, discount=discount.roll(-1, 0), value=value, lambda_=lambda_)


def no_bootstrap(reward: Tensor, *, discount: Tensor, value: Tensor, lambda_: float) -> Tensor:
    return lambda_return(reward, discount=discount, value=torch.zeros_like(value), lambda_=lambda_)


def shifted_weight(discount: Tensor) -> Tensor:
    return discount.cumprod(0).detach()


def next_baseline(logits: Tensor, *, baseline: Tensor, **others) -> Tensor:
    return actor_loss(logits, baseline=baseline.roll(-1, 0), **others)


def own_target(logits: Tensor, *, target: Tensor, **others) -> Tensor:
    return actor_loss(logits, target=target.roll(1, 0), **others)


def entropy_costs(logits: Tensor, *, entropy_scale: float, **others) -> Tensor:
    return actor_loss(logits, entropy_scale=-entropy_scale, **others)


def predicted_first_discount(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    imagine = agent.world.imagine

    def dream(act, start, horizon):
        predicted = agent.world.predict_discount(start.state.feat())
        return imagine(act, start._replace(discount=predicted), horizon)

    monkeypatch.setattr(agent.world, "imagine", dream)


def put(name: str, function: Callable) -> Callable[[Agent, pytest.MonkeyPatch], None]:
    return lambda agent, monkeypatch: monkeypatch.setattr(actor_critic, name, function)


BEHAVIOR_MISTAKES: dict[str, tuple[str, Callable[[Agent, pytest.MonkeyPatch], None]]] = {
    "2 return with the next reward": ("critic_loss", put("lambda_return", next_reward)),
    "2 return with the next discount": ("critic_loss", put("lambda_return", next_discount)),
    "2 return without bootstrap": ("critic_loss", put("lambda_return", no_bootstrap)),
    "5 predicted first discount": ("actor_loss", predicted_first_discount),
    "5 weight not shifted": ("actor_loss", put("survival_weight", shifted_weight)),
    "7 baseline of the next state": ("actor_loss", put("actor_loss", next_baseline)),
    "7 target of the state that is left": ("actor_loss", put("actor_loss", own_target)),
    "14 online critic": (
        "actor_loss",
        lambda agent, monkeypatch: agent.behavior.slow_critic.load_state_dict(agent.behavior.critic.state_dict()),
    ),
    "20 entropy costs": ("actor_loss", put("actor_loss", entropy_costs)),
}


def behavior_metrics(agent: Agent, batch: Batch) -> dict[str, Tensor]:
    """An update's metrics without any step."""
    with torch.no_grad():
        out = agent.world.loss(batch)
    start = Start(out.unroll.state.flatten(), out.discount.flatten())
    return agent.behavior.update(agent.world, start, {"actor": Tensor.detach, "critic": Tensor.detach})


@pytest.fixture
def restored(official_agent: Agent) -> Iterator[Agent]:
    before = {name: weight.clone() for name, weight in official_agent.behavior.state_dict().items()}
    yield official_agent
    official_agent.behavior.load_state_dict(before)


@pytest.mark.parametrize("mistake", BEHAVIOR_MISTAKES)
def test_injected_mistakes_of_the_behavior_change_the_official_numbers(
    restored: Agent, official_batch: Batch, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    metric, inject = BEHAVIOR_MISTAKES[mistake]
    inject(restored, monkeypatch)
    ours, theirs = behavior_metrics(restored, official_batch)[metric].item(), NUMBERS["behavior"][metric]
    assert abs(ours / theirs - 1) > 1e-4


def test_without_a_mistake_the_behaviors_numbers_are_the_official_ones(restored: Agent, official_batch: Batch) -> None:
    metrics = behavior_metrics(restored, official_batch)
    for metric in ("actor_loss", "critic_loss"):
        assert abs(metrics[metric].item() / NUMBERS["behavior"][metric] - 1) < 1e-5
