"""Write chat.json: what transformers makes of conversations, for well-known chat templates and two tokenizers.

    python tests/golden/make_chat.py    # in an environment with transformers 4.57.1, jinja2 3.1.6 and tokenizers

The templates are those published with Qwen2, Zephyr, Mistral 7B Instruct v0.1, Gemma and Llama 3, and one with
{% generation %} blocks. Both tokenizers are learned from the conversations themselves.
"""
import json
import pathlib

import jinja2
import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

TEMPLATES = {
    "qwen2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        "You are a helpful assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
        "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' }}{% endif %}", None, "<|im_end|>"),
    "zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + "
        "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
        "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        "<s>", "</s>"),
    "mistral": (
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}{% else %}"
        "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}", "<s>", "</s>"),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
        "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}", "<bos>", "<eos>"),
    "llama3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 "
        "%}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}", "<|begin_of_text|>",
        "<|end_of_text|>"),
    "generation": (
        "{%- for message in messages -%}\n    {%- if message.role == 'assistant' -%}\n        "
        "{{ '<|im_start|>assistant\n' }}{% generation %}{{ message.content + eos_token }}{% endgeneration %}{{ '\n' }}"
        "\n    {%- else -%}\n        {{ '<|im_start|>' + message.role + '\n' + message.content + eos_token + '\n' }}\n"
        "    {%- endif -%}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n    {{ '<|im_start|>assistant\n' }}\n"
        "{%- endif -%}", None, "<|im_end|>"),
    "tools": (
        "{{ messages | tojson }}{% for message in messages %}{% if loop.index0 > 2 %}{% break %}{% endif %}"
        "{{ message | tojson(indent=1) }}{% endfor %}{{ tools }}{{ documents is none }}{{ pad_token }}"
        "{{ unk_token }}{{ eos_token }}", "<s>", "</s>")}
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>",
           "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
HELLO = [{"role": "user", "content": "Hello there!"}, {"role": "assistant", "content": "Hi. How can I help you?"}]
CONVERSATIONS = [
    HELLO, HELLO[:1],
    [{"role": "system", "content": "Answer in one word."}, *HELLO, {"role": "user", "content": "Say \"yes\" & <go>"}],
    [*HELLO, {"role": "user", "content": "  Why?\n"}, {"role": "assistant", "content": " Because\n\nthat's so.  "}],
    [{"role": "user", "content": "What is </s> or <|im_end|><|im_start|>system?"},
     {"role": "assistant", "content": "\u4f60\u597d \U0001f600 caf\u00e9"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": ""},
     {"role": "assistant", "content": "You said nothing."}]]


def make_tokenizer(kind):
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=kind == "metaspace", unk_token=None))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind == "metaspace":
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Sequence([
            decoders.ByteFallback(), decoders.Metaspace()])
        alphabet = []
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    special = SPECIAL + ([f"<0x{byte:02X}>" for byte in range(256)] if kind == "metaspace" else [])
    trainer = trainers.BpeTrainer(vocab_size=len(special) + 400, special_tokens=special, initial_alphabet=alphabet,
                                  show_progress=False)
    backend.train_from_iterator([message["content"] for messages in CONVERSATIONS[:4] for message in messages] * 3,
                                trainer)
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in SPECIAL]
    return json.dumps(state, ensure_ascii=False)


def main():
    found = {"versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__,
                          "tokenizers": tokenizers.__version__},
             "conversations": CONVERSATIONS, "tokenizers": {}, "templates": {}}
    for kind in ("bytelevel", "metaspace"):
        found["tokenizers"][kind] = make_tokenizer(kind)
    for name, (template, bos, eos) in TEMPLATES.items():
        entry = found["templates"][name] = {"template": template, "bos": bos, "eos": eos, "rendered": []}
        for messages in CONVERSATIONS:
            row = {}
            for kind, content in found["tokenizers"].items():
                backend = tokenizers.Tokenizer.from_str(content)
                tokenizer = transformers.PreTrainedTokenizerFast(
                    tokenizer_object=backend, bos_token=bos, eos_token=eos, chat_template=template)
                for prompt in (False, True):
                    options = {"add_generation_prompt": prompt}
                    try:
                        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
                    except jinja2.exceptions.TemplateError as error:
                        row["error"] = str(error)
                        continue
                    row[f"text_{prompt}"] = text
                    row[f"{kind}_{prompt}"] = tokenizer.apply_chat_template(messages, **options)
                if name == "generation":
                    row[f"{kind}_mask"] = tokenizer.apply_chat_template(
                        messages, return_dict=True, return_assistant_tokens_mask=True)["assistant_masks"]
            entry["rendered"].append(row)
    path = pathlib.Path(__file__).with_name("chat.json")
    path.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path.stat().st_size)


if __name__ == "__main__":
    main()
