#!/usr/bin/env bash
# Everything that must hold before a change goes in, in one command: format, lints, build, tests.
# The tests run on a real model, which scripts/fetch-model.sh brings (98 MB, once).
#
#   scripts/test.sh [--offline]
#
# --offline builds from vendor/ (see scripts/vendor.sh) and touches no network; if no model has
# been fetched before, the tests that need one are skipped, and it says so.
#
# llama.cpp is built once: all steps share one profile (dev) and one set of targets (all). Without
# the dev-dependencies its build script's own dependencies would get other features, and llama.cpp
# would be built again. Its C++ is the same in both profiles; the release binary is built and asked
# by .github/workflows/ci.yml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

case "${1:-}" in
    "")
        offline=
        flags=(--locked)
        ;;
    --offline)
        offline=1
        flags=(--locked --offline --config vendor/config.toml)
        export AIRD_NO_INSTALL=1 CARGO_NET_OFFLINE=true
        ;;
    *)
        say "usage: scripts/test.sh [--offline]"
        exit 2
        ;;
esac

now="starting"
skipped=
trap '[ $? = 0 ] || printf "\ntest.sh: FAILED at: %s\n" "$now"' EXIT
step() {
    now=$1
    printf '\n==> %s\n' "$now"
}
skip() {
    printf 'skipped: %s\n' "$1"
    skipped="$skipped; skipped: $1"
}
builds_of_llama() { compgen -G "${CARGO_TARGET_DIR:-target}/debug/build/llama-cpp-sys-2-*/out" || true; }
n_builds=$(builds_of_llama | wc -l)
has_subcommand() { cargo "$1" --version >/dev/null 2>&1; }

step "tools"
ensure_tools cargo cmake make c++ libclang
cargo --version
if [ -n "$offline" ] && [ ! -f vendor/config.toml ]; then
    say "error: vendor/ is empty"
    say "hint: fill it where there is a network: scripts/vendor.sh"
    exit 1
fi

step "cargo fmt --check"
if has_subcommand fmt; then
    cargo fmt --check
else
    skip "rustfmt is not installed (rustup component add rustfmt)"
fi

step "cargo clippy --all-targets -- -D warnings"
if has_subcommand clippy; then
    cargo clippy "${flags[@]}" --all-targets -- -D warnings
else
    skip "clippy is not installed (rustup component add clippy)"
fi

step "the real model"
# No model is a failure, never a silent skip. Only --offline may go on without one, and the tests
# are told so: AIRD_TEST_MODEL=skip.
if [ -z "$offline" ]; then
    AIRD_TEST_MODEL=$(scripts/fetch-model.sh)
elif ! AIRD_TEST_MODEL=$(scripts/fetch-model.sh --offline); then
    skip "tests on the real model (fetch it where there is a network: scripts/fetch-model.sh)"
    AIRD_TEST_MODEL=skip
fi
export AIRD_TEST_MODEL
printf 'AIRD_TEST_MODEL=%s\n' "$AIRD_TEST_MODEL"

step "the browser"
# In which the report is looked over. None is a failure, as with the model; only where nothing may
# be installed the tests go on without one, and are told so: AIRD_CHROMIUM=skip.
if ensure_tools chromium; then
    AIRD_CHROMIUM=$chromium
elif [ -n "${AIRD_NO_INSTALL:-}" ]; then
    skip "tests of the report in a browser (install chromium)"
    AIRD_CHROMIUM=skip
else
    exit 1
fi
export AIRD_CHROMIUM
printf 'AIRD_CHROMIUM=%s\n' "$AIRD_CHROMIUM"

if has_subcommand nextest; then
    step "cargo nextest run"
    cargo nextest run "${flags[@]}"
else
    step "cargo test"
    cargo test "${flags[@]}" --tests
fi

step "cargo test --doc"
cargo test "${flags[@]}" --doc

step "cargo doc"
RUSTDOCFLAGS="-D warnings" cargo doc "${flags[@]}" --no-deps

step "quantized models"
if [ "$AIRD_TEST_MODEL" = skip ]; then
    skip "there is no model to quantize"
else
    target=${CARGO_TARGET_DIR:-target}
    scripts/smoke.sh "$AIRD_TEST_MODEL" "$target/debug/aird"
fi

step "llama.cpp was built once"
builds_of_llama
if [ $(($(builds_of_llama | wc -l) - n_builds)) -gt 1 ]; then
    say "error: some step of this script builds llama.cpp again"
    exit 1
fi

printf '\ntest.sh: all passed%s\n' "$skipped"
