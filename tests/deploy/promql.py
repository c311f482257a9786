"""Which metrics a PromQL expression asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.metrics import SPECS

parser = pytest.importorskip("promql_parser", reason="needs promql-parser: make setup")  # of whoever imports this

OTHERS = {"up", "ALERTS", "ray_node_cpu_utilization", "ray_node_mem_used", "ray_node_mem_total"} | {
    "ray_node_gpus_utilization",
    "ray_object_store_memory",
}  # of Prometheus itself and of Ray


def selectors(expr: str) -> list[Any]:
    """Every vector selector. Raises ValueError where the expression is none of PromQL."""
    return list(_walk(parser.parse(as_sent(expr))))


def as_sent(expr: str, run: str = "x") -> str:
    """With Grafana's variables filled in; four scrapes are its shortest interval of a rate."""
    return expr.replace("$__rate_interval", "20s").replace("$run", run)


def _walk(node: Any) -> Iterator[Any]:
    match node:
        case parser.VectorSelector():
            yield node
        case parser.MatrixSelector():
            yield node.vector_selector
        case parser.AggregateExpr():
            yield from _walk(node.expr)
            if node.param is not None:
                yield from _walk(node.param)
        case parser.BinaryExpr():
            yield from _walk(node.lhs)
            yield from _walk(node.rhs)
        case parser.Call():
            for argument in node.args:
                yield from _walk(argument)
        case parser.ParenExpr() | parser.SubqueryExpr() | parser.UnaryExpr():
            yield from _walk(node.expr)
        case parser.NumberLiteral() | parser.StringLiteral():
            pass
        case _:
            raise TypeError(type(node))


def declared(name: str) -> str | None:
    """The metric of the catalogue behind a series' name."""
    if name in SPECS:
        return name
    base, _, end = name.rpartition("_")
    return base if end in ("bucket", "sum", "count") and base in SPECS else None
