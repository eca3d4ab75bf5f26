#!/usr/bin/env python3
"""Compute the candidates of a direction file again, in PyTorch, and compare every cell.

    pip install torch transformers accelerate gguf safetensors
    aird direction MODEL.gguf --capture-only -o DIR.safetensors
    scripts/check-direction.py MODEL.gguf DIR.safetensors
    scripts/check-direction.py MODEL.gguf DIR.safetensors --cell 16 -1

MODEL is the F16 file that DIR.safetensors was made of, on aird's built-in prompts. (For a BF16 file
llama.cpp may round activations to BF16 as well: then the first layers miss the goal by a little.) Nothing is
shared with aird but the two files and src/prompts/*.txt: the weights are widened to F32 and run by
transformers, which undoes llama.cpp's order of the rows of q and k; tokens and chat template are
the file's, as transformers reads and renders them. Prints the lowest cosine over all layers and
positions and how many are below 0.999; exit 1 if there are any. 256 prompts take a SmolLM2-135M a minute
on one core.

A file of `--capture-only` holds means over all prompts; where aird filtered, the same filter is used
here, with scores computed here. --cell also computes one cell's bypass, induce and KL on the held-out
prompts, beside those in the file, if it holds any. It takes the refusal tokens from the file, or from
--refusal-tokens.
"""
import argparse, json, os, pathlib, struct, sys
from contextlib import contextmanager

os.environ.setdefault("TQDM_DISABLE", "1")

import gguf
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

PROMPTS = pathlib.Path(__file__).resolve().parent.parent / "src" / "prompts"
EPSILON = 1e-8  # keeps the logarithms of scores finite, as in refusal_direction
GOAL = 0.999
CHUNK = 32      # prompts a forward pass


def prompts(name, part):
    """One part of a built-in set, in the file's order."""
    now, texts = None, []
    for line in (PROMPTS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            now = line.strip("[]")
        elif now == part and line and not line.startswith("#"):
            texts.append(line.split("\t")[1])
    return texts


def about(path):
    """What a direction file says about itself."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    return json.loads(header["__metadata__"]["aird"])


class Model:
    """A GGUF file run by transformers, in F32."""

    def __init__(self, path):
        file = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        self.tokenizer = AutoTokenizer.from_pretrained(**file)
        self.causal = AutoModelForCausalLM.from_pretrained(**file, dtype=torch.float32).eval()
        self.layers = self.causal.model.layers
        keys = gguf.GGUFReader(path).fields
        key = lambda name: keys[name].contents() if name in keys else None
        wants_bos = key("tokenizer.ggml.add_bos_token")
        if wants_bos is None:  # llama.cpp's default
            wants_bos = key("tokenizer.ggml.model") == "llama"
        self.bos = self.tokenizer.bos_token if wants_bos else None

    def tokens(self, user):
        """A prompt as the model reads it."""
        chat = [{"role": "user", "content": user}]
        text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        if self.bos and not text.startswith(self.bos):
            text = self.bos + text
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def n_post_instruction(self):
        """Tokens that the template puts behind the user's text."""
        a, b = (self.tokens(user)[::-1] for user in ("Tell me more", "What is new?"))
        return next(i for i, (x, y) in enumerate(zip(a, b)) if x != y)

    @torch.no_grad()
    def run(self, seqs, n_pos=0):
        """-> log-probabilities behind each prompt's last token [prompt, n_vocab], and every block's
        input at its last `n_pos` tokens, -1 first [prompt, layer, position, n_embd]."""
        seen = {}
        hooks = [layer.register_forward_pre_hook(lambda _, x, i=i: seen.__setitem__(i, x[0]))
                 for i, layer in enumerate(self.layers)]
        logp, rows = [], []
        for start in range(0, len(seqs), CHUNK):
            part = seqs[start:start + CHUNK]
            longest = max(map(len, part))
            # Padded on the right: attention looks back only, so that no mask is needed.
            ids = torch.tensor([s + [0] * (longest - len(s)) for s in part])
            last = torch.tensor([len(s) - 1 for s in part])
            out = self.causal.model(input_ids=ids, use_cache=False).last_hidden_state
            logits = self.causal.lm_head(out[torch.arange(len(part)), last])
            logp.append(logits.double().log_softmax(-1))
            at = torch.arange(len(part))[:, None], last[:, None] - torch.arange(n_pos)
            rows.append(torch.stack([seen[i][at] for i in range(len(self.layers))], 1))
        for hook in hooks:
            hook.remove()
        return torch.cat(logp), torch.cat(rows)

    @contextmanager
    def ablated(self, raw):
        """`raw`'s direction taken out of every block's input and of what attention and MLP write."""
        r = raw / raw.norm()
        out = lambda x: x - (x @ r)[..., None] * r
        hooks = []
        for layer in self.layers:
            hooks += [
                layer.register_forward_pre_hook(lambda _, x: (out(x[0]), *x[1:])),
                layer.self_attn.register_forward_hook(lambda _, x, y: (out(y[0]), *y[1:])),
                layer.mlp.register_forward_hook(lambda _, x, y: out(y)),
            ]
        yield
        for hook in hooks:
            hook.remove()

    @contextmanager
    def added(self, raw, layer):
        """`raw` added at one block's input, to every token."""
        hook = self.layers[layer].register_forward_pre_hook(lambda _, x: (x[0] + raw, *x[1:]))
        yield
        hook.remove()


def scores(logp, refusal_tokens):
    """Log-odds of a refusal."""
    p = logp[:, refusal_tokens].exp().sum(-1)
    return torch.log(p + EPSILON) - torch.log(1 - p + EPSILON)


def means(model, kind, sign, n_pos, refusal_tokens):
    """Mean block inputs over the training part, and over how many prompts. With refusal tokens, over
    those prompts alone whose score has the sign."""
    logp, rows = model.run([model.tokens(p) for p in prompts(kind, "train")], n_pos)
    if refusal_tokens:
        rows = rows[sign * scores(logp, refusal_tokens) > 0]
    return rows.double().mean(0), len(rows)


def cosines(a, b, scale):
    """[layer, position]; 1 where both have no length, as at layer 0: there all prompts are alike."""
    a, b = a.double(), b.double()
    none = (a.norm(dim=-1) < 1e-6 * scale) & (b.norm(dim=-1) < 1e-6 * scale)
    return torch.where(none, 1.0, torch.nan_to_num(torch.cosine_similarity(a, b, dim=-1), -1.0)), none


def check_cell(model, candidates, layer, position, refusal_tokens, said):
    raw = candidates[layer, -1 - position].float()
    kinds = [[model.tokens(p) for p in prompts(kind, "held-out")] for kind in ("harmful", "harmless")]
    kept = []
    for sign, seqs in zip((1, -1), kinds):
        score = scores(model.run(seqs)[0], refusal_tokens)
        print(f"{('harmless', 'harmful')[sign > 0]}, held-out: mean score {score.mean():.3f}")
        kept.append([s for s, x in zip(seqs, score) if sign * x > 0])
    n = min(map(len, kept))
    harmful, harmless = (seqs[:n] for seqs in kept)
    plain = model.run(harmless)[0]
    with model.ablated(raw):
        bypass = scores(model.run(harmful)[0], refusal_tokens).mean()
        kl = (plain.exp() * (plain - model.run(harmless)[0])).sum(-1).mean()
    with model.added(raw, layer):
        induce = scores(model.run(harmless)[0], refusal_tokens).mean()
    print(f"layer {layer} position {position}, {n} prompts of each kind:")
    print(f"  here         bypass {bypass:.4f}  induce {induce:.4f}  KL {kl:.4f} nats")
    for s in said["scores"]:
        if (s["layer"], s["position"]) == (layer, position):
            print("  in the file  bypass {bypass:.4f}  induce {induce:.4f}  KL {kl_nats:.4f} nats, {n} "
                  "prompts".format(**s))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path, help="an F16 or BF16 GGUF file")
    parser.add_argument("direction", type=pathlib.Path, help="what aird direction wrote")
    parser.add_argument("--cell", nargs=2, type=int, metavar=("LAYER", "POSITION"))
    parser.add_argument("--refusal-tokens", nargs="+", type=int, default=[], metavar="TOKEN")
    parser.add_argument("--verbose", action="store_true", help="print the lowest cosine of each layer")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    said, theirs = about(args.direction), load_file(args.direction)["candidates"]
    refusal_tokens = said["refusal_tokens"] or args.refusal_tokens
    if args.cell and not refusal_tokens:
        parser.error("the file names no refusal tokens: --refusal-tokens is needed")
    if args.cell and not (0 <= args.cell[0] < theirs.shape[0] and -theirs.shape[1] <= args.cell[1] < 0):
        parser.error(f"--cell: layers are 0 to {theirs.shape[0] - 1}, positions {-theirs.shape[1]} to -1")
    model = Model(args.model)
    n_pos = model.n_post_instruction()
    ours = [means(model, kind, sign, n_pos, said["refusal_tokens"])
            for kind, sign in (("harmful", 1), ("harmless", -1))]
    (harmful, n), (harmless, m) = ours
    candidates = harmful - harmless
    print(f"means over {n} harmful and {m} harmless prompts, in the file {said['n_kept'][0]} and "
          f"{said['n_kept'][1]}")
    if candidates.shape != theirs.shape:
        sys.exit(f"error: {list(candidates.shape)} here, {list(theirs.shape)} in the file")
    cosine, none = cosines(candidates, theirs, harmful.norm(dim=-1).mean())
    if args.verbose:
        lengths = torch.where(none, 1.0, theirs.norm(dim=-1) / candidates.norm(dim=-1))
        for layer, (row, ratio) in enumerate(zip(cosine, lengths)):
            print(f"  layer {layer:3}: cosine {row.min():.6f}, length in the file {ratio.min():.4f} to "
                  f"{ratio.max():.4f} of that here")
    low = int(cosine.argmin())
    n_below = int((cosine < GOAL).sum())
    print(f"{cosine.numel()} cells ({cosine.shape[0]} layers x {n_pos} positions), {int(none.sum())} of no "
          f"length in both")
    print(f"lowest cosine {cosine.min():.6f} at layer {low // n_pos} position {-1 - low % n_pos}; "
          f"{n_below} below {GOAL}")
    if args.cell:
        check_cell(model, candidates, *args.cell, refusal_tokens, said)
    sys.exit(1 if n_below else 0)


if __name__ == "__main__":
    main()
