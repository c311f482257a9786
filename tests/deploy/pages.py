"""The panels of all dashboards, as Grafana reads them."""

from __future__ import annotations

import re
from typing import Any

from deploy.grafana.dashboards import DASHBOARDS

PANELS: dict[str, dict[str, Any]] = {
    f"{page['uid'].removeprefix('dreamer-')}/{panel['title']}": panel
    for page in DASHBOARDS
    for panel in page["panels"]
    if panel["type"] != "row"
}


def only(panel: dict[str, Any]) -> str:
    """Where it has data, in the words of its description; "" = in every run."""
    said = re.search(r"Only with (.+)\.$", panel["description"])
    return said[1] if said else ""
