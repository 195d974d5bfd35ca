#!/bin/bash
# A run on the nodes of one SLURM job, from the repository's folder: sbatch docs/cluster/slurm.sh --profile paper
# The folder has to be on a disk of all nodes, for the code; artefacts travel by Ray and are kept by the first node.
#SBATCH --job-name=jsigr
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

first=$(hostname)
address=$(hostname --ip-address | awk '{print $1}'):$((20000 + SLURM_JOB_ID % 10000))
node=(ray start --block --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$SLURM_GPUS_ON_NODE")

srun --nodes=1 --ntasks=1 --nodelist="$first" \
    "${node[@]}" --head --node-ip-address "${address%:*}" --port "${address#*:}" --include-dashboard false &
until ray status --address "$address" >/dev/null 2>&1; do sleep 2; done
if [ "$SLURM_NNODES" -gt 1 ]; then
    others=$((SLURM_NNODES - 1))
    srun --nodes="$others" --ntasks="$others" --exclude="$first" "${node[@]}" --address "$address" &
fi

jsigr run --engine ray --address "$address" --gpus-per-task 0.25 "$@"
