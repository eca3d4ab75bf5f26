#!/usr/bin/env bash
# Writes a model of noise in the shapes of a real one, to try aird at its size: it loads and runs, and
# says nothing of sense.
#
#   scripts/make-shape.sh 8b|70b-slice TYPE OUT.gguf [BLOCKS]
#
# 8b: Llama-3-8B. 70b-slice: 4 of Llama-3.3-70B's 80 blocks. TYPE: bf16, q4_k, ...
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/toolchain.sh"
if [ $# -lt 3 ] || [ $# -gt 4 ]; then
    say "usage: scripts/make-shape.sh 8b|70b-slice TYPE OUT.gguf [BLOCKS]"
    exit 2
fi
out=$(realpath "$3")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ensure_tools cargo cmake make c++ libclang
cargo bench -q --locked --bench shapes -- make "$1" "$2" "$out" ${4:+"$4"}
