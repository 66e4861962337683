#!/usr/bin/env bash
# Two real nodes whose gateways are unix sockets, and nginx in front of them
# with the original's configuration: its example events answer as it wrote
# them, and nothing between curl and the handler touches the path.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/need.sh

restpipe="${RESTPIPE_BIN:-$PWD/target/debug/restpipe}"
[ -x "$restpipe" ] || { echo "there is no $restpipe: build it with cargo build"; exit 1; }
need curl curl ca-certificates
need nginx nginx

# Seconds that anything may take to come about.
patience=30

dir="$(mktemp -d "${TMPDIR:-/tmp}/restpipe-nginx.XXXXXX")"
chmod 755 "$dir"
pids=()

finish() {
    local status=$?
    # nginx and the nodes end by SIGTERM; each is waited for.
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    if [ "$status" != 0 ]; then
        for log in "$dir"/*.log; do echo "--- ${log##*/}"; tail -n 20 "$log"; done
    fi
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT

# until_true WHAT COMMAND…: polls until COMMAND succeeds.
until_true() {
    local what=$1 end=$((SECONDS + patience))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || { echo "FAILED: $what within $patience s"; return 1; }
        sleep 0.05
    done
}

# === identities and nodes ===

ca="$dir/ca"
"$restpipe" identity ca --dir "$ca" --name "nginx test"
"$restpipe" identity server rpserver.local --ca "$ca" --out "$dir/server"
"$restpipe" identity client localhost --ca "$ca" --out "$dir/client"

common=(--admin off --statsd off --log info --log-format json)
"$restpipe" server "${common[@]}" --dir "$dir/server" --listen 127.0.0.1:0 \
    --gateway "unix:$dir/rpserver.sock" 2>"$dir/server.log" &
pids+=($!)

pipe_address() {
    pipe="$(sed -n 's/.*"pipe":"at \([0-9.:]*\)".*/\1/p' "$dir/server.log" | head -n 1)"
    [ -n "$pipe" ]
}
until_true "the server says where it listens" pipe_address

"$restpipe" client "${common[@]}" --dir "$dir/client" --server "$pipe" --server-name rpserver.local \
    --gateway "unix:$dir/rpclient.sock" 2>"$dir/client.log" &
pids+=($!)
until_true "the client's socket is there" test -S "$dir/rpclient.sock"

# === nginx ===

# Whether the nginx that was just started answers, or has ended.
settled() {
    curl -s -o "$dir/out" -H "Host: rpclient.local" "http://127.0.0.1:$port/favicon.ico" ||
        ! kill -0 "$nginx" 2>/dev/null
}
for _ in 1 2 3 4 5 6 7 8; do
    port=$((20000 + RANDOM % 12000))
    sed -e "s|@DIR@|$dir|g" -e "s|@PORT@|$port|g" tests/nginx/nginx.conf.template >"$dir/nginx.conf"
    nginx -e "$dir/nginx.error.log" -c "$dir/nginx.conf" -p "$dir" 2>"$dir/nginx.out.log" &
    nginx=$!
    until_true "nginx answers or ends" settled
    kill -0 "$nginx" 2>/dev/null && break
    # The port was somebody else's.
    wait "$nginx" || true
done
kill -0 "$nginx" || { echo "nginx does not start"; exit 1; }
pids+=("$nginx")

# Its workers may have dropped root: they reach the sockets all the same.
ask() {
    local host=$1 path=$2
    shift 2
    curl -sS --path-as-is --max-time 30 --resolve "$host:$port:127.0.0.1" "$@" "http://$host:$port$path"
}

# === checks ===

checks=0
check() {
    local what=$1 got=$2 pattern=$3
    checks=$((checks + 1))
    [[ "$got" =~ ^$pattern$ ]] || { echo "FAILED: $what: got $got, not $pattern"; exit 1; }
}

# The original's "Example Events", word for word.
check "time of the server" "$(ask rpclient.local /server/time)" '\{"time_from_server": [0-9]+\.[0-9]{6}\}'
check "time of the client" "$(ask rpserver.local /client/localhost/time)" '\{"time_from_client": [0-9]+\.[0-9]{6}\}'
check "cat of the server" "$(ask rpclient.local /server/cat//hello%20/world)" '\{"result_from_server": "hello world"\}'
check "cat of the client" "$(ask rpserver.local /client/localhost/cat//hello%20/world)" '\{"result_from_client": "hello world"\}'

# Merged slashes would make these another noun, a decoded %2F another argument.
check "an empty first argument" "$(ask rpclient.local /server/cat///a)" '\{"result_from_server": "a"\}'
check "an empty argument inside" "$(ask rpclient.local /server/cat//a//b)" '\{"result_from_server": "ab"\}'
check "an escaped slash" "$(ask rpclient.local /server/cat//a%2Fb/c)" '\{"result_from_server": "a/bc"\}'
check "an escape of an escape" "$(ask rpserver.local /client/localhost/cat//a%252Fb)" '\{"result_from_client": "a%2Fb"\}'
check "UTF-8" "$(ask rpclient.local /server/cat//%C3%A9)" '\{"result_from_server": "é"\}'
check "dots are not resolved on the way" "$(ask rpclient.local /server/a/../time -o "$dir/out" -w '%{http_code}')" 400
check "escaped dots neither" "$(ask rpclient.local /server/a/%2e%2e/time -o "$dir/out" -w '%{http_code}')" 400

# The answers' own headers come through.
outcome() {
    ask "$@" -o "$dir/out" -D "$dir/headers"
    tr -d '\r' <"$dir/headers" | sed -n 's/^x-event-\(outcome\|return-code\): //p' | sort | tr '\n' ' '
}
check "headers of an answer" "$(outcome rpclient.local /server/time)" '0 executed '
check "headers of no handler" "$(outcome rpserver.local /client/localhost/nothing)" '255 executed '
check "the wrong direction" "$(ask rpclient.local /client/localhost/time -o "$dir/out" -w '%{http_code}')" 404
check "a web page elsewhere" "$(ask rpclient.local /server/time -H 'Origin: http://elsewhere.example' -o "$dir/out" -w '%{http_code}')" 403
check "a web page of this very host" "$(ask rpclient.local /server/time -H "Origin: http://rpclient.local:$port" -o "$dir/out" -w '%{http_code}')" 200
check "the original's own location" "$(ask rpclient.local /favicon.ico -o "$dir/out" -w '%{http_code}')" 404

echo "$checks checks passed"
