# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
#
# Recipes are short: flags live in build.py, steps in .ci/, everything else beside what it runs.

PYTHON3 ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip install -q --disable-pip-version-check --root-user-action=ignore

# Targets whose runner is not in the tree are left out of `make help`.
RUNNERS := bench/run.py tests/fuzz/run.py
ABSENT := $(foreach runner,$(RUNNERS),$(if $(wildcard $(runner)),,$(notdir $(patsubst %/,%,$(dir $(runner))))))

.PHONY: build demo test check coredump mutants integration accuracy legal package test-package collector qemu qemu-all verifier-report bench-guest help clean

build: .venv/.installed ## install what is missing and build into .venv/ (the default)
	@$(PY) build.py

# The compilers first: one of the wheels may have to be compiled.
.venv/.system: .ci/packages
	@.ci/packages build
	@mkdir -p .venv && touch $@

.venv/bin/python: | .venv/.system
	@$(PYTHON3) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("otelagent needs Python 3.11 or newer")'
	@$(PYTHON3) -m venv .venv

.venv/.installed: pyproject.toml setup.py build.py .venv/.system | .venv/bin/python
	@$(PIP) -U setuptools wheel cffi
	@$(PY) build.py
	@$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

demo: build ## profile a mixed workload for some seconds; leaves build/demo.html (root)
	@$(PY) demo/run.py

test: build ## run tests/: no root and no kernel needed
	@.ci/pytest tests

check: build ## formatters, linters, types, layers, spelling
	@.ci/check

coredump: build ## unwind recorded processes: no root, no kernel (UPDATE=1 writes what comes out)
	@.venv/bin/python -m pytest -q tests/coredump

mutants: build ## change tokens of the unwinders and see if a case notices; writes docs/mutants.md (long)
	@$(PY) tools/mutants.py

integration: build ## run integration/: needs root and this machine's kernel
	@.ci/integration

accuracy: build ## measure how many stacks are complete, workload by workload (root, 10 min)
	@$(PY) tools/accuracy.py
	@.venv/bin/python -m pytest -q -m sweep integration

ifeq ($(filter bench,$(ABSENT)),)
.PHONY: bench
bench: build ## measure; writes build/bench.json
	@$(PY) bench/run.py
endif

ifeq ($(filter fuzz,$(ABSENT)),)
.PHONY: fuzz
fuzz: build ## feed mutated input to the parsers under ASan and UBSan
	@$(PY) tests/fuzz/run.py
endif

oracle: build ## compare unwind rows of every system file with readelf's (long)
	@$(PY) tools/oracle.py

legal: build ## licences of all dependencies; writes build/deps.otelagent.csv
	@$(PY) tools/legal.py

.venv/.package: .venv/.installed
	@$(PIP) $$($(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["package"])')
	@touch $@

package: build .venv/.package ## .deb, .rpm and wheel of this machine's architecture, into build/dist/
	@$(PY) package/make.py

test-package: package ## install, run, upgrade and remove them in clean Debian roots, one booted by systemd (root, some minutes)
	@.ci/packages package
	@.ci/packages qemu
	@$(PY) -m pytest -q package

# One module at a time: some take most of a GiB to compile.
collector: ## build the OpenTelemetry Collector that integration/test_collector.py uses (Go, 5 min)
	@mkdir -p build/collector
	@GOFLAGS=-p=1 CGO_ENABLED=0 go run go.opentelemetry.io/collector/cmd/builder@v0.159.0 \
		--config integration/collector/builder.yaml

qemu: build ## boot the kernels that must work and run integration/ in them (root)
	@.ci/packages qemu
	@$(PY) qemu/matrix.py

qemu-all: build ## the same with every kernel that can be had
	@.ci/packages qemu
	@.ci/packages arm64 || true # without them those guests are skipped, and named
	@$(PY) qemu/matrix.py --all

verifier-report: build ## what verifying each program takes on each kernel (root)
	@.ci/packages qemu
	@$(PY) qemu/matrix.py --verifier

bench-guest: build ## what profiling a whole busy guest costs (root)
	@.ci/packages qemu
	@$(PY) bench/guest.py

help: ## print this list
	@awk -F ':.*## ' -v absent=' $(ABSENT) ' '/^[a-z-]+:.*## / && !index(absent, " "$$1" ") \
		{ printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

clean: ## remove everything that was built, .venv/ too
	@rm -rf build .venv src/*.egg-info src/otelagent/_native*.so src/otelagent/abi/_generated.py
	@rm -f src/otelagent/bpf/objects/*.o
