"""Generate text: continue prompts, talk with a model, or write targets for sources, such as translations.

    python -m experiments.generate --init=runs/gpt --prompt="Once upon a time" --temperature=0.8 --top_p=0.95
    python -m experiments.generate --init=runs/dialogue --chat
    python -m experiments.generate --init=runs/translation --data=sources.txt --num_beams=4

The text for one --prompt is shown as it is generated. With --data, or several answers, each answer
is a line of JSON. With --chat, each line of standard input is a message, which the model answers
given the conversation so far.
"""
import io
import json
import sys

from experiments import app, groups

TAIL = 32  # prompt tokens that determine how the continuation is joined to the prompt


def make_flags():
    script = app.Flags("generate", __doc__)
    groups.loading(script)
    script.group("input and output")
    script.add("string", "prompt", None, "Text to continue, or source, or - to read it from standard input. Default: "
               "start a new text.")
    script.add("string", "data", None, "File with one prompt or source per line (.txt, or - for standard input), or "
               "with one JSON object per line (.jsonl, or -.jsonl) with prompt, source or messages; may be compressed "
               "(.gz). Writes one JSON object per answer.")
    script.add("bool", "chat", False, "Answer each line of standard input as a message in a conversation, until the "
               "input ends (Ctrl-D), using the model's chat template; a history that is too long is cut from its "
               "front.")
    script.add("string", "system", None, "Text of the system message at the beginning of a --chat.")
    script.add("string", "output", None, "Output file, written once the text is complete; default: stdout.")
    script.group("generation")
    groups.generating(script)
    script.add("string", "draft", None, "Smaller model with the same tokenizer, named as for --init, that proposes "
               "tokens, which the model checks in one step: faster, with the same distribution.")
    script.add("integer", "num_assistant_tokens", None, "Number of tokens that the --draft proposes. Default: 5.")
    script.add("bool", "log_probabilities", False, "Add the log-probability of each token to the lines of JSON.")
    script.group("running")
    script.add("integer", "batch_size", 8, "Prompts per batch of --data.", lower_bound=1)
    groups.computing(script)
    return script


def _check(values):
    from tfzoo.errors import ConfigError
    if values.chat and (values.prompt or values.output or values.data):
        raise ConfigError("--chat reads standard input and writes to standard output: omit --prompt, --data and "
                          "--output")
    if values.system is not None and not values.chat:
        raise ConfigError(f"--system={values.system} requires --chat")
    if values.data and values.prompt is not None:
        raise ConfigError("--data and --prompt exclude each other: give one of them")
    if values.log_probabilities and not values.data and (values.num_return_sequences or 1) == 1:
        raise ConfigError("--log_probabilities requires lines of JSON: give --data or --num_return_sequences")


def run(values):
    import time

    from tfzoo import files
    from tfzoo.checkpoints import load
    from tfzoo.checkpoints.writing import Writer
    from tfzoo.progress import tell
    from tfzoo.training.fields import POLICIES
    from tfzoo.training.strategy import choose_xla
    _check(values)
    loaded = load(values.init, POLICIES[values.precision])
    options = {**groups.options_of(values), "log_probabilities": values.log_probabilities}
    if values.draft is not None:
        options["draft"] = load(values.draft, POLICIES[values.precision])
    if values.num_assistant_tokens is not None:
        options["num_assistant_tokens"] = values.num_assistant_tokens
    options["xla"] = choose_xla(values.xla)[0]
    writer, output = Writer(loaded, **options), app.output_path(values.output)
    begin, out = time.perf_counter(), io.StringIO() if output else sys.stdout
    if values.chat:
        results = _talk(writer, values, out, tell)
    elif values.data or writer.options.num_beams > 1 or writer.options.num_return_sequences > 1:
        results = _write_lines(writer, values, output, tell)
    else:
        results = _write_one(writer, _prompt(values), out, tell)
        if output:
            files.write_atomic(output, out.getvalue())
    seconds = time.perf_counter() - begin
    if values.draft is not None or values.prompt_lookup_num_tokens:
        results.update(accepted=writer.generator.accepted, proposed=writer.generator.proposed)
    return {**results, "tokens_per_second": round(results["tokens"] / seconds, 1)}


def _prompt(values):
    return sys.stdin.read() if values.prompt == "-" else values.prompt or ""


def _write_lines(writer, values, output, tell):
    # Write one JSON object per answer.
    import itertools

    from tfzoo import files
    from tfzoo.data.completions import COMPLETIONS
    from tfzoo.data.readers import Lines, read_rows
    lines, results = Lines(values.data) if values.data else None, {"examples": 0, "answers": 0, "tokens": 0}
    rows = iter([{"prompt": _prompt(values)}] if lines is None else
                read_rows(lines, writer.task.schema if writer.chat is None else COMPLETIONS, labelled=False))

    def answers():
        while batch := list(itertools.islice(rows, values.batch_size)):
            found = iter(writer([row.get("messages") or row.get("prompt", row.get("source")) for row in batch],
                                first=results["examples"]))
            for row in batch:
                for answer in itertools.islice(found, writer.options.num_return_sequences):
                    results["answers"] += 1
                    results["tokens"] += answer["tokens"]
                    yield json.dumps({**row, **answer}, ensure_ascii=False) + "\n"
                results["examples"] += 1

    texts = (text.encode("utf-8", "replace") for text in answers())
    if output:
        files.write_atomic_chunks(output, texts)
    else:
        for text in texts:
            _put(sys.stdout, text.decode())
    if writer.cut:
        tell(f"{writer.cut:,} of {results['examples']:,} prompts or sources were cut to fit the model's "
             f"{writer.length:,} tokens")
    return {**results, "cut": writer.cut}


def _stream(writer, tokens, source, text_of, out):
    # Print the text of each new token as soon as it is complete; return the new tokens.
    made, shown, ends = [], 0, writer.options.eos_token_id
    for token in writer.generator.stream(tokens, source):
        if token[0] in ends:
            break
        made.append(int(token[0]))
        text = text_of(made)
        if not text.endswith("\ufffd"):  # a character made of several tokens may be incomplete
            _put(out, text[shown:])
            shown = len(text)
    _put(out, text_of(made)[shown:] + "\n")
    return made


def _write_one(writer, prompt, out, tell):
    tokenizer, length = writer.tokenizer, writer.length
    (tokens,), source = writer.prompts([prompt])
    if source is not None:
        if writer.cut:
            tell(f"the source was cut to {length:,} tokens")
        return {"tokens": len(_stream(writer, [tokens], source, lambda made: tokenizer.decode([made])[0], out))}
    if writer.cut:
        tell(f"the prompt has {len(tokens):,} tokens; the model sees only the last {length - 1:,}")
    _put(out, prompt)
    # If the tokenizer drops the prompt's trailing space, the printed one already separates it from the continuation.
    parted, tail = prompt[-1:].isspace() and not tokenizer.decode([tokens])[0][-1:].isspace(), tokens[-TAIL:]

    def added(made):
        text = tokenizer.continuation(tail, made)
        return text.removeprefix(" ") if parted else text

    return {"tokens": len(_stream(writer, [tokens], None, added, out))}


def _talk(writer, values, out, tell):
    # Answer the lines of standard input one by one; each answer sees the conversation so far.
    from tfzoo.errors import ConfigError
    if writer.chat is None:
        raise ConfigError(f"--chat: {values.init} is an encoder-decoder: use --prompt or --data")
    if writer.chat.template is None:
        tell("the model has no chat template: messages are marked User: and Assistant:")
    messages = [{"role": "system", "content": values.system}] if values.system is not None else []
    told, results = False, {"answers": 0, "tokens": 0}
    while line := _next_line():
        if not line.strip():
            continue
        messages.append({"role": "user", "content": line.removesuffix("\n").removesuffix("\r")})
        tokens, _ = writer.prompts([messages])
        if writer.cut and not told:
            tell(f"the conversation no longer fits {writer.room:,} tokens: the model sees only its latest messages")
            told = True
        made = _stream(writer, tokens, None, lambda made: writer.tokenizer.decode([made])[0], out)
        messages.append({"role": "assistant", "content": writer.tokenizer.decode([made])[0]})
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
