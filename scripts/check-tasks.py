#!/usr/bin/env python3
"""Score the items of benchmarks again, in PyTorch, and compare choices and log-likelihoods.

    pip install torch transformers accelerate gguf
    aird tasks MODEL.gguf --tasks rte,arc_challenge,boolq,winogrande,hellaswag --limit 20 \\
        --data-dir DATA --results RESULTS
    scripts/check-tasks.py MODEL.gguf DATA RESULTS

MODEL is the F16 file that was measured. Nothing is shared with aird but the files: rows are read,
prompts made and cut into tokens here, the weights are widened to F32 and run by transformers, one
text at a time. Prints for each task how many of the items come to the same choice and the largest
relative difference of a choice's log-likelihood; exit 1 if a task has no results or fewer than 20
items, if fewer than 95 % agree, or if a difference is above 1 %. 20 items of five tasks take a SmolLM2-135M two minutes on one core.
"""
import argparse, hashlib, json, os, pathlib, sys

os.environ.setdefault("TQDM_DISABLE", "1")

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

SAME, WITHIN, ITEMS = 0.95, 0.01, 20
FILES = {
    "rte": ["rte_val.jsonl"],
    "arc_challenge": ["arc_challenge_test.jsonl"],
    "arc_easy": ["arc_easy_test.jsonl"],
    "boolq": ["boolq_dev.jsonl"],
    "winogrande": ["winogrande_dev.jsonl"],
    "hellaswag": ["hellaswag_val.txt"],
}


def texts(task, lines, at):
    """[(given, scored)], one a choice, of the item that begins in line `at` (from 1)."""
    if task == "hellaswag":
        context, _, *endings = lines[at - 1:at + 5]
        return [(context, " " + ending) for ending in endings]
    row = json.loads(lines[at - 1])
    if task == "winogrande":
        before, behind = row["sentence"].split("_", 1)
        return [(before + row[option], " " + behind.strip()) for option in ("option1", "option2")]
    if task == "rte":
        given = "{premise}\nQuestion: {hypothesis} True or False?\nAnswer:".format(**row)
        return [(given, " True"), (given, " False")]
    if task == "boolq":
        given = "{passage}\nQuestion: {question}?\nAnswer:".format(**row)
        return [(given, " no"), (given, " yes")]
    given = f"Question: {row['question']['stem']}\nAnswer:"
    return [(given, " " + choice["text"]) for choice in row["question"]["choices"]]


class Model:
    """A GGUF file run by transformers, in F32."""

    def __init__(self, path):
        file = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        self.tokenizer = AutoTokenizer.from_pretrained(**file)
        self.causal = AutoModelForCausalLM.from_pretrained(**file, dtype=torch.float32).eval()
        keys = gguf.GGUFReader(path).fields
        key = lambda name: keys[name].contents() if name in keys else None
        wants_bos = key("tokenizer.ggml.add_bos_token")
        if wants_bos is None:  # llama.cpp's default
            wants_bos = key("tokenizer.ggml.model") == "llama"
        self.bos = [self.tokenizer.bos_token_id] if wants_bos else []

    def tokens(self, text):
        return self.bos + self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def log_likelihood(self, given, scored):
        ids, n_given = self.tokens(given + scored), len(self.tokens(given))
        logits = self.causal(torch.tensor([ids[:-1]])).logits[0].double()
        picked = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])
        return float(picked[n_given - 1:].sum())


def check(task, model, data, results):
    """-> items, those of the same choice, the largest relative difference."""
    head, *items = map(json.loads, results.read_text().splitlines())
    path = next(p for p in (data / name for name in FILES[task]) if p.is_file())
    if hashlib.sha256(path.read_bytes()).hexdigest() != head["data_sha256"]:
        sys.exit(f"error: {results.name} was made of another {path.name}")
    lines = path.read_text(encoding="utf-8").split("\n")
    n_same, largest = 0, 0.0
    for item in items:
        ours = [model.log_likelihood(*pair) for pair in texts(task, lines, item["line"])]
        theirs = item["log_likelihood"]
        n_same += ours.index(max(ours)) == theirs.index(max(theirs))
        largest = max(largest, *(abs(a - b) / abs(a) for a, b in zip(ours, theirs, strict=True)))
    return len(items), n_same, largest


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path, help="the F16 GGUF file that was measured")
    parser.add_argument("data", type=pathlib.Path, help="what aird read as --data-dir")
    parser.add_argument("results", type=pathlib.Path, help="what aird wrote as --results")
    parser.add_argument("--tasks", metavar="LIST", help="with commas between",
                        default="rte,arc_challenge,boolq,winogrande,hellaswag")
    parser.add_argument("--threads", type=int, default=0, metavar="N")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)

    mark = hashlib.sha256(args.model.read_bytes()).hexdigest()[:12]
    model, failed = Model(args.model), False
    for task in args.tasks.split(","):
        path = args.results / f"{task}-{mark}.jsonl"
        if not path.is_file():
            failed = True
            print(f"{task:14} no results of {args.model.name}  <- missing", flush=True)
            continue
        n, n_same, largest = check(task, model, args.data, path)
        good = n >= ITEMS and n_same >= SAME * n and largest <= WITHIN
        failed |= not good
        print(f"{task:14} {n_same} of {n} items have the same choice, log-likelihoods within "
              f"{100 * largest:.2f} %{'' if good else '  <- off'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
