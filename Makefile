# Every target installs what it needs by itself and keeps it in one cache folder
# outside the checkout (TINDERBOX_CACHE, by default ~/.cache/tinderbox).
# ARGS are handed on: make up ARGS="--operators 5 --threshold 3"

.DEFAULT_GOAL := help
SHELL := /bin/bash
ARGS ?=
CACHE := $(or $(TINDERBOX_CACHE),$(HOME)/.cache/tinderbox)
export CARGO_TARGET_DIR ?= $(CACHE)/target
# Where the local network of `make up` keeps its data.
NETWORK ?= $(CACHE)/network

.PHONY: help up demo test bench prove check fmt clean-network

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

up: ## a local Spark network: Bitcoin Core, operators, faucet; Ctrl-C stops it
	@exec scripts/tinderbox up --data-dir "$(NETWORK)" $(ARGS)

demo: ## a coin goes in, moves twice, and comes out with all operators dead
	@exec scripts/tinderbox demo $(ARGS)

test: ## all tests, end to end included, on SQLite and PostgreSQL
	@exec scripts/test $(ARGS)

bench: ## payments per second of a whole network, on SQLite and PostgreSQL
	@exec scripts/bench $(ARGS)

prove: ## the long proofs; interrupted, they go on where they were (docs/proof.md)
	@exec scripts/prove $(ARGS)

check: ## formatting and lints, warnings forbidden
	@scripts/setup build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## formats the code
	cargo fmt --all

clean-network: ## removes the local network's data
	@exec scripts/clean-network "$(NETWORK)"
