#!/usr/bin/env bash
# Fills vendor/ with the source of every dependency, llama.cpp included, for builds without a
# network (see vendor/README.md). What is there already stays.
#
#   scripts/vendor.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

if [ $# -gt 0 ]; then
    say "usage: scripts/vendor.sh"
    exit 2
fi
ensure_tools cargo

# Without --no-delete cargo would take vendor/README.md away. It prints the configuration that
# makes cargo read vendor/; a rename puts it in place only once everything is there.
trap 'rm -f vendor/.config.toml' EXIT
cargo vendor --locked --versioned-dirs --no-delete vendor >vendor/.config.toml
mv -f vendor/.config.toml vendor/config.toml
say "vendor/ is filled. Build without a network: cargo build --release --offline --config vendor/config.toml"
