#!/usr/bin/env bash
# The whole job on a real model, in one command: builds aird, fetches SmolLM2-135M-Instruct (98 MB,
# once), teaches it to refuse, prunes it, finds what that broke, repairs it, measures all of it, and
# writes a report to look at. What was cut off goes on where it was.
#
#   scripts/demo.sh [--full]
#
# --full takes every compressor of the study instead of one (fixtures/demo.toml).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

case "$*" in
    "") recipe=quick ;;
    --full) recipe=demo ;;
    *)
        say "usage: scripts/demo.sh [--full]"
        exit 2
        ;;
esac
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
run scripts/smoke.sh "$(scripts/fetch-model.sh)" "$(command -v aird)"
run aird study "fixtures/$recipe.toml" -o "target/$recipe"
printf '\nLook at it: %s\n' "$PWD/target/$recipe/report.html"
