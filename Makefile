# Everything runs in .venv, made here from constraints.txt; PYTHON names another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-postgres test-parquet faults check format bench bench-speed bench-quality clean

## Find a learning rate for the embedded digits, and write report.html
demo: $(VENV)/core
	$(BIN)/lrtune search --out report.html

## Run the tests
test: $(VENV)/dev
	$(BIN)/python -m pytest

## Run the tests of studies against a real PostgreSQL server from the system's packages
test-postgres: $(VENV)/dev
	LRTUNE_DATABASE=postgres $(BIN)/python -m pytest tests/study

## Run the tests of tables and exports with pyarrow, which changes how pandas keeps text
test-parquet: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade --target $(VENV)/parquet --no-deps pyarrow
	PYTHONPATH=$(VENV)/parquet $(BIN)/python -m pytest tests/study/test_study_reading.py tests/test_records.py

## Break everything that can break, some thousand times, and write the table in docs/reliability.md
faults: $(VENV)/dev
	LRTUNE_FAULTS=all $(BIN)/python -m pytest -m faults tests/faults

## Lint, types, walls between modules, doctests
check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --doctest-modules lrtune

## Put the code into its format, and mend what can be mended without thought
format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## How good the sweep's rules are, how well intervals cover, what a study costs
bench: $(VENV)/dev
	$(BIN)/python benchmarks/sweeps.py
	$(BIN)/python benchmarks/intervals.py
	$(BIN)/python benchmarks/study.py

## What it costs, beside the plain loop and other finders
bench-speed: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[rivals]'
	$(BIN)/python benchmarks/speed.py

## How good the answers are, against a dense oracle; goes on with docs/quality, and takes hours
bench-quality: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[quality]'
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || \
	  $(BIN)/python -m pip uninstall --quiet --yes torchvision  # Lightning trips over a broken one
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality

clean:
	rm -rf $(VENV) build dist report.html .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	  f"lrtune needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
