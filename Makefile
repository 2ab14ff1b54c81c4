# Needs Python 3.11 or newer (with venv), and nothing else: every target sets itself up in .venv from the lock file.
# `make` alone lists the targets. Another interpreter: `make test PYTHON=python3.12`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
RUN_DIR ?= .run
JOBS ?= 2
SOURCES := broker sdk tests bench examples

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run serve test lint soak kill-test bench bench-large bench-peers bench-growth profile lock format wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Set-up: once, and again when the lock or the project file changes. The stamp is written last, so that an interrupted
# set-up is done again. Nothing is resolved here and nothing unlocked is downloaded: the build backend is in the lock too.
$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Hubbub needs Python 3.11 or newer, and $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12")'
	@test -x $(BIN)/python || { echo "setting up $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(READY) ## set up .venv (every other target does it when needed)

run: $(READY) ## the demonstration: a broker, 1,000 agents, a crash in the middle, and the count
	@mkdir -p $(RUN_DIR)
	$(BIN)/hubbub demo --report $(RUN_DIR)/report.md $(ARGS)

serve: $(READY) ## a broker on 127.0.0.1:8091 that keeps its data in .run/serve
	$(BIN)/hubbub serve --data-dir $(RUN_DIR)/serve $(ARGS)

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

test: lint ## lint, types, and every test but the long ones, a file at a time in each of JOBS processes
	$(BIN)/pytest -n $(JOBS) --dist loadfile $(ARGS)

soak: $(READY) ## the tests that take minutes
	$(BIN)/pytest -m soak -s $(ARGS)

kill-test: $(READY) ## SIGKILL of the broker under load, again and again
	$(BIN)/pytest -m kill -s $(ARGS)

bench: $(READY) ## the figures of the README, on this machine
	$(BENCH) $(ARGS)

bench-large: $(READY) ## starts on 10,000,000 messages; takes minutes, and 15 GB of disk
	$(BENCH) $(patsubst %,--scenario %,$(wildcard bench/hubbub_bench/scenarios/large/*.toml)) $(ARGS)

# What only comparing and profiling need: NATS, its client for Python, and a profiler.
$(PEERS): $(READY) requirements-peers.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.lock
	@touch $@

bench-peers: $(PEERS) ## beside NATS, Mosquitto and Redis; DRIVER=PATH makes the load; about ten minutes
	$(BIN)/python -m hubbub_bench peers $(if $(DRIVER),--driver $(DRIVER)) --write . $(ARGS)

bench-growth: $(READY) ## cost by topics, connections and history, with pictures; minutes, and 15 GB of disk
	$(BIN)/python -m hubbub_bench growth --write . $(ARGS)

profile: $(PEERS) ## where the microseconds of a publish and of a delivery go
	$(BIN)/python -m hubbub_bench profile --write . $(ARGS)

BENCH = $(BIN)/hubbub bench --data-dir bench/results --json bench/results/latest.json

lock: $(READY) ## resolve the dependencies anew into the lock files (UPGRADE=1: to the newest)
	$(LOCK) --output-file requirements.lock
	$(LOCK) --extra dev --constraints requirements.lock --output-file requirements-dev.lock
	$(LOCK) --extra peers --constraints requirements-dev.lock --output-file requirements-peers.lock

format: $(READY) ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

wheel: $(READY) ## build dist/hubbub-*.whl
	$(BIN)/hatchling build -t wheel

clean: ## remove everything that was made here, .venv included
	rm -rf $(VENV) $(RUN_DIR) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# The header has a fixed command, and no address is emitted: a lock says what, never from where.
LOCK = $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
