#!/usr/bin/env python3
"""Write the facts from which the tests make a tiny model of every architecture.

    scripts/architectures.py ARCHITECTURES.jsonl    (writes fixtures/architectures/models.txt)

The input has a JSON object on each line: `name`; `keys`, from the name to [type, value]; `tensors`,
lists of [name, type, shape], inputs first. It comes from llama.cpp's `tests/test-llama-archs.cpp`,
whose model saver writes every key that llama.cpp knows and every tensor that it can read.

Left out are the vocabulary, which tests/support/architectures.rs makes, and the keys whose value
llama.cpp assumes without them. With and without these, all models give the same logits, bit by bit.

The context is 512 tokens, longer than in the input. Where positions are learned it stays as it is,
as it is the length of a tensor.
"""
import json, pathlib, re, struct, sys

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "architectures" / "models.txt"

HEAD = """\
# A tiny model of every architecture; scripts/architectures.py writes this file.
#
#   model NAME ARCHITECTURE
#   KEY = VALUE            a key, without the architecture in front: 2 is u32, 2i i32, 2.0 f32;
#                          [2, 0] is an array, and so is [2 x 4], of four twos
#   blocks FIRST-LAST      the tensors that follow are in each of these blocks, as `blk.N.TENSOR`
#   TENSOR SHAPE           a tensor in F32, inputs first; `vocab` stands for the number of tokens
#   X.weight SHAPE +bias   and X.bias, one number for each output
#   X.weight SHAPE +scale  and X.scale and X.input_scale, one number, or one for each expert
#
# Every model has the keys of `common`; its own replace them.
"""

COMMON = {
    "context_length": 512,
    "embedding_length": 256,
    "block_count": 2,
    "feed_forward_length": 384,
    "attention.head_count": 2,
    "attention.head_count_kv": 2,
}

# What llama.cpp assumes without the key; zeros are left out as well. The number of tokens is that
# of the vocabulary.
ASSUMED = {
    "activation.situ_beta": 1.0,
    "attention.causal": True,
    "attention.indexer.kpool_select_tail": True,
    "attention.key_length": 128,
    "attention.key_length_swa": 128,
    "attention.rope_pattern": 1,
    "attention.value_length": 128,
    "attention.value_length_swa": 128,
    "attn_logit_softcapping": 50.0,
    "decoder_start_token_id": -1,
    "deepstack_mapping": [-1] * 512,
    "expert_group_scale": 0.05000000074505806,
    "final_logit_softcapping": 30.0,
    "kda.gate_lower_bound": float("-inf"),
    "pooling_type": 2**32 - 1,
    "rope.dimension_count": 128,
    "rope.dimension_count_swa": 128,
    "rope.freq_base": 10000.0,
    "rope.freq_base_swa": 10000.0,
    "rope.scaling.attn_factor": 1.0,
    "rope.scaling.original_context_length": 128,
    "rope.scaling.type": "linear",
    "rope.scaling.yarn_attn_factor": 1.0,
    "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0,
    "rope.scaling.yarn_ext_factor": -1.0,
    "router_logit_softcapping": 30.0,
    "token_shift_count": 2,
    "vocab_size": 128,
}

# Keys with such a value that these architectures need all the same.
NEEDED = {
    ("gptneox", "use_parallel_residual"),
    ("minicpm3", "rope.scaling.original_context_length"),
    ("phi3", "rope.scaling.original_context_length"),
    ("phimoe", "rope.scaling.original_context_length"),
    ("plamo2", "ssm.group_count"),
}


def is_zero(value):
    return not any(value) if isinstance(value, list) else not value


def f32_text(value):
    """The shortest text that reads as the same f32, with a point or an exponent."""
    bits = struct.pack("<f", value)
    rounded = (float(f"{value:.{n}g}") for n in range(1, 18))
    return repr(next(x for x in rounded if struct.pack("<f", x) == bits))


def one_text(kind, value):
    if kind == "BOOL":
        return str(value).lower()
    if kind == "FLOAT32":
        return f32_text(value)
    return str(value) + {"UINT32": "", "INT32": "i"}[kind]


def value_text(kind, value):
    if not kind.startswith("ARRAY:"):
        return one_text(kind, value)
    texts = [one_text(kind.removeprefix("ARRAY:"), each) for each in value]
    if len(texts) > 2 and len(set(texts)) == 1:
        return f"[{texts[0]} x {len(texts)}]"
    return f"[{', '.join(texts)}]"


def key_lines(model, architecture, learned_positions):
    lines = []
    for key, (kind, value) in model["keys"].items():
        key = key.removeprefix(f"{architecture}.")
        if key.startswith("general.") or (key == "context_length" and not learned_positions):
            continue
        if key in COMMON:
            keep = COMMON[key] != value
        else:
            assumed = is_zero(value) or (key in ASSUMED and ASSUMED[key] == value)
            keep = not assumed or (architecture, key) in NEEDED
        if keep:
            lines.append(f"{key} = {value_text(kind, value)}")
    return lines


def shape_text(name, shape):
    dimensions = [str(n) for n in shape]
    if name in ("token_embd.weight", "output.weight", "output.bias"):
        assert dimensions[-1] == "128", f"{name}: {shape}, expected 128 tokens"
        dimensions[-1] = "vocab"
    return "x".join(dimensions)


def tensor_lines(shapes):
    """A line for each tensor that is not the bias or a scale of another one."""
    lines, partners = [], set()
    for name, shape in shapes.items():
        stem, _, ending = name.rpartition(".")
        text = f"{name} {shape_text(name, shape)}"
        one_each = shape[2:] or [1]
        for word, endings, expected in [
            (" +bias", ["bias"], shape[1:] or shape),
            (" +scale", ["scale", "input_scale"], one_each),
        ]:
            names = [f"{stem}.{each}" for each in endings]
            if ending == "weight" and all(shapes.get(each) == expected for each in names):
                partners.update(names)
                text += word
        lines.append((name, text))
    return [text for name, text in lines if name not in partners]


def block_lines(blocks):
    """Each line once for a run of blocks that have it, the longest runs first."""
    runs = {}
    for number in sorted(blocks):
        for line in tensor_lines(blocks[number]):
            of_line = runs.setdefault(line, [])
            if of_line and of_line[-1][1] == number - 1:
                of_line[-1][1] = number
            else:
                of_line.append([number, number])
    by_run = {}
    for line, of_line in runs.items():
        for first, last in of_line:
            by_run.setdefault((first, last), []).append(line)
    out = []
    for first, last in sorted(by_run, key=lambda run: (run[0], -run[1])):
        out.append(f"blocks {first}" if first == last else f"blocks {first}-{last}")
        out += by_run[first, last]
    return out


def model_lines(model):
    architecture = model["keys"]["general.architecture"][1]
    outside, blocks = {}, {}
    for name, kind, shape in model["tensors"]:
        assert kind == "F32", f"{name}: {kind}, expected F32"
        block = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
        if block:
            blocks.setdefault(int(block[1]), {})[block[2]] = shape
        else:
            outside[name] = shape
    yield f"model {model['name']} {architecture}"
    yield from key_lines(model, architecture, "position_embd.weight" in outside)
    yield from tensor_lines(outside)
    yield from block_lines(blocks)


def main(source):
    models = [json.loads(line) for line in pathlib.Path(source).read_text().splitlines()]
    lines = HEAD.splitlines() + ["", "common"] + [f"{key} = {n}" for key, n in COMMON.items()]
    for model in models:
        lines += ["", *model_lines(model)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n")
    print(f"{OUT.name}: {len(models)} models, {OUT.stat().st_size} bytes")


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(sys.argv[1])
