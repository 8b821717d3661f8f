"""The settings of generation, named as in transformers' GenerationConfig where it has them."""
import dataclasses
import math

import numpy as np

from tfzoo.errors import ConfigError, shown

SEEDS = 2 ** 64 - 1
MOST = 10 ** 9
# name -> (smallest, largest, what is allowed); the bounds of the names in OPEN are not allowed themselves.
RANGES = {
    "max_new_tokens": (1, MOST, "1 or more"), "min_new_tokens": (0, MOST, "0 or more"),
    "temperature": (0, math.inf, "a finite number, 0 (greedy) or more"), "top_k": (0, MOST, "0 (all) or more"),
    "top_p": (0, 1, "above 0 and at most 1 (all)"), "min_p": (0, 1, "from 0 (all) to 1"),
    "typical_p": (0, 1, "above 0 and at most 1 (all)"), "epsilon_cutoff": (0, 1, "0 (all) or more and below 1"),
    "eta_cutoff": (0, 1, "0 (all) or more and below 1"),
    "repetition_penalty": (0, math.inf, "a finite number above 0; 1 for no penalty"),
    "encoder_repetition_penalty": (0, math.inf, "a finite number above 0; 1 for no penalty"),
    "presence_penalty": (-math.inf, math.inf, "a finite number; 0 for no penalty"),
    "frequency_penalty": (-math.inf, math.inf, "a finite number; 0 for no penalty"),
    "no_repeat_ngram_size": (0, MOST, "0 (any n-gram may repeat) or more"), "num_beams": (1, 1000, "from 1 to 1000"),
    "num_beam_groups": (1, 1000, "from 1 to 1000"), "diversity_penalty": (0, math.inf, "a finite number, 0 or more"),
    "length_penalty": (-math.inf, math.inf, "a finite number"),
    "prompt_lookup_num_tokens": (0, 1000, "from 0 (none) to 1000"), "num_assistant_tokens": (1, 1000, "from 1 to 1000"),
    "num_return_sequences": (1, 1000, "from 1 to 1000"), "seed": (0, SEEDS, f"an integer from 0 to {SEEDS}")}
OPEN = {"top_p": (0,), "typical_p": (0,), "epsilon_cutoff": (1,), "eta_cutoff": (1,), "repetition_penalty": (0,),
        "encoder_repetition_penalty": (0,)}
TOKENS = ("eos_token_id", "suppress_tokens", "begin_suppress_tokens")  # tuples of ids
EARLY = (True, False, "never")
BEAMS = ("length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty")
SAMPLES = ("top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of generation.

    Args:
        max_new_tokens, min_new_tokens: int, how many tokens to generate per row at most and at least; before the
            minimum, no end token is chosen.
        temperature: float; 0 always takes the most likely token, and 1 samples from the model's own distribution.
        top_k: int; sample from the k most likely tokens; 0: from all (Fan et al. 2018, arXiv:1805.04833).
        top_p: float; sample from the smallest set of most likely tokens with a total probability of at least p
            (Holtzman et al. 2019, arXiv:1904.09751); 1: from all.
        min_p: float; drop tokens less likely than this share of the likeliest (Nguyen et al. 2024, arXiv:2407.01082).
        typical_p: float; sample from the tokens whose information is closest to its expectation, with this total
            probability (Meister et al. 2022, arXiv:2202.00666); 1: from all.
        epsilon_cutoff, eta_cutoff: float; drop tokens with a lower probability, eta also in proportion to the entropy
            (Hewitt et al. 2022, arXiv:2210.15191); 0 keeps all.
        repetition_penalty: float; divides positive scores of tokens in the prompt and the answer, and multiplies
            negative ones (Keskar et al. 2019, arXiv:1909.05858).
        encoder_repetition_penalty: float; divides negative scores of the tokens in the source, or in the prompt of a
            decoder, and multiplies positive ones, so that values above 1 favor them.
        presence_penalty, frequency_penalty: float, subtracted from the score of each token in the answer, once or for
            each occurrence, after repetition_penalty.
        no_repeat_ngram_size: int; no n-gram occurs twice in prompt and answer; 0 allows all.
        bad_words_ids: tuple of tuples of int, token sequences that are never completed.
        suppress_tokens, begin_suppress_tokens: tuples of int, tokens that are never chosen, or not as the first.
        forced_bos_token_id, forced_eos_token_id: int or None, the token that follows a prompt of one token, and the
            last of max_new_tokens tokens.
        eos_token_id: tuple of int; a row ends when one of them is generated.
        num_beams: int, the number of beams; 1: no beam search.
        num_beam_groups: int, the number of groups of beams that differ from each other (Vijayakumar et al. 2016,
            arXiv:1610.02424).
        diversity_penalty: float, subtracted from the score of each token that an earlier group chose at the same step,
            for each time.
        length_penalty: float; a beam's score is its log-probability / length ** length_penalty, where its length
            counts the generated tokens and its end token.
        early_stopping: True ends a row when num_beams answers are complete; False also when the best running beam is
            worse than they are at its present length; "never" only when it could not become better.
        num_return_sequences: int, the number of answers per prompt.
        seed: int, from 0 to SEEDS. Row r of a call draws with seed + r, independently of the other rows.
        prompt_lookup_num_tokens: int, the largest number of tokens that are proposed after an earlier occurrence of the
            last tokens, and checked in one step: faster where answers repeat their prompts; 0 for none.
        num_assistant_tokens: int, the largest number of tokens that a draft model proposes (see Generator).
        log_probabilities: bool, also return the log-probability of each token.
        constraint: Constraint on the answers, from `constraint_of`, or None.

    In a graph, these may be tensors, which are not checked: eos_token_id int32 [E] with E > 0 known, and with one value
    per row, [R, 1]: temperature, top_k, top_p, min_p, the penalties but length_penalty, min_new_tokens and, without
    beams, max_new_tokens.

    Raises:
        ConfigError: if a value is out of range, or options exclude each other.
    """

    max_new_tokens: int = 200
    min_new_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    repetition_penalty: float = 1.0
    encoder_repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: tuple = ()
    suppress_tokens: tuple = ()
    begin_suppress_tokens: tuple = ()
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    eos_token_id: tuple = ()
    num_beams: int = 1
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    num_return_sequences: int = 1
    seed: int = 0
    prompt_lookup_num_tokens: int = 0
    num_assistant_tokens: int = 5
    log_probabilities: bool = False
    constraint: object = None

    def __post_init__(self):
        for name, (least, most, allowed) in RANGES.items():
            value = getattr(self, name)
            if not _is_tensor(value) and not _within(name, value, least, most):
                raise ConfigError(f"--{name} must be {allowed}, got {shown(value)}")
        for name in TOKENS:
            if not _is_tensor(getattr(self, name)) and not _ids(getattr(self, name)):
                raise ConfigError(f"--{name} must be a tuple of token ids, got {shown(getattr(self, name))}")
        if not isinstance(self.bad_words_ids, tuple) or not all(_ids(words) and words for words in self.bad_words_ids):
            raise ConfigError("--bad_words_ids must be a tuple of non-empty tuples of token ids, got "
                              f"{shown(self.bad_words_ids)}")
        if not any(self.early_stopping is kind or self.early_stopping == kind == "never" for kind in EARLY):
            raise ConfigError(f"--early_stopping must be True, False or never, got {shown(self.early_stopping)}")
        self._check_together()

    def _check_together(self):
        beams, groups, answers = self.num_beams, self.num_beam_groups, self.num_return_sequences
        known = not _is_tensor(self.min_new_tokens) and not _is_tensor(self.max_new_tokens)
        if known and self.min_new_tokens > self.max_new_tokens:
            raise ConfigError(f"--min_new_tokens={self.min_new_tokens} exceeds --max_new_tokens={self.max_new_tokens}")
        if beams > 1 and answers > beams:
            raise ConfigError(f"--num_return_sequences={answers} exceeds --num_beams={beams}")
        if beams == 1 and answers > 1 and self.greedy:
            raise ConfigError(f"--num_return_sequences={answers} gives equal answers with --temperature=0: set a "
                              "temperature or --num_beams")
        if beams > 1 and self.log_probabilities:
            raise ConfigError("--log_probabilities excludes beams, which have scores: omit it or --num_beams")
        if self.prompt_lookup_num_tokens:
            self.check_one("--prompt_lookup_num_tokens")
        if groups > 1 and (beams % groups or not self.greedy):
            raise ConfigError(f"--num_beam_groups={groups} must divide --num_beams={beams} and requires "
                              "--temperature=0")
        if self.diversity_penalty and groups == 1:
            raise ConfigError(f"--diversity_penalty={self.diversity_penalty} requires --num_beam_groups above 1")
        for name, neutral in (("length_penalty", 1.0), ("early_stopping", False)):
            if beams == 1 and getattr(self, name) != neutral:
                raise ConfigError(f"--{name}={getattr(self, name)} requires --num_beams above 1")
        for name, neutral in (("top_k", 0), ("top_p", 1.0), ("min_p", 0.0), ("typical_p", 1.0), ("epsilon_cutoff", 0.0),
                              ("eta_cutoff", 0.0)):
            if self.greedy and not _is_tensor(getattr(self, name)) and getattr(self, name) != neutral:
                raise ConfigError(f"--{name}={getattr(self, name)} has no effect with --temperature=0: set a "
                                  "temperature or omit it")

    def check_one(self, name):
        """Raise ConfigError if there are beams or several answers, which the option `name` excludes."""
        if self.num_beams > 1 or self.num_return_sequences > 1:
            raise ConfigError(f"{name} excludes beams and several answers: omit --num_beams and "
                              "--num_return_sequences")

    @property
    def greedy(self):
        """Return whether the most likely token is always taken: bool."""
        return not _is_tensor(self.temperature) and self.temperature < float(np.finfo(np.float32).tiny)

    @property
    def needs_whole_context(self):
        """Return whether prompt and answers must fit the context together, because decoding cannot start anew: bool."""
        return self.num_beams > 1 or self.num_return_sequences > 1 or self.constraint is not None

    @property
    def num_ends(self):
        """Return the number of end tokens: int."""
        return self.eos_token_id.shape[0] if _is_tensor(self.eos_token_id) else len(self.eos_token_id)

    @property
    def end_ids(self):
        """Return the end tokens, int32 [E]; [-1] if there are none."""
        return np.array(self.eos_token_id or (-1,), np.int32) if isinstance(self.eos_token_id, tuple) \
            else self.eos_token_id

    @property
    def fill(self):
        """Return the id that follows the end: the first end token, or 0 if there is none."""
        return self.end_ids[0] if self.num_ends else 0

    def check_ids(self, vocab_size):
        """Raise ConfigError if a token id in the options is not in a vocabulary of this size."""
        if self.constraint is not None and len(self.constraint.classes) != vocab_size:
            raise ConfigError(f"the constraint is for a vocabulary of {len(self.constraint.classes)} tokens, but the "
                              f"model has {vocab_size}")
        given = {name: getattr(self, name) for name in TOKENS}
        given["bad_words_ids"] = sum(self.bad_words_ids, ())
        given.update({name: () if getattr(self, name) is None else (getattr(self, name),)
                      for name in ("forced_bos_token_id", "forced_eos_token_id")})
        for name, ids in given.items():
            if not _ids(tuple(ids)):
                raise ConfigError(f"--{name} must be a token id, got {shown(ids[0])}")
            wrong = [number for number in ids if not 0 <= number < vocab_size]
            if wrong:
                raise ConfigError(f"--{name} contains {wrong[0]}, but token ids must be from 0 to {vocab_size - 1}")


def resolve(given, defaults, samples):
    """Return the arguments of Options for options that are given and a model's defaults, dict.

    Args:
        given, defaults: dict of option -> value; the given ones take precedence.
        samples: bool, whether the model samples by default (with temperature 1). Others do so if an option of sampling
            is set; beams never do.
    """
    values = {**defaults, **given}
    if "temperature" not in values:
        samples = samples or any(name in values for name in SAMPLES)
        values["temperature"] = 1.0 if samples and values.get("num_beams", 1) == 1 else 0.0
    # Defaults that have no effect beside the given options are no mistake.
    idle = (SAMPLES if not values["temperature"] else ()) + (BEAMS if values.get("num_beams", 1) == 1 else ())
    return {name: value for name, value in values.items() if name not in idle or name in given}


def tuples(value):
    """Convert a list and the lists in it to tuples, as Options requires; other values are unchanged."""
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def _is_tensor(value):
    return hasattr(value, "shape") and not isinstance(value, (np.ndarray, np.generic))


def _within(name, value, least, most):
    whole = isinstance(getattr(Options, name), int)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer) if whole else (int, float, np.number)):
        return False
    return least <= value <= most and value not in OPEN.get(name, ()) and math.isfinite(value)


def _ids(value):
    return isinstance(value, tuple) and all(
        isinstance(one, (int, np.integer)) and not isinstance(one, bool) for one in value)
