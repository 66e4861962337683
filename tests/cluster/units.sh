# For the scripts beside it, to be sourced: the processes of one node, each
# called by a name. `node` is the directory of the node:
#
#   units/NAME   what starts it, the same at every start
#   ready/NAME   succeeds when it does its work
#   run/NAME     process id and start time: an id alone may be another's by now
#   log/NAME     what it said

# Seconds that a process may take until it does its work, on a machine that
# has a build to do at the same time.
ready_patience=120
# Seconds that a process may take to end by itself. An apiserver would wait a
# minute for its watchers, who do not go.
stop_patience=5
# Seconds that the kernel may take to end one.
kill_patience=30
# Seconds between two looks at something that is waited for.
look_again=0.1
# By how many percent the memory of a process may grow before garbage is
# collected. Of 100, which is Go's own, an apiserver took 97 s of processor time
# for a thousand links, of 400 it took 70.
go_garbage=400
# Lines of a log that are shown where something went wrong.
log_lines=25

# until_true SECONDS COMMAND…: polls until COMMAND succeeds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep "$look_again"
    done
}

# quoted WORD…: the words as a shell reads them.
quoted() { printf '%q ' "$@"; }

# unit NAME READY WORD…: writes down that the command WORD… is called NAME, and
# works when the shell command READY succeeds. `enter` is what takes a command
# to the place where it is to run.
unit() {
    local name=$1 ready=$2
    shift 2
    {
        echo '#!/usr/bin/env bash'
        # A process that stays must not hold what those that started it have
        # open; 255 is how bash reads this script.
        echo 'for fd in /proc/self/fd/*; do'
        echo '    fd=${fd##*/}'
        echo '    [ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"'
        echo 'done'
        [ -z "${unit_cgroup:-}" ] || echo "echo \$\$ >$(quoted "$unit_cgroup/cgroup.procs")"
        # Almost all of them are in Go, and hold little: garbage may lie longer.
        echo "export GOGC=$go_garbage"
        echo "cd $(quoted "$node")"
        echo "exec $(quoted "${enter[@]}" "$@")"
    } >"$node/units/$name"
    printf '#!/usr/bin/env bash\n%s\n' "$ready" >"$node/ready/$name"
    chmod +x "$node/units/$name" "$node/ready/$name"
}

# When a process started, and nothing for one that ended.
started_at() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    # Behind the name, which may hold anything; the first is the state. A process
    # is a zombie as soon as its first thread is: the others hold its ports still.
    set -- ${stat##*) }
    [ "$1" = Z ] && [ "${18}" -le 1 ] || echo "${20}"
}

# unit_pid NAME: the id of its process if it lives.
unit_pid() {
    local pid since
    { read -r pid since <"$node/run/$1"; } 2>/dev/null || return 1
    [ "$(started_at "$pid")" = "$since" ] || return 1
    echo "$pid"
}

unit_is_gone() { ! unit_pid "$1"; }

# say_log NAME: the end of its log, to standard error.
say_log() {
    tail -n "$log_lines" "$node/log/$1" 2>/dev/null | sed 's/^/    | /' >&2
    echo "    all of it: $node/log/$1" >&2
}

# unit_start NAME: starts it, if it does not run, and does not wait.
unit_start() {
    local name=$1 pid
    [ -x "$node/units/$name" ] || fail "there is no component $name: there are $(echo $(ls "$node/units"))"
    ! unit_pid "$name" >/dev/null || return 0
    # In a session of its own: an interrupt at the terminal is not for it.
    setsid "$node/units/$name" >>"$node/log/$name" 2>&1 </dev/null &
    pid=$!
    echo "$pid $(started_at "$pid")" >"$node/run/$name"
}

# unit_ready NAME: waits until it works.
unit_ready() {
    local name=$1 end=$((SECONDS + ready_patience))
    until "$node/ready/$name" >/dev/null 2>&1; do
        unit_pid "$name" >/dev/null || {
            echo "FAILED: $name of ${node##*/} ended instead of starting:" >&2
            say_log "$name"
            return 1
        }
        [ "$SECONDS" -lt "$end" ] || {
            echo "FAILED: $name of ${node##*/} was not ready within $ready_patience s:" >&2
            say_log "$name"
            return 1
        }
        sleep "$look_again"
    done
}

# unit_signal NAME SIGNAL
unit_signal() {
    local pid
    pid="$(unit_pid "$1")" || fail "$1 of ${node##*/} does not run"
    kill -s "$2" "$pid"
}

# unit_stop NAME: ends it, asked first, and waits until it is gone.
unit_stop() {
    local name=$1 pid
    pid="$(unit_pid "$name")" || return 0
    kill -s TERM "$pid" 2>/dev/null || true
    # One that was paused does not hear it.
    kill -s CONT "$pid" 2>/dev/null || true
    until_true "$stop_patience" unit_is_gone "$name" || unit_kill "$name"
}

# unit_kill NAME: ends it unasked.
unit_kill() {
    local name=$1 pid
    pid="$(unit_pid "$name")" || return 0
    kill -s KILL "$pid" 2>/dev/null || true
    until_true "$kill_patience" unit_is_gone "$name" || fail "$name, process $pid, cannot be ended"
}
