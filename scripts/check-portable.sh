#!/usr/bin/env bash
# Does the binary that is handed around run on an old CPU, with the same answers? Models in several
# types are asked natively and under qemu's Nehalem (2008: SSE 4.2, no AVX); the answers must be the
# same. Some minutes: qemu computes every instruction.
#
#   scripts/check-portable.sh [AIRD]     AIRD: a binary; without it one is built (--features portable)
#
# A native build ends under that CPU with "Illegal instruction": so this can fail.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

if [ $# -gt 1 ]; then
    say "usage: scripts/check-portable.sh [AIRD]"
    exit 2
fi
aird=${1:-}
if [ -z "$aird" ]; then
    ensure_tools cargo cmake make c++ libclang
    env -u RUSTFLAGS cargo build --release --locked --features portable
    aird=${CARGO_TARGET_DIR:-target}/release/aird
fi
# The program itself, not a faster build beside it.
export AIRD_BASELINE=1
command -v qemu-x86_64 >/dev/null || apt_install qemu-user
model=$(scripts/fetch-model.sh)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# What a fresh machine has: libc and its parts. OpenMP and the C++ library are inside.
if ldd "$aird" | grep -E 'libgomp|libstdc\+\+'; then
    say "error: $aird needs libraries that a fresh machine has not: build it with --features portable"
    exit 1
fi

# aird starts itself again with this setting (src/cli/spinning.rs), and tries models in child processes.
# qemu computes one process: what that starts runs natively, and would tell nothing of the old CPU.
export GOMP_SPINCOUNT=1000

# What a model answers, without the line that names it.
ask() {
    "${@:2}" ask "$1" "What is the capital of France?" --max-tokens 8 --threads 2 | tail -n +2
}
# The perplexity of a text of ours.
perplexity() {
    "$aird" -q tasks "$1" --text fixtures/README.md --ctx 128 --chunks 2 --json |
        sed -n 's/^ *"ppl": \([0-9.]*\).*/\1/p' | head -n 1
}
old=(qemu-x86_64 -cpu Nehalem "$aird")
"${old[@]}" --version
# aird devices says where a CPU has AVX2 and the build uses none: so is this the old CPU, really?
if "${old[@]}" devices | grep AVX2; then
    say "error: what should run on the old CPU runs natively"
    exit 1
fi

"$aird" -q quantize "$model" --method rtn --type f16 --requantize -o "$tmp/f16.gguf" >/dev/null
reference=$(perplexity "$tmp/f16.gguf")
printf '%-7s perplexity %s\n' f16 "$reference"
for type in q4_1 q8_0 q4_k iq4_xs; do
    file=$model
    if [ "$type" != q4_1 ]; then
        file=$tmp/$type.gguf
        "$aird" -q quantize "$model" --method rtn --type "$type" --requantize -o "$file" >/dev/null
    fi
    "${old[@]}" -q probe "$file" >/dev/null
    new=$(ask "$file" "$aird")
    emulated=$(ask "$file" "${old[@]}")
    # Two runs of one binary also agree where its code is wrong. Quantized types have kernels of
    # their own: they must read a text nearly as f16 does.
    ppl=$(perplexity "$file")
    printf '%-7s perplexity %s, %s\n' "$type" "$ppl" "$new"
    if [ -z "$new" ] || [ "$emulated" != "$new" ]; then
        say "error: on the old CPU the answer in $type is: $emulated"
        exit 1
    fi
    if ! awk -v p="$ppl" -v r="$reference" 'BEGIN { exit !(p > 0.8 * r && p < 1.25 * r) }'; then
        say "error: the perplexity in $type is $ppl, in f16 $reference"
        exit 1
    fi
done
printf 'check-portable.sh: the same answers on both CPUs\n'
