# For up.sh, to be sourced: containerd, kubelet, kube-proxy and the DNS.

# What runs pods in the tests has to react sooner than a real node: kubelet
# looks at a pod's Secrets that often, and no container waits longer than that
# for its next start.
sync_period=5s
restart_period=10s

cat >"$node/containerd.toml" <<CONFIG
version = 3
root = "$node/containerd"
state = "$node/containerd-state"

[grpc]
  address = "$node/containerd.sock"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/restpipe-pause:1"

[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE runc dies of setting what it may not.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "$node/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
CONFIG

cat >"$node/cni/10-bridge.conflist" <<CONFIG
{
  "cniVersion": "1.0.0",
  "name": "restpipe",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "$node/addresses-of-pods",
        "ranges": [[{"subnet": "$pod_range"}]], "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
CONFIG

echo "nameserver $node_address" >"$node/resolv.conf"
cat >"$node/kubelet.yaml" <<CONFIG
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $node/pki/ca.crt}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup/pods
clusterDNS: ["$node_address"]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$node/containerd.sock
crashLoopBackOff: {maxContainerRestartPeriod: $restart_period}
# A disk that is nearly full is the machine's affair. No image can be had again.
evictionHard: {imagefs.available: "1%", memory.available: 50Mi, nodefs.available: "1%"}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
localStorageCapacityIsolation: false
podLogsDir: $node/pod-logs
resolvConf: $node/resolv.conf
syncFrequency: $sync_period
tlsCertFile: $node/pki/kubelet.crt
tlsPrivateKeyFile: $node/pki/kubelet.key
CONFIG

cat >"$node/kube-proxy.yaml" <<CONFIG
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $node/pki/kube-proxy.kubeconfig}
clusterCIDR: $pod_range
# The machine's own limit is not ours to change.
conntrack: {maxPerCore: 0}
hostnameOverride: $name
mode: nftables
CONFIG

# A name that nobody knows does not exist. Without the empty zone it would be
# refused, which is another failure than the one that real sites see.
echo ". 2 IN SOA dns.invalid. nobody.invalid. 1 3600 600 86400 2" >"$node/root.zone"
cat >"$node/Corefile" <<CONFIG
. {
    bind $node_address
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {
        kubeconfig $node/pki/coredns.kubeconfig
        fallthrough in-addr.arpa
        ttl 2
    }
    hosts $node/hosts {
        reload 500ms
        ttl 2
        fallthrough
    }
    file $node/root.zone .
}
CONFIG

unit containerd "$(quoted "$(part ctr)" --address "$node/containerd.sock" version)" \
    env PATH="$kube_bin:$PATH" "$(part containerd)" --config containerd.toml --log-level warn
unit kubelet "$(answers http://127.0.0.1:10248/healthz)" "$(part kubelet)" --config=kubelet.yaml \
    --kubeconfig=pki/kubelet.kubeconfig --root-dir="$node/kubelet" --hostname-override="$name" \
    --node-ip="$node_address" --v=1
unit kube-proxy "$(answers http://127.0.0.1:10256/healthz)" "$(part kube-proxy)" --config=kube-proxy.yaml
unit coredns "$(answers http://127.0.0.1:8181/ready)" "$(part coredns)" -conf Corefile

# import_pause: the image that every pod has one container of, of one file.
import_pause() {
    local dir="$node/pause-image" layer config
    mkdir "$dir"
    tar -C "$node" --owner=0 --group=0 --numeric-owner -cf "$dir/layer.tar" pause
    layer="$(sha256sum <"$dir/layer.tar" | cut -d ' ' -f 1)"
    config="{\"architecture\":\"$(dpkg --print-architecture)\",\"os\":\"linux\",\"config\":{\"Entrypoint\":[\"/pause\"]},"
    config="$config\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$layer\"]}}"
    echo "$config" >"$dir/config.json"
    echo '[{"Config":"config.json","RepoTags":["localhost/restpipe-pause:1"],"Layers":["layer.tar"]}]' >"$dir/manifest.json"
    tar -C "$dir" -cf "$dir/image.tar" manifest.json config.json layer.tar
    "$(part ctr)" --address "$node/containerd.sock" --namespace k8s.io images import "$dir/image.tar" >"$node/log/pause-image" 2>&1 ||
        { cat "$node/log/pause-image" >&2; fail "the image of pods' first process cannot be imported"; }
    rm -r "$dir"
}
