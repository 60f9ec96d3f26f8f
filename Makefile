# Two commands do it all: `make demo` and `make test`. Everything is set up here, from Python ≥ 3.11 with venv.

PYTHON ?= python3
KEEP ?=
FOLDER ?=
QUICK ?=
MINUTES ?= 20
OFFLINE_OK ?=
UV_VERSION := 0.13.8
UV := .uv/bin/uv
BIN := .venv/bin
SETTING_UP := echo 'setting up .venv, once: some minutes' >&2
# the runtime: OpenVINO's where it has a wheel (it computes in bf16 where the processor does), else ONNX Runtime's own
EXTRA ?= $(shell $(PYTHON) -c 'import platform as p, sys; v = sys.version_info[:2]; \
	print("openvino" if p.system() + p.machine() == "Linuxx86_64" and (3, 11) <= v <= (3, 13) else "cpu")')

EXTRAS := --extra documents --extra s3 --extra kinesis --extra obstore --extra web --extra avro --extra protobuf --extra plot

export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
# modules are compiled once, and not in every process
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help beam dev demo test check lint audit bench chaos soak fmt clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv .uv || { echo "python3 -m venv failed: on Debian, apt install python3-venv"; exit 2; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.demo: $(UV) pyproject.toml uv.lock
	@$(SETTING_UP)
	@$(UV) sync --quiet --locked --compile-bytecode --inexact --python .uv/bin/python --extra $(EXTRA) $(EXTRAS) --group local --group demo
	@touch $@

.venv/.dev: $(UV) pyproject.toml uv.lock
	@$(SETTING_UP)
	@$(UV) sync --quiet --locked --compile-bytecode --python .uv/bin/python --extra $(EXTRA) $(EXTRAS) --group dev
	@$(BIN)/python -m compileall -q streams models agents tests
	@touch $@ .venv/.demo

.venv-beam/.beam: $(UV) pyproject.toml uv.lock
	@echo 'setting up .venv-beam, once: some minutes' >&2
	@UV_PROJECT_ENVIRONMENT=.venv-beam $(UV) sync --quiet --locked --python .uv/bin/python --extra beam
	@touch $@

beam: .venv-beam/.beam  ## Set up .venv-beam with Apache Beam, for `.venv-beam/bin/penstock backfill`

dev: .venv/.dev  ## Set up .venv with all that tests and tools need

demo: .venv/.demo  ## Index the Python documentation, or FOLDER=…, on real servers; ASK="a question" (KEEP=1 leaves them up)
	@$(BIN)/penstock demo $(if $(KEEP),--keep) $(if $(FOLDER),--folder "$(FOLDER)") $(if $(ASK),--ask "$(ASK)")

test: .venv/.dev .venv-beam/.beam  ## Run the tests, those on the real broker and Elasticsearch included (the long ones: chaos)
	@$(BIN)/python -m pytest -n 8 --dist loadfile --no-loadscope-reorder --durations 10

lint: .venv/.dev  ## Style, types, import layers, the Dockerfile
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; else echo 'hadolint: not available here, Dockerfile not linted'; fi

audit: .venv/.dev  ## Bill of materials of the worker, withdrawn releases, known vulnerabilities (OFFLINE_OK=1: as far as can be seen)
	@$(BIN)/python ops/audit.py $(UV) $(EXTRA) $(if $(OFFLINE_OK),--offline-ok)

# it judges the code: what could not be looked up for want of a network is said, and fails `make audit` only
check: .venv/.dev  ## Everything that CI runs: lint, types, import layers, audit, tests
	@$(MAKE) --no-print-directory -j 3 lint audit test OFFLINE_OK=1

bench: .venv/.dev .venv-beam/.beam  ## Measure speed against the model alone and what people run today (QUICK=1: a shorter run)
	@$(BIN)/python -m bench.run $(if $(QUICK),--quick)

chaos: .venv/.dev .venv-beam/.beam  ## Kill, stop and starve it at length, and explore its protocol (MINUTES=20 of random kills)
	@CHAOS=1 MINUTES=$(MINUTES) $(BIN)/python -m pytest -n 2 --dist loadfile --durations 10 tests/chaos

soak: MINUTES = 60
soak: .venv/.dev  ## An hour of load, restarts and rebalances: memory, file handles and threads stay (MINUTES=60)
	@CHAOS=1 SOAK=1 MINUTES=$(MINUTES) $(BIN)/python -m pytest tests/chaos/test_soak.py

fmt: .venv/.dev  ## Format the code
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .

clean:  ## Remove the environments and tool caches of this checkout (models and downloads stay in the user's cache)
	rm -rf .venv .venv-beam .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
