# Every target sets up what it needs: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test slow lint types contracts performance results docs site clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## train the sample NER task on two CPU cores, show the scores and where the report lies
	$(BIN)/vertebra train task=ner

test: $(INSTALLED) ## run the fast tests and show their coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --cov --cov-report=term:skip-covered

slow: $(INSTALLED) ## run the slow tests: fresh environments, real data, whole trainings
	$(BIN)/python -m pytest -m slow --timeout 3600

lint: $(INSTALLED) ## check style and formatting
	$(BIN)/ruff check --no-cache  # which modules are ours is not in the cache's key
	$(BIN)/ruff format --check

types: $(INSTALLED) ## check types, strictly
	$(BIN)/mypy

contracts: $(INSTALLED) ## check who imports whom
	$(BIN)/lint-imports

performance: $(INSTALLED) ## measure what docs/performance.md shows, for an hour or two on an idle machine
	$(BIN)/python docs/performance.py
	$(BIN)/python docs/generate.py

results: $(INSTALLED) ## make what docs/results.md shows, for many hours; what is finished under runs/results stays
	$(BIN)/python docs/results.py
	$(BIN)/python docs/generate.py

docs: $(INSTALLED) ## write the generated parts of the documentation again
	$(BIN)/python docs/generate.py

site: docs ## build the documentation as a site in build/site; a warning is an error
	$(BIN)/python -m sphinx -q -W -b html -c docs -d build/site-trees . build/site
	@echo "build/site/index.html"

clean: ## remove everything that a target made, except runs/
	rm -rf $(VENV) dist build .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(INSTALLED): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Vertebra needs Python 3.11 or later; choose one, as in: make PYTHON=python3.12 demo" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints-cpu.txt -e '.[dev]'
	@touch $@
