# dsg: everything a person or CI runs. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := $(VENV)/.installed-for-demo
# The story's input. Only its files are used, so what it would need to run is left out.
DATA := vega_datasets==0.9.0
# What looks at the code and at what is shipped, apart from the rest, whose dependencies they would add to.
SECURITY_TOOLS := bandit==1.9.4 pip-audit==2.10.1 cyclonedx-bom==7.5.0
SECURITY := $(VENV)/security

# Each process would compile all of dsg, and pytest all tests, again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv test check unit demo demo-shell lab e2e soak explore lab-up lab-down lab-destroy lab-shell lab-prefetch generate manifests image format bench docs clean bandit audit sbom

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

venv: $(STAMP) ## make the virtual environment with all dependencies

$(STAMP): pyproject.toml
	@echo "installing dependencies into $(VENV) (about a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[operator,model,test]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(DATA)
	@touch $(STAMP) $(DEMO)

$(DEMO): pyproject.toml
	@test -e $(STAMP) || echo "installing what the demo needs into $(VENV) (about a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -e $(STAMP) || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[operator,demo]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(DATA)
	@touch $(DEMO)

test: $(STAMP) ## static checks, and beside them all tests that need no lab (5 to 10 minutes on two processors)
	@$(MAKE) --no-print-directory -j2 check unit

check: $(STAMP) ## types, lint, import rules, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m dsg.api.generate --check
	$(BIN)/python -m gitops.generate --check
	$(BIN)/python -m dsg.telemetry.reference --check
	$(BIN)/python -m dsg.transfer.server.openapi --check
	$(BIN)/python -m lab.chart --check
	@$(MAKE) --no-print-directory docs

unit: $(STAMP) ## tests on the in-memory model
	$(BIN)/python -m pytest -m "not kube and not zfs and not lab" -n 2 --dist loadgroup

demo: $(DEMO) ## the main job end to end on an embedded default, as a story (under 3 minutes)
	@$(BIN)/python -m demo

demo-shell: $(DEMO) ## a shell with the demo's API server and operator running, to try more
	@$(BIN)/python -m demo --shell

lab: $(STAMP) ## the same story on a real kube-apiserver and real OpenZFS
	@$(BIN)/python -m demo --lab

e2e: $(STAMP) ## tests on the real parts: kube-apiserver, OpenZFS in the storage-node guest, the operator (50 minutes)
	@$(MAKE) --no-print-directory bandit sbom
	@$(BIN)/python -m lab prefetch
	$(BIN)/python -m lab.tier $(if $(MINUTES),--minutes $(MINUTES))

explore: $(STAMP) ## look for new counter-examples to what is said to hold always (TESTS=directory, 10 minutes and more)
	DSG_EXPLORE=1 $(BIN)/python -m pytest -m "not kube and not zfs and not lab" -n 2 -q $(or $(TESTS),tests)

soak: $(STAMP) ## what `make e2e` leaves to lots, whole: everything on OpenZFS and in a cluster (4 hours); then CUTS power cuts (100)
	@$(BIN)/python -m lab prefetch
	DSG_SHARE=0/1 DSG_EVERY_MOMENT=1 $(BIN)/python -m pytest tests/onzfs -p no:cacheprovider -s
	$(BIN)/python -m pytest tests/e2e -p no:cacheprovider -v
	DSG_CUTS=$(or $(CUTS),100) $(BIN)/python -m pytest tests/e2e/test_e2e_power_cuts.py -p no:cacheprovider

lab-up: $(STAMP) ## start a lab that stays: API server and storage nodes (NODES=2 for two)
	@$(BIN)/python -m lab up $(if $(NODES),--nodes $(NODES))

lab-down: $(STAMP) ## stop it; its data stays
	@$(BIN)/python -m lab down

lab-destroy: $(STAMP) ## stop it and remove its data
	@$(BIN)/python -m lab destroy

lab-shell: $(STAMP) ## a shell on a storage node (NODE=node-b for another)
	@$(BIN)/python -m lab shell $(NODE)

lab-prefetch: $(STAMP) ## do the lab's slow builds only (about half an hour, once)
	@$(BIN)/python -m lab prefetch

docs: $(STAMP) ## build the documentation site, strictly, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

generate: $(STAMP) ## write CRDs, JSON Schemas and reference docs from the models
	$(BIN)/python -m dsg.api.generate
	$(BIN)/python -m gitops.generate
	$(BIN)/python -m dsg.telemetry.reference
	$(BIN)/python -m dsg.transfer.server.openapi
	$(BIN)/python -m dsg.plugin.reference docs/kubectl-dsg.md
	$(BIN)/python -m lab.chart

$(SECURITY)/.installed: $(STAMP) Makefile
	@test -x $(SECURITY)/bin/python || $(PYTHON) -m venv $(SECURITY)
	@$(SECURITY)/bin/python -m pip install --quiet --disable-pip-version-check $(SECURITY_TOOLS)
	@touch $@

bandit: $(SECURITY)/.installed ## look for insecure code (make e2e does so too)
	$(SECURITY)/bin/bandit -q -c pyproject.toml -r controller/dsg demo

audit: $(SECURITY)/.installed ## ask for known vulnerabilities of what is shipped (exit code 3: could not be asked)
	@$(BIN)/python -m lab.supply_chain audit --tools $(SECURITY)/bin

sbom: $(SECURITY)/.installed ## list what is shipped and its licences, as CycloneDX, in build/sbom (make e2e does so too)
	@$(BIN)/python -m lab.supply_chain sbom --tools $(SECURITY)/bin

manifests: generate ## render manifests/workloads and manifests/monitoring from the chart (builds helm, once)
	$(BIN)/python -m lab.chart --render

# By digest in earnest: make image BASE=docker.io/library/debian:trixie-slim@sha256:… IMAGE=registry.example.org/dsg:0.5.0
BASE ?= docker.io/library/debian:trixie-slim
IMAGE ?= dsg:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILDER ?= buildah build
image: ## build the container image (BASE=…@sha256:…, IMAGE=name:tag, BUILDER="docker build")
	@case "$(BASE)" in *@sha256:*) ;; *) echo "BASE=$(BASE) has no digest: good for trying, not for production" >&2 ;; esac
	$(BUILDER) --file Containerfile --build-arg BASE=$(BASE) --tag $(IMAGE) .

format: $(STAMP) ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## 1,000 repositories on the model with a real API server; what a commit costs
	$(BIN)/python -m benchmarks.reconcile
	$(BIN)/python -m benchmarks.commit

clean: ## remove the environment and caches of this tree
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
