#!/usr/bin/env python3
"""Makes fixtures/peft: adapters that peft wrote, and what they add to each weight as peft computes it.

Run it with torch, transformers and peft (the versions are in the fixture's versions.txt):

    python3 scripts/golden-peft.py fixtures/peft

The base is a llama of the size of the tests' tiny one: 64 wide, 4 heads, 2 of them for keys, an
MLP of 128, two blocks. Its weights do not matter: what is added does not depend on them.
"""

import json
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

# Tokens of the tests' tiny llama.
VOCAB = 366

ADAPTERS = {
    # Ranks and alphas by module, over several kinds of matrices.
    "patterns": dict(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "k_proj", "down_proj"],
        rank_pattern={"k_proj": 2, "layers.1.mlp.down_proj": 3},
        alpha_pattern={"model.layers.0.self_attn.q_proj": 6},
    ),
    # alpha / sqrt(r), the head, and embeddings, which are looked up.
    "stabilised": dict(
        r=3, lora_alpha=5, use_rslora=True, target_modules=["v_proj", "o_proj", "embed_tokens"]
    ),
}


def main(folder: Path) -> None:
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    for name, options in ADAPTERS.items():
        model = get_peft_model(LlamaForCausalLM(config), LoraConfig(task_type="CAUSAL_LM", **options))
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                # B begins as zeros: an adapter that does nothing shows no mistake.
                parameter.data = torch.randn_like(parameter) * 0.1
        # With embeddings among the targets peft writes the base's, frozen, too: they are left out.
        model.save_pretrained(folder / name)
        (folder / name / "README.md").unlink(missing_ok=True)
        # peft writes them in the order of a set, another one each time.
        path = folder / name / "adapter_config.json"
        config_json = json.loads(path.read_text())
        config_json["target_modules"].sort()
        path.write_text(json.dumps(config_json, indent=2) + "\n")
        deltas = {}
        for key, module in model.named_modules():
            if hasattr(module, "get_delta_weight"):
                delta = module.get_delta_weight("default").detach()
                deltas[key.removeprefix("base_model.model.")] = delta.float().contiguous()
        save_file(deltas, folder / f"{name}-deltas.safetensors")
    versions = [f"{m.__name__} {m.__version__}" for m in (torch, transformers, peft)]
    (folder / "versions.txt").write_text("\n".join(versions) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
