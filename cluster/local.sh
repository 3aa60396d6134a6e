#!/usr/bin/env bash
# Run a Ray cluster on one machine: a head and N worker nodes, each with its own `ray start`, on the loopback address.
set -euo pipefail

readonly usage="\
usage: cluster/local.sh up [--workers N] [--cpus-per-node N] [--object-store-mb N]
       cluster/local.sh join NODE [--cpus-per-node N] [--object-store-mb N]
       cluster/local.sh status | env | lose NODE | down

up      start a head and N worker nodes (default: 2), each with --cpus-per-node logical CPUs (default: 1; the sum may
        exceed the CPUs of the machine) and an object store of --object-store-mb MB (default: 150)
status  show the processes that 'up' started, and Ray's status of the nodes
env     print the variables that connect to the cluster: eval \"\$(cluster/local.sh env)\"
lose    kill NODE (such as worker-1) without warning, to simulate the failure of a machine
join    start NODE: a lost worker (such as worker-1) or a new one (such as worker-3)
down    stop the nodes of this cluster and no other processes; logs are kept

Variables: CLUSTER_DIR (state, logs, token; default: /tmp/rllib-cluster), GCS_PORT (6379), DASHBOARD_PORT (8265),
CLIENT_PORT (10001), VENV (the project's .venv)."

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly dir=${CLUSTER_DIR:-/tmp/rllib-cluster}
readonly token_file=$dir/auth_token
readonly gcs_port=${GCS_PORT:-6379} dashboard_port=${DASHBOARD_PORT:-8265} client_port=${CLIENT_PORT:-10001}
readonly venv=${VENV:-$root/.venv}
readonly timeout_s=90
# `ray start` and `ray status` replace "localhost" and 127.0.0.1 by the address on the network, and then listen there.
# They do not replace the name in capital letters.
readonly gcs_address=LOCALHOST:$gcs_port

say() { printf '%s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

require_whole_number() { # NAME VALUE LOWEST
    if ! [[ $2 =~ ^[0-9]{1,6}$ ]] || ((10#$2 < $3)); then
        die "$1 must be a whole number of at least $3, got '$2'. Give another."
    fi
}

is_open() { (: </dev/tcp/127.0.0.1/"$1") 2>/dev/null; }

require_free() { # PORT VARIABLE
    ! is_open "$1" || die "port $1 must be free, and something listens on it. Choose another: $2=PORT cluster/local.sh up"
}

# read_stat PID: set `stat` to the state, parent, group, session, ... of a process; fails if there is no such process.
read_stat() {
    local line
    read -r line 2>/dev/null <"/proc/$1/stat" || return 1
    read -ra stat <<<"${line##*) }"
}

# started_at PID: print the start time of a process in clock ticks. A later process with the same PID has another time.
started_at() {
    local -a stat
    read_stat "$1" || return 1
    printf '%s' "${stat[19]}"
}

is_running() { # PID START
    local -a stat
    read_stat "$1" && [[ ${stat[0]} != Z && ${stat[19]} == "$2" ]]
}

# kill_session PID START: kill all processes of a node's session. Ray's workers have process groups of their own.
kill_session() {
    local -a stat
    local process
    # PID is not reused while the session has processes. A process PID with another start time is not ours.
    if [[ -e /proc/$1 && $(started_at "$1") != "$2" ]]; then return; fi
    for process in /proc/[0-9]*; do
        if read_stat "${process#/proc/}" && [[ ${stat[3]} == "$1" ]]; then
            kill -KILL "${process#/proc/}" 2>/dev/null || true
        fi
    done
}

use_ray() {
    if [[ -x $venv/bin/ray ]]; then
        export PATH=$venv/bin:$PATH # the `python` of a job is looked up in the head's PATH
    elif ! command -v ray >/dev/null; then
        die "found no ray in $venv/bin nor on PATH. Run 'make setup', or name an environment: VENV=/path/to/venv"
    fi
    unset RAY_ADDRESS RAY_AUTH_TOKEN # they may belong to another cluster
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token_file RAY_USAGE_STATS_ENABLED=0
    export RAY_JOB_STOP_WAIT_TIME_S=60 # time for a run that is stopped to write its checkpoint; Ray's default is 3
}

# start_node NAME ARGUMENTS...: start a node in a folder of its own, because nodes that share a folder delete each
# other's copy of a job's code, and in a session of its own, so that all its processes can be killed at once.
start_node() {
    local name=$1 log=$dir/logs/$1.log pid
    shift
    setsid ray start --block --disable-usage-stats --num-cpus "$cpus_per_node" --num-gpus 0 \
        --object-store-memory "$((object_store_mb * 1000000))" --dashboard-agent-listen-port 0 \
        --temp-dir "$dir/$name" "$@" \
        >"$log" 2>&1 </dev/null &
    pid=$!
    printf '%s %s\n' "$pid" "$(started_at "$pid")" >"$dir/$name.pid"
    local deadline=$((SECONDS + timeout_s))
    until grep -q 'Ray runtime started' "$log"; do
        if ! kill -0 "$pid" 2>/dev/null || ((SECONDS >= deadline)); then
            tail -n 20 "$log" >&2
            $on_failure
            die "node $name did not start within $timeout_s s. Its log: $log"
        fi
        sleep 0.5
    done
    say "$name is up ($cpus_per_node CPU, process $pid)"
}

# read_options ARGUMENTS...: set workers, cpus_per_node and object_store_mb.
read_options() {
    workers=2 cpus_per_node=1 object_store_mb=150
    while (($#)); do
        case $1 in
        --workers) workers=${2:-} && require_whole_number "$1" "$workers" 0 ;;
        --cpus-per-node) cpus_per_node=${2:-} && require_whole_number "$1" "$cpus_per_node" 1 ;;
        --object-store-mb) object_store_mb=${2:-} && require_whole_number "$1" "$object_store_mb" 80 ;;
        *) die "no such option: $1. See cluster/local.sh --help" ;;
        esac
        shift 2
    done
}

up() {
    local number on_failure=down
    read_options "$@"
    ! compgen -G "$dir/*.pid" >/dev/null || die "$dir has a cluster that is up or was not stopped. First: cluster/local.sh down"
    require_free "$gcs_port" GCS_PORT
    require_free "$dashboard_port" DASHBOARD_PORT
    require_free "$client_port" CLIENT_PORT
    use_ray
    umask 077 # the token, and logs that may show data
    mkdir -p "$dir"
    ((${#dir} <= 40)) || die "CLUSTER_DIR must have at most 40 characters, for the sockets in it, got $dir. Name a shorter one."
    [[ -O $dir ]] || die "$dir must belong to you, and does not. Name another: CLUSTER_DIR=DIR cluster/local.sh up"
    chmod 700 "$dir"
    rm -rf "$dir"/head "$dir"/worker-* "$dir/logs"
    mkdir "$dir/logs"
    (set +o pipefail && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n') >"$token_file"

    # Ray has this variable for systems without multi-node clusters: with 0 the head uses 127.0.0.1 as its address.
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 start_node head --head --node-ip-address 127.0.0.1 --port "$gcs_port" \
        --dashboard-host 127.0.0.1 --dashboard-port "$dashboard_port" --ray-client-server-port "$client_port"
    for ((number = 1; number <= workers; number++)); do
        start_node "worker-$number" --address "$gcs_address"
    done
    say "The cluster is up. Next: eval \"\$(cluster/local.sh env)\", then ray job submit --working-dir . -- python train.py ..."
}

join() {
    local name=${1:-} pid start on_failure="end_node $dir/${1:-}.pid"
    [[ $name =~ ^worker-[0-9]+$ ]] || die "NODE must be a worker's name, such as worker-1, got '$name'. Give another."
    [[ -r $token_file ]] || die "no cluster is up. First: cluster/local.sh up"
    if [[ -e $dir/$name.pid ]]; then
        read -r pid start <"$dir/$name.pid"
        ! is_running "$pid" "$start" || die "NODE must be one that was lost or is new, got '$name', which is up. Give another."
    fi
    read_options "${@:2}"
    use_ray
    umask 077
    rm -rf "${dir:?}/$name"
    start_node "$name" --address "$gcs_address"
}

print_env() {
    [[ -r $token_file ]] || die "no cluster is up. First: cluster/local.sh up"
    say "unset RAY_AUTH_TOKEN"
    say "export RAY_AUTH_MODE=token"
    say "export RAY_AUTH_TOKEN_PATH='$token_file'"
    say "export RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard_port"
}

status() {
    local file pid start state
    compgen -G "$dir/*.pid" >/dev/null || die "no cluster is up. First: cluster/local.sh up"
    for file in "$dir"/*.pid; do
        read -r pid start <"$file"
        is_running "$pid" "$start" && state=running || state=ended
        say "$(basename "$file" .pid): $state (process $pid)"
    done
    use_ray
    ray status --address "$gcs_address"
}

# end_node FILE: send SIGTERM to a node, and kill the processes that remain after 15 s.
end_node() {
    local pid start deadline=$((SECONDS + 15))
    read -r pid start <"$1"
    if is_running "$pid" "$start"; then
        kill -TERM "$pid" 2>/dev/null || true
        while is_running "$pid" "$start" && ((SECONDS < deadline)); do sleep 0.2; done
    fi
    kill_session "$pid" "$start"
    rm -f "$1"
    say "$(basename "$1" .pid) is down"
}

lose() {
    local pid start
    [[ -e $dir/${1:-}.pid ]] || die "NODE must be one that is up, got '${1:-}'. See cluster/local.sh status"
    read -r pid start <"$dir/$1.pid"
    kill_session "$pid" "$start"
    say "$1 is lost; Ray needs some seconds to see it"
}

down() {
    local file
    compgen -G "$dir/*.pid" >/dev/null || say "Nothing to stop in $dir."
    for file in "$dir"/worker-*.pid "$dir"/head.pid; do
        [[ ! -e $file ]] || end_node "$file"
    done
    rm -f "$token_file"
    [[ ! -d $dir ]] || say "Logs: $dir/logs and $dir/head/session_latest/logs"
}

case ${1:-} in
up) shift && up "$@" ;;
env) print_env ;;
status) status ;;
lose) lose "${2:-}" ;;
join) shift && join "$@" ;;
down) down ;;
-h | --help | help) say "$usage" ;;
*)
    say "$usage" >&2
    exit 2
    ;;
esac
