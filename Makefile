# make run    a server and a client on this machine; ARGS="--log info" and the like
# make node   target/release/restpipe
# make test   everything that this machine can test
# make check  format and lints
# make docs   rewrites the generated parts of docs/
# make bench  how fast it is, beside roofs of the same run: docs/performance.md; ARGS="--quick" and the like
# make profile  the profile that nodes are compiled by: before a release, and for another compiler
# make fuzz   each fuzz target for FUZZ_SECONDS, 60 unless given
# make soak   the simulation of tests/tests/simulation, with SEEDS=100000 seeds unless given
# make manifests  rewrites the chart's definitions and manifests/install.yaml

.PHONY: run node test check docs manifests bench profile fuzz soak

CARGO ?= cargo

# A node is compiled by the profile in sidecar/profile.
profiled = RUSTFLAGS="$$(sidecar/profile/profile.sh flags)" $(CARGO)

run:
	$(profiled) run --release --locked --package restpipe -- dev $(ARGS)

node:
	$(profiled) build --release --locked --package restpipe

test:
	tests/run

# Built one by one: together, features that only the bench needs would be in the node.
bench: node
	$(profiled) run --release --locked --package restpipe-bench -- $(ARGS)

profile:
	sidecar/profile/profile.sh make

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs:
	UPDATE=1 $(CARGO) test --locked --package restpipe-tests --test docs

manifests:
	UPDATE=1 $(CARGO) test --locked --package restpipe-operator --test generated
	tests/cluster/build.sh helm
	HELM="$$(bash -c '. tests/cluster/parts.sh; part helm')" manifests/render.sh

SEEDS ?= 100000

soak:
	RESTPIPE_SEEDS=$(SEEDS) $(CARGO) test --profile quick --locked --package restpipe-tests --test simulation -- --nocapture

FUZZ_SECONDS ?= 60

# RUSTC_BOOTSTRAP: coverage is a flag of nightly compilers that stable ones have too.
fuzz:
	command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz build --sanitizer none
	for target in $$($(CARGO) fuzz list); do \
		mkdir -p fuzz/corpus/$$target fuzz/seeds/$$target; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none $$target \
			fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done
