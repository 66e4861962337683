#!/usr/bin/env bash
# Builds the Kubernetes parts that the tests run on from their Go modules.
#
#   build.sh               everything
#   build.sh helm etcd     only these
#   build.sh assets        etcd, kube-apiserver and kubectl
#
# They are kept in $RESTPIPE_CACHE: what is there in the right version is not
# built again. KUBEBUILDER_ASSETS=DIR: etcd, kube-apiserver and kubectl are
# taken from there if they are there, in whatever version they are.
# A second build.sh waits for the first one.
set -euo pipefail
cd "$(dirname "$0")"
. ../need.sh
. parts.sh

# What the modules below ask for.
go_needed=1.26
# The modules that live in Kubernetes' own repository: its go.mod replaces them
# by folders, which only counts where it is the main module.
staging="api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider
cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api
cri-client cri-streaming csi-translation-lib dynamic-resource-allocation endpointslice externaljwt
kms kube-aggregator kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics
mount-utils pod-security-admission sample-apiserver sample-cli-plugin sample-controller streaming"

wanted=""
for name in "${@:-all}"; do
    case $name in
    all) wanted="$wanted $everything" ;;
    assets) wanted="$wanted $assets" ;;
    *)
        part_source "$name" >/dev/null || fail "there is no part $name: there are $everything, and assets"
        wanted="$wanted $name"
        ;;
    esac
done

# have NAME: whether the part is there. Its version is in the binary; without
# Go nothing else could be built anyway, and what is there has to do.
have() {
    local group package version
    [ "$(part "$1")" = "$kube_bin/$1" ] || return 0
    [ -x "$kube_bin/$1" ] || return 1
    command -v go >/dev/null || return 0
    read -r group package version < <(part_source "$1")
    go version -m "$kube_bin/$1" 2>/dev/null |
        awk -v package="$package" -v version="v$version" \
            '$1 == "mod" && index(package, $2) == 1 && $3 == version { good = 1 } END { exit !good }'
}

missing() {
    local name
    for name in $wanted; do have "$name" || echo "$name"; done | sort -u
}

[ -n "$(missing)" ] || exit 0

need flock util-linux
command -v go >/dev/null ||
    skip "there is no Go here: $go_needed or newer is needed to build" $(missing)
go_found="$(go env GOVERSION)"
[ "$(printf '%s\n' "$go_needed" "${go_found#go}" | sort -V | head -n 1)" = "$go_needed" ] ||
    skip "$go_found is too old, Go $go_needed or newer is needed to build" $(missing)

mkdir -p "$kube_bin"
exec {lock}>"$kube_bin/.lock"
flock "$lock"
work="$(mktemp -d "$kube_bin/.build.XXXXXX")"
trap 'rm -rf "$work"' EXIT

# Neither what the user builds with nor where he does it may matter.
export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath" GOWORK=off

# build_group GROUP NAME…: builds parts of one group together, which saves
# looking at what they share more than once.
build_group() {
    local wanted_group=$1 group package version packages=() name flags="-s -w" started=$SECONDS
    shift
    mkdir -p "$work/$wanted_group/out"
    cd "$work/$wanted_group"
    printf 'module restpipe.invalid/%s\n\ngo %s\n' "$wanted_group" "$go_needed" >go.mod
    for name; do
        read -r group package version < <(part_source "$name")
        packages+=("$package")
    done
    if [ "$group" = kube ]; then
        local edits=() module
        for module in $staging; do
            edits+=(-replace "k8s.io/$module=k8s.io/$module@v0.${kube_version#1.}")
        done
        go mod edit "${edits[@]}"
        # Without it the apiserver says that it is v0.0.0, and Helm believes it.
        local stamp=k8s.io/component-base/version minor=${version#1.}
        flags="$flags -X $stamp.gitVersion=v$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}"
    fi
    go get -tool "${packages[@]/%/@v$version}" >"$work/log" 2>&1 || {
        cat "$work/log"
        skip "the Go modules of $* cannot be had: $(tail -n 1 "$work/log")"
    }
    # A package whose path ends in a version would get a name of that kind.
    if [ "$#" = 1 ]; then
        go build -ldflags "$flags" -o "out/$1" "${packages[0]}"
    else
        go build -ldflags "$flags" -o out/ "${packages[@]}"
    fi
    mv -f out/* "$kube_bin/"
    echo "built $* of version $version in $((SECONDS - started)) s"
    cd "$work"
    rm -rf "${work:?}/$wanted_group"
}

# Another build.sh may have made them while this one waited.
left="$(missing)"
for group in etcd kube containerd coredns helm; do
    members=()
    for name in $left; do
        [ "$(part_source "$name" | cut -d ' ' -f 1)" != "$group" ] || members+=("$name")
    done
    [ "${#members[@]}" = 0 ] || build_group "$group" "${members[@]}"
done
