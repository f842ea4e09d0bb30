# Everything that people and CI do. Builds go outside the checkout unless CARGO_TARGET_DIR says otherwise.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/forebay/target
FOREBAY_DIR ?= $(HOME)/.forebay
BIN := $(CARGO_TARGET_DIR)/release
SHELL := /bin/bash

.PHONY: help up down test verify fix bench perf dist
help: ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

up: ## install what is missing, build, start a cluster, mount sample data, read it cold and warm
	@deploy/install.sh
	cargo build --release --locked -p forebay-cli -p forebay-master -p forebay-worker -p forebay-fuse
	@deploy/demo.sh "$(BIN)/forebay" "$(FOREBAY_DIR)" $(UP_FLAGS)

down: ## stop the cluster that `make up` started; its cache and its mounts stay for the next start
	@"$(BIN)/forebay" down --dir "$(FOREBAY_DIR)"

test: ## every test; starts real processes and mounts
	@deploy/install.sh --tests
	cargo test --release --locked --workspace

verify: ## formatting, lints, documentation, layers
	@deploy/install.sh
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	cargo test --release --locked -p forebay-tests --test layers

fix: ## format, apply what clippy can fix, write the documents that are made from tables
	cargo fmt --all
	cargo clippy --locked --workspace --all-targets --fix --allow-dirty --allow-staged
	FOREBAY_TEST_WRITE=1 cargo test --release --locked -p forebay-tests --test generated_documents

bench: ## microbenchmarks, then the in-process load on namespace and engine
	@deploy/install.sh --tests
	cargo bench --locked -p forebay-benches
	cargo run --release --locked -p forebay-benches -- namespace
	cargo run --release --locked -p forebay-benches -- ratios
	cargo run --release --locked -p forebay-benches -- index
	cargo run --release --locked -p forebay-benches -- restart
	cargo run --release --locked -p forebay-benches -- engine

perf: ## Forebay beside the limit and its peers, into perf/out/report.md; QUICK=1 ends in five minutes; PERF="--rigs ..."
	@deploy/install.sh --perf
	cargo build --release --locked -p forebay-cli -p forebay-master -p forebay-worker -p forebay-fuse -p forebay-perf
	"$(BIN)/forebay-perf" run $(if $(QUICK),--quick) $(PERF)

dist: ## a release tarball in dist/, with its checksum
	@deploy/install.sh
	@deploy/dist.sh
