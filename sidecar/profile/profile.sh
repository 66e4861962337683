#!/bin/sh
# A profile of use: how often each function of a node runs and which way its
# branches go, for the compiler to lay out the code by. It is kept here, one
# file for each compiler, as it is of no use to another one. Parts of the code
# that were changed after it was made are compiled as if there were none.
#
#   profile.sh flags   prints RUSTFLAGS with the profile of this compiler
#   profile.sh make    makes it, by the bench: about six minutes
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
rustc="${RUSTC:-rustc}"
cargo="${CARGO:-cargo}"

# What says itself to be of the compiler, as "release-llvmMAJOR".
version="$("$rustc" --version --verbose |
    sed -n 's/^release: //p; s/^LLVM version: \([0-9]*\).*/-llvm\1/p' | tr -d '\n')"
profile="$here/$version.profdata"

flags() {
    case $here in
    *[[:space:]]*)
        echo "profile.sh: the path $here has spaces, which RUSTFLAGS cannot hold: built without the profile" >&2
        ;;
    *)
        if [ -e "$profile" ]; then
            # cargo does not look into the file: by the cfg, which nothing else
            # reads, it sees that there is another one and compiles anew.
            sum="$(cksum <"$profile" | cut -d ' ' -f 1)"
            echo "${RUSTFLAGS:-} -Cprofile-use=$profile -Cllvm-args=-no-pgo-warn-mismatch --cfg restpipe_profile_$sum"
            return
        fi
        echo "profile.sh: no profile for rustc $version: built without; \`make profile\` makes one" >&2
        ;;
    esac
    echo "${RUSTFLAGS:-}"
}

make() {
    tool="$(dirname "$("$rustc" --print target-libdir)")/bin/llvm-profdata"
    if [ ! -x "$tool" ]; then
        echo "profile.sh: there is no llvm-profdata for this compiler: rustup component add llvm-tools" >&2
        exit 1
    fi
    cd "$here/../.."
    CARGO_TARGET_DIR="$(realpath -m "${CARGO_TARGET_DIR:-target}")/profile"
    raw="$CARGO_TARGET_DIR/raw"
    export CARGO_TARGET_DIR RUSTFLAGS="-Cprofile-generate=$raw"
    # The bench too: roofs that are compiled worse than the node would flatter it.
    "$cargo" build --release --locked --package restpipe
    "$cargo" build --release --locked --package restpipe-bench
    rm -rf "$raw"
    "$CARGO_TARGET_DIR/release/restpipe-bench" --quick --rounds 2 --only latency --only rate --only bulk
    # Sparse: without the functions that never ran.
    "$tool" merge --sparse --output "$profile" "$raw"/*.profraw
    echo "made $profile"
}

case "${1:-}" in
flags) flags ;;
make) make ;;
*)
    echo "usage: profile.sh flags|make" >&2
    exit 2
    ;;
esac
