# Needs Python 3.11+ and make, nothing else. PYTHON=... picks another interpreter.

PYTHON ?= python3
UV ?= uv
SOAK_TIMEOUT ?= 3600

BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo dev test check format bench soak live lock clean

help: ## list the targets
	@awk -F ":.*## " '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with everything locked in requirements-dev.txt

$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("turnout needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## run the demo
	$(BIN)/turnout demo

dev: $(READY) ## run a development node
	$(BIN)/turnout dev

test: $(READY) ## run the tests, all but the soak and live tests
	$(BIN)/python -m pytest -q -m "not soak and not live"

check: $(READY) ## check format, lint, types and architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/python -m pytest -q tests/architecture

format: $(READY) ## format the code and apply safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## run the benchmarks
	$(BIN)/python -m scenarios.bench

soak: $(READY) ## run the soak tests; SEEDS=... is passed on
	$(BIN)/python -m pytest -m soak --timeout=$(SOAK_TIMEOUT)

live: $(READY) ## ask real providers with the keys of the environment; at most TURNOUT_LIVE_CENTS=5
	$(BIN)/python -m pytest -m live -rs -s tests/live

# Keeps the pins it finds; UPGRADE=--upgrade takes the newest of everything. Needs uv.
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate $(UPGRADE) pyproject.toml

lock: ## lock the dependencies anew (needs uv; UPGRADE=--upgrade for newer ones)
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## remove .venv, caches and build outputs
	rm -rf .venv .hypothesis .pytest_cache .ruff_cache build dist
	find messages bus actors scenarios tests -name __pycache__ -type d -prune -exec rm -rf {} +
