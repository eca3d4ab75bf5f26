#!/usr/bin/env bash
# Makes the Python wheel for this kind of machine, with maturin: the program and, on Linux on x86-64,
# the build for newer CPUs beside it (src/cli/faster.rs). It compiles llama.cpp, there twice.
#
#   scripts/wheel.sh FOLDER
#
# It needs maturin, and there Python's package wheel: pip install maturin wheel
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

if [ $# -ne 1 ]; then
    say "usage: scripts/wheel.sh FOLDER"
    exit 2
fi
ensure_tools cargo cmake make c++ libclang
unset RUSTFLAGS
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
maturin build --release --locked --out "$tmp"
mkdir -p "$1"
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    mv "$tmp"/*.whl "$1/"
    exit
fi
target=${CARGO_TARGET_DIR:-target}/x86-64-v3
RUSTFLAGS="-C target-cpu=x86-64-v3" \
    cargo build --release --locked --features portable --target-dir "$target"
python3 -m wheel unpack --dest "$tmp" "$tmp"/*.whl
for scripts in "$tmp"/aird-*/aird-*.data/scripts; do
    version=$("$scripts/aird" --version | cut -d ' ' -f 2)
    strip -o "$scripts/aird-$version-v3" "$target/release/aird"
done
python3 -m wheel pack --dest-dir "$1" "$tmp"/aird-*/
