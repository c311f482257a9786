"""Gumbel search in a world model: planning that begins with what the actor and the critic think already.

Danihelka et al., Policy improvement by planning with Gumbel, 2022; DeepMind's mctx computes the same, to six digits.
All N roots are searched side by side, M = simulations + 1 nodes each:

    node        0 is the root, 1 ... M-1 in the order in which they are opened, one by each simulation
    child       the node that an action of a node leads to; 0 = not opened yet, for nobody's child is the root
    reward, discount   of ARRIVING at a node, as in a Dream: Q(node, action) = reward + discount * value of the child
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dreamer.types import State


class Node(NamedTuple):
    """What the model says of states, one of each root."""

    state: State  # [N, ...]
    logits: Tensor  # [N, A]  of the actor
    value: Tensor  # [N]  of the critic: what comes AFTER the state
    reward: Tensor  # [N]  of arriving there
    discount: Tensor  # [N]  likewise; 0 = it is an end


Expand = Callable[[State, Tensor], Node]  # state [N, ...], one-hot action [N, A] -> the state that is reached


class Tuning(NamedTuple):
    """How much values weigh beside the actor: sigma(q) = (base_visits + most visits) * value_scale * q."""

    value_scale: float = 0.1  # mctx
    base_visits: float = 50.0  # mctx
    considered: int = 16  # actions of the root that are tried at most; mctx


MCTX = Tuning()


class Tree(NamedTuple):
    """Everything that a search has seen; changed in place."""

    state: State  # [N, M, ...]
    logits: Tensor  # [N, M, A]
    raw: Tensor  # [N, M]  what the critic says
    value: Tensor  # [N, M]  mean of that and of all returns that came through the node
    reward: Tensor  # [N, M]
    discount: Tensor  # [N, M]
    visits: Tensor  # int64 [N, M]  simulations that came through, the opening included
    parent: Tensor  # int64 [N, M]
    child: Tensor  # int64 [N, M, A]


class Edges(NamedTuple):
    """The actions of all nodes."""

    visits: Tensor  # int64 [N, M, A]
    value: Tensor  # [N, M, A]  Q where it is known, elsewhere what the known ones and the critic make expect
    bonus: Tensor  # [N, M, A]  sigma: what is added to the actor's logits for it


class Found(NamedTuple):
    """What a search found out about its roots."""

    action: Tensor  # float32 [N, A]  one-hot: the best of those most often tried
    policy: Tensor  # [N, A]  the improved policy: softmax(logits + sigma)
    value: Tensor  # [N, A]  of each action
    visits: Tensor  # int64 [N, A]
    tree: Tree


def search(
    expand: Expand,
    root: Node,
    *,
    simulations: int,
    gumbel: Tensor,
    scale: Tensor | None = None,
    tuning: Tuning = MCTX,
) -> Found:
    """Opens `simulations` nodes below each root.

    gumbel: noise [N, A], drawn once for the whole search; zeros where nothing shall be left to chance.
    scale: [], what values are divided by before they weigh; None: the range of each node's own, as in mctx. That makes
    much of nothing where all actions are worth the same.
    """
    actions = root.logits.shape[-1]
    tree = plant(root, simulations)
    for number, tried in enumerate(schedule(min(actions, tuning.considered), simulations), 1):
        edges = judge(tree, scale, tuning)
        choice = choose_inside(tree.logits, edges)
        choice[:, 0] = choose_at_root(tree.logits[:, 0], edges, gumbel=gumbel, tried=tried)
        node, action = descend(tree, choice, opened=number - 1)
        grow(tree, number, node=node, action=action, found=expand(at(tree.state, node), as_one_hot(action, actions)))
        back_up(tree, number)
    edges = judge(tree, scale, tuning)
    most = edges.visits[:, 0].amax(-1, keepdim=True)
    best = choose_at_root(tree.logits[:, 0], edges, gumbel=gumbel, tried=most)
    policy = (tree.logits[:, 0] + edges.bonus[:, 0]).softmax(-1)
    return Found(as_one_hot(best, actions), policy, edges.value[:, 0], edges.visits[:, 0], tree)


def schedule(considered: int, simulations: int) -> list[int]:
    """How often the action that each simulation tries must have been tried before: sequential halving.

    All that are considered are tried equally often, then the better half of them, then the better half of these, and
    each of the rounds gets the same share of the simulations.
    """
    if considered <= 1:
        return list(range(simulations))
    rounds = math.ceil(math.log2(considered))
    visits, left, order = [0] * considered, considered, list[int]()
    while len(order) < simulations:
        for _ in range(max(1, simulations // (rounds * left))):
            order += visits[:left]
            visits[:left] = [count + 1 for count in visits[:left]]
        left = max(2, left // 2)
    return order[:simulations]


# --- The tree ---


def plant(root: Node, simulations: int) -> Tree:
    """A tree of nothing but roots."""
    rows, actions, size = *root.logits.shape, simulations + 1

    def room(first: Tensor) -> Tensor:
        whole = first.new_zeros(rows, size, *first.shape[1:])
        whole[:, 0] = first
        return whole

    value, count = room(root.value), torch.zeros(rows, size, dtype=torch.int64, device=root.value.device)
    visits = count.clone()
    visits[:, 0].fill_(1)  # not "= 1", which brings the number to the device from the host
    return Tree(
        state=State(room(root.state.h), room(root.state.z)),
        logits=room(root.logits),
        raw=value.clone(),
        value=value,
        reward=torch.zeros_like(value),
        discount=torch.zeros_like(value),
        visits=visits,
        parent=count,
        child=count[..., None].repeat(1, 1, actions),
    )


def judge(tree: Tree, scale: Tensor | None, tuning: Tuning) -> Edges:
    """What all actions of all nodes are worth."""
    known = tree.child > 0
    visits = of_children(tree.visits, tree.child) * known
    q = of_children(tree.reward, tree.child) + of_children(tree.discount * tree.value, tree.child)
    # An action that was never tried is expected to be worth what the others are, weighed as the actor chooses them; the
    # fewer tries there were, the more the critic counts.
    chance = tree.logits.softmax(-1) * known
    tried = (chance * q).sum(-1) / chance.sum(-1).where(known.any(-1), 1.0)
    total = visits.sum(-1)
    expected = (tree.raw + total * tried) / (total + 1)
    value = q.where(known, expected[..., None])
    low = value.amin(-1, keepdim=True)
    spread = (value.amax(-1, keepdim=True) - low).clamp(min=1e-8) if scale is None else scale
    weight = (tuning.base_visits + visits.amax(-1, keepdim=True)) * tuning.value_scale
    return Edges(visits, value, weight * (value - low) / spread)


def of_children(what: Tensor, child: Tensor) -> Tensor:
    """A number of every node [N, M], at the children [N, M, A] -> [N, M, A]."""
    return what.gather(1, child.flatten(1)).view(child.shape)


def choose_inside(logits: Tensor, edges: Edges) -> Tensor:
    """The action of each node whose share of the visits is furthest behind the improved policy: -> int64 [N, M]."""
    policy = (logits + edges.bonus).softmax(-1)
    return (policy - edges.visits / (1 + edges.visits.sum(-1, keepdim=True))).argmax(-1)


def choose_at_root(logits: Tensor, edges: Edges, *, gumbel: Tensor, tried: int | Tensor) -> Tensor:
    """The best action of each root among those tried so often: logits, gumbel [N, A] -> int64 [N].

    With the same Gumbel noise throughout, its arg-max is a draw from the improved policy.
    """
    score = gumbel + logits - logits.amax(-1, keepdim=True) + edges.bonus[:, 0]
    return score.where(edges.visits[:, 0] == tried, -math.inf).argmax(-1)


def descend(tree: Tree, choice: Tensor, *, opened: int) -> tuple[Tensor, Tensor]:
    """From the roots along `choice` int64 [N, M] to an action that was not opened yet: -> (node, action) int64 [N].

    opened: nodes below each root; no way is longer.
    """
    below = tree.child.gather(-1, choice[..., None]).squeeze(-1)
    node = torch.zeros_like(choice[:, :1])
    for _ in range(opened):
        deeper = below.gather(1, node)
        node = deeper.where(deeper > 0, node)
    return node.squeeze(1), choice.gather(1, node).squeeze(1)


def grow(tree: Tree, number: int, *, node: Tensor, action: Tensor, found: Node) -> None:
    """Node `number` is what `action` [N] of `node` [N] led to."""
    row = torch.arange(len(node), device=node.device)
    tree.child[row, node, action] = torch.full_like(node, number)
    tree.parent[:, number] = node
    tree.state.h[:, number], tree.state.z[:, number] = found.state.h, found.state.z
    tree.logits[:, number], tree.raw[:, number], tree.value[:, number] = found.logits, found.value, found.value
    tree.reward[:, number], tree.discount[:, number] = found.reward, found.discount
    tree.visits[:, number].fill_(1)


def back_up(tree: Tree, number: int) -> None:
    """Tells all nodes on the way from node `number` to the root what it is worth."""
    row = torch.arange(len(tree.value), device=tree.value.device)
    node = torch.full_like(row, number)
    brought = tree.value[:, number]
    for _ in range(number):  # no way is longer
        parent, on_the_way = tree.parent[row, node], node > 0
        brought = tree.reward[row, node] + tree.discount[row, node] * brought
        count, mean = tree.visits[row, parent], tree.value[row, parent]
        tree.value[row, parent] = ((mean * count + brought) / (count + 1)).where(on_the_way, mean)
        tree.visits[row, parent] = count + on_the_way
        node = parent


def at(state: State, node: Tensor) -> State:
    """States [N, M, ...] of one node of each tree: node int64 [N] -> [N, ...]."""
    row = torch.arange(len(node), device=node.device)
    return State(state.h[row, node], state.z[row, node])


def as_one_hot(action: Tensor, actions: int) -> Tensor:
    """Indices [N] -> float32 [N, A]."""
    return (action[:, None] == torch.arange(actions, device=action.device)).float()
