"""Random splits into training and evaluation data, choice of padded lengths, and reproducible batch plans."""
import numpy as np

from tfzoo.errors import ConfigError


def split_rows(count, fraction, seed):
    """Split examples at random into a training part and an evaluation part.

    Args:
        count: int, the number of examples.
        fraction: float, the fraction of examples to use for evaluation.
        seed: int.

    Returns:
        (unsigned int [N], unsigned int [M]): the indices of the training and evaluation examples, ascending.

    Raises:
        ConfigError: if one of the parts would be empty.
    """
    share = round(count * fraction)
    if not 0 < share < count:
        raise ConfigError(f"--eval_fraction={fraction} of {count} examples: the fraction must leave at least one "
                          "example for training and one for evaluation")
    order = np.random.default_rng(seed).permutation(count).astype(np.min_scalar_type(count))
    return np.sort(order[share:]), np.sort(order[:share])


def choose_buckets(lengths, max_length, count=4, multiple=8):
    """Choose the padded lengths (buckets) that minimize padding.

    Args:
        lengths: int [N], the number of tokens in each example, including special tokens.
        max_length: int, the maximum padded length in tokens.
        count: int, the maximum number of buckets; each bucket is a shape to compile.
        multiple: int, every bucket except max_length is a multiple of this number.

    Returns:
        List of int, ascending. The longest example fits in the last bucket, unless it exceeds max_length.
    """
    lengths = np.minimum(np.asarray(lengths), max_length)
    longest = int(lengths.max())
    edges = sorted({min(edge, max_length) for edge in range(multiple, longest + multiple, multiple)})
    below = np.array([0] + [int((lengths <= edge).sum()) for edge in edges])
    size = len(edges)
    cost = np.full((count + 1, size + 1), np.inf)
    cost[:, 0] = 0
    back = np.zeros((count + 1, size + 1), int)
    for used in range(1, count + 1):
        for end in range(1, size + 1):
            options = cost[used - 1, :end] + (below[end] - below[:end]) * edges[end - 1]
            back[used, end] = int(options.argmin())
            cost[used, end] = options.min()
    buckets, end, used = [], size, count
    while end > 0:
        buckets.append(edges[end - 1])
        end, used = back[used, end], used - 1
    return buckets[::-1]


class BatchPlan:
    """Plan batches so that all examples in a batch are padded to the same length.

    Args:
        lengths: int [N], the number of tokens in each example, including special tokens.
        batch_size: int, the number of rows per batch; or a callable that takes the plan, of which only `buckets` and
            `bucket_of` are known, and returns that number for each bucket, in descending order.
        max_length: int, the length in tokens to which longer examples are truncated.
        seed: int, the shuffle seed; None keeps the order within each bucket (evaluation).
        multiple: int, see `choose_buckets`.

    Raises:
        ConfigError: if batch_size is less than 1.
    """

    def __init__(self, lengths, batch_size, max_length, seed=None, multiple=8):
        if not callable(batch_size) and batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.buckets = choose_buckets(lengths, max_length, multiple=multiple)
        self.seed = seed
        self.bucket_of = np.searchsorted(self.buckets, np.minimum(lengths, self.buckets[-1]))
        self.sizes = batch_size(self) if callable(batch_size) else [batch_size] * len(self.buckets)
        self._kept = 0, self.batches(0)
        self.batches_per_epoch = len(self._kept[1])

    def batches(self, epoch):
        """Return the batches for an epoch.

        The examples left over when a bucket is divided into full batches move to the next longer bucket.

        Args:
            epoch: int, from 0.

        Returns:
            List of (int, int64 [B]): the padded length and the example indices. Every example occurs exactly
            once, and all epochs have the same number of batches. Empty rows have the index -1 and occur only in the
            last batch.
        """
        count = len(self.bucket_of)
        rng = None if self.seed is None else np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        order = np.arange(count) if rng is None else rng.permutation(count)
        batches, left = [], np.zeros(0, np.int64)
        for number, length in enumerate(self.buckets):
            rows = np.concatenate([left, order[self.bucket_of[order] == number]])
            whole = len(rows) // self.sizes[number] * self.sizes[number]
            batches += [(length, part) for part in rows[:whole].reshape(-1, self.sizes[number])]
            left = rows[whole:]
        if rng is not None:
            batches = [batches[number] for number in rng.permutation(len(batches))]
        if len(left):
            batches.append((self.buckets[-1], np.pad(left, (0, self.sizes[-1] - len(left)), constant_values=-1)))
        return batches

    def batch(self, step):
        """Return the batch for a step. Steps are counted from 0 and continue across epochs.

        Returns:
            (int, int64 [B]): the padded length and the example indices.
        """
        epoch, index = divmod(step, self.batches_per_epoch)
        kept = self._kept  # read only once, as other threads may request other epochs
        if kept[0] != epoch:
            kept = self._kept = epoch, self.batches(epoch)
        return kept[1][index]
