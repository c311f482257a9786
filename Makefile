# Every verb installs what it needs first. ARGS="..." is passed on: make train-local ARGS="--minutes 2"
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python -m
# Two processes side by side; the tests that start Ray or Reverb stay together in one of them (tests/conftest.py).
PYTEST := $(RUN) pytest --numprocesses 2 --dist loadgroup
# The newest run that has a checkpoint, for evaluate, record and status: make evaluate DIR=runs/...
RUN_DIR = $(or $(DIR),$(shell ls -td runs/*/checkpoints 2>/dev/null | head -1 | xargs -r dirname))
.PHONY: setup format lint types test test-slow test-all check bench train-local dream status evaluate record watch play monitor \
	monitoring-tools tensorboard dashboards doctor cluster-up cluster-train cluster-status cluster-stop cluster-fetch cluster-down

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11))' || \
		{ echo "error: Python 3.11 is needed, $(PYTHON) is older: install it, or make setup PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		echo "note: Ray and Reverb need Python 3.11; with $(PYTHON) only --runtime inline works"
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check --editable ".[cluster,web,dev]"
	@touch $@

format: setup
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: setup
	$(RUN) mypy

# Seven to eight minutes on two cores: make test ARGS=tests/replay
test: setup
	$(PYTEST) -m "not slow and not bench" $(ARGS)

# What takes minutes each and is not in `make test`: docs/testing.md
test-slow: setup
	$(PYTEST) -m "slow and not bench" $(ARGS)

test-all:
	$(MAKE) test
	$(MAKE) test-slow

check: lint types test

bench: setup
	$(RUN) cluster bench --out docs/bench $(ARGS)

train-local: setup
	$(RUN) cluster train $(ARGS)

# A new behaviour in the world model of a run: make dream DIR=runs/NAME ARGS="--behavior.name ppo --minutes 20"
dream: setup
	$(RUN) cluster dream $(RUN_DIR) $(ARGS)

status: setup
	@$(RUN) cluster status $(RUN_DIR) $(ARGS)

evaluate: setup
	$(RUN) cluster evaluate $(RUN_DIR) $(ARGS)

record: setup
	$(RUN) cluster record $(RUN_DIR) --out $(RUN_DIR)/videos/dream.gif $(ARGS)

# A film of the agent that comes with the code; it takes no training
watch: setup
	@mkdir -p runs
	$(RUN) cluster record deploy/agents/breakout-cpu --kind play --out runs/watch.gif $(ARGS)

# Play inside the dream of the agent that comes with the code, or of a run: make play DIR=runs/NAME ARGS="--port 8081"
play: setup
	@$(RUN) cluster play $(DIR) $(ARGS)

# A real Prometheus watches the training that runs: make monitor ARGS="--target 127.0.0.1:9108 --port 9090"
monitor: setup
	@$(RUN) cluster monitor $(ARGS)

monitoring-tools:
	@deploy/install-monitoring.sh

tensorboard: setup
	$(VENV)/bin/tensorboard --logdir runs $(ARGS)

# The rest is in deploy/cluster.sh: make cluster-train ARGS="--minutes 60"; make cluster-up CLUSTER=deploy/cluster-gcp.yaml
CLUSTER := deploy/cluster.yaml
cluster-up cluster-train cluster-status cluster-stop cluster-fetch cluster-down: cluster-%: setup
	@CLUSTER=$(CLUSTER) RAY=$(VENV)/bin/ray bash deploy/cluster.sh $* $(ARGS)

# After a change of deploy/grafana/*.py
dashboards: setup
	$(RUN) deploy.grafana.dashboards

doctor: setup
	$(RUN) cluster doctor
