# Every target works from a bare checkout with Python >= 3.11 and make: the first one that is run makes .venv.
PYTHON ?= python3
VENV := .venv
ALGO := ppo
ARGS :=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup train test check learn bench results clean distclean

help: ## list the targets (the default)
	@echo "make TARGET, where TARGET is one of"
	@sed -n -E 's/^([a-z]+):[^#]*## (.*)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F '|' '{printf "%-12s %s\n", $$1, $$2}'
	@echo "Variables: PYTHON=python3.12 (for setup), ALGO=dqn (for train), ARGS='...' (added to train, test, learn, bench, results)"

setup: $(STAMP) ## make .venv with the pinned packages (minutes, once; the other targets do it by themselves)

$(STAMP): pyproject.toml constraints.txt requirements.lock
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash .ci/setup

train: $(STAMP) ## train a policy: train.py --algo ppo
	$(BIN)/python train.py --algo $(ALGO) $(ARGS)

test: $(STAMP) ## run the tests, all but the long learning ones
	$(BIN)/python -m pytest -m "not learning" --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP) ## lint, format, types and the rule that imports point down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

learn: $(STAMP) ## run the learning tests (long): does each algorithm find a known optimum?
	$(BIN)/python -m pytest -m learning $(ARGS)

bench: $(STAMP) ## run a benchmark: throughput, or ARGS=dqn, tuning, scaling, evaluation, size-and-power, tear-sheet
	$(BIN)/python -m benchmarks $(ARGS)

results: $(STAMP) ## regenerate every figure and table of the documents (hours, resumable; ARGS=--quick: minutes)
	$(BIN)/python -m benchmarks.reproduce $(ARGS)

clean: ## remove caches and build artefacts; keeps .venv, runs/ and data/
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . \( -path ./$(VENV) -o -path ./.git -o -path ./runs \) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv; keeps runs/ and data/
	rm -rf $(VENV)
