"""Chat templates: the token ids of a conversation, and which of them are the assistant's.

A tokenizer's own template, written in Jinja, is rendered in a sandbox with the same values as in transformers 4.57, and
encoded to the same ids: every added token that occurs in the rendered text becomes its id, even if a user's message
spells it out. Without a template, each message is encoded on its own under a line with its role, so that a message
never contains special tokens, and the end token follows each of the assistant's:

    User:
    Hello!

    Assistant:
    Hi.<end>User:
    ...
"""
import contextlib
import functools
import json
import re

import numpy as np

from tfzoo.errors import ConfigError, DataError, reason_of, shown
from tfzoo.text.package import PackageTokenizer
from tfzoo.text.tokenizer import as_texts

ROLES = ("system", "user", "assistant")
FOLLOWING = {None: ROLES[:2], "system": ("user",), "user": ("assistant",), "assistant": ("user",)}
IDS = {"bos": "start_id", "cls": "start_id", "eos": "end_id", "sep": "end_id", "pad": "pad_id", "unk": "unk_id",
       "mask": "mask_id"}  # a token's role -> the attribute of Tokenizer with its id
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
LARGEST = 2 ** 24  # the length of a string, or the value of a power, that a template may compute


def check_messages(messages, answered):
    """Return why a conversation is bad, or "".

    Args:
        messages: list of dict with `role` and `content`, both str: an optional system message, then alternately the
            user's and the assistant's.
        answered: bool, whether the last message must be the assistant's; otherwise it must be the user's.
    """
    before = None
    for number, message in enumerate(messages, 1):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            return f"message {number} has the role {shown(role)}, but must have one of {', '.join(ROLES)}"
        if not isinstance(content, str):
            return f"message {number} has the content {shown(content)}, not a string"
        if role not in FOLLOWING[before]:
            return f"message {number} is the {role}'s, but must be the {' or '.join(FOLLOWING[before])}'s"
        if role == "assistant" and not content.strip():
            return f"message {number}, the assistant's, is empty"
        before = role
    last = "assistant" if answered else "user"
    return "" if before == last else \
        f"the last of {len(messages)} messages must be the {last}'s" + (f", but is the {before}'s" if before else "")


def shorten(messages):
    """Return a conversation without its oldest question and answer, or None if it has only one question.

    A system message is kept.
    """
    first = messages[0]["role"] == "system"
    return [*messages[:first], *messages[first + 2:]] if len(messages) > first + 2 else None


def _environment():
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**"])

        def call_binop(self, context, operator, left, right):
            sizes = [len(value) if hasattr(value, "__len__") else value for value in (left, right)]
            if operator == "**" and abs(right) > 64 or operator == "*" and sizes[0] * sizes[1] > LARGEST:
                raise SecurityError("a template must not compute values this large")
            return super().call_binop(context, operator, left, right)

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return nodes.CallBlock(self.call_method("_record"), [], [], body).set_lineno(line)

        def _record(self, caller):
            text, (parts, spans) = caller(), self.environment.recording
            begin = sum(map(len, parts))
            spans.append((begin, begin + len(text)))
            return text

    def raise_exception(message):
        raise TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        import datetime
        return datetime.datetime.now().strftime(format)

    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return environment


class Chat:
    """Encode conversations with a tokenizer's chat template, or with the plain one (see the module).

    Args:
        tokenizer: Tokenizer.

    Raises:
        ConfigError: if the tokenizer has several templates, none of which is called "default".
        DataError: if the template is not valid.
    """

    def __init__(self, tokenizer):
        self.tokenizer, source = tokenizer, tokenizer.chat_template
        if isinstance(source, list):
            named = {one["name"]: one["template"] for one in source if isinstance(one, dict) and
                     one.keys() >= {"name", "template"}}
            source = named.get("default", source)
        if not isinstance(source, (str, type(None))):
            raise ConfigError("tokenizer_config.json has several chat_templates, but none is called default, or it is "
                              f"no text ({shown(source)}): choose one")
        self.template, self._marked = None, bool(source and GENERATION.search(source))
        if source:
            self._environment = _environment()
            with _readable():
                self.template = self._environment.from_string(source)
        named = {token: getattr(tokenizer, IDS[role]) for role, token in tokenizer.tokens.items() if token}
        self._markers = {token: number for token, number in named.items() if number is not None}

    @functools.cached_property
    def end_ids(self):
        """Return the id of the token that ends an answer: tuple of one int, or () if the template has no such token."""
        if self.template is None:
            return (self.tokenizer.end_id,)
        try:
            (ids, targets), = self.encode([[{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]])
        except DataError:  # the model can still generate, up to the end token or a number of tokens
            return ()
        return (int(np.array(ids)[targets & np.isin(ids, self._stops)][-1]),)  # the block may go on with a line break

    def render(self, messages, prompt=False):
        """Render the tokenizer's template.

        Args:
            messages: list of dict (see `check_messages`).
            prompt: bool, whether the beginning of an answer follows the messages.

        Returns:
            (str, list of (int, int)): the text, and where its {% generation %} blocks begin and end.

        Raises:
            DataError: if the template fails or refuses the conversation.
        """
        parts, spans = self._environment.recording = [], []
        names = {f"{role}_token": token for role, token in self.tokenizer.tokens.items() if token}
        with _readable():
            for part in self.template.generate(messages=messages, tools=None, documents=None,
                                               add_generation_prompt=prompt, **names):
                parts.append(part)
        return as_texts(["".join(parts)])[0], spans

    def prompts(self, conversations):
        """Encode conversations up to where the assistant's next message begins.

        Args:
            conversations: list of lists of dict, each of which ends with a message of the user.

        Returns:
            list of lists of int.
        """
        conversations = [_clean(messages) for messages in conversations]
        if self.template is None:
            return [ids for ids, _ in self._plain(conversations)]
        return [ids for ids, _ in self._encode([self.render(messages, True)[0] for messages in conversations])]

    def encode(self, conversations):
        """Encode whole conversations.

        Args:
            conversations: list of lists of dict, each of which ends with a message of the assistant.

        Returns:
            list of (list of int, bool [T]): the ids, and which of them the assistant writes: its messages and the token
            that ends each.

        Raises:
            DataError: if the template does not tell where the assistant's messages are, or `render` raises it.
        """
        conversations = [_clean(messages) for messages in conversations]
        if self.template is None:
            return self._plain(conversations)
        rendered = [self._with_spans(messages) for messages in conversations]
        return [(ids, self._targets(np.array(ids), np.array(offsets, int).reshape(-1, 2), text, spans))
                for (ids, offsets), (text, spans) in zip(self._encode([text for text, _ in rendered]), rendered)]

    def _with_spans(self, messages):
        text, spans = self.render(messages)
        if self._marked:
            return text, spans
        for number, message in enumerate(messages, 1):
            if message["role"] == "assistant":
                before, whole = self.render(messages[:number - 1], True)[0], self.render(messages[:number])[0]
                if not (text.startswith(whole) and whole.startswith(before)):
                    raise DataError(f"the chat template renders the beginning of a conversation differently once it "
                                    f"goes on (message {number}), so the assistant's tokens are not known: put "
                                    "{% generation %} blocks into the template, or train on single questions")
                spans.append((len(before), len(whole)))
        return text, spans

    def _targets(self, ids, offsets, text, spans):
        targets = np.zeros(len(ids), bool)
        for begin, end in spans:
            inside = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > begin))
            ends = inside[np.isin(ids[inside], self._stops)]
            if not len(ends) or text[offsets[ends[-1], 1]:end].strip():  # such as </think>, inside an answer
                raise DataError("the chat template puts no special token after the assistant's messages"
                                f"{' in its {% generation %} blocks' if self._marked else ''}, so a model could not "
                                "learn to end them: add eos_token there")
            targets[inside if self._marked else inside[inside <= ends[-1]]] = True  # not the line break after the token
        return targets

    @functools.cached_property
    def _stops(self):
        added = self.tokenizer.added_ids if isinstance(self.tokenizer, PackageTokenizer) else []
        return np.array([*self._markers.values(), *added], int)

    def _encode(self, texts):
        # [(ids, offsets)] of rendered texts, with the ids of special tokens.
        if isinstance(self.tokenizer, PackageTokenizer):
            return self.tokenizer.encode_marked(texts)
        names = "|".join(map(re.escape, sorted(self._markers, key=len, reverse=True)))
        split = [[part for part in (re.split(f"({names})", text) if names else [text]) if part] for text in texts]
        plain = [part for parts in split for part in parts if part not in self._markers]
        found = zip(self.tokenizer.encode(plain).to_list(), self.tokenizer.offsets(plain)) if plain else iter(())
        encoded = []
        for parts in split:
            ids, offsets, begin = [], [], 0
            for part in parts:
                more, places = ([self._markers[part]], [(0, len(part))]) if part in self._markers else next(found)
                ids += more
                offsets += [(begin + first, begin + end) for first, end in places]
                begin += len(part)
            encoded.append((ids, offsets))
        return encoded

    def _plain(self, conversations):
        pieces, end = [list(_pieces_of(messages)) for messages in conversations], self.tokenizer.end_id
        found, encoded = iter(self.tokenizer.encode([text for them in pieces for text, _ in them]).to_list()), []
        for them in pieces:
            ids, targets = list(self.tokenizer.opening), [False] * len(self.tokenizer.opening)
            for (_, answers), more in zip(them, found):
                more += [end] * answers
                ids += more
                targets += [answers] * len(more)
            encoded.append((ids, np.array(targets)))
        return encoded


def _pieces_of(messages):
    # The plain template: each (text to encode, whether it is the assistant's).
    for message in messages:
        answers = message["role"] == "assistant"
        yield f"{message['role'].capitalize()}:\n", False
        yield message["content"] + "\n\n" * (not answers), answers
    if messages[-1]["role"] == "user":
        yield "Assistant:\n", False


def _clean(messages):
    return [{**message, "content": as_texts([message["content"]])[0]} for message in messages]


@contextlib.contextmanager
def _readable():
    # Convert whatever a template raises to a DataError of one line.
    from jinja2.exceptions import TemplateSyntaxError
    try:
        yield
    except Exception as error:
        what = "is not valid" if isinstance(error, TemplateSyntaxError) else "cannot be rendered"
        raise DataError(f"the chat template {what} ({reason_of(error, 200)})") from None
