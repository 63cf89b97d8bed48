# Every command of this project. `make demo` and `make test` need a Debian machine with Rust and Python 3.11 or newer.
# PYTHON chooses another interpreter (make test PYTHON=3.13), see tools/pythons.sh; ARGS goes on to the command.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
export PATH := $(PATH):$(HOME)/.cargo/bin

# "3.11 /usr/bin/python3.11", or with more words how to start it.
FOUND := $(shell tools/pythons.sh $(or $(PYTHON),default))
ifeq ($(FOUND)$(filter help clean ci,$(or $(MAKECMDGOALS),help)),)
$(error no usable Python)
endif
MINOR := $(firstword $(FOUND))
INTERPRETER := $(wordlist 2,99,$(FOUND))
RUN := $(filter-out $(lastword $(INTERPRETER)),$(INTERPRETER))
# Builds run on the machine itself, also for a Python that lives in a root folder.
BUILDER := $(if $(RUN),$(shell tools/pythons.sh default | cut -d' ' -f2-),$(INTERPRETER))
ENV = .venv/$(MINOR)-$(1)
IN = $(RUN) $(call ENV,$(1))/bin/python

WHEEL := target/wheels/$(MINOR)/.built
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find crates python -type f -not -path '*/__pycache__/*')
TESTS := $(wildcard tests/unit tests/parity tests/regressions tests/badinput tests/threads tests/leaks tests/model \
	tests/fuzz)
LOCKS := $(basename $(wildcard requirements/*.in tests/ecosystem/suites/locks/*.in))

# A debug build of the same version, as Debian has it, and what runs on it again and again.
DEBUG_PYTHON := /usr/bin/python$(MINOR)-dbg

.PHONY: help demo test build lint fmt stubs rust-test loom fuzz miri refcounts sanitize soak faults load conformance ecosystem suites \
	bench bench-servers bench-rivals icount wheels sdist builds pythons lock ci version clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(call ENV,demo)/.ready  ## the main job: an unmodified crawler, on stock asyncio and on Asynchrotron
	$(call IN,demo) examples/demo.py

test: $(call ENV,test)/.ready  ## the tests of behaviour
	ASYNCHROTRON_REQUIRED=1 $(call IN,test) -m pytest $(TESTS) $(ARGS)

build: $(WHEEL)  ## the wheel, into target/wheels/

lint: $(call ENV,lint)/.ready  ## formats, clippy, ruff, types, house conventions; changes nothing
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets --locked --target-dir target/clippy -- -D warnings
	cargo clippy --manifest-path fuzz/Cargo.toml --no-default-features --all-targets --locked --target-dir target/clippy -- \
		-D warnings
	$(call IN,lint) -m ruff check
	$(call IN,lint) -m ruff format --check
	$(call IN,lint) -m mypy
	$(call IN,lint) -m mypy --strict tools tests/conformance/run.py
	$(call IN,lint) tools/tidy.py

fmt: $(call ENV,lint)/.tools  ## formats Rust and Python
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(call IN,lint) -m ruff check --fix --quiet
	$(call IN,lint) -m ruff format

stubs: $(call ENV,lint)/.ready  ## does _core.pyi say what the extension module is?
	$(call IN,lint) -m mypy.stubtest asynchrotron._core --allowlist tools/stubtest_allowlist.txt

rust-test:  ## Rust tests of the reactor and the bytes room, and the fuzzers' corpora
	cargo test -p asynchrotron-reactor -p asynchrotron-wire --features asynchrotron-reactor/faults --locked
	cargo test --manifest-path fuzz/Cargo.toml --no-default-features --locked --target-dir target/fuzz

loom:  ## every interleaving of the inbox and the waker
	RUSTFLAGS="--cfg loom" cargo test -p asynchrotron-reactor --locked --release --target-dir target/loom --test 'loom_*'

miri:  ## the Rust tests under Miri, which sees undefined behaviour; fetches a nightly toolchain; ARGS="-p asynchrotron-wire"
	tools/bootstrap.sh fuzz
	tools/miri.sh $(ARGS)

refcounts: $(call ENV,debug)/.ready  ## every test again and again on a debug build of Python: references, blocks, descriptors
	ASYNCHROTRON_REQUIRED=1 $(call IN,debug) tests/leaks/every_module.py $(or $(ARGS),$(TESTS))

sanitize: $(call ENV,asan)/.ready  ## the tests and the Rust tests under the address sanitizer
	tools/sanitize.sh rust
	tools/sanitize.sh python $(call IN,asan) $(or $(ARGS),$(TESTS))

soak: $(call ENV,test)/.ready  ## everything at once for SOAK_SECONDS=60 (14400: four hours): memory, descriptors and tasks stay where they are
	tools/bootstrap.sh openssl
	$(call IN,test) tests/leaks/soak.py $(ARGS)

conformance: $(call ENV,test)/.ready  ## the interpreter's own asyncio tests, on us; ARGS="--mode loop test_tasks"
	tools/bootstrap.sh tests $(INTERPRETER)
	$(call IN,test) tests/conformance/run.py $(ARGS)

fuzz:  ## coverage-guided fuzzers of the Rust crates; FUZZ_SECONDS=600 each, ARGS="timers"
	tools/bootstrap.sh fuzz
	tools/fuzz.sh $(ARGS)

faults: $(call ENV,faults)/.ready  ## injected faults: short reads and writes, EINTR, resets, nothing left
	ASYNCHROTRON_REQUIRED=1 $(call IN,faults) -m pytest tests/faults $(ARGS)

load: $(call ENV,ecosystem)/.ready  ## thousands of connections; slow, silent and vanished peers; LOAD=full for 10,000
	LOAD=$(LOAD) ASYNCHROTRON_REQUIRED=1 $(call IN,ecosystem) -m pytest tests/load $(ARGS)

ecosystem: $(call ENV,ecosystem)/.ready  ## the libraries people use, on us
	ASYNCHROTRON_REQUIRED=1 $(call IN,ecosystem) -m pytest tests/ecosystem $(ARGS)

suites: $(call ENV,suites)/.tools $(WHEEL)  ## other projects' own test suites, on us; ARGS="aiohttp anyio", ARGS=--quick
	$(call IN,suites) tests/ecosystem/suites/run.py $(ARGS)

bench: $(call ENV,bench)/.ready  ## the table: asyncio, uvloop and us, interleaved
	$(call IN,bench) bench/compare.py $(ARGS)

bench-servers: $(call ENV,bench)/.ready  ## its server half
	$(call IN,bench) bench/compare.py --suite servers $(ARGS)

bench-rivals: $(call ENV,rivals)/.ready  ## against every other fast loop, on CPython 3.14 (PYTHON=3.14)
	cargo build --release --locked -p asynchrotron-reactor --examples
	cargo build --release --locked --manifest-path bench/load/Cargo.toml
	$(call IN,rivals) bench/compare.py --no-build $(ARGS)

icount: $(call ENV,bench)/.ready  ## instruction counts, which do not jitter
	$(call IN,bench) bench/icount.py $(ARGS)

wheels: .venv/dist/.tools  ## what would be published: manylinux wheels for every Python found, the sdist; tried out
	tools/dist.sh all

sdist: .venv/dist/.tools  ## the source distribution: built, and the wheel that comes of it tried out
	tools/dist.sh sdist

builds:  ## the wheel for every Python found, for this machine
	for version in $$(tools/pythons.sh all | cut -d' ' -f1); do $(MAKE) build PYTHON=$$version || exit; done

pythons:  ## make test and make conformance on every Python found
	for version in $$(tools/pythons.sh all | cut -d' ' -f1); do \
		$(MAKE) test PYTHON=$$version && $(MAKE) conformance PYTHON=$$version || exit; \
	done

lock: $(call ENV,lint)/.tools  ## new lock files from requirements/*.in
	for name in $(LOCKS); do \
		case $$name in */rivals) oldest=3.14 ;; *) oldest=3.11 ;; esac; \
		$(call IN,lint) -m uv pip compile --quiet --upgrade --universal --python-version $$oldest --no-header \
			$$name.in --output-file $$name.txt || exit; \
	done

ci:  ## everything, as CI runs it
	.ci/run

version:  ## the Python that would be used, exactly
	@$(INTERPRETER) -c 'import sys; print(sys.version.split()[0])'

clean:  ## removes what make made
	rm -rf target .venv

# ---- how an environment comes to be: lock file, then our wheel -------------------------------------------------------

.SECONDARY:
.venv/build/.tools: requirements/build.txt
	tools/bootstrap.sh build $(BUILDER)
	tools/venv.sh $(@D) $< $(BUILDER)
	@touch $@

.venv/dist/.tools: requirements/dist.txt
	tools/bootstrap.sh build $(BUILDER)
	tools/venv.sh $(@D) $< $(BUILDER)
	@touch $@

$(WHEEL): $(SOURCES) .venv/build/.tools
	tools/wheels.sh $(or $(PYTHON),default)
	@touch $@

target/wheels/$(MINOR)-faults/.built: $(SOURCES) .venv/build/.tools
	FEATURES=faults tools/wheels.sh $(or $(PYTHON),default)
	@touch $@

.venv/$(MINOR)-faults/.tools: requirements/ecosystem.txt
	tools/bootstrap.sh build $(INTERPRETER)
	tools/venv.sh $(@D) $< $(INTERPRETER)
	@touch $@

.venv/$(MINOR)-faults/.ready: .venv/$(MINOR)-faults/.tools target/wheels/$(MINOR)-faults/.built
	$(RUN) $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
		target/wheels/$(MINOR)-faults/*.whl
	@touch $@

# Variants of the wheel (tools/wheels.sh) with the same environment as the tests.
.venv/$(MINOR)-debug/.tools: requirements/test.txt
	tools/bootstrap.sh debug $(DEBUG_PYTHON)
	tools/venv.sh $(@D) $< $(DEBUG_PYTHON)
	@touch $@

.venv/$(MINOR)-asan/.tools: requirements/test.txt
	tools/bootstrap.sh build $(INTERPRETER)
	tools/venv.sh $(@D) $< $(INTERPRETER)
	@touch $@

target/wheels/$(MINOR)-debug/.built: $(SOURCES) .venv/build/.tools .venv/$(MINOR)-debug/.tools
	VARIANT=debug tools/wheels.sh $(DEBUG_PYTHON)
	@touch $@

target/wheels/$(MINOR)-asan/.built: $(SOURCES) .venv/build/.tools
	VARIANT=asan tools/wheels.sh $(or $(PYTHON),default)
	@touch $@

.venv/$(MINOR)-debug/.ready .venv/$(MINOR)-asan/.ready: .venv/$(MINOR)-%/.ready: \
		.venv/$(MINOR)-%/.tools target/wheels/$(MINOR)-%/.built
	$(RUN) $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
		target/wheels/$(MINOR)-$*/*.whl
	@touch $@

.venv/$(MINOR)-%/.tools: requirements/%.txt
	tools/bootstrap.sh build $(INTERPRETER)
	tools/venv.sh $(@D) $< $(INTERPRETER)
	@touch $@

.venv/$(MINOR)-%/.ready: .venv/$(MINOR)-%/.tools $(WHEEL)
	$(RUN) $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
		target/wheels/$(MINOR)/*.whl
	@touch $@
