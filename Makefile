# make run    a server and a client on this machine; ARGS="--log info" and the like
# make test   everything that this machine can test
# make check  format and lints
# make docs   rewrites the generated parts of docs/
# make manifests  rewrites the chart's definitions and manifests/install.yaml

.PHONY: run test check docs manifests

CARGO ?= cargo

run:
	$(CARGO) run --release --locked --package restpipe -- dev $(ARGS)

test:
	tests/run

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs:
	UPDATE=1 $(CARGO) test --locked --package restpipe-tests --test docs

manifests:
	UPDATE=1 $(CARGO) test --locked --package restpipe-operator --test generated
	tests/cluster/build.sh helm
	HELM="$$(bash -c '. tests/cluster/parts.sh; part helm')" manifests/render.sh
