"""The stack of blocks in encoders, decoders and encoder-decoders, optionally with rematerialization."""
import dataclasses

import tensorflow as tf

from tfzoo.layers import NO_TAPS, context
from tfzoo.layers.rows import Rows


class Stack:
    """Run blocks one after another.

    Args:
        blocks: list of Block, owned by the body; if there is only one, it is applied `count` times.
        count: int, number of block applications.
        norm, dropout: layers applied after the last block, or None.
        prefix: str, prefix for the names of intermediate results: "", "encoder_" or "decoder_".
    """

    def __init__(self, blocks, count, norm=None, dropout=None, prefix=""):
        self.blocks, self.count, self.norm, self.dropout, self.prefix = blocks, count, norm, dropout, prefix

    def names(self):
        """Return the names of the intermediate results that `taps` may request: list of str."""
        blocks = [f"{self.prefix}block_{number:02d}" for number in range(self.count)]
        attended = [f"{block}/{kind}/probabilities" for block in blocks for kind in ("attention", "cross_attention")
                    if getattr(self.blocks[0], kind) is not None]
        return [f"{self.prefix}embeddings", *blocks, *attended]

    def __call__(self, hidden, *, visible=None, rotary=None, bias=None, source=None, source_visible=None, caches=None,
                 read=None, taps=NO_TAPS, training=None):
        """Run all blocks, then apply the norm and dropout.

        Args:
            hidden: float [B, T, D], the embeddings.
            visible, rotary, bias, source_visible: see Block.
            source: float [B, S, D], or a list with one projected Keys per block; None without cross-attention.
            caches: list of Cache, one per block, or None.
            read: int32 [B, P], the positions to return; the last block computes only these. None returns all.
            taps: Taps for any of `names()`.
            training: bool.

        Returns:
            float [B, T, D], or [B, P, D] with `read`.
        """
        taps.note(f"{self.prefix}embeddings", hidden)
        rows = None
        if not training and not context.current().fused:
            rows, hidden = Rows.of(hidden)

        def texts(hidden):
            return hidden if rows is None else rows.split(hidden)

        for number in range(self.count):
            name, last = f"{self.prefix}block_{number:02d}", number + 1 == self.count
            inside = taps.below(name)
            whole = inside or taps.wants(name)  # intermediate results cover all positions
            if last and not whole and read is not None:
                hidden, rows = texts(hidden), None
            hidden = self._run(number, hidden, bias=bias,
                               source=source[number] if isinstance(source, list) else source,
                               visible=visible, rotary=rotary, source_visible=source_visible,
                               cache=None if caches is None else caches[number],
                               read=read if last and not whole else None, rows=rows, taps=inside, training=training)
            if taps.wants(name):
                taps.note(name, texts(hidden))
            if last and whole and read is not None:
                hidden, rows = tf.gather(texts(hidden), read, axis=1, batch_dims=1), None
        hidden = texts(hidden if self.norm is None else self.norm(hidden))
        return hidden if self.dropout is None else self.dropout(hidden, training=training)

    def _run(self, number, hidden, bias, source, *, cache, taps, **others):
        block = self.blocks[number % len(self.blocks)]
        # Each use of a shared block has its own dropout mask, even when the backward pass retraces it.
        here = context.current()
        inside = dataclasses.replace(here, reuse=number) if len(self.blocks) < self.count else here

        def run(hidden, bias, source):
            with context.entered(inside):
                return block(hidden, bias=bias, source=source, cache=cache, taps=taps, **others)

        if here.remat and cache is None and not taps:
            return rematerialized(run, block.trainable_variables, hidden, bias, source)
        return run(hidden, bias, source)


def rematerialized(function, trained, *inputs):
    """Call a function without storing its activations, which are recomputed in the backward pass.

    Unlike tf.recompute_grad, this computes gradients only for the inputs and the variables in `trained`, not for frozen
    variables that the function reads.

    Args:
        function: callable of `inputs` that returns a tensor.
        trained: list of the trainable Keras variables that the function reads.
        inputs: tensors or None.

    Returns:
        The tensor that the function returns.
    """
    def call(given):
        left = iter(given)
        return function(*(None if one is None else next(left) for one in inputs))

    @tf.custom_gradient
    def run(*given):
        def gradients(upstream, variables=()):
            local = tf.distribute.get_strategy().experimental_local_results  # a replica reads its local component
            known = {id(part) for variable in trained for part in (variable.value, *local(variable.value))}
            wanted = [variable for variable in variables if id(variable) in known]
            # Make the recomputation wait for the upstream gradient; otherwise all blocks would be recomputed at once.
            first = tf.cast(tf.reshape(upstream, (-1,))[0], tf.float32)
            zero = tf.where(first == first, 0.0, float("nan"))
            again = [one + tf.cast(zero, one.dtype) for one in given]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([*again, *wanted])
                result = call(again)
            found = tape.gradient(result, [*again, *wanted], upstream)
            of = {id(variable): gradient for variable, gradient in zip(wanted, found[len(again):])}
            found = found[:len(again)]
            return (found, [of.get(id(variable)) for variable in variables]) if variables else found

        return call(given), gradients

    return run(*(one for one in inputs if one is not None))
