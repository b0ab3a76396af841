# Everything that one does with this project. `make` alone lists it.
SHELL := bash
# Where rustup puts cargo: a shell that installed it does not know yet, and a distribution's own may be older.
export PATH := $(HOME)/.cargo/bin:$(PATH)
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The check of the machine comes first, also with -j.
.NOTPARALLEL:

# The port of `make demo`.
PORT ?= 8080
export PORT

# Which of samconfig.toml's environments, and the stack that it names.
ENV ?= default
STACK ?= $(shell sed -n '/^\[$(ENV)\.deploy/,/^$$/s/^stack_name = "\(.*\)"/\1/p' samconfig.toml)
export STACK

# Template parameters in place of samconfig.toml's, as Name=value Name=value; Name= empties one, which SAM wants quoted.
PARAMETERS ?=
overrides = $(if $(PARAMETERS),--parameter-overrides $(patsubst %=,%=\"\",$(PARAMETERS)))
configured = --parameter-overrides $(shell sed -n '/^\[$(ENV)\.deploy/,/^$$/s/^parameter_overrides = "\(.*\)"/\1/p' samconfig.toml)

# The folder or URL of a release that `make deploy` takes in place of the build.
override FROM := $(value FROM)
export FROM PARAMETERS

# What `make release` builds for.
ARCHITECTURES ?= arm64 x86_64

# The event of `make invoke`.
EVENT ?= function/events/http-api.json

# Whom `make caller`, `make block` and `make unblock` are about. A sign-in's subject may hold any character, so these are
# taken unexpanded and go through the environment, not through a shell's words.
override SUBJECT := $(value SUBJECT)
override ADDRESS := $(value ADDRESS)
override CALLER := $(value CALLER)
export SUBJECT ADDRESS CALLER

# Seconds for which `make fuzz` feeds each of its three targets, and within which the load of `make capacity` arrives.
SECONDS ?= 300
capacity: SECONDS = 60

# What `make cost` counts on in a month, and how many come in `make capacity`.
MINTS ?= 1000000
UPSTREAM_MS ?= 400
TRAINEES ?= 10000

# Further flags for the SAM CLI, or for `make cost` and `make capacity`, which say with --help which they have.
FLAGS ?=

SAM := PATH="$(CURDIR)/.venv/tools/bin:$$PATH" SAM_CLI_TELEMETRY=0 sam
OPERATE := .venv/tools/bin/python -m operate
TOOLS := .venv/tools/ready
# Before a long build, which would find the same mistakes some minutes later.
PROFILES := cargo run --quiet --locked --package token-mint-profile-check -- function/profiles.json
LINT := .venv/lint/bin
DENY := target/tools/cargo-deny@0.20.2
# Not cargo-shear, which asks for a newer compiler than the project does.
MACHETE := target/tools/cargo-machete@0.9.2
# OpenAI's browser SDK, where there is an npm to install it.
SDK := $(if $(shell command -v npm),tests/sdk/node_modules/.package-lock.json)
# Says before a long step how long it takes: $(call first,FILE THAT IT MAKES,SENTENCE).
first = [ -e $(1) ] || echo '$(2)'
# macOS has no `timeout`.
MINUTE := $(if $(shell command -v timeout),timeout 60)

.PHONY: help demo check test begin supply-chain lint-briefly lint rust-tests fuzz fuzz-briefly bench bench-guard python-tests lock toolchain invoke local-api build deploy release release-check key caller block unblock logs update-code rollback pause resume delete cost capacity

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# In a target's first second, before anything is built: names everything that this machine lacks. The needs are after
# `needs-`, joined by commas.
needs-%:
	@requirements/check $(subst $(comma), ,$*)
comma := ,

demo: needs-rust ## run the real handler against a simulated OpenAI, or the real one with OPENAI_API_KEY (PORT=8080, ALLOWED_ORIGINS=origins)
	@$(call first,target/debug/examples/demo,The first build takes about 2 minutes on two cores and 0.9 GB of disk.)
	@$(PROFILES)
	@cargo run --locked --package token-mint --example demo --features calls

test: needs-rust,lint,c++,python,curl,git begin supply-chain lint rust-tests fuzz-briefly bench-guard python-tests ## run every check and test

begin: needs-rust
	@$(call first,target/release/token-mint,The first run takes about 25 minutes on two cores and 6 GB of disk.)
	@$(PROFILES)

supply-chain: needs-rust $(DENY)/ready $(MACHETE)/ready ## check dependencies: licences, versions, bans, sources, unused, known vulnerabilities
	$(DENY)/bin/cargo-deny --locked check --deny warnings bans licenses sources
	$(MACHETE)/bin/cargo-machete bench function realtime simulator
	@# The one check that is passed over even in CI: its database changes by the day, and only GitHub has it.
	@if said=$$($(MINUTE) $(DENY)/bin/cargo-deny --locked fetch db 2>&1); then \
		$(DENY)/bin/cargo-deny --locked check --deny warnings advisories; \
	else echo "skipped: RustSec's advisories cannot be fetched: $$({ grep . <<<"$$said" || echo no answer; } | tail -n 1)"; fi

check: needs-rust,lint,python,git lint-briefly ## check formatting, lints, unit and whole-path tests: under a minute once all is built
	cargo test --locked --package token-mint --package openai-realtime --package token-mint-profile-check

lint-briefly: needs-rust,lint,python,git .venv/lint/ready
	cargo fmt --check
	$(LINT)/ruff format --check --quiet
	$(LINT)/ruff check --quiet
	$(LINT)/shellcheck $$(git grep -l '^#!/usr/bin/env bash$$')
	$(LINT)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	cargo clippy --locked --workspace --all-targets --features token-mint-fuzz/programs,token-mint/calls -- --deny warnings

lint: lint-briefly ## check formatting, lints and documentation, without a warning
	cargo clippy --locked --package openai-simulator --no-default-features --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --workspace --no-deps --quiet

rust-tests: needs-rust,python .venv/ministack/ready ## unit tests, and end-to-end tests in the function's own process
	cargo test --locked --workspace
	cargo test --locked --package openai-simulator --no-default-features

fuzz: needs-rust,c++ ## search for an event, body or profiles.json that breaks its parser, and keep new inputs (SECONDS=300 for each)
	function/fuzz/run $(SECONDS) keep

fuzz-briefly: needs-rust,c++
	function/fuzz/run 5

bench: needs-rust,python $(TOOLS) ## measure cold start, CPU and memory beside the alternatives (QUICK=1, DELAY_MS=OpenAI's time)
	bench/run $(if $(QUICK),--quick,--keep) $(if $(DELAY_MS),--delay=$(DELAY_MS))

bench-guard: needs-rust
	bench/run --guard

python-tests: needs-rust,python,curl,git $(TOOLS) .venv/ministack/ready .venv/checkov/ready .venv/lock/ready $(SDK) ## test the release binary in Lambda's emulator, the stack, OpenAI's SDKs, the demo in a browser, the docs
	cargo build --locked --release --package token-mint
	cargo build --locked --package openai-simulator
	cargo build --locked --package token-mint --example demo --features calls
	.venv/tools/bin/pytest

lock: needs-python .venv/lock/ready ## resolve the Python packages again, after a change to requirements/*.in
	requirements/lock

toolchain: needs-curl ## install rustup if there is no cargo, as on a build machine; it fetches the Rust of rust-toolchain.toml
	command -v cargo >/dev/null || curl --fail --silent --show-error --proto '=https' https://sh.rustup.rs | \
		sh -s -- -y --default-toolchain none

invoke: needs-rust,python,docker $(TOOLS) ## run the function in Docker on an event, with a simulated OpenAI (EVENT=file)
	@PARAMETERS="$(PARAMETERS)" operate/sam-local invoke MintFunction --event $(EVENT) $(FLAGS)

# SAM knows no authorizer that checks sign-ins, and stumbles over one that may not be there.
local-api: needs-rust,python,docker $(TOOLS) ## run the API in Docker, with a simulated OpenAI (PORT=8080)
	@PARAMETERS="$(PARAMETERS)" operate/sam-local start-api --port $(PORT) --warm-containers EAGER --disable-authorizer $(FLAGS)

build: needs-rust,python $(TOOLS) ## build the function and the templates as they will be deployed
	@# SAM cannot hand on --locked, so a lock file that does not fit is told here.
	@cargo metadata --locked --format-version 1 >/dev/null
	@$(PROFILES)
	@$(call first,.aws-sam/build/template.yaml,The first build takes about 3 minutes on two cores.)
	@# SAM keeps cargo's progress to itself.
	@while sleep 5 >/dev/null 2>&1; do printf . >&2; done & trap "kill $$!" EXIT; $(SAM) build --config-env $(ENV) $(overrides) $(FLAGS)

# SAM takes either PARAMETERS or samconfig.toml's list, and of one name the last value. It looks for that file beside the
# template, which a release has elsewhere.
released = --config-file $(CURDIR)/samconfig.toml --template-file .aws-sam/release/template.yaml \
	$(or $(overrides),$(configured)) Architecture=$$architecture
deploy: needs-python $(TOOLS) ## deploy what was built, or with FROM=folder or URL a release (ENV=prod, PARAMETERS="Name=value …")
	$(if $(FROM),@architecture=$$($(OPERATE).release) && )$(SAM) deploy --config-env $(ENV) --stack-name $(STACK) \
		--s3-prefix $(STACK) $(if $(FROM),$(released),$(overrides)) \
		$(if $(DEPLOY_ROLE_ARN),--role-arn $(DEPLOY_ROLE_ARN)) $(if $(CI),--no-confirm-changeset) $(FLAGS)
	@$(OPERATE) publish-if-changed

release: needs-rust,python,git $(TOOLS) ## build the files of a release into dist/, in the same bytes on every machine (ARCHITECTURES=x86_64)
	@cargo metadata --locked --format-version 1 >/dev/null
	@$(PROFILES)
	@.venv/tools/bin/python -m release $(ARCHITECTURES)

release-check: needs-rust,python,git $(TOOLS) ## build the release in dist/ again as another machine would, and compare every byte
	@.venv/tools/bin/python -m release.check

key: needs-python $(TOOLS) ## set the OpenAI key: asks for it, or reads standard input (PROVE=no: without a test mint)
	@$(OPERATE) key $(if $(filter no,$(PROVE)),--unchecked)

caller: needs-python $(TOOLS) ## print the identifier of a caller in the log and at OpenAI (SUBJECT=… or ADDRESS=…)
	@$(OPERATE) caller

block: needs-python $(TOOLS) ## refuse one caller tokens (CALLER=identifier, SUBJECT=… or ADDRESS=…)
	@$(OPERATE) block

unblock: needs-python $(TOOLS) ## undo block
	@$(OPERATE) unblock

logs: needs-python $(TOOLS) ## follow the function's log (FOLLOW=no: print what there is and stop)
	$(SAM) logs --stack-name $(STACK) --name MintFunction $(if $(filter no,$(FOLLOW)),,--tail) $(FLAGS)

update-code: needs-python $(TOOLS) ## publish what was built and make it live, without CloudFormation
	@$(OPERATE) update-code .aws-sam/build/MintFunction/bootstrap

rollback: needs-python $(TOOLS) ## go back to the version before the live one
	@$(OPERATE) rollback

pause: needs-python $(TOOLS) ## stop all minting within seconds
	@$(OPERATE) pause

resume: needs-python $(TOOLS) ## undo pause
	@$(OPERATE) resume

# These two need no more than Python: what they read is in this repository.
cost: needs-python3 ## estimate the cost of a month and of a bad day (MINTS=1000000 UPSTREAM_MS=400, PARAMETERS="…", WRITE=yes: into docs/cost.md)
	@python3 -m estimate.cost --mints $(MINTS) --upstream-ms $(UPSTREAM_MS) $(if $(filter yes,$(WRITE)),--write) \
		$(FLAGS) $(PARAMETERS)

capacity: needs-python3 ## estimate how many of a peak load get a token (TRAINEES=10000 SECONDS=60, PARAMETERS="…", WRITE=yes: into docs/capacity.md)
	@python3 -m estimate.capacity --trainees $(TRAINEES) --seconds $(SECONDS) --upstream-ms $(UPSTREAM_MS) \
		$(if $(filter yes,$(WRITE)),--write) $(FLAGS) $(PARAMETERS)

delete: needs-python $(TOOLS) ## delete the stack, its secret and its logs
	$(SAM) delete --stack-name $(STACK) $(FLAGS)

# Neither optimised nor for a debugger: a third of the time to build, and a second more to run.
target/tools/%/ready:
	@echo 'Building $* into target/tools: about 3 minutes on two cores.'
	CARGO_PROFILE_DEV_DEBUG=false cargo install --locked --debug --root target/tools/$* $*
	touch $@

# Compiled by Python when it is first imported: less than half of it ever is.
.venv/%/ready: requirements/%.txt
	@echo 'Installing $< into .venv/$*: up to a minute, and up to 0.9 GB of disk.'
	python3 -m venv --clear .venv/$*
	.venv/$*/bin/pip install --disable-pip-version-check --no-compile --no-deps --require-hashes --requirement $<
	.venv/$*/bin/pip check --disable-pip-version-check
	touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
