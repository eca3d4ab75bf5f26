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
command -v qemu-x86_64 >/dev/null || apt_install qemu-user
model=$(scripts/fetch-model.sh)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# What a fresh machine has: libc and its parts. OpenMP and the C++ library are inside.
if ldd "$aird" | grep -E 'libgomp|libstdc\+\+'; then
    say "error: $aird needs libraries that a fresh machine has not: build it with --features portable"
    exit 1
fi

# What a model answers, without the line that names it. aird tries each model in a child process
# first, which qemu starts natively: so the old CPU also gets that trial by itself.
ask() {
    "${@:2}" ask "$1" "What is the capital of France?" --max-tokens 8 --threads 2 | tail -n +2
}
old=(qemu-x86_64 -cpu Nehalem "$aird")
"${old[@]}" --version
if grep -qw avx2 /proc/cpuinfo; then
    "$aird" devices | grep AVX2
fi
for type in q4_1 q8_0 q4_k iq4_xs; do
    file=$model
    if [ "$type" != q4_1 ]; then
        file=$tmp/$type.gguf
        "$aird" -q quantize "$model" --method rtn --type "$type" --requantize -o "$file" >/dev/null
    fi
    "${old[@]}" -q probe "$file" >/dev/null
    new=$(ask "$file" "$aird")
    emulated=$(ask "$file" "${old[@]}")
    printf '%-7s %s\n' "$type" "$new"
    if [ -z "$new" ] || [ "$emulated" != "$new" ]; then
        say "error: on the old CPU the answer in $type is: $emulated"
        exit 1
    fi
done
printf 'check-portable.sh: the same answers on both CPUs\n'
