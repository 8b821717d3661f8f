"""Batches of sources and targets for encoder-decoders, padded to a few pairs of lengths."""
import numpy as np

from tfzoo.data.batches import Planned

ROWS = 8  # batches of --batch_tokens can be split over 2, 4 or 8 devices or microbatches


class SourceTargetBatches(Planned):
    """Batch pairs of encoded texts for teacher forcing.

    The decoder's input is the padding token, as in T5, followed by the target. Its labels are the target followed by
    the end token, which is a label as well. Pairs are planned by the longer of both texts, each in units of its mean
    length, so that batches have at most four shapes (S, T).

    Args:
        sources, targets: EncodedTexts; targets are None in prediction.
        tokenizer: Tokenizer, provides the special tokens.
        batch_size: int, the number of rows per batch, unless batch_tokens is given.
        max_length, max_target_length: int, the maximum numbers of tokens, including special tokens.
        seed, shuffle, multiple: see `TextBatches`.
        answered: bool, whether batches have `answer_ids`, for generation.
        batch_tokens: int, the maximum number of tokens per batch, in sources and targets together, padding included;
            the number of rows is then a multiple of ROWS, at least ROWS. 0: none.
        references: list of str, the targets.

    Attributes:
        tokenizer: Tokenizer.
        cut: int, the number of truncated sources.
        targets_cut: int, the number of truncated targets.
    """

    def __init__(self, sources, targets, tokenizer, *, batch_size, max_length, max_target_length, seed, shuffle,
                 multiple, answered, batch_tokens=0, references=None):
        self.sources, self.targets, self.tokenizer, self.references = sources, targets, tokenizer, references
        self.max_length, self.max_target_length, self.answered = max_length, max_target_length, answered
        around = max_length - tokenizer.room(max_length, 1)
        lengths = [sources.lengths + around, np.zeros(len(sources), int) if targets is None else targets.lengths + 1]
        self.cut, self.targets_cut = (int((each > most).sum())
                                      for each, most in zip(lengths, (max_length, max_target_length)))
        lengths = [np.clip(each, 1, most) for each, most in zip(lengths, (max_length, max_target_length))]
        unit = max(each.mean() for each in lengths)
        longer = np.ceil(np.maximum(*(each * (unit / each.mean()) for each in lengths))).astype(int)

        def sizes(plan):
            self.shapes = self._shapes(plan, lengths, multiple)
            return [max(batch_tokens // sum(shape) // ROWS, 1) * ROWS if batch_tokens else batch_size
                    for shape in self.shapes.values()]

        super().__init__(longer, sizes, int(longer.max()), seed, shuffle, multiple)
        self.batch_size = round(len(sources) / self.batches_per_epoch) if batch_tokens else batch_size  # on average

    def _shapes(self, plan, lengths, multiple):
        # dict of bucket -> (S, T), ascending: the rows left over in a bucket move to the next one.
        shapes, known = {}, [1, 1]
        for number, bucket in enumerate(plan.buckets):
            rows = plan.bucket_of == number
            known = [max(before, int(each[rows].max(initial=1))) for before, each in zip(known, lengths)]
            shapes[bucket] = tuple(1 if longest == 1 else min(-(-longest // multiple) * multiple, most)
                                   for longest, most in zip(known, (self.max_length, self.max_target_length)))
        return shapes

    def batch(self, step):
        """Return a batch: dict of arrays.

        `encoder_token_ids`, `encoder_padding_mask` int32 [B, S]; `decoder_token_ids` int32 [B, T], T = 1 without
        targets; with targets `decoder_padding_mask`, `labels` int32 [B, T] and `weights` float32 [B, T]; if answered,
        `answer_ids` int32 [B, max_target_length], end tokens.
        """
        bucket, rows = self.plan.batch(step)
        (source_length, length), pad, end = self.shapes[bucket], self.tokenizer.pad_id, self.tokenizer.end_id
        source_ids = np.full((len(rows), source_length), pad, np.int32)
        token_ids, labels = np.full((2, len(rows), length), pad, np.int32)
        source_mask, weights = np.zeros_like(source_ids), np.zeros(labels.shape, np.float32)
        for number, index in enumerate(rows):
            if index < 0:
                continue
            tokens = self.tokenizer.join_row([self.sources[index]], self.max_length)[0] or [pad]  # see TextBatches.row
            source_ids[number, :len(tokens)], source_mask[number, :len(tokens)] = tokens, 1
            if self.targets is not None:
                target = self.targets[index][:self.max_target_length - 1]
                token_ids[number, 1:len(target) + 1], labels[number, :len(target) + 1] = target, [*target, end]
                weights[number, :len(target) + 1] = 1
        batch = {"encoder_token_ids": source_ids, "encoder_padding_mask": source_mask, "decoder_token_ids": token_ids}
        if self.targets is not None:
            batch.update(decoder_padding_mask=weights.astype(np.int32), labels=labels, weights=weights)
        if self.answered:
            batch["answer_ids"] = np.full((len(rows), self.max_target_length), end, np.int32)
        return batch

    def notes(self, source, max_length):
        counts = ((self.cut, "sources", max_length), (self.targets_cut, "targets", self.max_target_length))
        return [f"{source.name}: {count:,} of {len(source):,} {what} were truncated to {most} tokens"
                for count, what, most in counts if count]
