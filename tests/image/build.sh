#!/usr/bin/env bash
# Builds what the Dockerfile describes without a container registry: the node's
# image and the operator's, and beside them one for applications. Nothing is
# done for what has not changed since the last time.
#
# In $RESTPIPE_CACHE/image/out, for `ctr images import`:
#   restpipe.tar           restpipe:VERSION
#   restpipe-operator.tar  restpipe-operator:VERSION, both as the chart names them
#   app.tar                what applications in examples are
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/need.sh

[ "$(id -u)" = 0 ] || skip "images are built here as root only"
. /etc/os-release
[ "$ID" = debian ] || skip "base images are made here from Debian's packages only"
need buildah buildah
need mmdebstrap mmdebstrap
need flock util-linux

cache="${RESTPIPE_CACHE:-$HOME/.cache/restpipe}/image"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
out="$cache/out"
. tests/image/bases.sh

mkdir -p "$out"
exec {lock}>"$cache/.lock"
flock "$lock"
work="$(mktemp -d "$cache/work.XXXXXX")"
finish() {
    # Old layers of ours go, the bases and the newest stay.
    b rmi --prune >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

for name in "$build_base" "$final_base"; do
    grep -q "^FROM $name " Dockerfile || { echo "the Dockerfile is not based on $name any more"; exit 1; }
done
make_build_base
make_final_base
make_app_image

# === the images ===

# image_of TARGET: the name that the chart gives it, as the node writes it out.
image_of() {
    case $1 in
    sidecar) echo "docker.io/library/restpipe:$version" ;;
    operator) echo "docker.io/library/restpipe-operator:$version" ;;
    esac
}

# export_image NAME FILE: whole or not at all.
export_image() {
    rm -f "$work/export.tar"
    b push --quiet "$1" "docker-archive:$work/export.tar:$1"
    mv -f "$work/export.tar" "$out/$2"
}

# What the build reads, as it is now: a file that is changed meanwhile must not
# be in one image and not in the other. Of tests only that it is a part of the
# workspace makes a difference.
context="$work/context"
mkdir "$context"
cp -a --parents Cargo.toml Cargo.lock LICENSE Dockerfile .dockerignore proto sidecar operator tests "$context"
sources() {
    cd "$context"
    {
        find . -type f -not -path './tests/*'
        find tests -name Cargo.toml
    } | sort | xargs sha256sum
    rustc --version
}
key="$(sources | sha256sum | cut -d ' ' -f 1)"

# The crates that this machine has are all that the build needs, and what was
# compiled of them last time need not be again.
build_images() {
    local registry target
    cargo fetch --locked
    registry="${CARGO_HOME:-$HOME/.cargo}/registry"
    mkdir -p "$cache/target"
    # Except ours: the copied files are as old as they are here, and cargo
    # would not see what was changed while the last build ran.
    rm -rf "$cache"/target/*/.fingerprint/restpipe*
    for target in sidecar operator; do
        # The second one finds everything compiled.
        b bud --quiet --pull=never --isolation chroot --target "$target" --label "made-of=$key" \
            --tag "$(image_of "$target")" \
            --volume "$registry:/usr/local/cargo/registry" --volume "$cache/target:/src/target" "$context"
    done
}

if ! have "$(image_of sidecar)" "$key" || ! have "$(image_of operator)" "$key"; then
    # Those of the last build are not to stay for these, wherever this run may end.
    rm -f "$out/restpipe.tar" "$out/restpipe-operator.tar"
    build_images
fi
[ -e "$out/restpipe.tar" ] || export_image "$(image_of sidecar)" restpipe.tar
[ -e "$out/restpipe-operator.tar" ] || export_image "$(image_of operator)" restpipe-operator.tar
app_made="$(b inspect --type image --format '{{.FromImageDigest}}' "$app_image")"
if [ ! -e "$out/app.tar" ] || [ "$(cat "$out/app.of" 2>/dev/null)" != "$app_made" ]; then
    export_image "$app_image" app.tar
    echo "$app_made" >"$out/app.of"
fi
