#!/usr/bin/env bash
# Builds the Dockerfile's images (build.sh says how) and runs what comes out.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/image/build.sh || exit

cache="${RESTPIPE_CACHE:-$HOME/.cache/restpipe}/image"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
. tests/image/bases.sh
container=""
finish() { [ -z "$container" ] || b rm "$container" >/dev/null || true; }
trap finish EXIT

fail() {
    echo "FAILED: $*"
    exit 1
}
config() { b inspect --type image --format "{{$1}}" "$image"; }
# As the image's own user, with nothing but the image's own libraries.
run() { b run --isolation chroot "$container" "/$name" "$@"; }

# check NAME: what holds for both; leaves `container` and `root` of it.
check() {
    local user shell
    name=$1 image=docker.io/library/$1:$version
    user="$(config .OCIv1.Config.User)"
    [ "${user%%:*}" = 65532 ] || fail "$name runs as user ${user:-root}, not 65532"
    [ "$(config .OCIv1.Config.Entrypoint)" = "[/$name]" ] || fail "the entrypoint is $(config .OCIv1.Config.Entrypoint)"
    [ "$(config 'index .OCIv1.Config.Labels "org.opencontainers.image.title"')" = "$name" ] ||
        fail "the label says another title than $name"
    [ "$(config 'index .OCIv1.Config.Labels "org.opencontainers.image.version"')" = "$version" ] ||
        fail "the label says another version than Cargo.toml, which says $version"

    finish
    container="$(b from --pull=never "$image")"
    root="$(b mount "$container")"
    for shell in bin/sh usr/bin/sh bin/bash bin/busybox busybox; do
        [ ! -e "$root/$shell" ] || fail "there is a shell in the image: /$shell"
    done
    [ -x "$root/$name" ] || fail "there is no /$name"
    [ "$(stat -c %u "$root/$name")" = 0 ] || fail "/$name could be changed by whom it runs as"
    [ "$(run --version)" = "$name $version" ] || fail "it says of itself: $(run --version)"
    [ -s "$cache/out/$name.tar" ] || fail "there is no $cache/out/$name.tar"
    echo "$name is $(du -sh "$root" | cut -f 1) with its base, its binary is $(du -h "$root/$name" | cut -f 1)"
}

compiler="$(sed -n 's|^FROM docker.io/library/rust:\([0-9.]*\)-.*|\1|p' Dockerfile)"
ls sidecar/profile/"$compiler"*.profdata >/dev/null 2>&1 ||
    fail "there is no profile for Rust $compiler, with which the Dockerfile builds: make profile"

check restpipe
[ ! -e "$root/restpipe-operator" ] || fail "the operator is in the node's image"
run identity ca --dir /tmp/ca >/dev/null || fail "it cannot make a CA in /tmp"
[ "$(stat -c %u "$root/tmp/ca/ca.key")" = 65532 ] || fail "it did not run as user 65532"

check restpipe-operator
[ ! -e "$root/restpipe" ] || fail "the node is in the operator's image"
kinds="$(run crds | sed -n 's/^    kind: //p' | sort | tr '\n' ' ')"
[ "$kinds" = "RestPipeLink RestPipeServer " ] || fail "the kinds that it knows are $kinds"
