"""Prompt and completion, and dialogue: a causal language model trained on answers alone (Ouyang et al. 2022,
arXiv:2203.02155, section 3.5: supervised fine-tuning).

The loss is the mean over the tokens of all answers, each of which ends with an end token; a prompt is only read.
Evaluation and prediction generate greedily or with beams.
"""
import tensorflow as tf

from tfzoo.data.completions import COMPLETIONS, AnswerBatches, check_room, encode_answers
from tfzoo.generation.decode import decode_answers
from tfzoo.metrics.rouge import rouge_metrics
from tfzoo.tasks.causal_lm import CausalLM
from tfzoo.tasks.predictor import texts_of
from tfzoo.tasks.seq2seq import Seq2Seq
from tfzoo.text.chat import Chat


class Completion(CausalLM):
    """Complete a prompt, or give the assistant's next message in a conversation.

    Args:
        pack: bool, put several examples into each row of the training data, with no attention between them.
        max_target_length: int, the maximum number of tokens to generate, and those that an answer keeps if it does not
            fit together with its prompt; 0: half of max_length.
        num_beams, length_penalty, no_repeat_ngram_size: see tfzoo.generation.Options.

    Raises:
        ConfigError: if the options of generation do not fit together.
    """

    name, script, schema, head_of = "completion", "finetune", COMPLETIONS, "causal_lm"
    answered, exports, text_columns = True, False, ("prompt", None)
    shown = ("loss", "accuracy", "perplexity", "exact_match", "rougeL")
    truncated = "prompts or histories were cut from the front to fit {} tokens with their answers"

    def __init__(self, pack=True, max_target_length=0, num_beams=1, length_penalty=1.0, no_repeat_ngram_size=0):
        self.pack, self.max_target_length = pack, max_target_length
        self.num_beams, self.length_penalty, self.no_repeat_ngram_size = num_beams, length_penalty, no_repeat_ngram_size
        self.options()

    options = Seq2Seq.options

    def answer_length(self, max_length):
        """Return the maximum number of tokens to generate for rows of up to `max_length` tokens: int."""
        return self.max_target_length or max_length // 2

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        length = self.answer_length(max_length)
        check_room(tokenizer, max_length, length)
        ends = Chat(tokenizer).end_ids if "messages" in source.columns else ()
        return AnswerBatches(
            encode_answers(source, tokenizer, max_length, length, training), source, tokenizer, batch_size=batch_size,
            max_length=max_length, answer_length=length, end_ids=tuple(dict.fromkeys((*ends, tokenizer.end_id))),
            seed=seed, shuffle=training, multiple=multiple, pack=training and self.pack)

    def predict(self, model, batch, outputs):
        """Generate up to the N columns of `answer_ids` after `prompt_ids`: token_ids [B, N] and length [B], int32."""
        mask, count = batch["prompt_mask"], batch["answer_ids"].shape[1]
        options = self.options(max_new_tokens=count, eos_token_id=batch["end_ids"][0])
        return decode_answers(
            model.body, model.logits, {"token_ids": batch["prompt_ids"], "padding_mask": mask}, options, count=count,
            ended=tf.reduce_all(mask == 0, axis=1))  # padding rows never start

    def answers(self, predictions, batches):
        return [{"text": text} for text in texts_of(predictions, batches)]

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics over the tokens of the answers (see Task); given answers, ROUGE and exact match, 0 to 100.

        In a conversation, only the last answer is generated, from the true messages before it.
        """
        metrics = super().metrics(sums)
        if answers is None:
            return metrics
        return {**metrics, **rouge_metrics([answer["text"] for answer in answers], references)}
