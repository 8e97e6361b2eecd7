# The verbs of this folder: `make` lists them. Needs make and Python 3.11 or later; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile
PINS := deploy/requirements
TESTS := $(wildcard tests/unit tests/golden tests/contract tests/integration tests/acceptance)

# Real ticks: a folder that holds ticks/. `make demo TOCSIN_DATA=` goes without.
TOCSIN_DATA ?= $(abspath $(wildcard ../shared/data))
ifneq ($(TOCSIN_DATA),)
export TOCSIN_DATA
endif

# Of the moments at which `make chaos` kills, and of the records of `make fuzz`.
SEED ?= 1

# Of `make chaos`: the log in an embedded server (embedded), or in one of its own behind a network that fails too (redis).
TRANSPORT ?= embedded

# pip would compile every module of every package, for 10 s. Python itself compiles the few it imports, if it may.
unexport PYTHONDONTWRITEBYTECODE

# Of `make demo`: those that are trained; more than lightgbm installs XGBoost and CatBoost too.
EXPERTS ?= lightgbm

# Of `make memory`.
MINUTES ?= 60

.PHONY: help demo test chaos fuzz parity memory check schemas pins clean

help:                           ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile | expand -t 18

demo: .venv/$(if $(filter-out lightgbm,$(EXPERTS)),trees,demo).stamp          ## everything on this machine in under a minute: ticks, training, signals (EXPERTS=all: the six of three libraries)
	@$(BIN)/tocsin demo --experts $(EXPERTS)

test: .venv/test.stamp          ## the tests: unit, contract, integration, acceptance
	$(BIN)/python -m pytest $(TESTS)

chaos: .venv/test.stamp         ## disturb everything as SEED=1 says, and prove that nothing was lost: 8 minutes (TRANSPORT=redis: another 8)
	$(BIN)/python -m tests.chaos $(TRANSPORT) $(SEED)

fuzz: .venv/test.stamp          ## a million mutated records: each taken or refused whole, nothing else moved: 3 minutes
	$(BIN)/python -m tests.fuzz $(SEED) 1000000

parity: .venv/test.stamp        ## 5 million real ticks in every cutting, order and process, the same bits each time: 2 minutes
	$(BIN)/python -m tests.parity 5000000

memory: .venv/test.stamp        ## 1,000 ticks a second for MINUTES=60: no process grows
	$(BIN)/python -m tests.long.memory $(MINUTES)

check: .venv/dev.stamp          ## style, types, floors, published schemas, nothing of this machine in the files
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python -m pytest -q tests/unit/test_house.py tests/unit/test_schemas.py tests/unit/test_documents.py

schemas: .venv/trees.stamp      ## write docs/schemas and the reference pages of docs/ anew from the types
	$(BIN)/python deploy/schemas.py
	$(BIN)/python deploy/configuration.py
	$(BIN)/python deploy/metrics.py
	$(BIN)/python deploy/features.py
	$(BIN)/python deploy/experts.py
	$(BIN)/python deploy/pictures.py

pins: .venv/dev.stamp           ## write deploy/requirements anew from pyproject.toml (newest: make pins UPGRADE=--upgrade)
	$(call compile,dev,)
	$(call compile,test,--constraints $(PINS)/dev.txt)
	$(call compile,trees,--constraints $(PINS)/dev.txt)
	$(call compile,demo,--constraints $(PINS)/dev.txt)

clean:                          ## remove .venv, caches and build products (never .tocsin: it holds your keys and models)
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One set for every Python and system (--universal), one version of a package for all of them (fewest).
define compile
$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes $(UPGRADE) \
    --annotation-style line --custom-compile-command "make pins" \
    pyproject.toml --extra embedded --group $(1) $(2) -o $(PINS)/$(1).txt
endef

# A stamp says: these pins are in .venv, and this folder itself as an editable install, so that its code is never stale.
.venv/%.stamp: $(PINS)/%.txt pyproject.toml | $(BIN)/pip
	@echo "Installing into .venv, this time only:" \
	    "$$(sed -n 's/^\([a-z0-9-]*\)==\([^ ;]*\).*/\1 \2/p' $< | paste -s -d , - | sed 's/,/, /g')"
	@$(PIP) --require-hashes -r $<
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Tocsin needs Python 3.11 or later, and $(PYTHON) isn't that."; \
	    echo "Name one: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { \
	    rm -rf .venv; echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv"; exit 2; }
