#!/usr/bin/env bash
# What a restore brings back, and what else one could do: an original compressed in some ways, each
# compressed file restored, and all of them asked harmful and harmless prompts that nothing was
# chosen on. What an earlier run left in FOLDER is used again.
#
#   scripts/study-restore.sh ORIGINAL HARMFUL HARMLESS TEXT FOLDER WAY...
#
# HARMFUL and HARMLESS are files of prompts, TEXT is one for perplexity. A WAY is magnitude-40,
# wanda-align, wanda-alpaca, a type as q3_k, or several of them in order, as wanda-align+q4_0. Where
# a way ends in a type the same type is also rounded by importance, and by awq where it is 4 bits
# with one scale for 32 weights. From the environment: AIRD (the binary), AIRD_STUDY_THREADS (all
# cores), AIRD_STUDY_TOKENS of an answer (40), AIRD_STUDY_EDIT=1 for the paper's repair besides,
# AIRD_STUDY_RESTORE for options of the restore.
set -euo pipefail
if [ $# -lt 6 ]; then
    sed -n '2,/^set/p' "$0" | grep '^#' | cut -c3- >&2
    exit 2
fi
original=$1 harmful=$2 harmless=$3 text=$4 out=$5
shift 5
aird=${AIRD:-$(dirname "${BASH_SOURCE[0]}")/../target/release/aird}
threads=(--threads "${AIRD_STUDY_THREADS:-0}")
. "$(dirname "${BASH_SOURCE[0]}")/ways.sh"
mkdir -p "$out/transcripts"

# compress MODEL STEP FILE
compress() {
    case $2 in
        magnitude-* | wanda-*) prune "$@" ;;
        *) "$aird" quantize "$1" --method rtn --type "$2" --requantize -o "$3" ;;
    esac
}

# edit FILE OPTION...: 0 also where nothing helps, which is a result
edit() {
    local file=$1 code=0
    shift
    "$aird" repair "$@" -o "$file" "${threads[@]}" || code=$?
    [ "$code" -eq 3 ] || return "$code"
}

for way in "$@"; do
    model=$original so_far=
    for step in ${way//+/ }; do
        before=$model so_far=${so_far:+$so_far+}$step
        model=$out/$so_far.gguf
        make "$model" compress "$before" "$step" "$model"
    done
    models=("$original" "$model")
    case $step in
        magnitude-* | wanda-*) ;;
        *)
            weighted=$out/$way.by-importance.gguf
            make "$weighted" "$aird" quantize "$before" --method rtn --type "$step" --requantize \
                --data builtin:alpaca -o "$weighted" "${threads[@]}"
            models+=("$weighted")
            case $step in
                q4_0 | q4_1)
                    scaled=$out/$way.awq.gguf
                    make "$scaled" "$aird" quantize "$before" --method awq --type "$step" \
                        --requantize --data builtin:alpaca -o "$scaled" "${threads[@]}"
                    models+=("$scaled")
                    ;;
            esac
            ;;
    esac
    if [ -n "${AIRD_STUDY_EDIT:-}" ]; then
        direction=$out/original.safetensors edited=$out/$way.aird.gguf
        make "$direction" "$aird" direction "$original" -o "$direction" "${threads[@]}"
        make "$edited" edit "$edited" "$model" --direction "$direction"
        [ ! -e "$edited" ] || models+=("$edited")
    fi
    restored=$out/$way.restored.gguf
    # shellcheck disable=SC2086 # options with their values
    make "$restored" "$aird" repair "$model" --reference "$original" -o "$restored" \
        "${threads[@]}" ${AIRD_STUDY_RESTORE:-}
    models+=("$restored")
    make "$out/$way.asr.json" "$aird" asr "${models[@]}" --attack vanilla --prompts "$harmful" \
        --benign "$harmless" --max-tokens "${AIRD_STUDY_TOKENS:-40}" "${threads[@]}" \
        --transcripts "$out/transcripts" --json >"$out/$way.asr.tmp"
    [ ! -s "$out/$way.asr.tmp" ] || mv "$out/$way.asr.tmp" "$out/$way.asr.json"
    make "$out/$way.text.json" "$aird" tasks "${models[@]}" --text "$text" --chunks 12 \
        --reference "$original" "${threads[@]}" --json >"$out/$way.text.tmp"
    [ ! -s "$out/$way.text.tmp" ] || mv "$out/$way.text.tmp" "$out/$way.text.json"
    rm -f "$out/$way.asr.tmp" "$out/$way.text.tmp"
done

python3 - "$out" "$@" <<'EOF_PYTHON'
import json
import sys

out, ways = sys.argv[1], sys.argv[2:]


def cell(rate):
    low, high = (round(100 * rate[end]) for end in ("low", "high"))
    return f"{rate['k']}/{rate['n']} [{low}-{high}]"


def p_value(differences, name, measure):
    """McNemar's p against the original, of a set's refusals."""
    for one in differences:
        if (one["model"], one["set"], one["measure"]) == (name, measure, "refusal"):
            return f"{one['p']:.2g}"
    return "-"


print("| model | harmful refused | p | harmless refused | p | no language | perplexity | KL |")
print("|---|---|---|---|---|---|---|---|")
seen = set()
for way in ways:
    asr = json.load(open(f"{out}/{way}.asr.json"))
    text = json.load(open(f"{out}/{way}.text.json"))
    first = asr["models"][0]["name"]
    for model, measured in zip(asr["models"], text["models"]):
        name = model["name"]
        if name in seen:
            continue
        seen.add(name)
        harmful = model["attacks"]["vanilla"]
        ((set_name, harmless),) = model["benign"].items()
        of_first = [d for d in asr["differences"] if d["base"] == first]
        kl = (measured.get("kl") or {}).get("mean", {}).get("mean")
        cells = [
            "original" if name == first else name,
            cell(harmful["refusal"]),
            p_value(of_first, name, "vanilla"),
            cell(harmless["refusal"]),
            p_value(of_first, name, set_name),
            str(harmful["degenerate"]["k"] + harmless["degenerate"]["k"]),
            f"{measured['perplexity']['ppl']:.1f}",
            "-" if not kl else f"{kl:.2f}",
        ]
        print("| " + " | ".join(cells) + " |")
EOF_PYTHON
