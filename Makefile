# make up     install what is missing, build, start, run a first session, say what to paste
# make test   everything that CI runs
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

LISTEN ?= 127.0.0.1:8080

.PHONY: help up down test costs contract faults fuzz check bench simulation image image-test clean

help:
	@echo 'make up          install what is missing, build, start and run a first session'
	@echo 'make down        stop what make up started'
	@echo 'make test        everything that CI runs'
	@echo 'make check       format, lints, licences, unused dependencies'
	@echo 'make costs       accept what the guarded code costs now (docs/performance.md)'
	@echo 'make bench       compare with Chrome on its own, browserless and pgbench; write it down'
	@echo 'make simulation  a thousand agents and a hundred thousand sessions'
	@echo 'make contract    thousands of requests made of the OpenAPI document'
	@echo 'make faults      kill, cut, freeze and fill what sessions need, for half an hour'
	@echo 'make fuzz        ten minutes of broken input for each reader of it'
	@echo 'make image       the images of control plane and agent'
	@echo 'make image-test  build them, and run sessions between them'
	@echo 'make clean       stop, and remove what was built'

up:
	@scripts/install run
	@cargo build --release --locked --package cli
	@scripts/up $(LISTEN)

down:
	@scripts/down

test:
	@scripts/install test
	@scripts/install image-test
	@npm ci --prefix tests/clients --no-audit --no-fund --loglevel=error
	@scripts/python-clients
	@$(MAKE) --no-print-directory check
	@VENTUS_BUILT_AS='--workspace --tests' tests/with-postgres cargo nextest run --workspace --locked

# Writes costs/figures anew: the difference is what to look at before it is committed.
costs:
	@scripts/install test
	@UPDATE_COSTS=1 cargo nextest run --workspace --locked --filterset 'test(/\bcosts::/)'

# A throwaway server of the tests does not care for the disk; one that is measured does.
AS_INSTALLED := env POSTGRES_OPTIONS='-c fsync=on -c full_page_writes=on -c shared_buffers=128MB'

# The seed is printed: with it the same requests are made again.
contract:
	@scripts/install test
	@scripts/python-clients
	@export CONTRACT_SEED=$${CONTRACT_SEED:-$$RANDOM} CONTRACT_EXAMPLES=$${CONTRACT_EXAMPLES:-1000}; \
	echo "CONTRACT_SEED=$$CONTRACT_SEED CONTRACT_EXAMPLES=$$CONTRACT_EXAMPLES make contract"; \
	cargo nextest run --profile nightly --package tests --locked --no-capture keeps_its_contract

# The seed is printed: with it the same choices are made again. STORY=faults::kills tells one only.
STORY ?= faults::
faults:
	@scripts/install test
	@export FAULTS_SEED=$${FAULTS_SEED:-$$RANDOM} FAULTS_ROUNDS=$${FAULTS_ROUNDS:-10}; \
	echo "FAULTS_SEED=$$FAULTS_SEED FAULTS_ROUNDS=$$FAULTS_ROUNDS STORY=$(STORY) make faults"; \
	cargo nextest run --profile nightly --package tests --locked --no-capture $(STORY)

# Seconds each; what is found lies in fuzz/artifacts, what is new in fuzz/corpus.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard fuzz/targets/*.rs)))

fuzz:
	@scripts/install fuzz
	@for target in $(FUZZ_TARGETS); do \
	  echo "== $$target"; \
	  cargo +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=5; \
	  cargo +nightly fuzz cmin "$$target"; \
	done

check:
	@scripts/install check
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@cargo deny check bans licenses sources
	@cargo machete

# Writes docs/performance.md. BENCH='--quick' sees in minutes that it works, and leaves the page
# alone; so does BENCH='--only cdp,api', which measures only these sections.
BENCH ?= --into docs

bench:
	@scripts/install test
	@npm ci --prefix tests/clients --no-audit --no-fund --loglevel=error
	@scripts/bench-peer
	@cargo build --release --locked --package cli
	@$(AS_INSTALLED) tests/with-postgres cargo run --release --locked --package tests --bin bench -- $(BENCH)

# The seed is printed: with SIMULATION='--seed N' the same plan is carried out again.
simulation:
	@scripts/install test
	@cargo build --release --locked --package cli
	@$(AS_INSTALLED) tests/with-postgres cargo run --release --locked --package tests --bin simulation -- $(SIMULATION)

image:
	@scripts/image

image-test:
	@scripts/install image-test
	@npm ci --prefix tests/clients --no-audit --no-fund --loglevel=error
	@scripts/image-test

clean: down
	@cargo clean
	@rm -rf tests/clients/node_modules tests/clients/.venv tests/bench-peer/node_modules
