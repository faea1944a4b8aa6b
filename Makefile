# make demo   set up, then train, export, verify, render and play the tanh clone
# make test   set up, then run the tests
# make check  lint, types, and the wheel in a clean environment
# make bench  what it costs to play, and how good three quick clones are, as tables

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test check bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@./scripts/setup.sh "$(PYTHON)" "$(VENV)"
	@touch $@

demo: $(READY)
	@./scripts/demo.sh "$(BIN)"

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	./scripts/check_wheel.sh "$(BIN)/python"

bench: $(READY)
	$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache
