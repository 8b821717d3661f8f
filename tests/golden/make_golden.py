"""Write the golden files: transformers' outputs for random weights in odd sizes.

Run in an environment with torch 2.13.0 and transformers 4.57.1:
python tests/golden/make_golden.py [--seed N] [--out FOLDER]
"""
import argparse
import json
import pathlib

import numpy as np
import torch
import transformers


def inputs_of(vocab_size, length, rng, segments):
    token_ids = rng.integers(0, vocab_size, (3, length))
    padding_mask = np.ones((3, length), int)
    padding_mask[0, length - 4:] = 0
    padding_mask[1, :3] = 0
    segment_ids = (np.arange(length)[None] >= np.array([[length], [5], [2]])).astype(int)
    return token_ids, padding_mask, segment_ids if segments else None


def save(out, name, model, config, inputs):
    token_ids, padding_mask, segment_ids = (None if part is None else torch.tensor(part) for part in inputs)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    extra = {} if segment_ids is None else {"token_type_ids": segment_ids}
    model.eval()
    with torch.no_grad():
        result = model(input_ids=token_ids, attention_mask=padding_mask, output_hidden_states=True, **extra)
    arrays = {f"weight:{key}": value.numpy() for key, value in model.state_dict().items()
              if value.dtype == torch.float32}
    arrays.update({f"hidden:{n}": value.numpy() for n, value in enumerate(result.hidden_states)})
    arrays.update(token_ids=inputs[0].astype(np.int32), padding_mask=inputs[1].astype(np.int32),
                  logits=result.logits.numpy())
    if segment_ids is not None:
        arrays["segment_ids"] = inputs[2].astype(np.int32)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    arrays["about"] = np.array(json.dumps({"config": config, "versions": versions}))
    np.savez_compressed(out / f"{name}.npz", **arrays)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    heads, width = int(rng.integers(2, 5)), 2 * int(rng.integers(3, 8))
    config = {"vocab_size": 61, "num_layers": 3, "hidden_dim": heads * width, "num_heads": heads,
              "ffn_dim": int(rng.integers(40, 70)), "max_length": 37}
    bert = transformers.BertConfig(
        vocab_size=61, num_hidden_layers=3, hidden_size=heads * width, num_attention_heads=heads,
        intermediate_size=config["ffn_dim"], max_position_embeddings=37, type_vocab_size=2, layer_norm_eps=1e-12)
    save(args.out, "bert", transformers.BertForMaskedLM(bert), config, inputs_of(61, 29, rng, True))
    gpt2 = transformers.GPT2Config(vocab_size=61, n_layer=3, n_embd=heads * width, n_head=heads,
                                   n_inner=config["ffn_dim"], n_positions=37)
    save(args.out, "gpt2", transformers.GPT2LMHeadModel(gpt2), config, inputs_of(61, 31, rng, False))


if __name__ == "__main__":
    main()
