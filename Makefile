# All commands of this project. `make` without a target lists them.
SHELL := bash
# rustup installs cargo here. The shell that installed it does not have it on the PATH yet, and a distribution's cargo may be
# older.
export PATH := $(HOME)/.cargo/bin:$(PATH)
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The check of the machine runs first, also with -j.
.NOTPARALLEL:

# The port of `make demo`.
PORT ?= 8080
export PORT

# The environment in samconfig.toml. It names the stack, unless STACK names another.
ENV ?= default
export ENV

# Template parameters, as Name=value Name=value. Name= resets one to empty, which SAM requires in quotes. A value may contain any
# character, so they also go through the environment, for `make deploy` and `make set`.
PARAMETERS ?=
override PARAMETERS := $(value PARAMETERS)
export PARAMETERS
overrides = $(if $(PARAMETERS),--parameter-overrides $(patsubst %=,%=\"\",$(PARAMETERS)))

# The folder or URL of a release that `make deploy` takes in place of the build.
override FROM := $(value FROM)
export FROM

# What `make release` builds for.
ARCHITECTURES ?= arm64 x86_64

# The event of `make invoke`.
EVENT ?= function/events/http-api.json

# The caller for `make caller`, `make block`, `make unblock` and `make hang-up`, and the calls for the last. A sign-in's subject may
# contain any character, so these are not expanded and are passed through the environment, not through the words of a shell.
override SUBJECT := $(value SUBJECT)
override ADDRESS := $(value ADDRESS)
override CALLER := $(value CALLER)
override CALL := $(value CALL)
override ALL := $(value ALL)
export SUBJECT ADDRESS CALLER CALL ALL

# The version that `make rollback` makes live, and the role that CloudFormation deploys with.
export TO DEPLOY_ROLE_ARN

# The duration of each of the three targets of `make fuzz`, and the time within which the load of `make capacity` arrives.
SECONDS ?= 300
capacity: SECONDS = 60

# The tokens in a month and OpenAI's time for one, for `make cost`; the size of the load, for `make capacity`.
MINTS ?= 1000000
UPSTREAM_MS ?= 400
TRAINEES ?= 10000

# The duration of `make soak`.
MINUTES ?= 30

# Further options for the SAM CLI, or for `make cost` and `make capacity`, whose --help lists them.
FLAGS ?=

OPERATE := .venv/tools/bin/python -m operate
# With the stack, Region and profile of the other commands.
SAM := $(OPERATE) sam
TOOLS := .venv/tools/ready
# Runs before a long build, which would report the same mistakes some minutes later.
PROFILES := cargo run --quiet --locked --package token-mint-profile-check -- function/profiles.json
LINT := .venv/lint/bin
DENY := target/tools/cargo-deny@0.20.2
# Not cargo-shear, which requires a newer compiler than the project.
MACHETE := target/tools/cargo-machete@0.9.2
# npm packages of the tests and of the client's examples, if npm is installed.
NODE_FOLDERS := tests/node $(addprefix client/examples/,html next react)
NODE_MODULES := $(if $(shell command -v npm),$(NODE_FOLDERS:=/node_modules/.package-lock.json))
# Prints the duration of a long step before its first run: $(call first,FILE THAT THE STEP CREATES,SENTENCE).
first = [ -e $(1) ] || echo '$(2)'
# macOS has no `timeout` command.
MINUTE := $(if $(shell command -v timeout),timeout 60)

.PHONY: help environment demo check test begin supply-chain lint-briefly lint rust-tests fuzz fuzz-briefly bench bench-guard soak python-tools python-tests lock toolchain invoke local-api build deploy set release release-check key caller block unblock calls hang-up proxy-secret logs versions update-code rollback pause resume doctor status delete cost capacity

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Names all tools that this machine lacks, within a second and before the first build. The tools follow `needs-`, separated by
# commas.
needs-%:
	@requirements/check $(subst $(comma), ,$*)
comma := ,

# Checks ENV and STACK before the first step.
environment: needs-python
	@python3 -m operate.environment

demo: needs-rust ## run the real handler against a simulated OpenAI, or the real one with OPENAI_API_KEY (PORT=8080, ALLOWED_ORIGINS=origins)
	@$(call first,target/debug/examples/demo,The first build takes about 2 minutes on two cores and 0.9 GB of disk.)
	@$(PROFILES)
	@cargo run --locked --package token-mint --example demo --features calls

test: needs-rust,lint,c++,python,curl,git begin supply-chain lint rust-tests fuzz-briefly bench-guard python-tests ## run every check and test

begin: needs-rust
	@$(call first,target/release/token-mint,The first run takes about 35 minutes on two cores and 6 GB of disk.)
	@$(PROFILES)

supply-chain: needs-rust $(DENY)/ready $(MACHETE)/ready ## check dependencies: licences, versions, bans, sources, unused crates, known vulnerabilities
	$(DENY)/bin/cargo-deny --locked check --deny warnings bans licenses sources
	$(MACHETE)/bin/cargo-machete bench function lambda-stand-in realtime simulator
	@# The one check that CI=true does not require: its database changes by the day, and only GitHub has it. The pipeline
	@# requires it with ADVISORIES=required.
	@if said=$$($(MINUTE) $(DENY)/bin/cargo-deny --locked fetch db 2>&1); then \
		$(DENY)/bin/cargo-deny --locked check --deny warnings advisories; \
	else why="RustSec's advisories cannot be fetched: $$({ grep . <<<"$$said" || echo no answer; } | tail -n 1)"; \
		if [ "$(ADVISORIES)" = required ]; then echo "$$why" >&2; exit 1; fi; echo "skipped: $$why"; fi

# Most tests of the whole path wait for a slow or silent OpenAI, so more of them run at once than there are cores.
check: needs-rust,lint,python,git lint-briefly ## check formatting and lints, run unit and whole-path tests: two minutes after the first build
	cargo test --locked --package token-mint --package openai-realtime --package token-mint-profile-check -- --test-threads=8

lint-briefly: needs-rust,lint,python,git .venv/lint/ready
	cargo fmt --check
	$(LINT)/ruff format --check --quiet
	$(LINT)/ruff check --quiet
	$(LINT)/shellcheck $$(git grep -l '^#!/usr/bin/env bash$$')
	$(LINT)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	cargo clippy --locked --workspace --all-targets --features token-mint-fuzz/programs,token-mint/calls -- --deny warnings

lint: lint-briefly ## check formatting, lints and documentation; a warning fails
	cargo clippy --locked --package openai-simulator --no-default-features --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --workspace --no-deps --quiet

rust-tests: needs-rust,python .venv/ministack/ready ## unit tests, and end-to-end tests in the function's own process
	@# A thousand simulated calls have a socket each, and most systems allow 1,024 open files at first.
	{ ulimit -S -n 4096 || true; } && cargo test --locked --workspace -- --test-threads=8
	cargo test --locked --package openai-simulator --no-default-features

fuzz: needs-rust,c++ ## search for an event, body or profiles.json that breaks its parser, and keep new inputs (SECONDS=300 for each)
	function/fuzz/run $(SECONDS) keep

fuzz-briefly: needs-rust,c++
	function/fuzz/run 5

bench: needs-rust,python $(TOOLS) ## measure cold start, CPU and memory beside the alternatives (QUICK=1, DELAY_MS=OpenAI's time)
	bench/run $(if $(QUICK),--quick,--keep) $(if $(DELAY_MS),--delay=$(DELAY_MS))

bench-guard: needs-rust
	bench/run --guard

soak: needs-rust ## run the release binary under mixed load with every fault, and check memory, files, threads, records and log (MINUTES=30)
	bench/run --soak=$(MINUTES)

python-tools: needs-python $(TOOLS) .venv/ministack/ready .venv/checkov/ready .venv/lock/ready $(NODE_MODULES) ## install what the Python tests need, to run one of them

python-tests: needs-rust,python,curl,git python-tools ## test the release binary in Lambda's emulator, the stack, OpenAI's SDKs, the demo in a browser, the JavaScript, and the docs
	cargo build --locked --release --package token-mint
	cargo build --locked --package openai-simulator
	cargo build --locked --package token-mint --example demo --features calls
	.venv/tools/bin/pytest

lock: needs-python .venv/lock/ready ## resolve the Python packages again, after a change to requirements/*.in
	requirements/lock

toolchain: needs-curl ## install rustup on a machine without cargo, such as a build machine; it installs the Rust version of rust-toolchain.toml
	command -v cargo >/dev/null || curl --fail --silent --show-error --proto '=https' https://sh.rustup.rs | \
		sh -s -- -y --default-toolchain none

invoke: needs-rust,python,docker $(TOOLS) ## run the function in Docker on an event, with a simulated OpenAI (EVENT=file)
	@PARAMETERS="$(PARAMETERS)" operate/sam-local invoke MintFunction --event $(EVENT) $(FLAGS)

# SAM cannot check sign-ins, and fails at an authorizer that is conditional. A container is started by its first request, so that
# the keeper, which no route leads to, has none: the function ends its calls itself there.
local-api: needs-rust,python,docker $(TOOLS) ## run the API in Docker, with a simulated OpenAI (PORT=8080)
	@PARAMETERS="$(PARAMETERS)" operate/sam-local start-api --port $(PORT) --warm-containers LAZY --disable-authorizer $(FLAGS)

build: needs-rust,python environment $(TOOLS) ## build the function and the templates for a deployment
	@# SAM cannot pass --locked on, so an outdated lock file is reported here.
	@cargo metadata --locked --format-version 1 >/dev/null
	@$(PROFILES)
	@$(call first,.aws-sam/build/template.yaml,The first build takes about 3 minutes on two cores.)
	@# SAM does not show cargo's progress.
	@while sleep 5 >/dev/null 2>&1; do printf . >&2; done & trap "kill $$!" EXIT; $(SAM) build $(overrides) $(FLAGS)

deploy: needs-python environment $(TOOLS) ## deploy the build, or a release with FROM=folder or URL, and keep the stack's parameters (ENV=prod, PARAMETERS="Name=value …")
	@$(OPERATE) deploy $(FLAGS)

set: needs-python environment $(TOOLS) ## change parameters of the deployed stack, without a build (PARAMETERS="Name=value …")
	@$(OPERATE) set-parameters

release: needs-rust,python,git $(TOOLS) ## build the files of a release into dist/, in the same bytes on every machine (ARCHITECTURES=x86_64)
	@cargo metadata --locked --format-version 1 >/dev/null
	@$(PROFILES)
	@.venv/tools/bin/python -m release $(ARCHITECTURES)

release-check: needs-rust,python,git $(TOOLS) ## build the release in dist/ again as another machine would, and compare every byte
	@.venv/tools/bin/python -m release.check

key: needs-python environment $(TOOLS) ## store the OpenAI key, entered or from standard input (PROVE=no: without minting a test token)
	@$(OPERATE) key $(if $(filter no,$(PROVE)),--unchecked)

caller: needs-python environment $(TOOLS) ## print a caller's identifier in the log and at OpenAI (SUBJECT=… or ADDRESS=…)
	@$(OPERATE) caller

block: needs-python environment $(TOOLS) ## block one caller and end their calls (CALLER=identifier, SUBJECT=… or ADDRESS=…)
	@$(OPERATE) block

unblock: needs-python environment $(TOOLS) ## unblock one caller (CALLER=identifier, SUBJECT=… or ADDRESS=…)
	@$(OPERATE) unblock

calls: needs-python environment $(TOOLS) ## list the open calls: whose they are, and when they began and end
	@$(OPERATE) calls

hang-up: needs-python environment $(TOOLS) ## end one call, the calls of one caller, or all (CALL=…, CALLER=…, SUBJECT=…, ADDRESS=… or ALL=yes)
	@$(OPERATE) hang-up

proxy-secret: needs-python environment $(TOOLS) ## store a new secret by which a proxy such as CloudFront proves itself, and print it
	@$(OPERATE) proxy-secret

logs: needs-python environment $(TOOLS) ## follow the function's log (FOLLOW=no: print recent lines and stop)
	@$(SAM) logs --name MintFunction $(if $(filter no,$(FOLLOW)),,--tail) $(FLAGS)

versions: needs-python environment $(TOOLS) ## list the published versions, what each replaced, and which are live
	@$(OPERATE) versions

update-code: needs-python environment $(TOOLS) ## publish the build and make it live, without CloudFormation
	@$(OPERATE) update-code

rollback: needs-python environment $(TOOLS) ## return to the replaced version, or to TO=version; stop a deployment in progress
	@$(OPERATE) rollback

pause: needs-python environment $(TOOLS) ## stop all minting within seconds, and end all calls
	@$(OPERATE) pause

resume: needs-python environment $(TOOLS) ## end a pause
	@$(OPERATE) resume

# These two need only Python, and read only files of this repository.
cost: needs-python3 ## estimate the cost of a month and of a bad day (MINTS=1000000 UPSTREAM_MS=400, PARAMETERS="…", WRITE=yes: update docs/cost.md)
	@python3 -m estimate.cost --mints $(MINTS) --upstream-ms $(UPSTREAM_MS) $(if $(filter yes,$(WRITE)),--write) \
		$(FLAGS) $(PARAMETERS)

capacity: needs-python3 ## estimate how many requests of a peak load get a token (TRAINEES=10000 SECONDS=60, PARAMETERS="…", WRITE=yes: update docs/capacity.md)
	@python3 -m estimate.capacity --trainees $(TRAINEES) --seconds $(SECONDS) --upstream-ms $(UPSTREAM_MS) \
		$(if $(filter yes,$(WRITE)),--write) $(FLAGS) $(PARAMETERS)

# ASK_OPENAI and TOKEN_URL reach the command in its environment.
doctor: needs-python environment $(TOOLS) ## check the stack without changing it (ASK_OPENAI=yes: mint tokens too; TOKEN_URL=URL)
	@$(OPERATE) doctor

status: needs-python environment $(TOOLS) ## print the state of the stack: what is live, paused, blocked, in alarm, minted today
	@$(OPERATE) status

delete: needs-python environment $(TOOLS) ## delete the stack, its secret and its logs
	@$(SAM) delete $(FLAGS)

# Without optimisation and debug information: a third of the build time, and a second more at run time.
target/tools/%/ready:
	@echo 'Building $* into target/tools: about 3 minutes on two cores.'
	CARGO_PROFILE_DEV_DEBUG=false cargo install --locked --debug --root target/tools/$* $*
	touch $@

# Python compiles modules at their first import, which happens to less than half of them.
.venv/%/ready: requirements/%.txt
	@echo 'Installing $< into .venv/$*: up to a minute, and up to 0.9 GB of disk.'
	python3 -m venv --clear .venv/$*
	.venv/$*/bin/pip install --disable-pip-version-check --no-compile --no-deps --require-hashes --requirement $<
	.venv/$*/bin/pip check --disable-pip-version-check
	touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
