# Everything that is done with this repository, by name: `make help`.
# Needs make and Python 3.11 or newer; `make PYTHON=python3.12 ...` picks one.
# Environments are made on demand (.venv, .cache/generate), and a second run
# installs nothing. `make demo` installs what running needs and no more.

PYTHON ?= python3
BIN := .venv/bin
# Written by tools/env.py after it has installed what the name says.
RUNTIME := .venv/.stamp-runtime
DEV := .venv/.stamp-dev
EVAL := .venv/.stamp-dev-eval

# All hand-written Python; folders that do not exist are left out.
CHECKED := $(wildcard core rpc agents registry balancer pipelines cli testing tests benchmarks examples tools)
# Every folder of tests is a suite and a target; the slow ones come last.
SLOW := simulation conformance integration chaos
SUITES := $(filter-out __pycache__,$(notdir $(patsubst %/,%,$(wildcard tests/*/))))
SUITES := $(filter-out $(SLOW),$(SUITES)) $(filter $(SUITES),$(SLOW))
# Most tests wait, for processes or for gRPC: these suites run in a worker per core.
# Simulations stay together by file, whose worlds run once for all its tests. Chaos
# measures, and runs alone. ARGS=-n0 is one process, which --pdb takes by itself.
WORKERS := -n auto --maxprocesses 4 --dist
WORKERS_unit := $(WORKERS) worksteal
WORKERS_conformance := $(WORKERS) worksteal
WORKERS_integration := $(WORKERS) worksteal
WORKERS_simulation := $(WORKERS) loadfile
STEPS := style types imports check-generated proto-lint proto-breaking $(SUITES)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint style types imports check-generated proto-lint proto-breaking generate \
  $(sort $(SUITES) unit integration chaos) rotation sim sim-soak soak-prometheus bench bench-mux bench-registry bench-pipelines bench-batch bench-policies bench-overload bench-memory bench-peers bench-pick bench-plans bench-tracing bench-durable eval-text examples fmt clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "  Each folder of tests/ is a target as well: $(strip $(SUITES))."
	@echo "  ARGS goes to pytest: make unit ARGS='-k lease'."

demo: $(RUNTIME) ## a mesh on this machine: work, a kill, a drain, a newcomer, and nothing lost
	@$(BIN)/python -m atomesh demo $(ARGS)

test: $(DEV) ## everything that must hold; runs all of it, ends with a table
	@MAKE="$(MAKE)" $(BIN)/python tools/steps.py $(STEPS)

lint: style types imports ## the three below

style: $(DEV) ## ruff: rules and format
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(DEV) ## mypy, strict
	$(BIN)/mypy $(CHECKED)

imports: $(DEV) ## import-linter: layers, and the pure ring
	$(BIN)/lint-imports --no-logo

check-generated: $(DEV) ## generated/ is what protos/ compile to
	@$(BIN)/python tools/generated.py

proto-lint: $(DEV) ## buf lint STANDARD, a comment on everything, buf's layout
	@$(BIN)/python tools/protos.py lint

proto-breaking: $(DEV) ## buf breaking against the last release
	@$(BIN)/python tools/protos.py breaking

generate: ## protos/ -> generated/, in an environment with the oldest supported generator
	@$(PYTHON) tools/env.py --bare .cache/generate generate
	.cache/generate/bin/python cli/atomesh/cli/_protoc.py protos generated

unit: ## tests in virtual time: no sockets, seconds in all
integration: ## tests with real gRPC on this machine
chaos: ## tests with real processes, SIGKILL and SIGSTOP
$(sort $(SUITES) unit integration chaos): $(DEV)
	$(BIN)/pytest -ra $(WORKERS_$@) tests/$@ $(ARGS)

# What has worlds: the whole mesh, and a registry by itself.
WORLDS := world registry_world

sim: $(DEV) ## 300 worlds of the mesh, 300 of a registry; WORLDS=registry_world ARGS='--seed 17' replays one
	@for each in $(WORLDS); do $(BIN)/python -m atomesh.testing.$$each $(ARGS) || exit 1; done

sim-soak: $(DEV) ## 5,000 of each; ARGS='--seeds 10000:20000' for others
	@for each in $(WORLDS); do $(BIN)/python -m atomesh.testing.$$each --seeds 1000:6000 $(ARGS) || exit 1; done

soak-prometheus: $(DEV) ## ten minutes of agents that come and go beside a real Prometheus; ARGS='--seconds 120 --agents 3'
	@PATH="$(CURDIR)/.cache/bin:$$PATH" $(BIN)/python -m benchmarks.soak_prometheus $(ARGS)

rotation: $(DEV) ## integration and chaos tests once more, with connections that are two seconds old at most
	$(BIN)/pytest -ra --connection-age 2 tests/integration tests/chaos/mesh $(ARGS)

bench: bench-mux bench-pick ## what a call costs, and a pick; tables, JSON and plots in benchmarks/results/

bench-mux: $(DEV) ## calls/s and CPU beside bare gRPC, unary and mux; ARGS='--concurrency 1 32 --seconds 1'
	@$(BIN)/python -m benchmarks.bench_mux $(ARGS)

bench-registry: $(DEV) ## what the registry costs over raw gRPC, its watches, and how it grows; ARGS=--quick
	@$(BIN)/python -m benchmarks.bench_registry $(ARGS)

bench-policies: $(DEV) ## policies beside one central queue on the same traces, in virtual time; ARGS=--full, ARGS=--real
	@$(BIN)/python -m benchmarks.bench_policies $(ARGS)

bench-overload: $(DEV) ## goodput at 1, 2 and 10 times an endpoint's capacity, bound by slots and by CPU
	@$(BIN)/python -m benchmarks.bench_overload $(ARGS)

bench-memory: $(DEV) ## memory over 200,000 calls with 5 % cancelled, and of idle muxes
	@$(BIN)/python -m benchmarks.bench_memory $(ARGS)

bench-peers: $(DEV) ## the same echo and trace through Ray Serve and plain grpc.aio, in environments of their own
	@$(BIN)/python -m benchmarks.bench_peers $(ARGS)

bench-durable: $(DEV) ## what a checkpointed stage costs; ARGS='--store postgresql://...'
	@$(BIN)/python benchmarks/bench_durable.py $(ARGS)

bench-pipelines: $(DEV) ## what a pipeline of three stages costs over the same three calls made by hand
	@$(BIN)/python -m benchmarks.bench_pipelines $(ARGS)

bench-batch: $(DEV) ## how much of a fleet's slots a batch uses, beside fixed numbers of callers
	@$(BIN)/python -m benchmarks.bench_batch $(ARGS)

bench-pick: $(DEV) ## what choosing an endpoint costs
	@$(BIN)/python benchmarks/bench_pick.py $(ARGS)

bench-tracing: $(DEV) ## what tracing costs a call: off, one trace in a hundred, all
	@$(BIN)/python -m benchmarks.bench_tracing $(ARGS)

bench-plans: $(DEV) ## what finding a plan costs among 1,000 agents of 200 contracts
	@$(BIN)/python -m benchmarks.bench_plans $(ARGS)

eval-text: $(EVAL) ## the text agent against labelled sets: make eval-text DATA=path
	@test -n "$(DATA)" || { echo "error: say where the labelled sets are: make eval-text DATA=path" >&2; exit 2; }
	$(BIN)/python benchmarks/eval_text.py "$(DATA)" $(ARGS)

examples: $(RUNTIME) ## runs every example and checks that it works
	@$(BIN)/python tools/examples.py

fmt: $(DEV) ## formats the code and the protos, and mends what ruff can
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/buf format --write protos

clean: ## removes everything that make made, environments included
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist
	find $(CHECKED) generated -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): pyproject.toml tools/env.py
	@$(PYTHON) tools/env.py .venv

$(DEV): pyproject.toml tools/env.py
	@$(PYTHON) tools/env.py .venv dev

$(EVAL): pyproject.toml tools/env.py
	@$(PYTHON) tools/env.py .venv dev eval
