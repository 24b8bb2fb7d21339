# `make run` starts the server; `make test` is everything that must hold before a change lands.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
PYTHON ?= python3
VENV := .venv
NODE := target/node
FAST := target/fast/rescind
DATA_DIR ?= target/run-data

# Debian packages that building and testing need.
PACKAGES := build-essential curl python3 python3-venv
# Those that only tests need: real gateways and a real identity provider around what is tested.
PEERS := caddy nginx-light nodejs npm openssl

.PHONY: help run demo demo-fleet test test-secure faults sim fuzz loom miri bench bench-fleet bench-gateways bench-hostile bench-secure setup peers lint deny doc tidy chaos unit features clean-data

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

run: setup ## Start the server on 127.0.0.1:7009 and print what to type next
	@$(CARGO) build --profile fast --bin rescind
	@scripts/hello.sh $(FAST)
	@exec $(FAST) serve --data-dir $(DATA_DIR)

demo: setup $(VENV)/ready ## The whole story with real tokens, every step checked
	@$(CARGO) build --profile fast --bin rescind --example service
	@$(VENV)/bin/python scripts/demo.py --bin $(FAST) --service target/fast/examples/service

demo-fleet: setup $(VENV)/ready ## A relay, an agent and a service: outage, resume, proof, restore; every step checked
	@$(CARGO) build --profile fast --bin rescind --example service
	@$(VENV)/bin/python scripts/demo_fleet.py --bin $(FAST) --service target/fast/examples/service

test: setup peers lint deny unit test-secure features doc ## Format, lints, dependencies, all tests, again with TLS and authentication, docs
	@echo "make test: all of it passed"

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

unit: $(VENV)/ready $(NODE)/ready
	RESCIND_TEST_PYTHON=$(abspath $(VENV))/bin/python RESCIND_TEST_NODE=$(abspath $(NODE)) scripts/cargo-test.sh

test-secure: $(VENV)/ready ## The tests with real processes, with TLS and authentication on
	@RESCIND_TEST_PYTHON=$(abspath $(VENV))/bin/python scripts/test-secure.sh

features:
	$(CARGO) clippy --lib --no-default-features -- -D warnings
	$(CARGO) clippy --lib --no-default-features --features client -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

deny: ## Licences, sources, duplicates and advisories of what is linked
	@scripts/deny.sh

chaos: $(VENV)/ready ## Faults on a fleet of real processes, for CHAOS_SECONDS (300)
	RESCIND_CHAOS_SECONDS=$(or $(CHAOS_SECONDS),300) $(CARGO) test --test chaos -- --nocapture

# 300 kills -9, 100 disk faults, 100 power cuts (and as many of an agent's cache).
FAULT_KILLS ?= 300
FAULT_ROUNDS ?= 100
faults: setup ## 500 rounds: kill -9, failing disks, power cuts; nothing acknowledged may be lost
	@CARGO="$(CARGO)" scripts/faults.sh $(FAULT_KILLS) $(FAULT_ROUNDS)

SEEDS ?= 1000
sim: setup ## The simulation over SEEDS=1000 seeds; `make sim SEED=17` runs one
	RUST_BACKTRACE=0 SEEDS=$(SEEDS) $(CARGO) test --test simulation under_a_mixture -- --nocapture

FUZZ_RUNS ?= 100000
fuzz: setup ## Every fuzz target, FUZZ_RUNS=100000 inputs each; FUZZ_TARGETS="delta token" runs some. Needs nightly
	@FUZZ_RUNS=$(FUZZ_RUNS) scripts/fuzz.sh $(FUZZ_TARGETS)

loom: setup ## Models of the filter's rebuild and of the shared log, in every order that the memory model allows
	@scripts/loom.sh

miri: setup ## The core, tokens and replication under an interpreter that finds undefined behaviour. Needs nightly
	@scripts/miri.sh

bench: setup ## One table of measured ratios
	@scripts/bench.sh

bench-fleet: setup ## What thousands of subscribers cost, as one table
	@scripts/bench-fleet.sh

bench-gateways: setup peers $(VENV)/ready ## What asking costs a gateway: at an agent, through Envoy, through nginx
	@RESCIND_TEST_PYTHON=$(abspath $(VENV))/bin/python scripts/bench-gateways.sh

bench-hostile: setup ## What ten thousand hostile connections do to an honest caller
	@scripts/bench-hostile.sh

bench-secure: setup ## What client certificates and authentication cost a check; then bench-hostile
	@scripts/bench-secure.sh

setup:
	@scripts/setup.sh $(PACKAGES)

peers:
	@scripts/setup.sh $(PEERS)

$(VENV)/ready: tests/python/requirements.txt
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --requirement $<
	@touch $@

# An OpenID provider for the tests, as tests/node/package-lock.json pins it.
$(NODE)/ready: tests/node/package.json tests/node/package-lock.json
	@mkdir -p $(NODE) && cp $^ $(NODE)
	@npm ci --prefix $(NODE) --no-audit --no-fund --silent
	@touch $@
