# For build.sh, to be sourced: base images under the names that the Dockerfile
# uses, and an image for applications, all made here of Debian's packages. They
# lie in a storage of their own, so that they never stand for the real ones.

build_base=docker.io/library/rust:1.95-bookworm
final_base=gcr.io/distroless/cc-debian12:nonroot
# What applications in pods are in the documentation's examples.
app_image=docker.io/curlimages/curl:8.16.0

b() { buildah --root "$cache/storage" --runroot "$cache/run" --storage-driver overlay "$@"; }

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

make_build_base() {
    local rust_version sysroot
    rust_version="$(rustc --version)"
    ! have "$build_base" "$rust_version" || return 0
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
}

# The packages that distroless is made of.
make_final_base() {
    local packages=(base-files ca-certificates libc6 libgcc-s1 libgomp1 libssl3 libstdc++6 netbase tzdata)
    local packed="${packages[*]}" deb
    ! have "$final_base" "$packed" || return 0
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
}

# curl, busybox (sh, sleep, httpd…) and Python for small applications. As the
# real one it runs as curl_user, by name, and what is no command is an argument
# of curl.
make_app_image() {
    local packages=curl,busybox-static,ca-certificates,python3 key tree="$work/app"
    key="$packages, $(sha256sum <tests/image/bases.sh | cut -c 1-16)"
    ! have "$app_image" "$key" || return 0
    echo "making $app_image of $packages"
    mmdebstrap --quiet --variant=extract --include="$packages" bookworm "$work/app.tar"
    mkdir "$tree"
    tar -xf "$work/app.tar" -C "$tree" --exclude=./dev --exclude=./usr/share/doc --exclude=./usr/share/locale
    # No script of a package has run: certificates and sh are made here.
    mkdir -p "$tree"/{tmp,etc/ssl/certs,home/curl_user}
    chmod 1777 "$tree/tmp"
    find "$tree/usr/share/ca-certificates" -name '*.crt' -exec cat {} + >"$tree/etc/ssl/certs/ca-certificates.crt"
    for applet in $("$tree/bin/busybox" --list); do
        [ -e "$tree/bin/$applet" ] || [ -e "$tree/usr/bin/$applet" ] || ln -s /bin/busybox "$tree/bin/$applet"
    done
    ln -sf busybox "$tree/bin/sh"
    ln -sf /bin/busybox "$tree/usr/bin/env"
    printf 'root:x:0:0:root:/root:/bin/sh\ncurl_user:x:100:101::/home/curl_user:/bin/sh\n' >"$tree/etc/passwd"
    printf 'root:x:0:\ncurl_group:x:101:\n' >"$tree/etc/group"
    chown 100:101 "$tree/home/curl_user"
    cat >"$tree/entrypoint.sh" <<'SCRIPT'
#!/bin/sh
command -v -- "$1" >/dev/null 2>&1 || set -- curl "$@"
exec "$@"
SCRIPT
    chmod 755 "$tree/entrypoint.sh"
    commit "$app_image" "$key" "$tree" --user curl_user --workingdir /home/curl_user \
        --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        --entrypoint '["/entrypoint.sh"]' --cmd curl
    rm -rf "$tree" "$work/app.tar"
}
