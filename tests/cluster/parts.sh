# For the scripts beside it, to be sourced: which parts of Kubernetes the tests
# run on, where they lie, and a few words that all of the scripts share.

kube_version=1.37.2
etcd_version=3.7.3
containerd_version=2.4.2
coredns_version=1.15.0
helm_version=4.3.1

# Not only Kubernetes lies there, but everything that was chosen to go with it.
kube_bin="${RESTPIPE_CACHE:-$HOME/.cache/restpipe}/kube-$kube_version"

# What a part is built of: group, package, and version of its module.
part_source() {
    case $1 in
    kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kube-proxy | kubectl)
        echo "kube k8s.io/kubernetes/cmd/$1 $kube_version" ;;
    etcd) echo "etcd go.etcd.io/etcd/server/v3 $etcd_version" ;;
    containerd | containerd-shim-runc-v2 | ctr)
        echo "containerd github.com/containerd/containerd/v2/cmd/$1 $containerd_version" ;;
    coredns) echo "coredns github.com/coredns/coredns $coredns_version" ;;
    helm) echo "helm helm.sh/helm/v4/cmd/helm $helm_version" ;;
    *) return 1 ;;
    esac
}

# What Kubernetes' own test tools take from a directory of the user's choice,
# so do we.
assets="etcd kube-apiserver kubectl"
everything="$assets kube-controller-manager kube-scheduler kubelet kube-proxy \
containerd containerd-shim-runc-v2 ctr coredns helm"

# part NAME: the path of a part, whether it is built or not.
part() {
    if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [[ " $assets " = *" $1 "* ]] && [ -x "$KUBEBUILDER_ASSETS/$1" ]; then
        echo "$KUBEBUILDER_ASSETS/$1"
    else
        echo "$kube_bin/$1"
    fi
}

# fail WORD…: ends the script with the reason.
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# node_needs: installs what a real node wants of this machine.
node_needs() {
    need flock util-linux
    need ip iproute2
    need sysctl procps
    need iptables iptables
    need nft nftables
    need conntrack conntrack
    need runc runc
    need /usr/lib/cni/bridge containernetworking-plugins
    need openssl openssl
    need curl curl
    need gcc gcc libc6-dev
}
