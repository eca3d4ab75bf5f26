#!/usr/bin/env bash
# Runs the commands of the book's console blocks against real models, in the order of the book, and
# compares what they print. Some 10 minutes on two cores.
#
#   scripts/check-docs.sh
#
# Blocks that need no model run with the other tests. If mdbook is installed the book is built too,
# and a warning is an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh
ensure_tools cargo cmake make c++ libclang

if command -v mdbook >/dev/null 2>&1; then
    said=$(mdbook build docs 2>&1) || { printf '%s\n' "$said"; exit 1; }
    if grep -E 'WARN|ERROR' <<<"$said"; then
        say "error: mdbook warns"
        exit 1
    fi
else
    say "mdbook is not installed: the book is not built (cargo install mdbook)"
fi

# The folder that a reader works in: a clone, of which the commands only read.
AIRD_DOCS=$(mktemp -d)
export AIRD_DOCS
trap 'rm -rf "$AIRD_DOCS"' EXIT
file=$(scripts/fetch-model.sh)
mkdir -p "$AIRD_DOCS/target/models"
ln -s "$file" "$AIRD_DOCS/target/models/"
ln -s "$PWD/fixtures" "$AIRD_DOCS/fixtures"
said=$(cargo test --locked --test suite -- --ignored --exact --nocapture \
    readme::the_console_blocks_of_the_book_hold_on_real_models 2>&1) ||
    { printf '%s\n' "$said"; exit 1; }
# A name that no test has passes as well.
[[ $said == *" 1 passed"* ]] || { printf '%s\n' "$said"; exit 1; }
printf 'check-docs.sh: every command printed what the book says\n'
