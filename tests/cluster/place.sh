# For up.sh and down.sh, to be sourced: what a node has of this machine. A
# network namespace NAME, a pair of links that ends here as rpcINDEX, cgroups
# restpipe-NAME, and a mount namespace that lives as long as its processes.

# The links' prefix is short, as a link's name is.
link_prefix=rpc
# INDEX is part of addresses: 172.30.INDEX.0, 10.(100+INDEX).0.0 for Services,
# 10.(200+INDEX).0.0 for pods.
last_index=55
# Seconds until the kernel has cleared away what was ended.
patience=30

cgroup=restpipe-$name
# Where this machine's processes are sorted: one tree, or one for each
# controller and maybe a new one that controls nothing.
mapfile -t cgroup_trees < <(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts)
processes_tree=/sys/fs/cgroup
[ ! -d /sys/fs/cgroup/pids ] || processes_tree=/sys/fs/cgroup/pids

# place_name: refuses names that would not do everywhere.
place_name() {
    [[ "$name" =~ ^[a-z][a-z0-9-]{0,29}$ ]] ||
        fail "$name is no name for a node: 1 to 30 of a-z, 0-9 and -, a letter first"
}

# link_of: the index of the link that is ours, if there is one.
link_of() {
    local link
    for link in /sys/class/net/"$link_prefix"*; do
        [ "$(cat "$link/ifalias" 2>/dev/null)" = "restpipe $name" ] || continue
        echo "${link#/sys/class/net/"$link_prefix"}"
    done
}

# add_link INDEX: the pair of links, which nobody else has then.
add_link() {
    ip link add "$link_prefix$1" type veth peer name eth0 netns "$name" 2>/dev/null || return 1
    ip link set "$link_prefix$1" alias "restpipe $name"
}

# forward INDEX -I|-D: where this machine forwards nothing by itself, as one
# with Docker does not, one node would not reach the other.
forward() {
    iptables -w "$2" FORWARD -i "$link_prefix$1" -j ACCEPT
    iptables -w "$2" FORWARD -o "$link_prefix$1" -j ACCEPT
}

# place_network INDEX|auto: sets `index`.
place_network() {
    ip netns add "$name"
    if [ "$1" = auto ]; then
        index=1
        until add_link "$index"; do
            index=$((index + 1))
            [ "$index" -le "$last_index" ] || fail "all of $link_prefix""1 to $link_prefix$last_index are taken"
        done
    else
        index=$1
        [[ "$index" =~ ^[1-9][0-9]?$ ]] && [ "$index" -le "$last_index" ] ||
            fail "$index is no index: auto, or 1 to $last_index"
        add_link "$index" ||
            fail "index $index is taken: $(ip -o link show "$link_prefix$index" 2>&1); say auto for a free one"
    fi
    host_address=172.30.$index.1 node_address=172.30.$index.2
    ip address add "$host_address/30" dev "$link_prefix$index"
    ip link set "$link_prefix$index" up
    # Only for what comes in here, and gone with the link.
    sysctl -q -w "net.ipv4.conf.$link_prefix$index.forwarding=1"
    [ "$(iptables -w -S FORWARD | head -n 1)" != "-P FORWARD DROP" ] || forward "$index" -I
    ip -n "$name" address add "$node_address/30" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
    ip -n "$name" route add default via "$host_address"
    nsenter --net="/run/netns/$name" sysctl -q -w net.ipv4.ip_forward=1
}

# place_cgroups: one for the node's own processes, one for its pods.
place_cgroups() {
    local tree level file
    for tree in "${cgroup_trees[@]}"; do
        for level in "$tree/$cgroup" "$tree/$cgroup/pods"; do
            mkdir -p "$level"
            # Without them nothing can be put in; only the first version has
            # them empty.
            for file in cpuset.cpus cpuset.mems; do
                [ "$tree" = "$processes_tree" ] || [ ! -e "$level/$file" ] ||
                    [ -n "$(cat "$level/$file")" ] || cat "${level%/*}/$file" >"$level/$file"
            done
        done
    done
    unit_cgroup="$processes_tree/$cgroup/node"
    mkdir -p "$unit_cgroup"
}

# Ends every process in our cgroups; fails if one was there.
end_processes() {
    local file id found=0
    while read -r file; do
        while read -r id; do
            found=1
            kill -s KILL "$id" 2>/dev/null || true
        done <"$file"
    done < <(find "$processes_tree/$cgroup" -name cgroup.procs 2>/dev/null)
    [ "$found" = 0 ]
}

# Removes our cgroups, the deepest first; fails if one is left.
remove_cgroups() {
    local tree left=0
    for tree in "${cgroup_trees[@]}"; do
        [ -d "$tree/$cgroup" ] || continue
        find "$tree/$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
    done
    [ "$left" = 0 ]
}

# place_clear: all of it goes, whatever a run that was killed has left.
place_clear() {
    local index mount
    until_true "$patience" end_processes ||
        fail "processes of $name cannot be ended: $(find "$processes_tree/$cgroup" -name cgroup.procs -exec cat {} +)"
    for index in $(link_of); do
        # Of one that was killed there may be none, or one of the two.
        forward "$index" -D 2>/dev/null || true
        ip link delete "$link_prefix$index"
    done
    [ ! -e "/run/netns/$name" ] || ip netns delete "$name"
    until_true "$patience" remove_cgroups ||
        fail "cgroups of $name cannot be removed: $(find "${cgroup_trees[@]/%//$cgroup}" -type d 2>/dev/null)"
    # Mounts are made where only the node sees them; one here is an accident.
    awk -v inside="$node/" 'index($2, inside) == 1 { print $2 }' /proc/mounts | sort -r |
        while read -r mount; do umount -l "$mount"; done
}
