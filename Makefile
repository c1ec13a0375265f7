# Everything runs in .venv, made here from constraints.txt; PYTHON names another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --constraint
# All cores; a worker that is done takes tests from the others. COVERAGE=1 also measures coverage.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist worksteal \
  $(if $(COVERAGE),--cov --cov-append --cov-report= --cov-fail-under=0)
LOWEST := $(VENV)/lowest
FASHION := $(VENV)/fashion-mnist
WHEEL := $(VENV)/wheel
PYTHONS ?= python3.12 python3.13 python3.14

.PHONY: demo test test-slow test-sample test-all coverage coverage-report test-lowest \
  test-postgres test-parquet test-pythons faults check format docs dist lowest bench bench-speed \
  bench-quality bench-diagnosis clean

## Find a learning rate for the embedded digits, and write report.html
demo: $(VENV)/core
	$(BIN)/lrtune search --out report.html

## Run the tests but the slow ones
test: $(VENV)/dev
	$(PYTEST) -m "not slow"

## Run the slow tests: laws on more cases, whole trainings, faults
test-slow: $(VENV)/dev
	$(PYTEST) -m slow

## Run the slow tests on a tenth of their cases, without those that take minutes
test-sample: $(VENV)/dev
	LRTUNE_CASES=0.1 $(PYTEST) -m "slow and not long"

## Run all tests
test-all: test test-slow

## Run all tests, and show which lines and branches none of them reaches
coverage:
	rm -f .coverage .coverage.*
	$(MAKE) test-all COVERAGE=1
	$(MAKE) coverage-report

## Show what the tests reached that ran with COVERAGE=1; fails under the share in pyproject.toml
coverage-report: $(VENV)/dev
	$(BIN)/python -m coverage report

## Run what depends on other packages with the lowest versions that pyproject.toml allows
test-lowest: $(LOWEST)/done
	$(LOWEST)/bin/python -m pytest --numprocesses auto --dist worksteal -m "not slow" \
	  tests/study tests/test_cli.py tests/test_figures.py tests/test_results_serialization.py tests/test_report.py

## Run the tests of studies against a real PostgreSQL server from the system's packages
test-postgres: $(VENV)/dev
	LRTUNE_DATABASE=postgres $(PYTEST) -m "not slow" tests/study

## Run the tests of tables and exports with pyarrow, which changes how pandas keeps text
test-parquet: $(VENV)/dev
	$(BIN)/python $(PIP_INSTALL) constraints.txt --upgrade --target $(VENV)/parquet --no-deps pyarrow
	PYTHONPATH=$(VENV)/parquet $(PYTEST) tests/study/test_study_reading.py \
	  tests/test_results_serialization.py

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

## Build the documentation into site/, and check its links
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(BIN)/python docs/tools/check_site.py site

## Build the release, and try the wheel in an environment of its own: it runs, and its types are seen
dist: $(VENV)/release
	rm -rf dist $(WHEEL)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	@test $$(stat -c %s dist/*.whl) -le 2097152 || { echo "the wheel is larger than 2 MB" >&2; exit 1; }
	$(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/python $(PIP_INSTALL) constraints.txt dist/*.whl
	cd $(WHEEL) && bin/lrtune --version && bin/python -m lrtune schedules
	cd $(WHEEL) && bin/python -I $(CURDIR)/tests/packaging/consumer.py
	cd $(WHEEL) && $(CURDIR)/$(BIN)/mypy --strict --python-executable bin/python $(CURDIR)/tests/packaging/consumer.py
	$(BIN)/pyright --project tests/packaging --pythonpath $(WHEEL)/bin/python

## Try the wheel with other interpreters, without torch where it has no small build
test-pythons: $(VENV)/dev
	tests/packaging/pythons.sh $(BIN) $(PYTHONS)

## Write constraints-lowest.txt anew, after a change of the dependencies
lowest: $(VENV)/dev
	$(BIN)/python $(PIP_INSTALL) constraints.txt uv
	$(BIN)/python tests/packaging/lowest.py

## How good the sweep's rules are, how well intervals cover, what a study costs
bench: $(VENV)/dev
	$(BIN)/python benchmarks/sweeps.py
	$(BIN)/python benchmarks/intervals.py
	$(BIN)/python benchmarks/study.py

## What it costs, beside the plain loop and other finders
bench-speed: $(VENV)/dev
	$(BIN)/python $(PIP_INSTALL) constraints.txt --editable '.[rivals]'
	$(BIN)/python benchmarks/speed.py

## How good the answers are, against a dense oracle; goes on with docs/quality, and takes hours
bench-quality: $(VENV)/dev $(FASHION)/done
	$(BIN)/python $(PIP_INSTALL) constraints.txt --editable '.[quality]'
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || \
	  $(BIN)/python -m pip uninstall --quiet --yes torchvision  # Lightning trips over a broken one
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality

## How often a diagnosis is right; goes on with docs/diagnosis.csv, and takes minutes
bench-diagnosis: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.diagnosis

clean:
	rm -rf $(VENV) build dist site report.html .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	  f"lrtune needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) constraints.txt --editable .
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/python $(PIP_INSTALL) constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/docs: $(VENV)/core
	$(BIN)/python $(PIP_INSTALL) constraints.txt --editable '.[docs]'
	@touch $@

$(VENV)/release: $(VENV)/dev
	$(BIN)/python $(PIP_INSTALL) constraints.txt --editable '.[release]'
	@touch $@

# Ten JSON files, 155 MB, which benchmarks/quality/data.py reads; npm comes with Node.js.
$(FASHION)/done: | $(VENV)/core
	npm install --silent --no-audit --no-fund --prefix $(FASHION) fashion-mnist@1.1.0
	@touch $@

$(LOWEST)/done: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python $(PIP_INSTALL) constraints-lowest.txt --editable '.[dev]'
	@touch $@
