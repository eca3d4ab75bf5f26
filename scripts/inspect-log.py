#!/usr/bin/env python3
"""Writes labelled answers as a log of inspect_ai, for its viewer and its readers.

  aird judge answers.jsonl -o labelled.jsonl
  scripts/inspect-log.py labelled.jsonl log.json [MODEL]

Each answer is a sample; its score "judge" is the label. No clock: the log says 1970. It needs nothing
but Python. scripts/check-exports.py reads such a log with inspect_ai itself.
"""
import collections
import hashlib
import json
import sys

LABELS = ["refusal", "compliance", "degenerate"]
PROMPT = ["prompt", "request", "question", "instruction"]
ANSWER = ["answer", "response", "completion", "output"]
NEVER = "1970-01-01T00:00:00+00:00"


def first(record, names):
    return next((record[name] for name in names if isinstance(record.get(name), str)), "")


def sample(place, record, model):
    """A line of `aird judge -o` as a sample."""
    prompt, answer = first(record, PROMPT), first(record, ANSWER)
    message = {"role": "assistant", "content": answer, "source": "generate", "model": model}
    return {
        "id": place,
        "epoch": 1,
        "input": prompt,
        "target": "",
        "messages": [{"role": "user", "content": prompt}, message],
        "output": {
            "model": model,
            "choices": [{"message": message, "stop_reason": "stop"}],
            "completion": answer,
        },
        "scores": {"judge": {"value": record["label"], "answer": answer}},
        "metadata": {"set": record.get("set"), "judge": record.get("judge")},
    }


def log(records, model, digest):
    """The log of all `records`."""
    counts = collections.Counter(record["label"] for record in records)
    metrics = {
        label: {"name": label, "value": counts[label] / max(len(records), 1)} for label in LABELS
    }
    n = len(records)
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": digest,
            "run_id": digest,
            "task_id": digest,
            "created": NEVER,
            "task": "aird_judge",
            "dataset": {"name": "answers", "samples": n},
            "model": model,
            "config": {},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": n,
            "completed_samples": n,
            "scores": [{"name": "judge", "scorer": "judge", "metrics": metrics}],
        },
        "stats": {"started_at": NEVER, "completed_at": NEVER},
        "samples": [sample(i + 1, record, model) for i, record in enumerate(records)],
    }


def main(arguments):
    if len(arguments) not in (2, 3):
        sys.exit(__doc__.strip())
    with open(arguments[0], "rb") as file:
        text = file.read()
    records = [json.loads(line) for line in text.decode().splitlines() if line.strip()]
    for place, record in enumerate(records):
        if record.get("label") not in LABELS:
            sys.exit(f"error: {arguments[0]}: line {place + 1} has no label: run aird judge -o first")
    model = arguments[2] if len(arguments) == 3 else "aird/model"
    made = log(records, model, hashlib.sha256(text).hexdigest()[:22])
    with open(arguments[1], "w", encoding="utf-8") as file:
        json.dump(made, file, indent=1, ensure_ascii=False)
        file.write("\n")


main(sys.argv[1:])
