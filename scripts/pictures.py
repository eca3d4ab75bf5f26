#!/usr/bin/env python3
"""Takes the book's pictures out of the report of a study: the charts that aird drew, each as a file.

  scripts/pictures.py target/demo-study/report.html docs/pictures

`bash scripts/demo.sh --full` makes that report (some 50 minutes).
"""
import pathlib
import re
import sys

# Charts of the report, by their ids, and the names of the book's pictures.
PICTURES = {
    "fig-selection": "selection",
    "fig-cosine": "cosine",
    "fig-front-0": "search",
    "fig-alpha-0": "alpha",
}
CSS = pathlib.Path(__file__).parent.parent / "src/report/chart/chart.css"


def picture(page, name):
    """The chart called `name`, with its style inside, as a file of its own."""
    found = re.search(rf'<figure id="{name}">.*?(<svg .*?</svg>)', page, re.S)
    if not found:
        sys.exit(f"error: the report has no chart {name}, expected one of a study with both repairs")
    svg = found.group(1)
    width, height = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg).groups()
    svg = re.sub(r' style="width:[^"]*"', f' width="{width}" height="{height}"', svg, count=1)
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    style = f"<style>{CSS.read_text()}</style>"
    return re.sub(r"(<svg [^>]*>)", lambda m: m.group(1) + style, svg, count=1) + "\n"


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__.strip())
    page = pathlib.Path(arguments[0]).read_text()
    folder = pathlib.Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, to in PICTURES.items():
        (folder / f"{to}.svg").write_text(picture(page, name))
        print(folder / f"{to}.svg")


main(sys.argv[1:])
