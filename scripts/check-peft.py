#!/usr/bin/env python3
"""Compares aird's PEFT folders with peft and transformers on a real llama model.

    python3 scripts/check-peft.py AIRD MODEL.gguf FOLDER

needs torch, transformers, peft and gguf. transformers reads the GGUF by itself, so that the order
of rows of q and k is its own. Checked:

1. `aird merge --lora DIR` on a folder that peft wrote: every merged matrix is peft's.
2. `aird ask --lora DIR` answers as transformers does with the adapter, greedily.
3. `aird repair --lora DIR --format peft` is loaded by peft, and adds what the GGUF adapter holds.
"""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
PROMPT = "What is the capital of France?"
N_TOKENS = 24


def run(*arguments: object) -> str:
    done = subprocess.run([str(a) for a in arguments], check=True, capture_output=True, text=True)
    return done.stdout


def base(path: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, torch_dtype=torch.float32
    ).eval()


def in_file_order(weight: numpy.ndarray, name: str, config) -> numpy.ndarray:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    n = heads.get(name.split(".")[-1])
    if n is None:
        return weight
    return weight.reshape(n, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def tensors(path: Path) -> dict:
    reader = gguf.GGUFReader(path)
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}


def same(merged: dict, model: torch.nn.Module, config) -> float:
    """The largest difference from peft's merged weights, relative to the largest weight."""
    worst = 0.0
    for block in range(config.num_hidden_layers):
        for module, name in NAMES.items():
            layer = model.get_submodule(f"model.layers.{block}.{module}")
            expected = in_file_order(layer.weight.detach().numpy(), module, config)
            found = merged[f"blk.{block}.{name}.weight"].reshape(expected.shape)
            worst = max(worst, float(abs(found - expected).max() / abs(expected).max()))
    return worst


def main(aird: Path, source: Path, folder: Path) -> None:
    torch.manual_seed(3)
    folder.mkdir(parents=True, exist_ok=True)
    f32 = folder / "f32.gguf"
    run(aird, "quantize", "--method", "rtn", "--type", "f32", "--requantize", source, "-o", f32, "--force")
    model = base(f32)
    config = model.config
    options = dict(
        r=8,
        lora_alpha=24,
        use_rslora=True,
        target_modules=[name.split(".")[-1] for name in NAMES],
        rank_pattern={"k_proj": 4, "layers.7.mlp.down_proj": 2},
        alpha_pattern={"v_proj": 5},
    )
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter) * 0.004
    lora = folder / "lora"
    adapted.save_pretrained(lora)

    tokenizer = AutoTokenizer.from_pretrained(f32.parent, gguf_file=f32.name)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT}], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        theirs = adapted.generate(**ids, max_new_tokens=N_TOKENS, do_sample=False)
    theirs = tokenizer.decode(theirs[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    ours = run(aird, "ask", f32, PROMPT, "--lora", lora, "--max-tokens", N_TOKENS)
    print("transformers:", repr(theirs.strip()))
    print("aird ask:    ", repr(ours.strip()))
    assert ours.strip().endswith(theirs.strip()), "other answers"

    merged = folder / "merged.gguf"
    run(aird, "merge", f32, "--lora", lora, "-o", merged, "--force")
    found = same(tensors(merged), adapted.merge_and_unload(), config)
    print(f"merge: largest difference {found:.2e}")
    assert found < 1e-6

    direction = folder / "direction.safetensors"
    write_direction(direction, config)
    edit = ["repair", f32, "--direction", direction, "--block", "14,15", "--alpha", "1"]
    repaired, ours = folder / "repaired", folder / "repaired.gguf"
    run(aird, *edit, "--lora", repaired, "--format", "peft", "--force")
    run(aird, *edit, "--lora", ours, "--force")
    run(aird, "merge", f32, "--lora", ours, "-o", merged, "--force")
    loaded = PeftModel.from_pretrained(base(f32), repaired).merge_and_unload()
    found = same(tensors(merged), loaded, config)
    changed = same(tensors(f32), loaded, config)
    print(f"repair --format peft: largest difference {found:.2e}, the edit itself {changed:.2e}")
    assert found < 1e-6 < changed


def write_direction(path: Path, config) -> None:
    """A direction file as aird's: a random vector at block 15."""
    import json

    from safetensors.numpy import save_file

    random = numpy.random.default_rng(5)
    shape = (config.num_hidden_layers, 1, config.hidden_size)
    candidates = random.standard_normal(shape).astype(numpy.float32)
    chosen = candidates[15, 0]
    about = {
        "version": "0", "model": "check", "model_sha256": "", "architecture": "llama",
        "layer": 15, "position": -1, "max_kl": None, "refusal_tokens": [], "scores": [],
        "prompts": {}, "n_kept": [0, 0], "template_sha256": "",
    }  # fmt: skip
    unit = (chosen / numpy.linalg.norm(chosen)).astype(numpy.float32)
    save_file({"candidates": candidates, "direction": unit}, path, {"aird": json.dumps(about)})


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
