# Everything runs in .venv and takes no Python package from outside it.
#
#   make serve                      install what serving needs, start the server      HOST PORT MODEL STORE
#   make install                    the same without starting it
#   make test  make check           tests; format-check, lint, types, import contracts and tests (each a target); make format
#   make base                       train the embedded base from scratch into build/base     DATA TOKENS
#   make base-card                  measure it: bits per byte beside its yardsticks, curve, samples  DATA REFERENCE
#   make demos  make demo-scores    learn the demo tasks into build/demos; score them over HTTP    DATA MODEL
#   make bases                      train two smaller bases of the same family into build/bases   DATA TOKENS
#   make experiments                the source text's results: prints its estimate, goes on where it was  DATA ARGS="--only methods"
#   make fuzz                       requests that are nearly good, on real servers, an hour (tests/fuzz/README.md)   ARGS="--minutes 10"
#   make fuzz-engine                random traces on the engine against transformers alone         ARGS="--minutes 10 --seed 1"
#   make fuzz-header                the header parser against the safetensors library, coverage-guided (Linux)   ARGS="--minutes 10"
#   make faults                     kills, power cuts and failing calls, the long version (tests/faults/README.md)  ARGS="--only xfs"
#   make soak                       a hundred thousand requests, and whether the server stays as it is; goes on where it was  ARGS="--minutes 90"
#   make bench                      the benchmark: the engine and its peers, or another question  PART (benchmarks/README.md)
#   make clients                    programs of others against the server: ARGS="--only lm-eval" (docs/clients.md)
#   make replay                     build and start the Docker image without a Docker daemon (Linux, as root)
#   make ci-deps                    Debian packages that some tests want
#   make constraints                resolve pyproject.toml anew and pin what came out, with hashes     ARGS=--keep
#   make sbom                       what is served with: build/sbom.json (CycloneDX), build/licences.txt
#   make bans                       what no line may do: ast-grep with the rules of tests/bans, and bandit
#   make clean                      build output and caches;  make distclean: .venv too
#
# TORCH_INDEX_URL is one more index that torch may come from. The default is PyTorch's own index of CPU builds: its
# "+cpu" version is preferred to the plain one. When it cannot be reached, or is set to nothing, torch comes from the
# index that pip is configured for; on Linux that may be the CUDA build, which is larger and serves on a CPU as well. On
# macOS PyPI's build is the CPU build already.
#
# What is installed is compared with the sums in requirements/ (docs/decisions/0024); torch by take_torch.py, which
# TORCH_UNRECORDED=refuse makes strict. ONLY_BINARY=:none: lets pip build a package that has no wheel for a platform.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
MODEL ?=
STORE ?= .store
TORCH_INDEX_URL ?= $(if $(filter Darwin,$(shell uname -s)),,https://download.pytorch.org/whl/cpu)
ONLY_BINARY ?= :all:
DATA ?= ../shared/data
REFERENCE ?= ../shared/models/stories260K
TOKENS ?= 26000000
ARGS ?=
PART ?=

export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# Python compiles what it imports, and keeps it: pip would first compile all of torch, a third of the time of an install.
UNCOMPILED := PIP_COMPILE=0
PIP := $(UNCOMPILED) $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCKED := $(PIP) install --require-hashes --no-deps --only-binary "$(ONLY_BINARY)" --requirement
OWN := $(PIP) install --no-deps --no-build-isolation --editable .
TIMED := tests/faults
TESTS := $(BIN)/python -m pytest --durations=40 --durations-min=5
KERNELS := $(wildcard server/engine/native/*.c server/engine/native/*.inc) server/engine/native/build.py
ROOMS := server prompt_store tuning cli softprompt_client
SOURCES := hatch_build.py requirements server prompt_store tuning cli softprompt_client pretraining benchmarks clients demos experiments tests docker
.DEFAULT_GOAL := help
.SUFFIXES:

.PHONY: help install kernels serve test check format format-check lint types contracts base base-card bases demos demo-scores experiments fuzz fuzz-engine fuzz-header faults soak bench clients replay ci-deps constraints sbom bans clean distclean

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

# Stamps: each records that .venv holds what pyproject.toml and constraints.txt ask for. torch, what is served with and
# what only development wants are disjoint, so that `make --jobs=2` may install two of them at once.
$(VENV)/stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is wanted: make PYTHON=python3.11 ..."; exit 1; }
	@echo "Installing into $(VENV): two or three minutes, most of them without a word."
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/stamp-torch: requirements/torch.txt requirements/cuda.txt requirements/take_torch.py | $(VENV)/stamp-venv
	$(UNCOMPILED) $(BIN)/python requirements/take_torch.py "$(TORCH_INDEX_URL)"
	touch $@

$(VENV)/stamp-packages: requirements/report.txt requirements/serve.txt | $(VENV)/stamp-venv
	$(LOCKED) requirements/report.txt
	touch $@

$(VENV)/stamp-install: pyproject.toml hatch_build.py $(KERNELS) $(VENV)/stamp-torch $(VENV)/stamp-packages
	$(OWN)
	touch $@

$(VENV)/stamp-tools: requirements/dev.txt requirements/otel.txt requirements/bench.txt $(VENV)/stamp-packages
	$(LOCKED) requirements/dev.txt
	touch $@

$(VENV)/stamp-dev: $(VENV)/stamp-tools $(VENV)/stamp-install
	touch $@

$(VENV)/stamp-bench: requirements/bench.txt $(VENV)/stamp-install
	$(LOCKED) requirements/bench.txt
	touch $@

install: $(VENV)/stamp-install kernels

# Tried each time, as long as there are none: who has installed a compiler since need not know what to remove.
kernels: $(VENV)/stamp-install
	@$(BIN)/python server/engine/native/build.py || echo "No native kernels: on a CPU the server will be slower (README: gcc)."

serve: $(VENV)/stamp-install kernels
	exec $(BIN)/softprompt serve --host "$(HOST)" --port "$(PORT)" --store "$(STORE)" $(if $(MODEL),--model "$(MODEL)") $(ARGS)

# A file is one worker's; what measures time comes last and alone. ARGS="-n0 tests/cli" runs the named ones in this
# process, one after the other. pytest says 5 where ARGS leaves a part nothing to do. (TIMED: to import all takes a while.)
test: $(VENV)/stamp-dev kernels
	$(TESTS) -m "not timed" --numprocesses=logical --maxprocesses=4 --dist=loadfile $(ARGS) || [ $$? = 5 ]
	$(TESTS) -m timed $(or $(ARGS),$(TIMED)) || [ $$? = 5 ]

check: format-check lint types contracts test

format: $(VENV)/stamp-dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

format-check: $(VENV)/stamp-dev
	$(BIN)/ruff format --check $(SOURCES)

lint: bans $(VENV)/stamp-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/hadolint docker/Dockerfile

types: $(VENV)/stamp-dev
	$(BIN)/mypy

contracts: $(VENV)/stamp-dev
	$(BIN)/lint-imports

# Hours on two cores; the same command goes on where a killed run stopped.
base: $(VENV)/stamp-install
	$(BIN)/python -m pretraining.train --data "$(DATA)" --out build/base-training --tokens $(TOKENS) $(ARGS)
	$(BIN)/python -m pretraining.export --run build/base-training --to build/base

# Bits per byte, curve and samples of the base, from its training run.
base-card: $(VENV)/stamp-bench
	$(BIN)/python -m pretraining.card --base build/base --run build/base-training --data "$(DATA)" --reference "$(REFERENCE)"

bases: $(VENV)/stamp-install
	for shape in 0.3m 2m; do \
	  $(BIN)/python -m pretraining.train --data "$(DATA)" --out build/base-training-$$shape --tokens $(TOKENS) --shape $$shape $(ARGS) && \
	  $(BIN)/python -m pretraining.export --run build/base-training-$$shape --to build/bases/$$shape --shape $$shape || exit 1; done

experiments: $(VENV)/stamp-install
	$(BIN)/python -m experiments run --data "$(DATA)" $(ARGS)

demos: $(VENV)/stamp-install
	$(BIN)/python -m demos learn --data "$(DATA)" $(if $(MODEL),--model "$(MODEL)") $(ARGS)

demo-scores: $(VENV)/stamp-install
	$(BIN)/python -m demos score --data "$(DATA)" $(ARGS)

fuzz: $(VENV)/stamp-dev kernels
	$(BIN)/python -m tests.fuzz $(ARGS)

fuzz-engine: $(VENV)/stamp-dev
	$(BIN)/python -m tests.server.engine.fuzz $(ARGS)

# In an environment of its own under build/: atheris has wheels for Linux alone, and nothing else wants it.
build/fuzz-header/stamp: tests/attacks/header/requirements.txt
	$(PYTHON) -m venv --clear build/fuzz-header
	build/fuzz-header/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	touch $@

fuzz-header: build/fuzz-header/stamp
	build/fuzz-header/bin/python -m tests.attacks.header $(ARGS)

# Some twenty minutes; power cuts want Linux and root, as they mount file systems of their own.
faults: $(VENV)/stamp-dev
	$(BIN)/python -m tests.faults $(ARGS)

# 90 minutes at most; the same command goes on where a killed or ended run stopped.
soak: $(VENV)/stamp-dev kernels
	$(BIN)/python -m tests.soak $(ARGS)

bench: $(VENV)/stamp-bench
	$(BIN)/python -m benchmarks $(PART) $(ARGS)

# Each tool in an environment of its own under build/clients, gigabytes together; minutes, schemathesis longest.
clients: $(VENV)/stamp-bench kernels
	TORCH_INDEX_URL="$(TORCH_INDEX_URL)" $(BIN)/python -m clients $(ARGS)

# What `docker build` and `docker run` would do, without a daemon. Linux, as root.
replay: $(VENV)/stamp-dev
	$(BIN)/python docker/replay.py $(ARGS)

# Debian only; tests that want one of these say so and skip without it. RUNLEVEL=1: a package's service is not started.
CI_DEPS := strace xfsprogs e2fsprogs faketime gcc libc6-dev chromium nginx-light openssl prometheus
CI_COMMANDS := strace mkfs.xfs mkfs.ext4 faketime gcc chromium nginx openssl prometheus promtool
ci-deps:
	@if ! command -v apt-get >/dev/null; then echo "ci-deps: no apt-get here; install what holds $(CI_COMMANDS)"; \
	elif (for each in $(CI_COMMANDS); do command -v $$each || exit 1; done) >/dev/null; then echo "ci-deps: all there"; \
	elif [ "$$(id -u)" != 0 ]; then echo "ci-deps: run as root: apt-get install $(CI_DEPS)"; \
	else apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
	    $(CI_DEPS) >/dev/null && echo "ci-deps: installed" \
	  || echo "ci-deps: apt-get could not install all of $(CI_DEPS); the tests that want them will skip"; fi

# uv resolves for every platform at once, which pip does not. ARGS=--keep keeps the versions of constraints.txt.
constraints:
	rm -rf build/resolve && $(PYTHON) -m venv build/resolve
	build/resolve/bin/python -m pip install --quiet "uv>=0.10"
	PATH="$$PWD/build/resolve/bin:$$PATH" build/resolve/bin/python requirements/lock.py $(ARGS)
	rm -rf build/resolve

# What is served with, as CycloneDX and as a list of licences, in build/.
sbom: $(VENV)/stamp-dev
	$(BIN)/python -m requirements.sbom

# The bans of design and the usual slips: rules of our own, each with a sample of what it forbids, and bandit's.
bans: $(VENV)/stamp-dev
	$(BIN)/ast-grep scan --config tests/bans/sgconfig.yml $(ROOMS)
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive $(ROOMS)

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find $(SOURCES) -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) server/engine/native/kernels.so
