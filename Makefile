# Every target sets up what it needs. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
SOURCES := services tools bench tests protos

.PHONY: help setup run test check format proto lock bench bench-replicas bench-routing bench-safety clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: .venv/.ready ## make .venv with everything that run, test and check need

.venv/.ready: requirements/all.txt pyproject.toml
	@bash deploy/venv.sh .venv requirements/all.txt
	@touch $@

run: setup ## start the whole gateway on this machine; Ctrl-C stops it (UP="--port 9000" adds options)
	@exec .venv/bin/inference-gateway up $(UP)

test: setup ## run all tests (T="tests/bbr -k alias" chooses some)
	@$(PY) -m pytest $(T)

check: setup ## lint, format, types, generated code fresh, configs valid
	@.venv/bin/ruff check $(SOURCES)
	@.venv/bin/ruff format --check $(SOURCES)
	@.venv/bin/mypy
	@$(PY) protos/generate.py --check
	@.venv/bin/inference-gateway check config/*.yaml
	@.venv/bin/envoy --mode validate --log-level error -c envoy/envoy.yaml

format: setup ## put the sources into the one format
	@.venv/bin/ruff check --fix $(SOURCES)
	@.venv/bin/ruff format $(SOURCES)

proto: setup ## generate services/pb from protos/
	@$(PY) protos/generate.py

lock: ## write requirements/*.txt again from pyproject.toml (needs uv)
	uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  pyproject.toml -o requirements/run.txt
	uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --extra kv-events pyproject.toml -c requirements/run.txt -o requirements/kv-events.txt
	uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --extra local --extra kv-events --extra hyperscan --extra dev pyproject.toml -c requirements/kv-events.txt -o requirements/all.txt

bench: setup ## measure decision cost and the chain's overhead; writes bench/results
	@$(PY) -m bench.micro
	@$(PY) -m bench.picker_cpu
	@$(PY) -m bench.overhead

bench-safety: setup ## judge labelled sets with the safety rules; SETS=DIR has them (docs/safety-quality.md)
	@$(PY) -m bench.safety_quality $(SETS)

bench-replicas: setup ## measure several pickers that share state, and faults (half an hour); writes bench/results/replicas.json
	@$(PY) -m bench.replicas $(PARTS)

bench-routing: setup ## compare routing policies on modelled fleets; writes docs/benchmarks.md (FULL=1: longer, three seeds)
	@$(PY) -m bench.routing.publish $(if $(FULL),--full)

clean: ## remove what the targets made
	rm -rf .venv .run .mypy_cache .ruff_cache .hypothesis *.egg-info
