#!/usr/bin/env bash
# Builds the Dockerfile without a container registry and runs what comes out.
#
# The base images are made here under the names that the Dockerfile uses: the
# build base of Debian's packages and this machine's Rust toolchain, the final
# one of the packages that distroless is made of. They lie in a storage of
# their own, so that they never stand for the real ones.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/need.sh

[ "$(id -u)" = 0 ] || skip "images are built here as root only"
. /etc/os-release
[ "$ID" = debian ] || skip "base images are made here from Debian's packages only"
need buildah buildah
need mmdebstrap mmdebstrap

cache="${RESTPIPE_CACHE:-$HOME/.cache/restpipe}/image"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
build_base=docker.io/library/rust:1.95-bookworm
final_base=gcr.io/distroless/cc-debian12:nonroot
image=localhost/restpipe-test:sidecar

mkdir -p "$cache"
work="$(mktemp -d "$cache/work.XXXXXX")"
container=""
b() { buildah --root "$cache/storage" --runroot "$cache/run" --storage-driver overlay "$@"; }
finish() {
    [ -z "$container" ] || b rm "$container" >/dev/null || true
    # Old layers of ours go, the bases stay.
    b rmi "$image" >/dev/null 2>&1 || true
    b rmi --prune >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

for name in "$build_base" "$final_base"; do
    grep -q "^FROM $name " Dockerfile || { echo "the Dockerfile is not based on $name any more"; exit 1; }
done

# === base images ===

# have NAME KEY: whether NAME was made from the same things before.
have() { [ "$(b inspect --type image --format '{{index .OCIv1.Config.Labels "made-of"}}' "$1" 2>/dev/null)" = "$2" ]; }

# commit NAME KEY TREE [config…]: an image of one layer.
commit() {
    local name=$1 key=$2 tree=$3 made
    shift 3
    made="$(b from scratch)"
    b add --quiet "$made" "$tree" / >/dev/null
    b config --label "made-of=$key" "$@" "$made"
    b commit --quiet --rm "$made" "$name" >/dev/null
}

rust_version="$(rustc --version)"
if ! have "$build_base" "$rust_version"; then
    echo "making $build_base of $rust_version"
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,gcc,g++,make,libc6-dev \
        bookworm "$work/debian.tar"
    mkdir "$work/rust"
    tar -xf "$work/debian.tar" -C "$work/rust" --exclude=./dev
    sysroot="$(rustc --print sysroot)"
    mkdir -p "$work/rust/usr/local/cargo"
    # Neither the documentation nor what only developers need.
    tar -C "$sysroot" --exclude=lib/rustlib/src --exclude='lib/rustlib/wasm*' -cf - bin/cargo bin/rustc lib |
        tar -C "$work/rust/usr/local" -xf -
    commit "$build_base" "$rust_version" "$work/rust" --env CARGO_HOME=/usr/local/cargo \
        --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    rm -rf "$work/rust" "$work/debian.tar"
fi

packages=(base-files ca-certificates libc6 libgcc-s1 libgomp1 libssl3 libstdc++6 netbase tzdata)
packed="${packages[*]}"
if ! have "$final_base" "$packed"; then
    echo "making $final_base of $packed"
    mkdir "$work/debs" "$work/final"
    chmod 755 "$work/debs"
    (cd "$work/debs" && { apt-get -q download "${packages[@]}" || { apt-get -q update && apt-get -q download "${packages[@]}"; }; })
    for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/final"; done
    mkdir -p "$work/final/etc" "$work/final/home/nonroot" "$work/final/tmp"
    chmod 1777 "$work/final/tmp"
    printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$work/final/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' >"$work/final/etc/group"
    commit "$final_base" "$packed" "$work/final" --user 65532
    rm -rf "$work/debs" "$work/final"
fi

# === the image ===

# The crates that this machine has are all that the build needs, and what was
# compiled of them last time need not be again.
cargo fetch --locked
registry="${CARGO_HOME:-$HOME/.cargo}/registry"
mkdir -p "$cache/target"
# Except ours: the copied files are as old as they are here, and cargo would
# not see what was changed while the last build ran.
rm -rf "$cache"/target/release/.fingerprint/restpipe*
b bud --quiet --pull=never --isolation chroot --target sidecar --tag "$image" \
    --volume "$registry:/usr/local/cargo/registry" --volume "$cache/target:/src/target" .

# === checks ===

fail() {
    echo "FAILED: $*"
    exit 1
}
config() { b inspect --type image --format "{{$1}}" "$image"; }

user="$(config .OCIv1.Config.User)"
[ "${user%%:*}" = 65532 ] || fail "the image runs as user ${user:-root}, not 65532"
[ "$(config .OCIv1.Config.Entrypoint)" = "[/restpipe]" ] || fail "the entrypoint is $(config .OCIv1.Config.Entrypoint)"
[ "$(config 'index .OCIv1.Config.Labels "org.opencontainers.image.version"')" = "$version" ] ||
    fail "the label says another version than Cargo.toml, which says $version"

container="$(b from --pull=never "$image")"
root="$(b mount "$container")"
for shell in bin/sh usr/bin/sh bin/bash bin/busybox busybox; do
    [ ! -e "$root/$shell" ] || fail "there is a shell in the image: /$shell"
done
[ -x "$root/restpipe" ] || fail "there is no /restpipe"
[ "$(stat -c %u "$root/restpipe")" = 0 ] || fail "/restpipe could be changed by whom it runs as"

# As the image's own user, with nothing but the image's own libraries.
run() { b run --isolation chroot "$container" /restpipe "$@"; }
[ "$(run --version)" = "restpipe $version" ] || fail "it says of itself: $(run --version)"
run identity ca --dir /tmp/ca >/dev/null || fail "it cannot make a CA in /tmp"
[ "$(stat -c %u "$root/tmp/ca/ca.key")" = 65532 ] || fail "it did not run as user 65532"

echo "the image is $(du -sh "$root" | cut -f 1) with its base, /restpipe is $(du -h "$root/restpipe" | cut -f 1)"
