# Needs Python 3.11+ and make, nothing else. PYTHON=... picks another interpreter.

PYTHON ?= python3
UV ?= uv
DIST ?= dist
SOAK_TIMEOUT ?= 3600
WORKERS ?= auto

BIN := .venv/bin
LOWEST := build/lowest
LOWEST_TESTS := tests/messages tests/bus/test_jetstream.py tests/bus/test_server.py tests/actors/console tests/actors/registry \
	$(addprefix tests/actors/executor/backends/test_,wire.py openai.py anthropic.py gemini.py ollama.py comfyui.py runpod.py)

# .venv is made anew when a lock of what runs turnout changes; what works on it comes on top, later and only when asked for.
BASE := .venv/.base
READY := .venv/.ready
TOOLS := .venv/.tools

# A lock is complete: nothing is resolved, nothing is built, and no release made later is looked at.
PIP := -m pip --quiet --disable-pip-version-check
LOCKED := $(PIP) install --no-deps --require-hashes --only-binary :all: --requirement
# Our own code is built with what requirements-build.txt locks, and needs no index.
OWN := --no-index --no-deps --no-build-isolation

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo dev setup test check format bench soak live live-local lowest wheel lock clean

help: ## list the targets
	@awk -F ":.*## " '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## run the demo
	$(BIN)/turnout demo

dev: $(READY) ## run a development node
	$(BIN)/turnout dev

setup: $(TOOLS) ## create .venv with everything, and run nothing

# Several processes share the files out; tests/conftest.py says how. What was compiled is kept: tests start many processes.
PARALLEL := -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test lowest: export PYTHONDONTWRITEBYTECODE :=

test: $(TOOLS) ## run the tests, all but the soak and live tests; WORKERS=auto is how many at a time
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not soak and not live and not local"

check: $(TOOLS) ## check format, lint, types and architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/python -m pytest -q tests/architecture

format: $(TOOLS) ## format the code and apply safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## run the benchmarks
	$(BIN)/python -m scenarios.bench

soak: $(TOOLS) ## run the soak tests; SEEDS=... is passed on
	EXAMPLES=random $(BIN)/python -m pytest -m soak --timeout=$(SOAK_TIMEOUT)

live: $(TOOLS) ## ask real providers with the keys of the environment; at most TURNOUT_LIVE_CENTS=5
	$(BIN)/python -m pytest -m live -rs -s tests/live

live-local: $(TOOLS) ## ask the servers of this machine that TURNOUT_LLAMA_CPP_PYTHON, TURNOUT_TRANSFORMERS and TURNOUT_COMFYUI name
	$(BIN)/python -m pytest -m local -rs -v tests/live

lowest: ## run the demo and quick tests with the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python $(LOCKED) requirements-build.txt
	$(LOWEST)/bin/python $(LOCKED) requirements-dev.txt
	$(LOWEST)/bin/python $(LOCKED) requirements-lowest.txt
	$(LOWEST)/bin/python $(PIP) install $(OWN) --editable .
	$(LOWEST)/bin/python -m pip check
	$(LOWEST)/bin/turnout demo
	$(LOWEST)/bin/python -m pytest -q $(PARALLEL) -m "not soak and not live" $(LOWEST_TESTS)

wheel: $(READY) ## build the wheel; DIST=dist is where
	rm -f $(DIST)/turnout-*.whl
	$(BIN)/python $(PIP) wheel $(OWN) --wheel-dir $(DIST) .

$(BASE): requirements.txt requirements-build.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("turnout needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python $(LOCKED) requirements.txt
	$(BIN)/python $(LOCKED) requirements-build.txt
	@touch $@

$(READY): $(BASE) pyproject.toml
	$(BIN)/python $(PIP) install $(OWN) --editable .
	$(BIN)/python -m pip check
	@touch $@

$(TOOLS): $(READY) requirements-dev.txt
	$(BIN)/python $(LOCKED) requirements-dev.txt
	$(BIN)/python -m pip check
	@touch $@

# Keeps the pins it finds; UPGRADE=--upgrade takes the newest of everything. Needs uv.
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate $(UPGRADE)

lock: ## lock the dependencies anew (needs uv; UPGRADE=--upgrade for newer ones)
	$(LOCK) pyproject.toml --output-file requirements.txt
	$(LOCK) --group build --constraint requirements.txt --output-file requirements-build.txt
	$(LOCK) pyproject.toml --all-extras --constraint requirements.txt --constraint requirements-build.txt \
		--output-file requirements-dev.txt
	$(LOCK) pyproject.toml --resolution lowest-direct --output-file requirements-lowest.txt

clean: ## remove .venv, caches and build outputs
	rm -rf .venv .hypothesis .pytest_cache .ruff_cache build dist
	find messages bus actors scenarios tests -name __pycache__ -type d -prune -exec rm -rf {} +
