#!/usr/bin/env bash
# The danger and the cure on a real file: builds aird, fetches SmolLM2-135M-Instruct (98 MB, once),
# teaches it to refuse, rounds it to Q3_K, shows what that did to its refusals, repairs the file, and
# shows them again. Some 6 minutes on two cores, the build apart.
#
#   scripts/demo.sh [--full]
#
# --full runs the study instead: five compressors, two repairs, every figure, one report
# (fixtures/demo.toml; some 50 minutes). What was cut off goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

case "$*" in
    "" | --full) ;;
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
PATH="$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd):$PATH"

run scripts/fetch-model.sh
model=$(realpath "$(scripts/fetch-model.sh)") adapter=$PWD/fixtures/refusal-adapter.gguf
run scripts/smoke.sh "$model" "$(command -v aird)"

if [ "$*" = --full ]; then
    run aird study fixtures/demo.toml -o target/demo-study
    printf '\nLook at it: %s\n' "$PWD/target/demo-study/report.html"
    exit
fi

mkdir -p target/demo
cd target/demo
printf '\nThe original: a chat model that was taught to refuse harmful requests.\n'
run aird merge "$model" --lora "$adapter" --type bf16 -o original.gguf --force
printf '\nA smaller file of it, as people download them.\n'
run aird quantize original.gguf --method rtn --type q3_k -o model-Q3_K.gguf --force
printf '\nDid that break its safety?\n'
run aird audit model-Q3_K.gguf --reference original.gguf | tee before.txt
printf '\nThe repair that the audit suggests.\n'
run aird repair model-Q3_K.gguf --reference original.gguf --force
printf '\nAnd now?\n'
run aird audit model-AIRD-Q3_K.gguf --reference original.gguf --html report.html --force |
    tee after.txt

printf '\nIn short:\n  compressed: %s\n  repaired: %s\n\nThe answers of all: %s\n' \
    "$(sed -n 3p before.txt)" "$(sed -n 3p after.txt)" "$PWD/report.html"
