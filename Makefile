# dsg: everything a person or CI runs. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := $(VENV)/.installed-for-demo

.DEFAULT_GOAL := help
.PHONY: help venv test check unit demo demo-shell lab e2e lab-up lab-down lab-destroy lab-shell lab-prefetch generate format bench clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

venv: $(STAMP) ## make the virtual environment with all dependencies

$(STAMP): pyproject.toml
	@echo "installing dependencies into $(VENV) (about a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[operator,model,test]"
	@touch $(STAMP) $(DEMO)

$(DEMO): pyproject.toml
	@test -e $(STAMP) || echo "installing what the demo needs into $(VENV) (about a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -e $(STAMP) || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[operator,demo]"
	@touch $(DEMO)

test: check unit ## static checks and all tests that need no lab (under 6 minutes)

check: $(STAMP) ## types, lint, import rules, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m dsg.api.generate --check
	$(BIN)/python -m dsg.telemetry.reference --check

unit: $(STAMP) ## tests on the in-memory model
	$(BIN)/python -m pytest -m "not kube and not zfs and not lab" -n 2 --dist loadgroup

demo: $(DEMO) ## the main job end to end on an embedded default, as a story (under 3 minutes)
	@$(BIN)/python -m demo

demo-shell: $(DEMO) ## a shell with the demo's API server and operator running, to try more
	@$(BIN)/python -m demo --shell

lab: $(STAMP) ## the same story on a real kube-apiserver and real OpenZFS
	@$(BIN)/python -m demo --lab

e2e: $(STAMP) ## tests on the real parts: kube-apiserver, OpenZFS in the storage-node guest, the operator
	@$(BIN)/python -m lab prefetch
	$(BIN)/python -m pytest -m "kube or zfs or lab" -p no:cacheprovider

lab-up: $(STAMP) ## start a lab that stays: API server and storage nodes (NODES=2 for two)
	@$(BIN)/python -m lab up $(if $(NODES),--nodes $(NODES))

lab-down: $(STAMP) ## stop it; its data stays
	@$(BIN)/python -m lab down

lab-destroy: $(STAMP) ## stop it and remove its data
	@$(BIN)/python -m lab destroy

lab-shell: $(STAMP) ## a shell on a storage node (NODE=node-b for another)
	@$(BIN)/python -m lab shell $(NODE)

lab-prefetch: $(STAMP) ## do the lab's slow builds only (about 15 minutes, once)
	@$(BIN)/python -m lab prefetch

generate: $(STAMP) ## write CRDs, JSON Schemas and reference docs from the models
	$(BIN)/python -m dsg.api.generate
	$(BIN)/python -m dsg.telemetry.reference

format: $(STAMP) ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## 1,000 repositories on the model with a real API server
	$(BIN)/python -m benchmarks.reconcile

clean: ## remove the environment and caches of this tree
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
