#!/usr/bin/env bash
# Asks quantized versions of the demo's model one question. With a second binary (of another build)
# both must give the same answer. This is what finds code that a compiler broke for this CPU only:
# AMX tiles, for example, run quantized types and no others.
#
#   scripts/smoke.sh MODEL AIRD [OTHER_AIRD]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    say "usage: scripts/smoke.sh MODEL AIRD [OTHER_AIRD]"
    exit 2
fi
model=$1 aird=$2 other=${3:-}
types=(q4_0 q4_1 q8_0 q4_k q6_k q2_k iq4_xs)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

grep -m1 'model name' /proc/cpuinfo 2>/dev/null || true
grep -qw amx_int8 /proc/cpuinfo 2>/dev/null && say "this CPU has AMX" || say "this CPU has no AMX"

ask() {
    "$1" ask "$2" "What is the capital of France?" --max-tokens 12 --threads 2 | tail -n +2
}
for type in "${types[@]}"; do
    "$aird" -q quantize "$model" --method rtn --type "$type" --requantize -o "$tmp/$type.gguf" \
        >/dev/null 2>"$tmp/talk" || { cat "$tmp/talk" >&2; exit 1; }
    answer=$(ask "$aird" "$tmp/$type.gguf")
    printf '%-7s %s\n' "$type" "$answer"
    [ -n "$answer" ] || { say "error: no answer in $type"; exit 1; }
    if [ -n "$other" ] && [ "$(ask "$other" "$tmp/$type.gguf")" != "$answer" ]; then
        say "error: $other answers otherwise in $type"
        exit 1
    fi
done
