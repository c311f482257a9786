"""Weights and data made from names alone. numbers.json is what the official DreamerV2 code (danijar/dreamerv2 at 07d906e,
Atari configuration, float32, B=2, T=6, H=5) computes from them with arg-max in the place of every sample.

Its encoder flattens features (h, w, c): columns 600: of `rssm.post_in.weight` are in that order.
"""

# ruff: noqa: E501
import zlib

import numpy as np

D = U = 600
S = C = 32
Z = S * C
A = 4
E = 1536
F = Z + D
B, T, H = 2, 6, 5


def shapes():
    s = {}

    def dense(n, i, o):
        s[n + ".weight"] = (o, i)
        s[n + ".bias"] = (o,)

    c = [1, 48, 96, 192, 384]
    for k in range(4):
        s[f"enc.conv{k}.weight"] = (c[k + 1], c[k], 4, 4)
        s[f"enc.conv{k}.bias"] = (c[k + 1],)
    dense("rssm.img_in", Z + A, U)
    dense("rssm.gru", U + D, 3 * D)
    s["rssm.gru_norm.weight"] = (3 * D,)
    s["rssm.gru_norm.bias"] = (3 * D,)
    dense("rssm.prior_in", D, U)
    dense("rssm.prior_out", U, Z)
    dense("rssm.post_in", D + E, U)
    dense("rssm.post_out", U, Z)
    dense("dec.dense", F, 1536)
    c = [1536, 192, 96, 48, 1]
    ks = [5, 5, 6, 6]
    for k in range(4):
        s[f"dec.convt{k}.weight"] = (c[k], c[k + 1], ks[k], ks[k])
        s[f"dec.convt{k}.bias"] = (c[k + 1],)
    for n, o in (("reward", 1), ("discount", 1), ("actor", A), ("critic", 1), ("slow_critic", 1)):
        for k in range(4):
            dense(f"{n}.{k}", F if k == 0 else 400, 400)
        dense(f"{n}.out", 400, o)
    return s


def array(name, shape):
    r = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("bias"):
        return 0.05 * r
    if "norm" in name:
        return 1 + 0.1 * r
    if "convt" in name:
        fan = shape[0] * shape[2] * shape[3] / 4
    elif "conv" in name:
        fan = shape[1] * shape[2] * shape[3]
    else:
        fan = shape[1]
    gain = 3.0 if name in ("rssm.prior_out.weight", "rssm.post_out.weight", "actor.out.weight") else 1.4
    return (gain / np.sqrt(fan)) * r


def weights():
    return {n: array(n, s) for n, s in shapes().items()}


def batch():
    """Batch-major; action[t] is the one that led to image[t]."""
    g = np.random.default_rng(7)
    action = np.eye(A, dtype=np.float32)[g.integers(0, A, (B, T))]
    first = np.zeros((B, T), bool)
    first[0, 0] = first[1, 0] = first[1, 3] = True
    action[0, 0] = 0
    terminal = np.zeros((B, T), bool)
    terminal[1, 2] = True
    return dict(
        image=g.integers(0, 256, (B, T, 64, 64, 1), dtype=np.uint8),
        action=action,
        reward=g.choice([0, 0, 1, 4, 7], (B, T)).astype(np.float32),
        is_first=first,
        is_last=terminal,
        is_terminal=terminal,
    )
