# `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PARALLEL := -n 2 --dist loadfile  # a file stays in one process, with what it prepared

.PHONY: demo test test-all lint types bench bench-anytime bench-small clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,audit,dev]'
	touch $(READY)

demo: $(READY)  ## the main job from end to end, on simulated photos, into out/demo
	$(BIN)/mitate demo --out out/demo

test: $(READY) lint types  ## lint, types, the import contract, and the tests that are not marked long
	$(BIN)/pytest -q -m "not long" $(PARALLEL)

test-all: $(READY) lint types
	$(BIN)/pytest -q $(PARALLEL)

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

bench: $(READY)  ## ratios beside the peers, in one process, into benchmarks/RESULTS.md
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,audit,dev,peers]'
	$(BIN)/python -m benchmarks.maps

WEIGHTS ?= ../shared/weights
PHOTOS ?= ../shared/photos/imagenet_sample
bench-anytime: $(READY)  ## Score-CAM to a tolerance beside exact Score-CAM, into benchmarks/ANYTIME.md
	$(BIN)/python -m benchmarks.anytime $(WEIGHTS) $(PHOTOS)

bench-small: $(READY)  ## every method on small things, on the real sets beside this checkout
	$(BIN)/python -m benchmarks.small_things

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis
