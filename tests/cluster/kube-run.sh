#!/usr/bin/env bash
# The suites `many` and `kube`: tests against a real etcd and kube-apiserver, without nodes.
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
. tests/cluster/units.sh
clear_node() { tests/cluster/kube.sh down "$1" "$2"; }
. tests/cluster/runs.sh

need openssl openssl
need curl curl
need flock util-linux
need ip iproute2
phase "parts"
tests/cluster/build.sh assets helm || exit
run_dir kube
phase "build of the tests"
# With the whole workspace, so that nothing is compiled again with other features.
test_command=(cargo test --workspace --locked --features restpipe-cluster-tests/kube --test 'kube*' --no-fail-fast)
cargo build --workspace --locked
"${test_command[@]}" --no-run

# Everything runs in a network of its own, which ends with its last process. All addresses of pods
# and Services are this machine's there: the tests run sidecars on the former, and are kube-proxy for
# the latter.
enter_network=(--net)
[ "$(id -u)" = 0 ] || enter_network=(--user --map-root-user --net)
setpriv --pdeathsig KILL unshare "${enter_network[@]}" sleep infinity &
network=$!
trap 'kill "$network" 2>/dev/null || true; end_run' EXIT
[ "$(id -u)" = 0 ] || enter_network=(--user --preserve-credentials --net)
inside() { nsenter --target "$network" "${enter_network[@]}" -- "$@"; }
# The process is there before it has its network.
has_network() {
    local theirs
    theirs="$(readlink "/proc/$network/ns/net")" && [ "$theirs" != "$(readlink /proc/self/ns/net)" ]
}
until_true 10 has_network ||
    skip "no network of one's own can be made here: as root, or where user namespaces are allowed"
inside ip link set lo up
for addresses in 10.0.0.0/24 10.88.0.0/16; do inside ip route add local "$addresses" dev lo; done

phase "etcd and apiserver"
inside tests/cluster/kube.sh up kube "$run"
phase "tests"
# Four at a time: most of their time they wait.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-4}"
KUBECONFIG="$run/kube/kubeconfig" RESTPIPE_KUBE_DIR="$run/kube" RESTPIPE_KUBE="$PWD/tests/cluster/kube.sh" \
    RESTPIPE_CLUSTER_CTL="$PWD/tests/cluster/ctl.sh" RESTPIPE_STATE_DIR="$run" RESTPIPE_KUBE_NAME=kube \
    KUBECTL="$(part kubectl)" HELM="$(part helm)" inside "${test_command[@]}" -- "$@"
