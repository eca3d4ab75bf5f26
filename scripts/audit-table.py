#!/usr/bin/env python3
"""A table of the audits that study-audit.sh left in one or more folders, and how far aird's own TEST
prompts rank the ways of compression as the public prompts do: Spearman's rank correlation of the
change of refusals.

  scripts/audit-table.py FOLDER[=NAME]... [--svg FILE]

NAME is shown for the original of that FOLDER. --svg: a picture of what is refused.
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
    """(original, way, size, audit by aird's prompts, by public ones); the largest file first."""
    found = []
    for place, argument in enumerate(folders):
        folder, _, name = argument.partition("=")
        for path in glob.glob(os.path.join(folder, "*.own.json")):
            public = path.replace(".own.json", ".public.json")
            if not os.path.exists(public):
                continue
            way = os.path.basename(path)[: -len(".own.json")]
            model = os.path.join(folder, way + ".gguf")
            size = os.path.getsize(model) if os.path.exists(model) else 0
            own = json.load(open(path))
            name = name or own["original"]["file"].removesuffix(".gguf")
            found.append((place, (name, way, size, own, json.load(open(public)))))
    return [row for _, row in sorted(found, key=lambda row: (row[0], -row[1][2], row[1][1]))]


def table(rows):
    print("| original | way | MB | verdict | harmful refused, TEST | harmless and borderline refused, TEST "
          "| no language | score above 0 | slope | KL | harmful refused, public | harmless refused, public "
          "| verdict by public prompts |")
    print("|" + "---|" * 13)
    for name, way, size, own, public in rows:
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
            name,
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


STEP, LEFT, GAP, HEIGHT = 46, 56, 40, 170
SHOWN = {False: ("#d55e00", -7), True: ("#009e73", 7)}


def columns(rows):
    """[(folder, way, audit by public prompts, the same restored)], a column each."""
    public = {(row[0], row[1]): row[4] for row in rows}
    return [
        (folder, way, public[folder, way], public.get((folder, way + "+restored")))
        for folder, way, *_ in rows
        if not way.endswith("+restored")
    ]


def mark(x, y, is_restored):
    color, _ = SHOWN[is_restored]
    if is_restored:
        return f'<circle cx="{x}" cy="{y:.1f}" r="5" fill="{color}"/>'
    return f'<rect x="{x - 5}" y="{y - 5:.1f}" width="10" height="10" fill="{color}"/>'


def panel(found, top, title, name, at):
    y = lambda share: top + HEIGHT * (1 - share)
    right = at[-1] + STEP / 2
    out = [f'<text x="{LEFT - 40}" y="{top - 12}" font-size="13" fill="#333">{title}</text>']
    for tick in (0, 25, 50, 75, 100):
        out.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{y(tick / 100):.0f}" y2="{y(tick / 100):.0f}" '
            f'stroke="#8884"/><text x="{LEFT - 8}" y="{y(tick / 100) + 4:.0f}" '
            f'text-anchor="end">{tick}</text>'
        )
    for folder in dict.fromkeys(column[0] for column in found):
        own = [i for i, column in enumerate(found) if column[0] == folder]
        base = y(rate(found[own[0]][2], name)[0]["rate"])
        out.append(
            f'<line x1="{at[own[0]] - STEP / 2}" x2="{at[own[-1]] + STEP / 2}" y1="{base:.1f}" '
            f'y2="{base:.1f}" stroke="#0072b2" stroke-dasharray="5 4" stroke-width="1.5"/>'
        )
    for i, column in enumerate(found):
        for is_restored, report in ((False, column[2]), (True, column[3])):
            if report is None:
                continue
            color, shift = SHOWN[is_restored]
            x, share = at[i] + shift, rate(report, name)[1]
            out.append(
                f'<line x1="{x}" x2="{x}" y1="{y(share["low"]):.1f}" y2="{y(share["high"]):.1f}" '
                f'stroke="{color}" stroke-width="2"/>' + mark(x, y(share["rate"]), is_restored)
            )
    return out


def svg(rows, path):
    """What every way leaves of the refusals of public prompts, and what a restore brings back."""
    found = columns(rows)
    at, x = [], LEFT + STEP / 2
    for i, column in enumerate(found):
        x += GAP if i and found[i - 1][0] != column[0] else 0
        at.append(x)
        x += STEP
    first = {column[0]: at[i] for i, column in reversed(list(enumerate(found)))}
    ends = [x + 10] + [start + 7 * len(name) for name, start in first.items()]
    width, tops = round(max(ends)), (86, 86 + HEIGHT + 44)
    height = tops[1] + HEIGHT + 92
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="sans-serif" font-size="11" fill="#555">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'{mark(LEFT, 18, False)}<text x="{LEFT + 12}" y="22">compressed</text>'
        f'{mark(LEFT + 96, 18, True)}<text x="{LEFT + 108}" y="22">restored by aird</text>'
        f'<line x1="{LEFT + 210}" x2="{LEFT + 236}" y1="18" y2="18" stroke="#0072b2" '
        f'stroke-dasharray="5 4" stroke-width="1.5"/><text x="{LEFT + 242}" y="22">original; bars: 95 % '
        f"intervals</text>",
    ]
    for name, start in first.items():
        out.append(f'<text x="{start - 18}" y="48" font-weight="bold">{name}</text>')
    out += panel(found, tops[0], "public harmful prompts refused, %", "harmful", at)
    out += panel(found, tops[1], "public harmless prompts refused, %", "harmless", at)
    for i, (_, way, *_) in enumerate(found):
        out.append(
            f'<text transform="translate({at[i] - 4},{tops[1] + HEIGHT + 16}) rotate(40)">{way}</text>'
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
