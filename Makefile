# Everything a newcomer needs: `make demo` and `make test`. Written for GNU make 3.81 and bash 3.2 upwards.
#
#   PYTHON=python3.12 make demo      choose the Python (3.11 or newer)
#   PIP_FIND_LINKS=… / PIP_EXTRA_INDEX_URL=… make demo      where pip may find a CPU build of torch (docs/deploy.md)
#   PYTEST_ARGS="-k ledger" make test                       pass words on to pytest
#   JOBS=0 make test                                        in one process, e.g. for a debugger
#   COVERAGE=1 make test                                    note what was covered, for make check; half as long again

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; exit; fi; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^\(torch==[0-9.]*\).*/\1/p' $(LOCK))
PYTEST_ARGS ?=
COVERAGE ?=
LEAST_COVERAGE := 90
DEMO_ARGS ?=
JOBS ?= 3
SOURCES := shared coordinator participant demo tools tests
# The suite waits for the disk thousands of times, since what it tests is careful: in memory, where there is room.
MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 { print "/dev/shm" }')
ifneq ($(MEMORY),)
export PYTEST_DEBUG_TEMPROOT ?= $(MEMORY)
endif
# Demo and tests start dozens of processes: whatever the environment says, none of them compiles everything anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-all test-postgresql check check-deploy docs screenshots lock venv clean

help: ## Say what can be made (this text)
	@echo "Commonlens. Two commands do everything: make demo, make test."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## Run a whole consortium on this machine: five organisations, one signed release
	@$(BIN)/python -m demo $(DEMO_ARGS)

test: $(STAMP) ## Run the whole suite, or a part: PYTEST_ARGS="-k ledger"
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),--cov --cov-report=) $(PYTEST_ARGS)

test-all: $(STAMP) ## The suite and its slow tests
	@$(MAKE) --no-print-directory test PYTEST_ARGS='-m "slow or not slow" $(PYTEST_ARGS)'

test-postgresql: $(STAMP) ## The contracts of stores and pages on a PostgreSQL of their own (Debian: postgresql)
	@pg_virtualenv bash -c 'COMMONLENS_TEST_POSTGRES="postgresql+psycopg://$$PGUSER:$$PGPASSWORD@$$PGHOST:$$PGPORT/$$PGDATABASE" \
		$(BIN)/python -m pytest -q -k postgresql tests/contracts'

check: $(STAMP) ## Lint, formatting, types, import contracts, and the coverage that COVERAGE=1 make test noted
	@$(BIN)/ruff check $(wildcard $(SOURCES))
	@$(BIN)/ruff format --check $(wildcard $(SOURCES))
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@if test -f .coverage; then $(BIN)/coverage report --skip-covered --fail-under=$(LEAST_COVERAGE); \
		else echo "No coverage was noted yet: COVERAGE=1 make test."; fi

check-deploy: $(STAMP) ## Check deploy/ offline (its validators go to a venv of their own)
	@$(BIN)/python -m tools.check_deploy --install

docs: $(STAMP) ## Write the generated pages again: errors, commands, configuration, API
	@$(BIN)/python -m tools.write_docs

screenshots: $(STAMP) ## Walk the dashboard in Chromium and photograph it into docs/screens
	@COMMONLENS_SCREENSHOTS=docs/screens $(BIN)/python -m pytest -q tests/browser/test_admin_walk.py

lock: $(STAMP) ## Resolve pyproject.toml again into requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate \
		--fork-strategy fewest --prerelease disallow \
		--no-emit-index-url --no-emit-find-links --all-extras pyproject.toml \
		| $(BIN)/python -m tools.tidy_lock > $(LOCK).new
	@mv $(LOCK).new $(LOCK)
	@echo "$(LOCK) is written. Run make test before you commit it."

venv: $(STAMP) ## Only make .venv and install into it

clean: ## Remove .venv, caches and the demo's output
	rm -rf $(VENV) .venv-deploy demo-out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and alone, so that an exact pin decides which build pip takes; then the rest of the lock;
# then the project itself, editable and without asking any index again.
$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Nothing was installed."; \
		echo "Install one, or name it: PYTHON=/path/to/python3.12 make demo"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no ensurepip, so it cannot make a virtual environment. Nothing was installed."; \
		echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@echo "Installing pinned packages into $(VENV) (once; about 2 GB, one to three minutes)"
	@$(BIN)/python tools/torch_notice.py
	$(PIP) install --quiet --constraint $(LOCK) $(TORCH)
	$(PIP) install --quiet --requirement $(LOCK)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
