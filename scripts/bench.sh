#!/usr/bin/env bash
# Every bench, one after another, on an otherwise idle machine. BENCHMARKS.md says how to read
# what they print, and holds what was measured.
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

printf '\n==> parts\n'
cargo bench --locked --bench codecs
