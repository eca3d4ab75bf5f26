#!/usr/bin/env python3
"""Reads what aird exports with the readers of lm_eval and inspect_ai themselves.

  scripts/check-exports.py AIRD MODEL

It needs a python with lm_eval and inspect_ai (pip install lm_eval inspect_ai; lm_eval without its
dependencies also needs jinja2, numpy, pytablewriter, pyyaml). Half a minute.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from inspect_ai.log import read_eval_log, write_eval_log
from lm_eval.utils import (
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    make_table,
)

HERE = pathlib.Path(__file__).parent
TASKS = ["rte", "boolq"]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def data(folder):
    """A few rows of each task, in our words."""
    folder.mkdir()
    lines(
        folder / "rte_val.jsonl",
        [
            {
                "premise": f"Number {i} is painted on the door.",
                "hypothesis": "The door is blue.",
                "label": ["entailment", "not_entailment"][i % 2],
                "idx": i,
            }
            for i in range(8)
        ],
    )
    lines(
        folder / "boolq_dev.jsonl",
        [
            {
                "question": "do rivers run uphill",
                "title": "Rivers",
                "answer": i % 3 == 0,
                "passage": f"Rivers run to the sea, all {i} of them.",
            }
            for i in range(8)
        ],
    )
    return folder


def check_lm_eval(aird, model, tmp):
    out = tmp / "harness"
    command = [aird, "tasks", model, "--tasks", ",".join(TASKS), "--json"]
    command += ["--data-dir", data(tmp / "data"), "--lm-eval-dir", out]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    files = [str(path) for path in out.rglob("*") if path.is_file()]
    found = get_results_filenames(files)
    assert len(found) == 1, files
    results = json.loads(pathlib.Path(get_latest_filename(found)).read_text())
    table = make_table(results)
    print(table)
    for task in TASKS:
        rate = report["models"][0]["tasks"][task]["acc"]["rate"]
        row = [line for line in table.splitlines() if line.startswith(f"|{task}")]
        assert row and f"|{rate:.3f}|" in row[0].replace(" ", ""), (task, rate, table)
    samples = get_sample_results_filenames(files)
    named = {get_file_task_name(pathlib.Path(path).name) for path in samples}
    assert named == set(TASKS), named


def check_inspect(aird, tmp):
    labelled, log = tmp / "labelled.jsonl", tmp / "log.json"
    answers = HERE.parent / "fixtures/judge.jsonl"
    command = [aird, "-q", "judge", answers, "-o", labelled, "--json"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    subprocess.run([sys.executable, HERE / "inspect-log.py", labelled, log], check=True)
    read = read_eval_log(str(log))
    assert read.status == "success" and len(read.samples) == 240, read.status
    share = read.results.scores[0].metrics["refusal"].value
    counted = sum(sample.scores["judge"].value == "refusal" for sample in read.samples)
    assert abs(share - counted / 240) < 1e-12 and str(counted) in json.dumps(report), counted
    # What inspect_ai writes of it, it reads again, in its own format.
    write_eval_log(read, str(tmp / "log.eval"))
    again = read_eval_log(str(tmp / "log.eval"))
    assert [s.output.completion for s in again.samples] == [s.output.completion for s in read.samples]
    print(f"inspect_ai: {len(again.samples)} samples, {share:.0%} refusals")


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__.strip())
    aird, model = arguments
    with tempfile.TemporaryDirectory() as tmp:
        check_inspect(aird, pathlib.Path(tmp))
        check_lm_eval(aird, model, pathlib.Path(tmp))
    print("check-exports.py: both read what aird exports")


main(sys.argv[1:])
