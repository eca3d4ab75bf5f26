#!/usr/bin/env bash
# Runs a command in which cargo builds for this machine's CPU only: llama.cpp then uses every
# instruction that it has (AVX-512 and AMX among them). The scripts beside this one do the same. What
# is handed around is built without it: see .cargo/config.toml.
#
#   scripts/native.sh cargo build --release
#   scripts/native.sh cargo nextest run --locked tidy
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/toolchain.sh"

if [ $# -eq 0 ]; then
    say "usage: scripts/native.sh COMMAND [ARGUMENT...]"
    exit 2
fi
exec "$@"
