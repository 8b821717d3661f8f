"""Continue a prompt with a causal language model, or talk with one; the text is streamed to stdout.

    python -m experiments.generate --init=runs/gpt --prompt="Once upon a time" --temperature=0.8 --top_p=0.95
    python -m experiments.generate --init=runs/dialogue --chat

With --chat, each line of standard input is a message, which the model answers given the conversation so far.
"""
import io
import sys

from experiments import app, groups

TAIL = 32  # prompt tokens that determine how the continuation is joined to the prompt


def make_flags():
    script = app.Flags("generate", __doc__)
    groups.loading(script)
    script.group("generation")
    script.add("string", "prompt", "", "Text to continue, or - to read it from standard input. Default: start a "
               "new text.")
    script.add("bool", "chat", False, "Answer each line of standard input as a message in a conversation, until the "
               "input ends (Ctrl-D), using the model's chat template; a history that is too long is cut from its "
               "front.")
    script.add("string", "system", None, "Text of the system message at the beginning of a --chat.")
    script.add("integer", "max_new_tokens", 200, "Generate at most this many tokens.", lower_bound=1)
    script.add("float", "temperature", 1.0, "0: always choose the most likely token; 1: sample from the model's own "
               "distribution.",
               lower_bound=0.0)
    script.add("integer", "top_k", 0, "Sample from this many of the most likely tokens; 0: from all.", lower_bound=0)
    script.add("float", "top_p", 1.0, "Nucleus sampling: sample from the most likely tokens whose total "
               "probability reaches this value.",
               lower_bound=0.0, upper_bound=1.0)
    script.add("integer", "seed", 0, "Random seed for sampling.", lower_bound=0,
               upper_bound=groups.FIELDS.SEEDS)
    script.add("string", "output", None, "Output file, written once the text is complete; default: stdout.")
    script.group("running")
    groups.precision(script)
    return script


def run(values):
    import time

    from tfzoo import files
    from tfzoo.checkpoints import load
    from tfzoo.errors import ConfigError
    from tfzoo.generation import Generator, Sampling
    from tfzoo.progress import tell
    from tfzoo.training.fields import POLICIES
    if values.chat and (values.prompt or values.output):
        raise ConfigError("--chat reads standard input and writes to standard output: omit --prompt and --output")
    if values.system is not None and not values.chat:
        raise ConfigError(f"--system={values.system} requires --chat")
    loaded = load(values.init, POLICIES[values.precision])
    if "causal_lm" not in (loaded.config["task"], loaded.task and loaded.task.head_of):
        raise ConfigError(f"--init={values.init} was trained for {loaded.config['task']}: give a model trained for "
                          "causal_lm or completion")
    output, tokenizer = app.output_path(values.output), loaded.check_tokenizer()
    sampling = Sampling(values.temperature, values.top_k, values.top_p, values.seed)
    generator, begin = Generator(loaded.body, loaded.model.logits, sampling), time.perf_counter()

    def answer(tokens, ends, text_of):
        # Print the text of each new token as soon as it is complete; return the new tokens.
        made, shown = [], 0
        for token in generator.stream([tokens], values.max_new_tokens, ends):
            if token[0] in ends:
                break
            made.append(int(token[0]))
            text = text_of(made)
            if not text.endswith("\ufffd"):  # a character made of several tokens may be incomplete
                _put(out, text[shown:])
                shown = len(text)
        _put(out, text_of(made)[shown:] + "\n")
        return made

    out = io.StringIO() if output else sys.stdout
    if values.chat:
        results = _talk(loaded, values, answer, tell)
        return {**results, "tokens_per_second": round(results["tokens"] / (time.perf_counter() - begin), 1)}
    prompt = sys.stdin.read() if values.prompt == "-" else values.prompt
    tokens = tokenizer.beginning(tokenizer.encode([prompt])[0].numpy())
    if len(tokens) >= loaded.model.body.config["max_length"]:
        tell(f"the prompt has {len(tokens):,} tokens; the model sees only the last "
             f"{loaded.model.body.config['max_length'] - 1:,}")
    _put(out, prompt)
    # If the tokenizer drops the prompt's trailing space, the printed one already separates it from the continuation.
    parted, tail = prompt[-1:].isspace() and not tokenizer.decode([tokens])[0][-1:].isspace(), tokens[-TAIL:]

    def added(made):
        text = tokenizer.continuation(tail, made)
        return text.removeprefix(" ") if parted else text

    made = answer(tokens, loaded.end_ids, added)
    if output:
        files.write_atomic(output, out.getvalue())
    seconds = time.perf_counter() - begin
    return {"tokens": len(made), "tokens_per_second": round(len(made) / seconds, 1)}


def _talk(loaded, values, answer, tell):
    # Answer the lines of standard input one by one; each answer sees the conversation so far.
    from tfzoo.data.completions import prompt_of
    from tfzoo.text.chat import Chat
    chat, length = Chat(loaded.tokenizer), loaded.config["max_length"]
    if chat.template is None:
        tell("the model has no chat template: messages are marked User: and Assistant:")
    messages = [{"role": "system", "content": values.system}] if values.system is not None else []
    ends = tuple(dict.fromkeys((*loaded.end_ids, *chat.end_ids)))
    room, told, results = length - min(values.max_new_tokens, length // 2), False, {"answers": 0, "tokens": 0}
    while line := _next_line():
        if not line.strip():
            continue
        messages.append({"role": "user", "content": line.removesuffix("\n").removesuffix("\r")})
        tokens, cut = prompt_of(chat, messages, room)
        if cut and not told:
            tell(f"the conversation no longer fits {room:,} tokens: the model sees only its latest messages")
            told = True
        made = answer(tokens, ends, lambda made: loaded.tokenizer.decode([made])[0])
        messages.append({"role": "assistant", "content": loaded.tokenizer.decode([made])[0]})
        results = {"answers": results["answers"] + 1, "tokens": results["tokens"] + len(made)}
    return results


def _next_line():
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _put(out, text):
    out.write(text.encode("utf-8", "replace").decode())  # undecodable bytes of a prompt have no UTF-8 form
    out.flush()


if __name__ == "__main__":
    app.main(make_flags(), run, sys.stderr)
