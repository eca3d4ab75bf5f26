#!/usr/bin/env bash
# What a repair brings back, type by type: the demo's model pruned (Wanda, 50 %), its quants, each
# repaired with a search of its own, and all of them asked the TEST prompts that no search saw.
#
#   scripts/study-repair.sh [TYPE...]
#
# TYPEs are f16, q8_0, q4_1, q4_0 and adapter (the pruned F16 model with the repair as a LoRA
# adapter); by default all. Some 6 minutes each on two cores.
# From the environment: AIRD_STUDY_THREADS (all cores), AIRD_STUDY_TOKENS of an answer (64).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

aird=${CARGO_TARGET_DIR:-target}/release/aird
if [ ! -x "$aird" ]; then
    ensure_tools cargo cmake make c++ libclang
    cargo build --release --locked
fi
out=target/study-repair
mkdir -p "$out"
threads=(--threads "${AIRD_STUDY_THREADS:-0}")
types=("$@")
[ $# -gt 0 ] || types=(f16 q8_0 q4_1 q4_0 adapter)

# make FILE COMMAND...: runs it unless an earlier run of this script made the file
make() {
    local file=$1
    shift
    [ -e "$file" ] || "$@"
}

base=$out/base-F16.gguf direction=$out/base.safetensors pruned=$out/pruned-F16.gguf
make "$base" "$aird" merge "$(scripts/fetch-model.sh)" --lora fixtures/refusal-adapter.gguf \
    --type f16 -o "$base"
make "$direction" "$aird" direction "$base" -o "$direction" "${threads[@]}"
make "$pruned" "$aird" prune "$base" --method wanda --sparsity 0.5 --data builtin:align \
    -o "$pruned" "${threads[@]}"

ask() {
    "$aird" asr "$@" --max-tokens "${AIRD_STUDY_TOKENS:-64}" "${threads[@]}" \
        --transcripts "$out/transcripts"
}
for type in "${types[@]}"; do
    case $type in
        f16 | adapter) model=$pruned ;;
        *)
            model=$out/pruned-${type^^}.gguf
            make "$model" "$aird" quantize "$pruned" --method rtn --type "$type" -o "$model"
            ;;
    esac
    printf '\n==> %s\n' "$type"
    if [ "$type" = adapter ]; then
        lora=$out/repair-adapter.gguf
        make "$lora" "$aird" repair "$model" --direction "$direction" --lora "$lora" \
            --front "$out/front-$type.json" --force "${threads[@]}"
        mkdir -p "$out/transcripts/with-adapter"
        "$aird" asr "$model" --lora "$lora" --max-tokens "${AIRD_STUDY_TOKENS:-64}" \
            "${threads[@]}" --transcripts "$out/transcripts/with-adapter"
    else
        repaired=$out/repaired-${type^^}.gguf
        make "$repaired" "$aird" repair "$model" --direction "$direction" -o "$repaired" \
            --front "$out/front-$type.json" --force "${threads[@]}"
        ask "$base" "$model" "$repaired"
    fi
done
