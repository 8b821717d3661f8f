"""The machine's peak rates, from which the benchmarks derive lower bounds on times."""
import time

SHAPES = ((2048, 2048, 2048), (4096, 512, 2048), (4096, 2048, 512))


def _best_seconds(function, repeats=20):
    function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def peaks():
    """Measure the machine's peak rates: dict of dtype -> FLOP/s in large matrix products, and "bytes" -> bytes/s."""
    import tensorflow as tf
    rates = {}
    for dtype in ("bfloat16", "float32"):
        found = []
        for rows, inner, columns in SHAPES:
            left, right = (tf.cast(tf.random.normal(shape), dtype) for shape in ((rows, inner), (inner, columns)))
            product = tf.function(lambda left, right: tf.matmul(left, right), autograph=False)
            found.append(2 * rows * inner * columns / _best_seconds(lambda: product(left, right)))
        rates[dtype] = max(found)
    values, more = (tf.Variable(tf.zeros(2 ** 25)) for _ in range(2))
    update = tf.function(lambda: values.assign_add(more), autograph=False)
    rates["bytes"] = 3 * 4 * 2 ** 25 / _best_seconds(update)  # two read, one written
    return rates
