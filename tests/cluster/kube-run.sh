#!/usr/bin/env bash
# The suite `kube`: tests against a real etcd and kube-apiserver, without nodes.
# Words on the command line are for the tests' own harness: names, --nocapture.
#
# The tests are given
#   KUBECONFIG              one who may do everything
#   RESTPIPE_KUBE_DIR       where audit.log is (kube.sh says what else)
#   RESTPIPE_KUBE           kube.sh, for tests that want an API of their own
#   RESTPIPE_CLUSTER_CTL    ctl.sh, which stops and starts it
#   RESTPIPE_STATE_DIR RESTPIPE_KUBE_NAME   what ctl.sh is told
#   KUBECTL, HELM
#
# RESTPIPE_KEEP=1 leaves the API as it is afterwards.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/need.sh
. tests/cluster/parts.sh
clear_node() { tests/cluster/kube.sh down "$1" "$2"; }
. tests/cluster/runs.sh

need openssl openssl
need flock util-linux
phase "parts"
tests/cluster/build.sh assets helm || exit
run_dir kube
phase "etcd and apiserver"
tests/cluster/kube.sh up kube "$run"
phase "build of the tests"
test_command=(cargo test --locked --package restpipe-cluster-tests --features kube --test 'kube*')
"${test_command[@]}" --no-run
phase "tests"
KUBECONFIG="$run/kube/kubeconfig" RESTPIPE_KUBE_DIR="$run/kube" RESTPIPE_KUBE="$PWD/tests/cluster/kube.sh" \
    RESTPIPE_CLUSTER_CTL="$PWD/tests/cluster/ctl.sh" RESTPIPE_STATE_DIR="$run" RESTPIPE_KUBE_NAME=kube \
    KUBECTL="$(part kubectl)" HELM="$(part helm)" "${test_command[@]}" -- "$@"
