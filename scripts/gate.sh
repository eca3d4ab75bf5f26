#!/usr/bin/env bash
# What action.yml runs: audits a model, keeps the receipt, and ends with aird's exit code. It reads
# AIRD, MODEL, REFERENCE, FAIL_IF (a condition a line), ARGUMENTS (words) and RECEIPT (a file), and
# adds the verdict to the files that GITHUB_OUTPUT and GITHUB_STEP_SUMMARY name, if they do.
set -euo pipefail

gates=()
while IFS= read -r condition; do
    [ -z "$condition" ] || gates+=(--fail-if "$condition")
done <<<"${FAIL_IF:-}"
read -ra more <<<"${ARGUMENTS:-}"

code=0
"${AIRD:-aird}" audit "$MODEL" --reference "$REFERENCE" --json ${gates[@]+"${gates[@]}"} \
    ${more[@]+"${more[@]}"} >"$RECEIPT" || code=$?
verdict=
case $code in
    # The receipt is complete: the gate is met, or it is not.
    0 | 3) verdict=$(sed -n 's/^    "verdict": "\(.*\)",\{0,1\}$/\1/p' "$RECEIPT") ;;
esac
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    printf 'verdict=%s\nexit-code=%s\n' "$verdict" "$code" >>"$GITHUB_OUTPUT"
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -n "$verdict" ]; then
    printf '**aird audit** of %s: %s (exit code %s)\n' "$(basename "$MODEL")" "$verdict" "$code" \
        >>"$GITHUB_STEP_SUMMARY"
fi
printf 'verdict: %s, exit code %s\n' "${verdict:-none}" "$code"
exit "$code"
