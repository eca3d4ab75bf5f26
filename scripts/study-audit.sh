#!/usr/bin/env bash
# What compression does to refusals, way by way, and whether `aird audit` sees it: an original is
# compressed in each way, and every file is audited beside it twice, by aird's own TEST prompts and by
# prompts that are not aird's. What an earlier run left in FOLDER is used again.
#
#   scripts/study-audit.sh ORIGINAL HARMFUL HARMLESS FOLDER WAY...
#
# HARMFUL and HARMLESS are files of prompts. A WAY is a type as q3_k, rounded by the importance of the
# inputs where ggml can; magnitude-40, wanda-align, wanda-alpaca; or several of them in order, as
# wanda-align+q4_0. After a way, +restored restores what it made. From the environment: AIRD (the
# binary), AIRD_STUDY_THREADS (all cores), AIRD_STUDY_RESTORE for options of the restore.
set -euo pipefail
if [ $# -lt 5 ]; then
    sed -n '2,/^set/p' "$0" | grep '^#' | cut -c3- >&2
    exit 2
fi
original=$1 harmful=$2 harmless=$3 out=$4
shift 4
aird=${AIRD:-$(dirname "${BASH_SOURCE[0]}")/../target/release/aird}
threads=(--threads "${AIRD_STUDY_THREADS:-0}")
. "$(dirname "${BASH_SOURCE[0]}")/ways.sh"
mkdir -p "$out"
stats=$out/importance.gguf

# compress MODEL STEP FILE
compress() {
    case $2 in
        restored)
            # shellcheck disable=SC2086 # options with their values
            "$aird" repair "$1" --reference "$original" -o "$3" "${threads[@]}" \
                ${AIRD_STUDY_RESTORE:-}
            ;;
        magnitude-* | wanda-*) prune "$@" ;;
        *)
            make "$stats" "$aird" calibrate "$original" --data builtin:alpaca -o "$stats" \
                "${threads[@]}"
            "$aird" quantize "$1" --method rtn --type "$2" --requantize --stats "$stats" -o "$3" ||
                "$aird" quantize "$1" --method rtn --type "$2" --requantize -o "$3"
            ;;
    esac
}

# audit MODEL JSON OPTION...
audit() {
    local model=$1 json=$2
    shift 2
    "$aird" audit "$model" --reference "$original" --answers "$out/answers" "${threads[@]}" \
        --json "$@" >"$json.tmp"
    mv "$json.tmp" "$json"
}

for way in "$@"; do
    model=$original so_far=
    for step in ${way//+/ }; do
        before=$model so_far=${so_far:+$so_far+}$step
        model=$out/$so_far.gguf
        make "$model" compress "$before" "$step" "$model"
    done
    make "$out/$way.own.json" audit "$model" "$out/$way.own.json"
    make "$out/$way.public.json" audit "$model" "$out/$way.public.json" \
        --harmful "$harmful" --harmless "$harmless"
done

python3 "$(dirname "${BASH_SOURCE[0]}")/audit-table.py" "$out"
