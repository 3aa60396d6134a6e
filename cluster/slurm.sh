#!/usr/bin/env bash
#SBATCH --job-name=rllib-portfolio
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --exclusive
#SBATCH --no-kill
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --output=rllib-portfolio-%j.log
#
# Start one Ray node on each Slurm node, and the driver on the node of this script. The job ends when the driver ends,
# with the same exit code.
#   sbatch cluster/slurm.sh train.py --algo ppo --num-env-runners 24 --storage-path /shared/runs
# Submit it from the top of the repository, in a folder that all nodes mount. For a GPU learner add --gres=gpu:1.
#
# Before the time limit, and on `scancel --batch --signal=USR1 JOBID`, this script stops the driver, which writes a
# checkpoint first. A plain `scancel` kills all processes at once, so that only earlier checkpoints remain.
set -euo pipefail

(($#)) || {
    echo "usage: sbatch cluster/slurm.sh train.py|tune.py|backtest.py ARGUMENTS..." >&2
    exit 2
}
: "${SLURM_JOB_ID:?must be set: start this script with sbatch}"
readonly venv=${VENV:-$PWD/.venv}
export PATH=$venv/bin:$PATH
command -v ray >/dev/null || {
    echo "error: found no ray in $venv/bin nor on PATH. Run 'make setup' there, or: sbatch --export=ALL,VENV=DIR ..." >&2
    exit 1
}

# Anyone with the token can run code as you, so only you can read its file. All nodes read it from your home directory.
umask 077
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
unset RAY_ADDRESS RAY_AUTH_TOKEN
ray get-auth-token --generate >/dev/null
chmod 600 "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds to wait for all nodes

readonly head=${SLURMD_NODENAME:?must be set: start this script with sbatch} # the node of this script and of the driver
state=$(mktemp -d "/tmp/rllib-portfolio-$SLURM_JOB_ID-XXXXXX")
readonly state

# `ray symmetric-run` starts this command on the head only. It records the driver's process id and exit code.
# shellcheck disable=SC2016
readonly driver='export RAY_ADDRESS=$HEAD_ADDRESS; python "$@" & echo $! >"$STATE/pid"; wait $!; code=$?; echo $code >"$STATE/code"; exit $code'
export STATE=$state HEAD_ADDRESS=$head:6379

# shellcheck disable=SC2329 # called by the trap
stop_driver() {
    echo "Stopping: the driver writes a checkpoint and ends."
    [[ ! -s $state/pid ]] || kill -TERM "$(<"$state/pid")" || true
}
trap stop_driver USR1 TERM

# If a node is lost, its env runners are lost, but the job continues: --no-kill and --kill-on-bad-exit=0.
srun --no-kill --kill-on-bad-exit=0 ray symmetric-run --address "$HEAD_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --disable-usage-stats -- bash -c "$driver" driver "$@" &
readonly step=$!
while [[ ! -s $state/code ]] && kill -0 "$step" 2>/dev/null; do
    sleep 2 &
    wait $! || true # a signal interrupts this wait, so that its trap runs at once
done
code=1
if [[ -s $state/code ]]; then
    read -r code <"$state/code"
    deadline=$((SECONDS + 20)) # the head stops Ray itself; the other nodes would wait for more than a minute
    while kill -0 "$step" 2>/dev/null && ((SECONDS < deadline)); do
        sleep 1 &
        wait $! || true
    done
fi
kill "$step" 2>/dev/null || true
wait "$step" || true
rm -rf "$state"
exit "$code"
