"""Sequence-to-sequence: generate a target text from a source text (Vaswani et al. 2017, arXiv:1706.03762; Raffel et al.
2020, arXiv:1910.10683), for example a translation or a summary.

Training uses teacher forcing; evaluation and prediction generate greedily or with beams.
"""
import re

import tensorflow as tf

from tfzoo.data.encode import encode_texts
from tfzoo.data.readers import Schema
from tfzoo.data.source_target import SourceTargetBatches
from tfzoo.errors import ConfigError
from tfzoo.generation.decode import decode_answers
from tfzoo.records.options import Options
from tfzoo.metrics.bleu import bleu_metrics, bleu_signature, language_of
from tfzoo.metrics.rouge import is_latin, rouge_metrics
from tfzoo.tasks.heads import CausalLMHead
from tfzoo.tasks.predictor import texts_of
from tfzoo.tasks.task import Task

LANGUAGE = re.compile(r"auto|[a-z]{2,3}([-_]\w+)*")


def _has_target(row, labelled):
    return "an empty target" if labelled and not row["target"].strip() else ""


class Seq2SeqBatches(SourceTargetBatches):
    """SourceTargetBatches that also report how their answers are scored; `language` is the language of the targets."""

    language = ""

    def notes(self, source, max_length):
        notes = super().notes(source, max_length)
        if not self.answered or not self.references:
            return notes
        units = "words" if is_latin(self.references) else "words, or characters in scripts without spaces"
        return [*notes, f"{source.name}: BLEU is {bleu_signature(self.language)}; ROUGE counts {units}"]


class Seq2Seq(Task):
    """Generate a target text from a source text.

    Args:
        max_target_length: int, the maximum number of target tokens, including the end token, in training and in
            generation; 0: the same as max_length.
        source_prefix: str, text to put before each source, such as T5's "summarize: ".
        target_language: str, the language code of the targets, which determines BLEU's tokenizer; "auto" recognizes
            Chinese, Japanese and Korean.
        num_beams, length_penalty, no_repeat_ngram_size: see tfzoo.generation.Options.

    Raises:
        ConfigError: if target_language is not a language code, or the options of generation do not fit together.
    """

    name, script = "seq2seq", "finetune"
    schema = Schema(inputs=("source",), targets=("target",), check=_has_target)
    answered, exports, text_columns = True, False, ("source", None)
    better, shown = ("chrf", max), ("loss", "bleu", "chrf", "rougeL", "exact_match")

    def __init__(self, max_target_length=0, source_prefix="", target_language="auto", num_beams=1, length_penalty=1.0,
                 no_repeat_ngram_size=0):
        if not LANGUAGE.fullmatch(target_language):
            raise ConfigError(f"--target_language={target_language} must be auto or a language code such as de or zh")
        self.max_target_length, self.source_prefix = max_target_length, source_prefix
        self.target_language = target_language
        self.num_beams, self.length_penalty, self.no_repeat_ngram_size = num_beams, length_penalty, no_repeat_ngram_size
        self.options()

    def options(self, **others):
        """Return the Options of evaluation and prediction, with `others`."""
        return Options(temperature=0, num_beams=self.num_beams, length_penalty=self.length_penalty,
                       no_repeat_ngram_size=self.no_repeat_ngram_size, **others)

    def suits(self, traits):
        return traits.source

    def head(self, body, dropout):
        config, width, tied = body.config, body.config["hidden_dim"], body.config["tied"]
        return CausalLMHead(*(() if tied else (config["vocab_size"], width)),
                            scale=width ** -0.5 if tied and config["scaled_logits"] else 1.0,
                            initializer_range=config["initializer_range"] or width ** -0.5, name="head",
                            dtype=body.dtype_policy)

    def language(self, references):
        """Return the language code of target texts: str."""
        code = self.target_language
        return language_of(references) if code == "auto" else re.split("[-_]", code)[0]

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        references = source.columns.get("target")
        sources = [self.source_prefix + text for text in source.columns["source"]]
        sources, targets = (texts and encode_texts(tokenizer, texts, label=source.name,
                                                   progress=None if references else False)
                            for texts in (sources, references))
        batches = Seq2SeqBatches(sources, targets, tokenizer, batch_size=batch_size, max_length=max_length,
                                 max_target_length=self.max_target_length or max_length, seed=seed, shuffle=training,
                                 multiple=multiple, answered=not training, references=references,
                                 batch_tokens=self.batch_tokens if training else 0)
        batches.language = self.language(references or [])
        return batches

    def predict(self, model, batch, outputs):
        """Generate from `answer_ids`, whose width is the number of tokens: token_ids int32 [B, N], length int32 [B]."""
        blank, mask = batch["answer_ids"], batch["encoder_padding_mask"]
        inputs = {"encoder_token_ids": batch["encoder_token_ids"], "encoder_padding_mask": mask,
                  "decoder_token_ids": batch["decoder_token_ids"][:, :1]}
        options = self.options(max_new_tokens=blank.shape[1], eos_token_id=blank[0, :1])
        return decode_answers(model.body, model.logits, inputs, options, count=blank.shape[1],
                              ended=tf.reduce_all(mask == 0, axis=1))  # padding rows never start

    def answers(self, predictions, batches):
        return [{"text": text} for text in texts_of(predictions, batches)]

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics (see Task); given answers, BLEU, chrF, ROUGE and exact match, from 0 to 100."""
        metrics = super().metrics(sums)
        if answers is None:
            return metrics
        texts = [answer["text"] for answer in answers]
        return {**metrics, **bleu_metrics(texts, references, self.language(references)),
                **rouge_metrics(texts, references)}
