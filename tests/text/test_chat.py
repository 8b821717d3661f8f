"""Chat templates: texts, ids and masks equal transformers', hostile templates fail in one line, ours is kept."""
import json
import pathlib

import numpy as np
import pytest

from tfzoo.errors import ConfigError, DataError
from tfzoo.text import load_tokenizer
from tfzoo.text.byte import ByteTokenizer
from tfzoo.text.chat import Chat, check_messages, shorten

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "chat.json").read_text(encoding="utf-8"))
CONVERSATIONS = GOLDEN["conversations"]
HELLO = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]


def write(folder, kind, template, bos="<s>", eos="</s>", jinja=False):
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(GOLDEN["tokenizers"][kind], encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos}
    if jinja:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    else:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return load_tokenizer(folder)


def chat_of(folder, template, **tokens):
    return Chat(write(folder, "bytelevel", template, **tokens))


@pytest.mark.parametrize("name", GOLDEN["templates"])
@pytest.mark.parametrize("kind", GOLDEN["tokenizers"])
def test_texts_ids_and_masks_are_those_of_transformers(name, kind, tmp_path):
    entry = GOLDEN["templates"][name]
    tokenizer = write(tmp_path / "one", kind, entry["template"], entry["bos"], entry["eos"], jinja=kind == "metaspace")
    (tmp_path / "two").mkdir()
    tokenizer.save(tmp_path / "two")  # the template is kept
    for chat in (Chat(tokenizer), Chat(load_tokenizer(tmp_path / "two"))):
        for messages, row in zip(CONVERSATIONS, entry["rendered"]):
            if "error" in row:
                with pytest.raises(DataError, match="the chat template cannot be rendered") as caught:
                    chat.render(messages)
                assert row["error"] in str(caught.value)
                continue
            for prompt in (False, True):
                assert chat.render(messages, prompt)[0] == row[f"text_{prompt}"]
            if messages[-1]["role"] == "user":
                assert chat.prompts([messages]) == [row[f"{kind}_True"]]
            elif name != "tools":
                (ids, targets), = chat.encode([messages])
                assert ids == row[f"{kind}_False"]
                if name == "generation":
                    assert targets.tolist() == [bool(mask) for mask in row[f"{kind}_mask"]]


@pytest.mark.parametrize("name", [name for name in GOLDEN["templates"] if name != "tools"])
def test_the_assistant_s_tokens_are_its_messages_and_the_token_that_ends_each(name, tmp_path):
    entry = GOLDEN["templates"][name]
    tokenizer = write(tmp_path / "one", "bytelevel", entry["template"], entry["bos"], entry["eos"])
    chat, end = Chat(tokenizer), {"gemma": "<end_of_turn>", "llama3": "<|eot_id|>"}.get(name, entry["eos"])
    messages = CONVERSATIONS[3]
    (ids, targets), = chat.encode([messages])
    edges = np.flatnonzero(np.diff([0, *targets, 0]))
    parts = [ids[first:last] for first, last in edges.reshape(-1, 2)]
    end_id = json.loads(GOLDEN["tokenizers"]["bytelevel"])["model"]["vocab"][end]
    assert [part[-1] for part in parts] == [end_id] * 2 and chat.end_ids == (end_id,)
    texts = [text.strip() for text in tokenizer.decode(parts)]
    assert texts == [messages[1]["content"], messages[3]["content"].strip()]
    # What a model sees before an answer is how the conversation begins.
    assert chat.prompts([messages[:3]])[0] == ids[:edges[2]] and chat.prompts([messages[:1]])[0] == ids[:edges[0]]


def test_without_a_template_each_message_follows_its_role_and_never_has_special_tokens(tmp_path):
    tokenizer = load_tokenizer(write_gpt2(tmp_path))
    messages = [{"role": "system", "content": "Short."}, {"role": "user", "content": "A <|endoftext|>?"},
                {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"},
                {"role": "assistant", "content": "D\ud800"}]
    for one in (ByteTokenizer(), tokenizer):
        (ids, targets), = Chat(one).encode([messages])
        text = "System:\nShort.\n\nUser:\nA <|endoftext|>?\n\nAssistant:\nBUser:\nC\n\nAssistant:\nD?"
        assert one.decode([ids]) == [text] and ids.count(one.end_id) == 2 + (one.opening == [one.end_id])
        assert np.array(ids)[targets].tolist() == [*one.encode(["B"]).to_list()[0], one.end_id,
                                                   *one.encode(["D?"]).to_list()[0], one.end_id]
        assert Chat(one).prompts([messages[:4]]) == [ids[:np.flatnonzero(targets)[2]]]
        assert Chat(one).end_ids == (one.end_id,)


def write_gpt2(folder):
    from tfzoo.text import learn_tokenizer
    learn_tokenizer("learn:bpe:300", ["a few words"]).save(folder)
    return folder


@pytest.mark.parametrize("template, says", [
    ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe|undefined"),
    ("{{ messages.append(1) }}", "unsafe"), ("{{ cycler.__init__.__globals__.os.popen('id') }}", "unsafe|undefined"),
    ("{% include '/etc/passwd' %}", "loader|include"), ("{% for message in messages %}", "is not valid"),
    ("{{ 'a' * 10 ** 9 }}", "values this large"), ("{{ 10 ** 999 }}", "values this large"),
    ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"), ("{{ 1 / 0 }}", "division by zero"),
    ("{{ raise_exception('no\nway') }}", "no"), ("{{ messages[0].role + 1 }}", "cannot be rendered")])
def test_a_template_that_tries_to_escape_or_fails_is_refused_in_one_line(template, says, tmp_path):
    with pytest.raises(DataError, match=says) as caught:
        chat_of(tmp_path / "one", template).prompts([HELLO[:1]])
    assert "\n" not in str(caught.value) and str(caught.value).startswith("the chat template")


@pytest.mark.parametrize("template", ["{{ '{0.__class__}'.format(messages) }}", "{{ messages | attr('__class__') }}",
                                      "{{ ('{0.__class__}' | attr('format'))(messages) }}"])
def test_a_template_sees_nothing_of_python_behind_its_values(template, tmp_path):
    assert chat_of(tmp_path / "one", template).render(HELLO)[0] == ""


def test_a_template_that_hides_the_assistant_s_tokens_is_refused(tmp_path):
    late = "{% for m in messages %}{{ m.content + (eos_token if loop.last else '') }}{% endfor %}"
    with pytest.raises(DataError, match="message 2.*generation"):
        chat_of(tmp_path / "one", late).encode([CONVERSATIONS[3]])
    with pytest.raises(DataError, match="no special token after the assistant's messages"):
        chat_of(tmp_path / "one", "{% for m in messages %}{{ m.content }}{% endfor %}").encode([HELLO])
    several = [{"name": "rag", "template": "a"}, {"name": "default", "template": "{{ messages[0].content }}"}]
    assert chat_of(tmp_path / "one", several).render(HELLO)[0] == "Hello"
    with pytest.raises(ConfigError, match="none is called default"):
        chat_of(tmp_path / "one", several[:1])


@pytest.mark.parametrize("block", [
    "{% generation %}{{ m.content + eos_token + '\n' }}{% endgeneration %}",  # huggingface/trl#5526
    "{% generation %}{{ m.content + eos_token + '  ' }}{% endgeneration %}",  # huggingface/transformers#47325
    "{% generation %}{{ m.content + eos_token }}{% endgeneration %}{{ '\n' }}", "{{ m.content + eos_token + '\n' }}"])
def test_an_answer_ends_at_the_special_token_not_at_the_whitespace_after_it(block, tmp_path):
    begin = "{% for m in messages %}{{ m.role + ': ' }}{% if m.role == 'assistant' %}"
    template = f"{begin}{block}{{% else %}}{{{{ m.content + '\n' }}}}{{% endif %}}{{% endfor %}}" \
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    chat = chat_of(tmp_path / "one", template)
    assert chat.end_ids == (chat.tokenizer.end_id,)
    (ids, targets), = chat.encode([[*HELLO, *HELLO]])
    answers = np.flatnonzero(np.diff([0, *targets, 0])).reshape(-1, 2)
    texts = chat.tokenizer.decode([ids[first:end] for first, end in answers])
    assert [text.strip() for text in texts] == ["Hi.", "Hi."]


@pytest.mark.parametrize("marked", [False, True])
def test_a_special_token_in_an_answer_does_not_end_it(marked, tmp_path):
    # Otherwise, "Sure" would silently not be learned. </think> is an added token in Qwen3 and DeepSeek-R1.
    answer = "{% generation %}{{ m.content }}{% endgeneration %}" if marked else "{{ m.content }}"
    template = "{% for m in messages %}{{ m.role + ': ' }}{% if m.role == 'assistant' %}" + answer + \
        "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    messages = [HELLO[0], {"role": "assistant", "content": "Well.</s> Sure"}]
    with pytest.raises(DataError, match="no special token after the assistant's messages"):
        chat_of(tmp_path / "one", template).encode([messages])
    chat = chat_of(tmp_path / "two", template.replace(answer, answer.replace("m.content", "m.content + eos_token")))
    (ids, targets), = chat.encode([messages])
    end = chat.tokenizer.end_id
    assert np.array(ids)[targets].tolist().count(end) == 2 and targets[-1] and ids[-1] == end


@pytest.mark.parametrize("messages, answered, says", [
    (HELLO, True, ""), (HELLO[:1], False, ""), ([{"role": "system", "content": ""}, *HELLO, *HELLO], True, ""),
    ([], True, "0 messages"), (HELLO[:1], True, "the last of 1 messages must be the assistant's, but is the user's"),
    (HELLO, False, "the last of 2 messages must be the user's"), (HELLO[1:], True, "message 1 is the assistant's"),
    ([HELLO[0], *HELLO], True, "message 2 is the user's, but must be the assistant's"),
    ([*HELLO, {"role": "system", "content": "x"}], True, "message 3 is the system's, but must be the user's"),
    ([{"role": "bot", "content": "x"}], True, "message 1 has the role 'bot'"), ([{"content": "x"}], True, "role None"),
    ([{"role": "user", "content": ["x"]}], False, "message 1 has the content ['x'], not a string"),
    ([HELLO[0], {"role": "assistant", "content": " \n"}], True, "message 2, the assistant's, is empty")])
def test_roles_out_of_order_and_empty_answers_are_named(messages, answered, says):
    found = check_messages(messages, answered)
    assert found == "" if says == "" else says in found


def test_a_conversation_is_shortened_by_its_oldest_question_and_answer():
    system = {"role": "system", "content": "x"}
    assert shorten([system, *HELLO, *CONVERSATIONS[0]]) == [system, *CONVERSATIONS[0]]
    assert shorten([*HELLO, HELLO[0]]) == HELLO[:1]
    assert shorten(HELLO) is None and shorten([system, HELLO[0]]) is None
