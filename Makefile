# Everything that one does with this project. `make` alone lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The port of `make demo`.
PORT ?= 8080
export PORT

.PHONY: help demo test lint rust-tests python-tests

help: ## say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1|/' | column -t -s '|'

demo: ## run the real handler and a simulated OpenAI on this machine (PORT=8080)
	@cargo run --locked --package token-mint --example demo

test: lint rust-tests python-tests ## run every check and test

lint: ## formatting, lints and documentation, without a warning
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --workspace --no-deps --quiet

rust-tests: ## the parts, and the whole path in the function's own process
	cargo test --locked --workspace

python-tests: .venv/tools/ready .venv/ministack/ready ## the release binary in Lambda's emulator, OpenAI's SDK, the demo, the README
	cargo build --locked --release --package token-mint
	cargo build --locked --package openai-simulator
	cargo build --locked --package token-mint --example demo
	.venv/tools/bin/pytest -p no:cacheprovider function/tests

.venv/%/ready: requirements/%.txt
	python3 -m venv --clear .venv/$*
	.venv/$*/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	touch $@
