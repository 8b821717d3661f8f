"""The most probable sequence of labels without forbidden transitions (Viterbi 1967, doi:10.1109/TIT.1967.1054010)."""
import numpy as np
import tensorflow as tf

FORBIDDEN = -1e6  # far below any log-probability; finite, so that a sequence exists even if all of them are forbidden
GROUP_WORDS = 2 ** 16  # the maximum number of words to decode at once, padding included


def penalties(allowed):
    """Convert the result of `records.tags.transitions` to scores: three float32 arrays, 0 or FORBIDDEN."""
    return tuple(np.where(part, 0, FORBIDDEN).astype(np.float32) for part in allowed)


def viterbi(scores, lengths, start, between, end):
    """Find the sequence of labels with the highest total score, in a graph.

    Args:
        scores: float32 [B, W, C], the log-probability of each label for each word.
        lengths: int32 [B], the number of words in each sentence.
        start, between, end: float32 [C], [C, C] and [C], the scores of starting with a label, of label j after label i
            (at [i, j]), and of ending with a label.

    Returns:
        int32 [B, W]; of the sequences with the highest score, one with the lowest labels. Labels after the end of a
        sentence are meaningless.
    """
    width, labels = tf.shape(scores)[1], tf.range(tf.shape(scores)[2])
    words = tf.transpose(tf.pad(scores, [[0, 0], [0, 2], [0, 0]]), (1, 0, 2))  # [W + 2, B, C]: at least two steps

    def forward(state, step):
        number, word = step
        paths = state[0][:, :, None] + between  # [B, C, C]
        best = tf.reduce_max(paths, axis=1) + word
        best -= tf.reduce_max(best, axis=1, keepdims=True)  # keeps float32 exact in long sentences
        real = (number < lengths)[:, None]
        return tf.where(real, best, state[0]), tf.where(real, tf.argmax(paths, 1, output_type=tf.int32), labels)

    first = start + words[0]
    totals, origins = tf.scan(forward, (tf.range(1, width + 2), words[1:]),
                              initializer=(first, tf.zeros_like(first, tf.int32)))
    last = tf.argmax(totals[-1] + end, axis=1, output_type=tf.int32)
    before = tf.scan(lambda label, origin: tf.gather(origin, label, batch_dims=1), origins, initializer=last,
                     reverse=True)  # [W + 1, B]: the label of each word, then that of the first padding
    return tf.transpose(before[:-1])


_compiled = tf.function(viterbi, autograph=False, input_signature=[
    tf.TensorSpec(shape, dtype) for shape, dtype in (
        ([None, None, None], tf.float32), ([None], tf.int32), ([None], tf.float32), ([None, None], tf.float32),
        ([None], tf.float32))])


def decode(scores, lengths, allowed):
    """Decode sentences of any lengths on the host.

    Args:
        scores: float32 [W, C], the log-probability of each label for the words of all sentences in order.
        lengths: int [N], the number of words in each sentence.
        allowed: see `penalties`.

    Returns:
        int32 [W], the label of each word.
    """
    found, penalty = np.zeros(len(scores), np.int32), penalties(allowed)
    first, order = np.cumsum(lengths) - lengths, np.argsort(lengths, kind="stable")
    group = []
    for position, number in enumerate(order):
        group.append(number)
        longest = lengths[order[min(position + 1, len(order) - 1)]]
        if position + 1 < len(order) and longest * (len(group) + 1) <= GROUP_WORDS:
            continue
        sizes = lengths[group]
        inside = np.arange(sizes.max()) < sizes[:, None]  # [B, W]
        places = (first[group][:, None] + np.arange(sizes.max()))[inside]
        dense = np.zeros((*inside.shape, scores.shape[1]), np.float32)
        dense[inside] = scores[places]
        found[places] = _compiled(dense, sizes.astype(np.int32), *penalty).numpy()[inside]
        group = []
    return found
