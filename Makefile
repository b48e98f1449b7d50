# Two commands do everything on a machine that has only Python (>= 3.11) and make: `make breakout` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Another build: make setup TORCH="torch --index-url <your CUDA index>"
TORCH ?= torch
# Every version comes from here, also of what builds a package in an environment of its own (setuptools, wheel): older
# versions of pip ask the first of the two for that, newer ones the second.
PINNED := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
PIP := $(PINNED) $(BIN)/python -m pip --disable-pip-version-check -q
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS)

.PHONY: help setup dev docs studies breakout lint test test-setup test-data test-slow test-oracles bench gpu-check hashes release clean

help:
	@echo "make breakout   set up, train DQN on Breakout for about ten minutes, evaluate, write video and report"
	@echo "make test       set up, lint, check types, run the tests (about 15 minutes on two cores, 17 on a slow day)"
	@echo "make test-setup install GNU Go from Debian's packages (as root), which some tests play against"
	@echo "make test-data  tests on the larger real data sets in the folder that RLAB_DATA names"
	@echo "make test-slow  learning checks of minutes to hours"
	@echo "make test-oracles  Go beside other engines, which it installs"
	@echo "make docs       the documentation as a site, docs/_build/html"
	@echo "make studies    the studies that an exam asks about first, at the full budget: hours; goes on where it was stopped"
	@echo "make bench      speed against stable-baselines3"
	@echo "make gpu-check  try every path that differs on a GPU (nine minutes), and say what works"
	@echo "make hashes     write requirements-release.txt: every version of constraints.txt with its digests"
	@echo "make release    build sdist and wheel into dist/ with packages of exactly those digests, and try the wheel"
	@echo "make setup      only set up; TORCH=... chooses another build of torch"

# torch comes first and alone, so that no other package chooses its build.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rlab needs Python >= 3.11, found " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(TORCH)
	@touch $@

$(VENV)/.core: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) install -e ".[bench]"
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) install -e ".[bench,dev,docs,minatar,hpo,japanese,export,cluster]"
	@touch $@

setup: $(VENV)/.core
	@echo "ready: $(BIN)/rlab doctor"

dev: $(VENV)/.dev

breakout: setup
	$(BIN)/rlab train dqn --env Breakout --minutes 10
	$(BIN)/rlab watch latest
	$(BIN)/rlab report latest

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: dev lint
	$(PYTEST)

# Debian puts games where not every PATH looks; rlab/envs/go/gtp_client.py looks there too.
test-setup:
	@if command -v gnugo >/dev/null || [ -x /usr/games/gnugo ]; then echo "GNU Go is here"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gnugo >/dev/null && echo "GNU Go is installed"; \
	else echo "no GNU Go, and no right to install it: apt-get install gnugo as root; its tests cannot pass"; fi

test-data: dev
	@test -n "$(RLAB_DATA)" || { echo "RLAB_DATA must name the folder with the data sets"; exit 2; }
	$(BIN)/python -m pytest -m data; status=$$?; \
	  if [ $$status -eq 5 ]; then echo "no test needs the larger data sets yet"; exit 0; fi; exit $$status

test-oracles: dev
	$(PIP) install -e ".[oracles]"
	$(BIN)/python -m pytest -m oracle --timeout 7200

test-slow: dev
	$(BIN)/python -m pytest -m slow --timeout 7200

docs: dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

STUDIES := deep-net-remedies init-by-depth linear-boundaries early-stopping early-stopping-l2 early-stopping-models \
  dropout-rate dropout-small-data dropout-ensemble dropout-convolution dropout-masks dropout-recurrent \
  augmentation-shortage augmentations-one-by-one augmentation-breaks-labels optimisers-tuned transfer-frozen \
  transfer-matrix multi-task semi-supervised

studies: setup
	$(BIN)/rlab study run $(STUDIES) --budget full --jobs 1 --nice

bench: setup
	$(BIN)/rlab bench speed

# On a machine with a GPU: make gpu-check TORCH="torch --index-url <your CUDA index>"
gpu-check: setup
	$(BIN)/rlab bench gpu --minutes 9

hashes:
	rm -rf build/hashes
	$(PYTHON) -m venv build/hashes
	$(PINNED) build/hashes/bin/python -m pip install -q pip-tools
	build/hashes/bin/pip-compile -q --generate-hashes --no-emit-options --no-header --no-annotate --strip-extras \
	  --unsafe-package torch --extra release -c constraints.txt -o build/hashes/requirements.txt pyproject.toml
	(sed -n '/^#/p;/^#/!q' requirements-release.txt; sed '/^# WARNING/,$$d' build/hashes/requirements.txt) > build/hashes/new
	mv build/hashes/new requirements-release.txt

release:
	rm -rf build dist
	$(PYTHON) -m venv build/release
	$(PINNED) build/release/bin/python -m pip install -q $(TORCH)
	build/release/bin/python -m pip install -q --require-hashes -r requirements-release.txt
	build/release/bin/python -m build --no-isolation
	build/release/bin/python -m pip install -q --no-deps --no-index dist/*.whl
	cd build && release/bin/rlab doctor

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
