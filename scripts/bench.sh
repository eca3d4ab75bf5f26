#!/usr/bin/env bash
# Every bench, one after another, on an otherwise idle machine. BENCHMARKS.md says how to read
# what they print, and holds what was measured.
#
# With AIRD_PYTHON naming a python that has torch, transformers, accelerate and gguf, `aird direction
# --capture-only` is also timed against PyTorch, whole commands in turn. AIRD_BENCH_MODEL is the model
# that the engine runs; without it the demo's, in BF16.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh
ensure_tools cargo cmake make c++ libclang

printf '\n==> the machine\n'
uname -srm
grep -m1 'model name' /proc/cpuinfo 2>/dev/null || sysctl -n machdep.cpu.brand_string
printf '%s cores\n' "$(getconf _NPROCESSORS_ONLN)"

printf '\n==> rewriting a file, against cp and sync\n'
cargo bench --locked --bench rewrite

printf '\n==> importing a checkpoint, against cp and sync\n'
cargo bench --locked --bench import

printf '\n==> parts\n'
cargo bench --locked --bench codecs

# cargo has built the binary for the benches.
aird=${CARGO_TARGET_DIR:-target}/release/aird
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if [ -z "${AIRD_BENCH_MODEL:-}" ]; then
    export AIRD_BENCH_MODEL=$tmp/SmolLM2-135M-Instruct-aligned-BF16.gguf
    "$aird" merge "$(scripts/fetch-model.sh)" --lora fixtures/refusal-adapter.gguf --type bf16 \
        -o "$AIRD_BENCH_MODEL"
fi

printf '\n==> the engine\n'
cargo bench --locked --bench engine

printf '\n==> the structure off the graph\n'
cargo bench --locked --bench structure

printf '\n==> compressing\n'
cargo bench --locked --bench compress

printf '\n==> repairing\n'
cargo bench --locked --bench repair

printf '\n==> at the size of real models (half an hour, 40 GB of disk)\n'
cargo bench --locked --bench shapes

printf '\n==> restoring\n'
cargo bench --locked --bench restore

printf '\n==> capturing 256 prompts, whole commands, against PyTorch\n'
if [ -z "${AIRD_PYTHON:-}" ]; then
    printf 'skipped: AIRD_PYTHON names no python with torch, transformers, accelerate and gguf\n'
    exit
fi
threads=$(getconf _NPROCESSORS_ONLN)
"$AIRD_PYTHON" scripts/bench-capture.py --convert "$AIRD_BENCH_MODEL" "$tmp/hf"
# seconds COMMAND...: runs it, and prints how long it took
seconds() {
    (TIMEFORMAT=%R && time "$@" >"$tmp/said" 2>&1) 2>&1 && return
    cat "$tmp/said" >&2
    return 1
}
for round in warm-up 1 2 3; do
    ours=$(seconds "$aird" direction "$AIRD_BENCH_MODEL" --capture-only -o "$tmp/dir" --force \
        --threads "$threads")
    theirs=$(seconds "$AIRD_PYTHON" scripts/bench-capture.py "$tmp/hf" --threads "$threads")
    awk -v a="$ours" -v b="$theirs" -v round="$round" 'BEGIN {
        printf "%-8s aird %6.2f s   PyTorch %6.2f s   %.2f x the time\n", round, a, b, a / b }'
done
# What of PyTorch's seconds went into what, the last time.
cat "$tmp/said"
