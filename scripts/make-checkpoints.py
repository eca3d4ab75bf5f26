#!/usr/bin/env python3
"""Make fixtures/checkpoints: what llama.cpp's converter makes of a tiny checkpoint of each family.

    pip install torch transformers sentencepiece gguf
    scripts/make-checkpoints.py LLAMA_CPP [CASE...]

LLAMA_CPP is a folder with llama.cpp's convert_hf_to_gguf.py, conversion/ and gguf-py/, of the version
that aird links: the sdist of llama-cpp-python has them in vendor/llama.cpp.

A case is one file, NAME.json. It holds what a test needs to write the checkpoint again (config.json,
other files, changes of the tokenizer, names and shapes of the tensors as transformers has them) and
what the converter made of it: keys, and for each type of weights the sha256 of each tensor.
The weights are not stored: `weights` below, and the test, compute them from a tensor's place.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "checkpoints"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Digits of a sha256 that are kept for a tensor.
DIGITS = 16
# Small, and no two sizes are equal that stand beside each other in a shape.
SMALL = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=304, max_position_embeddings=128)
DIGITS_PRE = {"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
QWEN2 = split(WORDS + r"\p{N}" + TAIL)
LLAMA3 = split(WORDS + r"\p{N}{1,3}" + TAIL)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def begins_with(token):
    """A post-processor that puts a token before a text, as Llama 3's does."""
    piece = {"SpecialToken": {"id": token, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [piece, text],
                "pair": [piece, text, {"SpecialToken": {"id": token, "type_id": 1}},
                         {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {token: {"id": token, "ids": [1], "tokens": [token]}}}
    return {"type": "Sequence", "processors": [dict(BYTES, trim_offsets=True), template]}


TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CARD = """---
license: apache-2.0
language:
- en
- "no"
base_model: some-lab/Tiny-base
datasets:
- some-lab/texts
- other/more-texts
tags: [chat, tiny]
pipeline_tag: text-generation
model-index:
- name: Tiny
  results: []
---
# Tiny
"""
GENERATION = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20,
              "repetition_penalty": 1.05}
TOKENS = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>",
          "unk_token": "<|endoftext|>", "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False,
          "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}"}

# SentencePiece: 400 pieces, and an added token.
SPM = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True,
           add_eos_token=False, tokenizer_class="LlamaTokenizer",
           added_tokens_decoder={
               "0": dict(content="<unk>", special=True), "1": dict(content="<s>", special=True),
               "2": dict(content="</s>", special=True), "400": dict(content="<tool\u2581x>"),
               "401": dict(content="<|end|>", special=False)})
PIECES = dict(vocab_size=404, bos_token_id=1, eos_token_id=2)
CAPS = dict(attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
# FP8: blocks of rows and columns with one scale each.
FP8 = dict(quant_method="fp8", weight_block_size=[8, 8], activation_scheme="dynamic")

# Of each case: kind of config, its changes, the type of the weights, changes of tokenizer.json, the
# name of the pre-tokenizer (the converter finds it by a hash over a vocabulary that these have not).
CASES = {
    "smollm": dict(kind="llama", config=dict(tie_word_embeddings=True, rms_norm_eps=1e-5,
                                             rope_theta=100000, bos_token_id=1, eos_token_id=2),
                   dtype="BF16", pre="smollm", tokenizer=dict(pre_tokenizer=DIGITS_PRE),
                   tokens=TOKENS, card=CARD, generation=GENERATION),
    "llama": dict(kind="llama", config=dict(attention_bias=True, mlp_bias=True, head_dim=6,
                                            bos_token_id=1, eos_token_id=[2, 0]),
                  dtype="F32", pre="gpt-2", tokens=TOKENS,
                  tokenizer=dict(pre_tokenizer=dict(BYTES, use_regex=True), post_processor=BYTES)),
    "llama3": dict(kind="llama",
                   config=dict(rope_theta=500000.0, bos_token_id=1, eos_token_id=2, head_dim=32,
                               rope_scaling=dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0,
                                                 high_freq_factor=4.0,
                                                 original_max_position_embeddings=8192)),
                   dtype="BF16", pre="llama-bpe",
                   tokenizer=dict(pre_tokenizer=LLAMA3, ignore_merges=True,
                                  post_processor=begins_with("<|im_start|>")),
                   tokens=dict(TOKENS, add_prefix_space=None, tokenizer_class="PreTrainedTokenizerFast")),
    "llama-linear": dict(kind="llama", config=dict(rope_scaling=dict(type="linear", factor=2.0)),
                         dtype="F16", pre="dbrx", tokens=dict(TOKENS, add_bos_token=True),
                         tokenizer=dict(pre_tokenizer=LLAMA3)),
    "qwen2": dict(kind="qwen2", config=dict(rope_theta=1000000.0, bos_token_id=0, eos_token_id=2),
                  dtype="BF16", pre="qwen2", generation=GENERATION,
                  tokenizer=dict(pre_tokenizer=QWEN2, post_processor=BYTES,
                                 normalizer=dict(type="NFC")),
                  tokens=dict(TOKENS, bos_token=None, unk_token=None, tokenizer_class="Qwen2Tokenizer")),
    "qwen2-yarn": dict(kind="qwen2",
                       config=dict(rope_scaling=dict(type="yarn", factor=4.0, beta_fast=16.0,
                                                     original_max_position_embeddings=64)),
                       dtype="F16", pre="qwen2", tokens=TOKENS,
                       tokenizer=dict(pre_tokenizer=QWEN2)),
    "qwen3": dict(kind="qwen3", config=dict(head_dim=8, rope_theta=1000000.0), dtype="BF16",
                  pre="qwen2", tokens=TOKENS, tokenizer=dict(pre_tokenizer=QWEN2)),
    "qwen3moe": dict(kind="qwen3_moe",
                     config=dict(head_dim=8, num_experts=3, num_experts_per_tok=2,
                                 moe_intermediate_size=12, mlp_only_layers=[]),
                     dtype="BF16", pre="qwen2", tokens=TOKENS,
                     tokenizer=dict(pre_tokenizer=QWEN2)),
    "qwen3-fp8": dict(kind="qwen3", config=dict(head_dim=8), dtype="BF16", fp8=FP8,
                      pre="qwen2", tokens=TOKENS, tokenizer=dict(pre_tokenizer=QWEN2)),
    "olmo2": dict(kind="olmo2", config=dict(rope_theta=500000), dtype="F32", pre="dbrx",
                  tokens=TOKENS, tokenizer=dict(pre_tokenizer=split(
                      WORDS + r"\p{N}{1,3}" + TAIL, "Removed", True))),
    "granite": dict(kind="granite",
                    config=dict(attention_multiplier=0.015625, embedding_multiplier=12.0,
                                residual_multiplier=0.22, logits_scaling=8.0,
                                tie_word_embeddings=True),
                    dtype="BF16", pre="refact",
                    tokens=dict(TOKENS, clean_up_tokenization_spaces=True),
                    tokenizer=dict(pre_tokenizer=DIGITS_PRE)),
    "phi4": dict(kind="phi3", config=dict(sliding_window=None, pad_token_id=0), dtype="BF16",
                 pre="dbrx", tokens=TOKENS,
                 tokenizer=dict(pre_tokenizer=LLAMA3)),
    "phi3": dict(kind="phi3",
                 config=dict(PIECES, sliding_window=64, pad_token_id=0, max_position_embeddings=512,
                             original_max_position_embeddings=128,
                             rope_scaling=dict(type="longrope", long_factor=[1.5, 2.25],
                                               short_factor=[1.0, 1.125])),
                 dtype="BF16", pieces=True, tokens=SPM),
    "llama-spm": dict(kind="llama", config=PIECES, dtype="F16", pieces=True, tokens=SPM),
    "gemma2": dict(kind="gemma2", config=dict(PIECES, **CAPS, head_dim=6, sliding_window=32),
                   dtype="BF16", pieces=True, tokens=SPM),
    "gemma2-f16": dict(kind="gemma2", config=dict(PIECES, **CAPS, head_dim=4, sliding_window=32),
                       dtype="F16", pieces=True, tokens=SPM),
    "gemma3": dict(kind="gemma3_text",
                   config=dict(PIECES, head_dim=6, sliding_window=32, rope_theta=1000000.0,
                               rope_local_base_freq=10000.0,
                               rope_scaling=dict(factor=8.0, rope_type="linear")),
                   dtype="BF16", pieces=True, tokens=SPM),
    "nemo": dict(kind="mistral", config=dict(sliding_window=None, head_dim=6), dtype="BF16",
                 pre="tekken", tokens=TOKENS,
                 tokenizer=dict(pre_tokenizer=split(TEKKEN), ignore_merges=True)),
    "mistral": dict(kind="mistral", config=dict(sliding_window=None, head_dim=8), dtype="BF16",
                    pre="llama-bpe", tokens=TOKENS,
                    tokenizer=dict(pre_tokenizer=LLAMA3, ignore_merges=True)),
}


def make_tokenizer():
    """bpe.json: 256 bytes, three special tokens, and merges learned from this file."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=298, special_tokens=special, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train([str(FOLDER / "README.md")], trainer)
    tokenizer.add_tokens(["<tool>"])
    made = json.loads(tokenizer.to_str())
    (FOLDER / "bpe.json").write_text(json.dumps(made, ensure_ascii=False) + "\n")


def make_pieces():
    """pieces.model: bytes, and pieces merged from the words of the README here."""
    import sentencepiece
    sentencepiece.SentencePieceTrainer.train(
        input=str(FOLDER / "README.md"), model_prefix=str(FOLDER / "pieces"), vocab_size=400,
        model_type="bpe", byte_fallback=True, character_coverage=1.0, minloglevel=2,
        normalization_rule_name="identity")
    (FOLDER / "pieces.vocab").unlink()


def fp8(place, shape):
    """Numbers of eight bits, and their scales: not a number is no weight."""
    bits = (np.arange(int(np.prod(shape)), dtype=np.int64) * 31 + place * 7) % 256
    bits = np.where(bits % 128 == 127, 0, bits).astype(np.uint8).reshape(shape)
    blocks = [-(-n // 8) for n in shape]
    scales = (weights(place, blocks) + 1.5) / 448
    return torch.from_numpy(bits).view(torch.float8_e4m3fn), scales


def weights(place, shape):
    """The weights of the tensor at a place in the order of names: fractions that no type holds."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    k = (i * 7919 + place * 104729) % 4099 - 2049
    return torch.from_numpy((k.astype(np.float32) / np.float32(4099)).reshape(shape))


def hashed(data):
    return hashlib.sha256(data).hexdigest()


def value_of(field, reader):
    """A key's value: its type and, of an array, how many elements it has and their sha256."""
    from gguf import GGUFValueType as T
    types = [t.name for t in field.types]
    parts = [field.parts[i] for i in field.data]
    if field.types[0] != T.ARRAY:
        part = parts[0]
        text = field.types[0] == T.STRING
        value = bytes(part).decode() if text else part.tolist()[0]
        return [types[0], value if not isinstance(value, float) else repr(float(value))]
    if field.types[1] == T.STRING:
        data = b"".join(len(p).to_bytes(8, "little") + bytes(p) for p in parts)
    else:
        data = b"".join(p.tobytes() for p in parts)
    return [types[0], types[1], len(parts), hashed(data)]


def convert(folder, out, outtype, pre):
    """Runs the converter; where it does not know the hash of a vocabulary, the name is `pre`."""
    import conversion
    from conversion import ModelBase, get_model_architecture, get_model_class
    from conversion.base import ModelType, TextModel
    import gguf
    TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    file_types = {"F32": gguf.LlamaFileType.ALL_F32, "F16": gguf.LlamaFileType.MOSTLY_F16,
                  "BF16": gguf.LlamaFileType.MOSTLY_BF16}
    with torch.inference_mode():
        hparams = ModelBase.load_hparams(folder, False)
        name = get_model_architecture(hparams, ModelType.TEXT)
        model = get_model_class(name)(folder, file_types[outtype], out)
        model.write()
    return gguf.GGUFReader(out)


def checkpoint(case, folder):
    """Writes a case's checkpoint; returns what a test needs to write it again."""
    made = {**SMALL, **case["config"]}
    config = AutoConfig.for_model(case["kind"], **made)
    model = AutoModelForCausalLM.from_config(config)
    names = sorted(model.state_dict())
    if config.tie_word_embeddings:
        names.remove("lm_head.weight")
    tensors = [[name, list(model.state_dict()[name].shape)] for name in names]
    tensors += [[name, list(shape)] for name, shape in case.get("more", [])]
    dtype = DTYPES[case["dtype"]]
    saved = {name: weights(i, shape).to(dtype).contiguous()
             for i, (name, shape) in enumerate(tensors)}
    if "fp8" in case:
        for i, (name, shape) in enumerate(tensors):
            if "_proj." in name:
                saved[name], saved[f"{name}_scale_inv"] = fp8(i, shape)
        made["quantization_config"] = case["fp8"]
    save_file(saved, folder / "model.safetensors")
    architectures = [type(model).__name__]
    files = {"config.json": {**made, "rms_norm_eps": config.rms_norm_eps,
                             "model_type": case["kind"], "architectures": architectures}}
    if "generation" in case:
        files["generation_config.json"] = case["generation"]
    files["tokenizer_config.json"] = case["tokens"]
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    if "card" in case:
        files["README.md"] = case["card"]
        (folder / "README.md").write_text(case["card"])
    if "pieces" in case:
        shutil.copy(FOLDER / "pieces.model", folder / "tokenizer.model")
        return dict(files=files, pieces=True, dtype=case["dtype"], tensors=tensors)
    tokenizer = json.loads((FOLDER / "bpe.json").read_text())
    for key, value in case["tokenizer"].items():
        (tokenizer["model"] if key in ("ignore_merges",) else tokenizer)[key] = value
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return dict(files=files, tokenizer=case["tokenizer"], dtype=case["dtype"], tensors=tensors)


def make(name):
    case = CASES[name]
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp) / "tiny-model"
        folder.mkdir()
        written = checkpoint(case, folder)
        expected = {}
        for outtype in DTYPES:
            reader = convert(folder, Path(temp) / f"{outtype}.gguf", outtype, case.get("pre"))
            expected[outtype] = {
                t.name: f"{t.tensor_type.name} {list(map(int, t.shape))} {hashed(t.data.tobytes())[:DIGITS]}"
                for t in reader.tensors}
            keys = {key: value_of(field, reader) for key, field in reader.fields.items()
                    if not key.startswith("GGUF.")}
        del keys["general.file_type"]
    text = json.dumps(dict(written, keys=keys, expected=expected), ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(text + "\n")
    print(f"{name}: {len(expected['F32'])} tensors, {len(keys)} keys, {len(text)} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("llama_cpp", type=Path)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    args = parser.parse_args()
    sys.path[:0] = [str(args.llama_cpp), str(args.llama_cpp / "gguf-py")]
    if not (FOLDER / "bpe.json").exists():
        make_tokenizer()
    if not (FOLDER / "pieces.model").exists():
        make_pieces()
    for name in args.cases or CASES:
        make(name)


if __name__ == "__main__":
    main()
