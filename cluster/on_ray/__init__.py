"""The Ray runtime: the only place that imports ray."""
