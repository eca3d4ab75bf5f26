#!/usr/bin/env python3
"""What `aird direction --capture-only` does, written in PyTorch as one would: a peer to be timed against.

    pip install torch transformers accelerate gguf
    scripts/bench-capture.py --convert MODEL.gguf FOLDER    once, not timed
    scripts/bench-capture.py FOLDER

--convert makes the folder of config, tokenizer and BF16 safetensors that PyTorch users have: reading
a GGUF file each time would take transformers far longer. Then the built-in training prompts, 128 harmful and
128 harmless, go through the chat template and the model in BF16, in batches of like lengths, and the
mean input of every block at the tokens behind the user's text is taken, in F64. Prints seconds: in
all (from this script's first line) and of the forward passes alone. scripts/bench.sh sets it beside aird.
"""
import time
BEGAN = time.perf_counter()

import argparse, pathlib

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

PROMPTS = pathlib.Path(__file__).resolve().parent.parent / "src" / "prompts"
CHUNK = 32


def prompts(name, part="train"):
    """One part of a built-in set, in the file's order."""
    now, texts = None, []
    for line in (PROMPTS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            now = line.strip("[]")
        elif now == part and line and not line.startswith("#"):
            texts.append(line.split("\t")[1])
    return texts


def convert(file, folder):
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    weights = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).state_dict()
    # What comes from a GGUF file counts as quantized, and would not be saved.
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(**source), dtype=torch.bfloat16)
    model.load_state_dict(weights)
    model.save_pretrained(folder)


@torch.no_grad()
def sums(model, seqs, n_pos):
    """Sum of every block's input at the last `n_pos` tokens, -1 first [layer, position, n_embd]."""
    seen = {}
    for i, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda _, x, i=i: seen.__setitem__(i, x[0]))
    seqs = sorted(seqs, key=len)
    total = 0
    for start in range(0, len(seqs), CHUNK):
        part = seqs[start:start + CHUNK]
        longest = max(map(len, part))
        # Padded on the right: attention looks back only, so that no mask is needed.
        ids = torch.tensor([s + [0] * (longest - len(s)) for s in part])
        last = torch.tensor([len(s) - 1 for s in part])
        model.model(input_ids=ids, use_cache=False)
        at = torch.arange(len(part))[:, None], last[:, None] - torch.arange(n_pos)
        total += torch.stack([x[at].double().sum(0) for x in seen.values()])
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="a model as transformers saves it")
    parser.add_argument("--convert", type=pathlib.Path, metavar="GGUF", help="make the folder of this file")
    parser.add_argument("--threads", type=int, default=0, help="default: as PyTorch chooses")
    parser.add_argument("--prompts", type=int, metavar="N", help="of each kind at most, for a quick look")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if args.convert:
        return convert(args.convert, args.folder)
    if args.threads:
        torch.set_num_threads(args.threads)

    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.bfloat16).eval()

    def tokens(user):
        chat = [{"role": "user", "content": user}]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    a, b = (tokens(user)[::-1] for user in ("Tell me more", "What is new?"))
    n_pos = next(i for i, (x, y) in enumerate(zip(a, b)) if x != y)
    kinds = [[tokens(p) for p in prompts(kind)[:args.prompts]] for kind in ("harmful", "harmless")]
    ready = time.perf_counter()
    means = [sums(model, seqs, n_pos) / len(seqs) for seqs in kinds]
    candidates = (means[0] - means[1]).float()
    done = time.perf_counter()
    n_tokens = sum(len(s) for seqs in kinds for s in seqs)
    print(f"{list(candidates.shape)} of {sum(map(len, kinds))} prompts, {n_tokens} tokens, "
          f"{torch.get_num_threads()} threads: {done - BEGAN:.2f} s in all, {done - ready:.2f} s of them "
          f"forward passes")


if __name__ == "__main__":
    main()
