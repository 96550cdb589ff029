# Python 3.11 or newer, pip and make are all you need. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
export MPLBACKEND := agg
export BOKEH_RESOURCES := server

.DEFAULT_GOAL := help
.PHONY: help setup check test notebooks app bench lock environment clean

help:  ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready  ## make .venv and install everything the lock names

.venv/.ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@# uv is several times quicker; where it cannot reach what pip can, pip does the same work
	@UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip install --quiet \
		--python $(BIN)/python --compile-bytecode -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

check: setup  ## lint, format, types, import order, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

test: setup  ## every test but those that need a GPU or the internet
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

notebooks: setup  ## run the notebooks and refresh their stored pictures
	$(BIN)/python scripts/notebooks.py

app: setup  ## serve the dashboard with its embedded demo
	$(BIN)/python -m app

bench: setup  ## speed, as ratios to the official way of computing it and to named peers
	$(BIN)/python -m benchmarks.bench_model
	$(BIN)/python -m benchmarks.bench_prototypes
	$(BIN)/python -m benchmarks.bench_pretrain

lock: setup  ## resolve pyproject.toml anew into requirements.lock
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip compile --quiet \
		--no-emit-find-links --no-header --no-annotate --extra dev --constraint constraints.txt \
		--python $(BIN)/python pyproject.toml \
		| sed 's/^\(torch==[0-9.]*\)+cpu/\1/' | grep -v '^skysense' > requirements.new
	mv requirements.new requirements.lock

environment: setup  ## write environment.yml from pyproject.toml
	$(BIN)/python scripts/environment.py

clean:  ## remove .venv and caches
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
