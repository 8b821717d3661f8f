"""Write PEFT's logits for a tiny BERT and a tiny GPT-2 with nonzero adapters, before and after merging them.

Run in an environment with torch 2.13.0, transformers 4.57.1 and peft 0.21.2: python tests/golden/make_lora.py [OUT]
"""
import json
import pathlib
import sys

import numpy as np
import peft
import torch
import transformers

SIZES = {"vocab_size": 53, "num_layers": 2, "hidden_dim": 24, "num_heads": 4, "ffn_dim": 40, "max_length": 20}


def models():
    """Return a dict of name -> (model without adapters, PEFT's target modules)."""
    torch.manual_seed(0)
    bert = transformers.BertConfig(
        vocab_size=53, num_hidden_layers=2, hidden_size=24, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=20, layer_norm_eps=1e-12)
    gpt2 = transformers.GPT2Config(vocab_size=53, n_layer=2, n_embd=24, n_head=4, n_inner=40, n_positions=20)
    return {"bert": (transformers.BertForSequenceClassification(bert), ["query", "value", "intermediate.dense"]),
            "gpt2": (transformers.GPT2LMHeadModel(gpt2), ["c_attn", "mlp.c_proj"])}


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "lora.npz"
    rng, arrays = np.random.default_rng(0), {}
    tokens = rng.integers(5, 53, (3, 9))
    mask = (np.arange(9)[None] < np.array([[9], [4], [7]])).astype(int)
    generator = torch.Generator().manual_seed(1)
    for name, (model, targets) in models().items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
        arrays.update({f"{name}:weight:{key}": value.numpy().copy() for key, value in model.state_dict().items()})
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets)).eval()
        with torch.no_grad():
            for key, parameter in adapted.named_parameters():
                if "lora_" in key:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
                    arrays[f"{name}:{key}"] = parameter.numpy().copy()
            inputs = {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(mask)}
            arrays[f"{name}:logits"] = adapted(**inputs).logits.numpy()
            arrays[f"{name}:merged"] = adapted.merge_and_unload()(**inputs).logits.numpy()
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    arrays.update(token_ids=tokens.astype(np.int32), padding_mask=mask.astype(np.int32),
                  about=np.array(json.dumps({"config": SIZES, "versions": versions})))
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main()
