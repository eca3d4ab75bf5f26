#!/usr/bin/env python3
"""A table of the audits that study-audit.sh left in one or more folders, and how far aird's own TEST
prompts rank the ways of compression as the public prompts do: Spearman's rank correlation of the
change of refusals.

  scripts/audit-table.py FOLDER... [--svg FILE]     --svg: refusals by way as a picture
"""

import glob
import json
import os
import sys


def rate(report, name):
    """A set's refusals of the original and of the model."""
    answers = report["answers"][name]
    return answers["original"]["refusal"], answers["model"]["refusal"]


def ranks(values):
    order = sorted(range(len(values)), key=lambda i: values[i])
    out = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for i in order[start : end + 1]:
            out[i] = (start + end) / 2
        start = end + 1
    return out


def correlation(a, b):
    """Pearson's of the ranks; None if one does not vary."""
    a, b = ranks(a), ranks(b)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    ab = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b))
    aa = sum((x - mean_a) ** 2 for x in a)
    bb = sum((y - mean_b) ** 2 for y in b)
    return ab / (aa * bb) ** 0.5 if aa and bb else None


def change(pair):
    return pair[1]["rate"] - pair[0]["rate"]


def cell(pair):
    low, high = (round(100 * pair[1][end]) for end in ("low", "high"))
    return f"{pair[0]['k']} -> {pair[1]['k']} of {pair[1]['n']} [{low}-{high}]"


def read(folders):
    """(folder, way, audit by aird's prompts, audit by public ones), by size, the largest first."""
    found = []
    for folder in folders:
        for path in glob.glob(os.path.join(folder, "*.own.json")):
            public = path.replace(".own.json", ".public.json")
            if not os.path.exists(public):
                continue
            way = os.path.basename(path)[: -len(".own.json")]
            model = os.path.join(folder, way + ".gguf")
            size = os.path.getsize(model) if os.path.exists(model) else 0
            found.append((folder, way, size, json.load(open(path)), json.load(open(public))))
    return sorted(found, key=lambda row: (row[0], -row[2], row[1]))


def table(rows):
    print("| original | way | MB | verdict | harmful refused, TEST | harmless and borderline refused, TEST "
          "| no language | score above 0 | slope | KL | harmful refused, public | harmless refused, public "
          "| verdict by public prompts |")
    print("|" + "---|" * 13)
    for _, way, size, own, public in rows:
        benign = [rate(own, "harmless"), rate(own, "borderline")]
        benign = " -> ".join(str(sum(pair[side]["k"] for pair in benign)) for side in (0, 1))
        degenerate = [
            sum(one[side]["degenerate"]["k"] for one in own["answers"].values())
            for side in ("original", "model")
        ]
        margin = own["margin"]
        above = slope = "-"
        if margin and margin["shift"]:
            above = " -> ".join(
                str(margin[side]["harmful"]["refusing"]["k"]) for side in ("original", "model")
            )
            slope = f"{margin['shift']['slope']:.2f}" if margin["shift"]["slope"] is not None else "-"
        kl = own["drift"]["kl"]["mean"] if own["drift"] else None
        print("| " + " | ".join([
            own["original"]["file"].removesuffix(".gguf"),
            way,
            f"{size / 1e6:.0f}" if size else "-",
            own["judgement"]["verdict"],
            cell(rate(own, "harmful")),
            benign,
            f"{degenerate[0]} -> {degenerate[1]}",
            above,
            slope,
            "-" if kl is None else f"{kl:.3f}",
            cell(rate(public, "harmful")),
            cell(rate(public, "harmless")),
            public["judgement"]["verdict"],
        ]) + " |")


def agreement(rows):
    own = [change(rate(row[3], "harmful")) for row in rows]
    public = [change(rate(row[4], "harmful")) for row in rows]
    print(f"\nRank correlation of the change of refusals, TEST against public, {len(rows)} pairs:")
    for name, values in [("all", range(len(rows)))] + [
        (folder, [i for i, row in enumerate(rows) if row[0] == folder])
        for folder in sorted({row[0] for row in rows})
    ]:
        values = list(values)
        if len(values) > 2:
            found = correlation([own[i] for i in values], [public[i] for i in values])
            print(f"  {name}: {'-' if found is None else f'{found:.2f}'} over {len(values)}")


def svg(rows, path):
    """Share of public harmful prompts refused by every way, with its interval, largest file first."""
    step, left, top, height = 58, 60, 36, 240
    width = left + step * (len(rows) + 1) + 20
    y = lambda share: top + height * (1 - share)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + height + 90}" '
        f'font-family="sans-serif" font-size="12" fill="#555" stroke="none">',
        f'<text x="{left}" y="18" font-size="14">harmful prompts refused, % (bars: 95 % interval; '
        f"line: the original)</text>",
    ]
    for tick in (0, 25, 50, 75, 100):
        out.append(
            f'<line x1="{left}" x2="{width - 10}" y1="{y(tick / 100):.0f}" y2="{y(tick / 100):.0f}" '
            f'stroke="#8884"/><text x="{left - 8}" y="{y(tick / 100) + 4:.0f}" text-anchor="end">{tick}</text>'
        )
    base = rate(rows[0][4], "harmful")[0]["rate"]
    out.append(
        f'<line x1="{left}" x2="{width - 10}" y1="{y(base):.1f}" y2="{y(base):.1f}" stroke="#0072b2" '
        f'stroke-dasharray="5 4"/>'
    )
    for i, (_, way, _, own, public) in enumerate(rows):
        x = left + step * (i + 1)
        _, model = rate(public, "harmful")
        kept = public["judgement"]["verdict"] == "kept"
        color = "#009e73" if kept else "#d55e00"
        out.append(
            f'<line x1="{x}" x2="{x}" y1="{y(model["low"]):.1f}" y2="{y(model["high"]):.1f}" '
            f'stroke="{color}" stroke-width="2"/>'
        )
        mark = (
            f'<circle cx="{x}" cy="{y(model["rate"]):.1f}" r="5" fill="{color}"/>'
            if kept
            else f'<rect x="{x - 5}" y="{y(model["rate"]) - 5:.1f}" width="10" height="10" fill="{color}"/>'
        )
        out.append(mark)
        label = way.replace("+restored", " restored")
        out.append(
            f'<text transform="translate({x + 4},{top + height + 14}) rotate(40)">{label}</text>'
        )
    out.append("</svg>\n")
    open(path, "w").write("\n".join(out))


def main():
    arguments = sys.argv[1:]
    picture = None
    if "--svg" in arguments:
        at = arguments.index("--svg")
        picture = arguments[at + 1]
        del arguments[at : at + 2]
    rows = read(arguments)
    if not rows:
        sys.exit(__doc__)
    table(rows)
    agreement(rows)
    if picture:
        svg(rows, picture)


main()
