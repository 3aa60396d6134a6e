# Every target works from a bare checkout with Python >= 3.11 and make: the first one that is run makes .venv.
PYTHON ?= python3
VENV := .venv
ALGO := ppo
ARGS :=
# Takes the pictures of `make results`; they stay as they are where it is not installed.
BROWSER := chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=15000

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all check docs learn bench results clean distclean

help: ## list the targets (the default)
	@echo "make TARGET, where TARGET is one of"
	@sed -n -E 's/^([a-z-]+):[^#]*## (.*)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F '|' '{printf "%-12s %s\n", $$1, $$2}'
	@echo "Variables: PYTHON=python3.12 (for setup), ALGO=dqn (for train), ARGS='...' (added to train, test, test-all, learn, bench)"

setup: $(STAMP) ## make .venv with the pinned packages (minutes, once; the other targets do it by themselves)

$(STAMP): pyproject.toml constraints.txt requirements.lock
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash .ci/setup

train: $(STAMP) ## train a policy: train.py --algo ppo
	$(BIN)/python train.py --algo $(ALGO) $(ARGS)

# A file's tests stay in one process, which starts Ray at most once; the longest files come first (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-seconds 5

test: $(STAMP) ## run the fast tests, below 5 minutes: without Ray, scripts and training
	$(PYTEST) -m "not slow and not ray and not learning" --timeout 120 $(ARGS)

test-all: $(STAMP) ## run all tests but the long learning ones, below 15 minutes
	$(PYTEST) -m "not learning" $(ARGS)

check: $(STAMP) ## lint, format, types and the rule that imports point down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(STAMP) ## build the documentation site into site/, strictly and without the network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict $(ARGS)

learn: $(STAMP) ## run the learning tests (long): does each algorithm find a known optimum?
	$(BIN)/python -m pytest -m learning --timeout 3600 $(ARGS)

bench: $(STAMP) ## measure the throughput of PPO beside its peers; ARGS=dqn, gpu: that of DQN, of PPO on a GPU
	$(BIN)/python -m benchmarks.throughput $(ARGS)

results: $(STAMP) ## regenerate every figure and table of the documents (hours; the runs of most commands are made once)
	rm -rf runs/reproduce/train runs/reproduce/train_per_asset
	$(BIN)/python train.py --algo ppo --output-dir runs/reproduce/train
	$(BIN)/python train.py --config tune_configs/ppo_per_asset.yaml --output-dir runs/reproduce/train_per_asset
	cp runs/reproduce/train/results.json benchmarks/results/train.json
	cp runs/reproduce/train_per_asset/results.json benchmarks/results/train_per_asset.json
	cp runs/reproduce/train/equity_curve.png docs/equity_curve.png
	$(BIN)/python -m benchmarks.learning.certification
	$(BIN)/python -m benchmarks.learning.ablation
	$(BIN)/python -m benchmarks.learning.tuning_gain
	$(BIN)/python -m benchmarks.real_data
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.throughput dqn
	$(BIN)/python -m benchmarks.throughput.assets
	$(BIN)/python -m benchmarks.throughput.apg
	$(BIN)/python -m benchmarks.evaluation.speed
	$(BIN)/python -m benchmarks.evaluation.size_and_power
	$(BIN)/python -m benchmarks.documents
	-$(BROWSER) --window-size=1265,830 --screenshot=docs/report.png file://$(CURDIR)/runs/real-data/walk/report/report.html

clean: ## remove caches and build artefacts; keeps .venv, runs/ and data/
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . \( -path ./$(VENV) -o -path ./.git -o -path ./runs \) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv; keeps runs/ and data/
	rm -rf $(VENV)
