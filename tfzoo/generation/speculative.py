"""Speculative decoding: propose several tokens, and check them in one step of the model, which costs about as much as
one token (Leviathan et al. 2023, arXiv:2211.17192).

Proposals come from a smaller model, or from an earlier occurrence of the last tokens (prompt lookup). Greedy decoding
gives the tokens that it gives without proposals; samples follow the model's own distribution, and with prompt lookup
they are even the same, since a sampled token is compared with a proposal that does not depend on the random numbers.
"""
import dataclasses

import tensorflow as tf

from tfzoo.generation.decode import OneByOne
from tfzoo.generation.processors import columns_of, is_broken, last_logits
from tfzoo.generation.sampling import draw, gumbel, warp
from tfzoo.layers.kernels import scramble

NGRAM = 2  # prompt lookup compares up to this many of the last tokens
DRAFT, ACCEPT = 0x27D4EB2F, 0x165667B1  # the draft's samples and the acceptance draw random numbers of their own


def _rewound(state, column):
    # The columns from `column` on will be overwritten; until then, the causal order hides them.
    back = tf.maximum(state["column"] - column, 0)
    return {**state, "column": state["column"] - back, "position": state["position"] - back}


def _own(keys, constant):
    return scramble(keys ^ tf.constant(constant, tf.uint32))


def _log_p(logits, options):
    return tf.nn.log_softmax(warp(logits - tf.reduce_max(logits, -1, keepdims=True), options))


def looked_up(token_ids, real, column, most):
    """Return the tokens that follow the first earlier occurrence of the last two tokens, or else of the last.

    Args:
        token_ids: int32 [L], a text.
        real: bool [L], False for padding.
        column: int32 scalar, the number of columns so far.
        most: int32 scalar, the largest number of tokens to return.

    Returns:
        int32 [N], N <= most; empty if there is none.
    """
    begin = column
    for size in range(1, NGRAM + 1):
        same = real & (tf.range(columns_of(token_ids[None])) + size < column)
        for place in range(size):
            same &= tf.roll(token_ids, -place, 0) == token_ids[column - size + place]
        first = tf.argmax(tf.cast(same, tf.int32), output_type=tf.int32)
        begin = tf.where(tf.reduce_any(same), first + size, begin)
    return token_ids[begin:tf.minimum(begin + most, column)]


class Speculative(OneByOne):
    """Choose tokens for a single row as OneByOne does, but check several proposals per step.

    Its state also holds the draft's state; `accepted` and `proposed`, int32 [1], the numbers of tokens so far; and
    `limit`, int32 scalar, the largest number of proposals in the next step: one more than were accepted in the last
    one, or up to twice as many if all were.

    Args:
        body, logits_of, options, history, keys, end: see OneByOne; options has no beams, several answers or tensors.
        draft: (Body, callable), the model that proposes tokens and its logits_of, with the same vocabulary and, for an
            encoder-decoder, the same inputs; None for prompt lookup.
    """

    def __init__(self, body, logits_of, options, history, keys, end, draft=None):
        super().__init__(body, logits_of, options, history, keys, end)
        self.draft, self.most = None, options.prompt_lookup_num_tokens
        if draft is not None:
            self.most = options.num_assistant_tokens
            self.draft = OneByOne(*draft, dataclasses.replace(options, log_probabilities=False), history,
                                  _own(keys, DRAFT), end)
        # Prompt lookup proposes a token for sure: comparing it with a sampled one accepts it with its probability.
        self.compares = draft is None or options.greedy

    def first(self, begun, inputs):
        answers, state = super().first(begun, inputs)
        draft = () if self.draft is None else self.draft.body.start(inputs, columns_of(answers.token_ids))[1]
        return answers, {"body": state, "draft": draft, "accepted": tf.zeros([1], tf.int32),
                         "proposed": tf.zeros([1], tf.int32), "limit": tf.constant(self.most)}

    def found(self, state):
        return {"accepted": state["accepted"], "proposed": state["proposed"]}

    def next(self, answers, state):
        """Return the Answers with one token more than proposals are accepted, and the new state."""
        begin, most = answers.column, tf.minimum(state["limit"], self.end - answers.column - 1)
        if self.draft is None:
            proposals, log_q, draft = looked_up(answers.token_ids[0], answers.real[0], begin, most), None, ()
        else:
            proposals, log_q, draft = self._drafted(answers, state["draft"], most)
        tokens = tf.concat([answers.tokens, proposals], axis=0)
        outputs, body = self.body.step(tokens[None], state["body"])
        logits = self.logits_of(outputs)[0]  # [N + 1, V]

        def check(answers, number, accepted):
            here = logits[number][None]
            scores, place = self.processed(here, answers), tf.minimum(number, tf.size(proposals))
            proposal = tf.concat([proposals, [-1]], axis=0)[place]  # after the last one, every token is a new one
            token, hit = self._compared(scores, proposal, answers) if self.compares else \
                self._accepted(scores, proposal, log_q, number, answers)
            return (self.extended(answers, token, scores, is_broken(here)), number + 1,
                    accepted + tf.cast(hit, tf.int32))

        answers, _, accepted = tf.while_loop(
            lambda answers, number, accepted: (accepted == number) & ~answers.ended[0] & (
                number <= tf.size(proposals)), check, (answers, 0, 0), parallel_iterations=1)
        known = answers.column - 1  # the model has not seen the last token
        # A step with rejected proposals costs more than one without: where few are accepted, propose few.
        limit = tf.where(accepted < tf.size(proposals), accepted + 1, tf.minimum(2 * state["limit"], self.most))
        return answers, {"body": _rewound(body, known), "limit": limit,
                         "draft": () if self.draft is None else _rewound(draft, known),
                         "accepted": state["accepted"] + accepted,
                         "proposed": state["proposed"] + tf.size(proposals)}

    def _compared(self, scores, proposal, answers):
        token = draw(scores, self.options, self.keys, answers.column - self.history.first)
        return token, token[0] == proposal

    def _accepted(self, scores, proposal, log_q, number, answers):
        # Accept a sample of q with the probability min(1, p / q), else draw from max(p - q, 0): together that is p.
        made, is_new, column = answers.column - self.history.first, proposal < 0, tf.maximum(proposal, 0)
        log_p = _log_p(scores, self.options)
        log_q = tf.concat([log_q, tf.zeros_like(log_p)], axis=0)[number][None]
        uniform = -tf.exp(-gumbel(_own(self.keys, ACCEPT), made, 1))[0, 0]  # its logarithm
        hit = ~is_new & (uniform <= log_p[0, column] - log_q[0, column])
        rest = tf.exp(log_p) - tf.where(is_new, 0.0, tf.exp(log_q))
        # If rounding alone leaves nothing, p and q are equal.
        rest = tf.where(tf.reduce_any(rest > 0), tf.math.log(tf.maximum(rest, 0)), log_p)
        other = tf.argmax(rest + gumbel(self.keys, made, rest.shape[-1]), -1, output_type=tf.int32)
        return tf.where(hit, column, other), hit

    def _drafted(self, answers, state, most):
        # (int32 [N], float32 [N, V] or None, the draft's state): the proposals and the distributions they are from.
        draft, begin = self.draft, answers.column
        width = draft.body.config["vocab_size"]
        table = tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=[width])

        def go_on(answers, state, table):
            unseen = answers.token_ids[:, state["column"]:answers.column]  # two tokens if all proposals were accepted
            outputs, state = draft.body.step(unseen, state)
            logits, broken = last_logits(draft.logits_of, outputs)
            scores, made = draft.processed(logits, answers), answers.column - self.history.first
            if self.compares:
                tokens = draw(scores, draft.options, draft.keys, made)
            else:
                log_q = _log_p(scores, draft.options)
                table = table.write(answers.column - begin, log_q[0])
                tokens = tf.argmax(log_q + gumbel(draft.keys, made, width), -1, output_type=tf.int32)
            return draft.extended(answers, tokens, scores, broken), state, table

        answers, state, table = tf.while_loop(
            lambda answers, *_: (answers.column - begin < most) & ~answers.ended[0], go_on,
            (answers._replace(log_p=()), state, table), parallel_iterations=1)
        end = answers.column - tf.cast(answers.tokens[0] < 0, tf.int32)  # outputs of the draft that are NaN
        proposals = answers.token_ids[0, begin:end]
        return proposals, None if self.compares else table.stack()[:tf.size(proposals)], state
