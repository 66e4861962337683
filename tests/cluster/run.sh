#!/usr/bin/env bash
# The suite `cluster`: two real nodes, each a cluster of its own, with the
# images that the Dockerfile makes, and the tests that use them.
# Words on the command line are for the tests' own harness: names, --nocapture.
#
# The tests are given, for X of A and B
#   RESTPIPE_CLUSTER_X              kubeconfig of one who may do everything
#   RESTPIPE_CLUSTER_X_NAME         what ctl.sh calls it
#   RESTPIPE_CLUSTER_X_NODE         address of its NodePorts
#   RESTPIPE_CLUSTER_X_HOST         address of this machine, as its pods see it
#   RESTPIPE_CLUSTER_CTL            ctl.sh, which stops and starts components
#   RESTPIPE_STATE_DIR              what ctl.sh is told
#   RESTPIPE_VERSION                tag of the images restpipe and restpipe-operator
#   RESTPIPE_APP_IMAGE              one with sh, curl and python3
#   KUBECTL, HELM
#
# RESTPIPE_KEEP=1 leaves the clusters as they are afterwards.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/need.sh
. tests/cluster/parts.sh
clear_node() { tests/cluster/down.sh "$1" "$2"; }
. tests/cluster/runs.sh

[ "$(id -u)" = 0 ] || skip "only root can make nodes"
node_needs

phase "parts"
tests/cluster/build.sh || exit
phase "images"
tests/image/build.sh || exit
images="${RESTPIPE_CACHE:-$HOME/.cache/restpipe}/image/out"

run_dir cluster
# Names that no other run has, as they are this machine's.
id="$(basename "$run" | tr 'A-Z' 'a-z')" id="${id#cluster.}"
export RESTPIPE_STATE_DIR="$run" RESTPIPE_CLUSTER_CTL="$PWD/tests/cluster/ctl.sh"
export RESTPIPE_CLUSTER_A_NAME="a-$id" RESTPIPE_CLUSTER_B_NAME="b-$id"
export RESTPIPE_CLUSTER_A="$run/a-$id/kubeconfig" RESTPIPE_CLUSTER_B="$run/b-$id/kubeconfig"
KUBECTL="$(part kubectl)" HELM="$(part helm)"
export KUBECTL HELM
phase "clusters"
tests/cluster/up.sh "$RESTPIPE_CLUSTER_A_NAME" auto "$run" &
first=$!
second_status=0
tests/cluster/up.sh "$RESTPIPE_CLUSTER_B_NAME" auto "$run" || second_status=$?
wait "$first" || exit
[ "$second_status" = 0 ] || exit "$second_status"
address_of() { sed -n "s/^$2=//p" "$run/$1/addresses"; }
RESTPIPE_CLUSTER_A_NODE="$(address_of "$RESTPIPE_CLUSTER_A_NAME" node_address)"
RESTPIPE_CLUSTER_A_HOST="$(address_of "$RESTPIPE_CLUSTER_A_NAME" host_address)"
RESTPIPE_CLUSTER_B_NODE="$(address_of "$RESTPIPE_CLUSTER_B_NAME" node_address)"
RESTPIPE_CLUSTER_B_HOST="$(address_of "$RESTPIPE_CLUSTER_B_NAME" host_address)"
export RESTPIPE_CLUSTER_A_NODE RESTPIPE_CLUSTER_A_HOST RESTPIPE_CLUSTER_B_NODE RESTPIPE_CLUSTER_B_HOST

phase "import of images"
. tests/image/bases.sh
RESTPIPE_VERSION="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" RESTPIPE_APP_IMAGE=$app_image
export RESTPIPE_VERSION RESTPIPE_APP_IMAGE
for name in "$RESTPIPE_CLUSTER_A_NAME" "$RESTPIPE_CLUSTER_B_NAME"; do
    for image in restpipe restpipe-operator app; do
        "$(part ctr)" --address "$run/$name/containerd.sock" --namespace k8s.io \
            images import "$images/$image.tar" >"$run/import.log" 2>&1 ||
            { cat "$run/import.log"; fail "$image.tar cannot be imported into $name"; }
    done
done

phase "build of the tests"
# Two at a time: a node has this machine's processors, not more.
test_threads=2
# With the whole workspace, so that nothing is compiled again with other features.
test_command=(cargo test --workspace --locked --features restpipe-cluster-tests/cluster --test cluster)
cargo build --workspace --locked
"${test_command[@]}" --no-run
phase "tests"
"${test_command[@]}" -- --test-threads="$test_threads" "$@"
