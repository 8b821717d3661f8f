"""The most probable sequence of labels without forbidden transitions (Viterbi 1967, doi:10.1109/TIT.1967.1054010)."""
import tensorflow as tf


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
