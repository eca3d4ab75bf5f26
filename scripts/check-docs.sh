#!/usr/bin/env bash
# Runs the commands of the book's console blocks against real models, in the order of the book, and
# compares what they print. Some 15 minutes on two cores.
#
#   scripts/check-docs.sh [PAGE...]     PAGE: only these, e.g. first-repair.md
#
# The commands run in a temporary folder, or in AIRD_DOCS, which is kept: so one page can be run
# again on the files that earlier pages made.
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
if [ -z "${AIRD_DOCS:-}" ]; then
    AIRD_DOCS=$(mktemp -d)
    trap 'rm -rf "$AIRD_DOCS"' EXIT
fi
export AIRD_DOCS AIRD_DOCS_PAGES="$*"
file=$(scripts/fetch-model.sh)
mkdir -p "$AIRD_DOCS/target/models"
ln -sf "$file" "$AIRD_DOCS/target/models/"
ln -sfn "$PWD/fixtures" "$AIRD_DOCS/fixtures"
said=$(cargo test --locked --test suite -- --ignored --exact --nocapture \
    readme::the_console_blocks_of_the_book_hold_on_real_models 2>&1) ||
    { printf '%s\n' "$said"; exit 1; }
# A name that no test has passes as well.
[[ $said == *" 1 passed"* ]] || { printf '%s\n' "$said"; exit 1; }
printf 'check-docs.sh: every command printed what the book says\n'
