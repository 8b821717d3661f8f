"""Which examples are for evaluation, and which form which batch at which padded length: functions of (seed, epoch)."""
import numpy as np

from tfzoo.errors import ConfigError


def split_rows(count, fraction, seed):
    """Divide examples into training and evaluation, the latter a random share.

    Args:
        count: int, the examples.
        fraction: float, the share.
        seed: int.

    Returns:
        (unsigned int [N], unsigned int [M]): the numbers of the examples of each part, ascending.

    Raises:
        ConfigError: where one part were empty.
    """
    share = round(count * fraction)
    if not 0 < share < count:
        raise ConfigError(f"--eval_fraction={fraction} of {count} examples: allowed is what leaves at least one on "
                          "each side")
    order = np.random.default_rng(seed).permutation(count).astype(np.min_scalar_type(count))
    return np.sort(order[share:]), np.sort(order[:share])


def choose_buckets(lengths, max_length, count=4, multiple=8):
    """Choose the padded lengths that waste the least on padding.

    Args:
        lengths: int [N], the tokens of each example, specials included.
        max_length: int, no bucket is longer.
        count: int, up to this many buckets, so that few shapes are compiled.
        multiple: int, of which all buckets but max_length are multiples.

    Returns:
        Ascending list of int; the last one holds the longest example.
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
    """Divide examples into batches of one padded length each.

    Args:
        lengths: int [N], the tokens of each example, specials included.
        batch_size: int, rows of every batch.
        max_length: int, longer examples are cut there.
        seed: int, of the shuffling; None keeps the order within each bucket (evaluation).
        multiple: int, see choose_buckets.
    """

    def __init__(self, lengths, batch_size, max_length, seed=None, multiple=8):
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}: allowed is 1 or more")
        self.buckets = choose_buckets(lengths, max_length, multiple=multiple)
        self.batch_size = batch_size
        self.seed = seed
        self.bucket_of = np.searchsorted(self.buckets, np.minimum(lengths, self.buckets[-1]))
        self._kept = 0, self.batches(0)
        self.batches_per_epoch = len(self._kept[1])

    def batches(self, epoch):
        """List the batches of an epoch; rows that fill no batch of their bucket move up to the next longer one.

        Args:
            epoch: int from 0.

        Returns:
            List of (padded length, int64 [batch_size]) with -1 for a row that is only padding (last batch only);
            every example is in it exactly once, and the count of batches is the same in every epoch.
        """
        count = len(self.bucket_of)
        rng = None if self.seed is None else np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        order = np.arange(count) if rng is None else rng.permutation(count)
        batches, left = [], np.zeros(0, np.int64)
        for number, length in enumerate(self.buckets):
            rows = np.concatenate([left, order[self.bucket_of[order] == number]])
            whole = len(rows) // self.batch_size * self.batch_size
            batches += [(length, part) for part in rows[:whole].reshape(-1, self.batch_size)]
            left = rows[whole:]
        if rng is not None:
            batches = [batches[number] for number in rng.permutation(len(batches))]
        if len(left):
            batches.append((self.buckets[-1], np.pad(left, (0, self.batch_size - len(left)), constant_values=-1)))
        return batches

    def batch(self, step):
        """Return (padded length, rows) of a step counted from 0 over all epochs."""
        epoch, index = divmod(step, self.batches_per_epoch)
        kept = self._kept  # one value, so that threads may ask for different epochs
        if kept[0] != epoch:
            kept = self._kept = epoch, self.batches(epoch)
        return kept[1][index]
