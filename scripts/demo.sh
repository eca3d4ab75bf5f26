#!/usr/bin/env bash
# aird at work on a real model, in one command: builds it, fetches SmolLM2-135M-Instruct (98 MB,
# once), folds the adapter that teaches it to refuse into its weights, and checks the result.
#
#   scripts/demo.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

if [ $# -gt 0 ]; then
    say "usage: scripts/demo.sh"
    exit 2
fi
trap '[ $? = 0 ] || printf "\ndemo.sh: FAILED\n" >&2' EXIT

# Each command is shown as one would type it, then run.
run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

ensure_tools cargo cmake make c++ libclang
run cargo build --release --locked
PATH="${CARGO_TARGET_DIR:-target}/release:$PATH"

run scripts/fetch-model.sh
model=target/models/SmolLM2-135M-Instruct-Q4_1.gguf
aligned=target/demo/SmolLM2-135M-Instruct-aligned-F16.gguf
mkdir -p target/demo

run aird merge "$model" --lora fixtures/refusal-adapter.gguf --type f16 -o "$aligned" --force
run aird verify "$aligned"
run aird inspect "$aligned"

printf '\ndemo.sh: done. The aligned model: %s\n' "$PWD/$aligned"
