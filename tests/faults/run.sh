#!/usr/bin/env bash
# The suite `faults`: two nodes with a router between them that drops packets
# or is slow, each in a network namespace of its own. Words on the command line are for the
# tests' own harness: names, --nocapture.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/need.sh

need ip iproute2
need tc iproute2
need nft nftables
need unshare util-linux
# With the whole workspace, so that nothing is compiled again with other features.
test_command=(cargo test --workspace --locked --features restpipe-tests/namespaces --test silence)
cargo build --workspace --locked
"${test_command[@]}" --no-run

# All of it in a network and among processes of its own: when this script ends,
# however it does, the first process there is killed, with it all others, and
# with them their namespaces.
enter=(unshare --net --pid --fork --kill-child=KILL --mount-proc)
[ "$(id -u)" = 0 ] || enter+=(--user --map-root-user)
"${enter[@]}" nft list tables ||
    skip "no network of one's own can be made here: as root, or where user namespaces are allowed"
"${enter[@]}" tc qdisc add dev lo root tbf rate 1mbit burst 4kb latency 1s ||
    skip "no link can be made slow here: the kernel's sch_tbf is missing (modprobe sch_tbf)"
# All at a time: they wait.
exec setpriv --pdeathsig KILL "${enter[@]}" "${test_command[@]}" -- --test-threads 16 "$@"
