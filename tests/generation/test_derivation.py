"""What transformers does not compute offline, against plain loops: OpenAI's penalties and diverse beams."""
import collections

import numpy as np
import pytest

from tests.generation.test_generator import generator_of, model  # noqa: F401

PROMPTS = [[5, 6, 7], [9], [30, 31]]


def log_p(model, tokens):  # noqa: F811
    logits = np.asarray(model({"token_ids": np.array([tokens], np.int32)})["logits"][0, -1], np.float64)
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


@pytest.mark.parametrize("presence, frequency", [
    (-0.5, 0.3), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1.5, -0.2),))])
def test_penalties_for_what_the_answer_contains(model, presence, frequency):  # noqa: F811
    found = generator_of(model, 10, presence_penalty=presence, frequency_penalty=frequency).generate(PROMPTS)
    for prompt, row in zip(PROMPTS, found.token_ids.tolist()):
        made = []
        for _ in range(10):
            scores = log_p(model, prompt + made)
            for token, count in collections.Counter(made).items():
                scores[token] -= presence + frequency * count
            made.append(int(scores.argmax()))
        assert row == made
    assert found.token_ids.tolist() != generator_of(model, 10).generate(PROMPTS).token_ids.tolist()


def diverse(model, prompt, size, groups, penalty, count, ends, length_penalty):  # noqa: F811
    """Search with groups of beams; return all answers of the pools as (score, tokens), the best first."""
    running, pools, is_open = [[(0.0, [])] for _ in range(groups)], [[] for _ in range(groups)], [True] * groups
    for step in range(1, count + 1):
        taken = collections.Counter()
        for number in range(groups):
            candidates = []
            for total, tokens in running[number]:
                scores = log_p(model, prompt + tokens)
                for token, times in taken.items():
                    scores[token] -= penalty * times
                candidates += [(total + score, [*tokens, token]) for token, score in enumerate(scores)]
            candidates = sorted(candidates, key=lambda each: -each[0])[:(1 + max(1, len(ends))) * size]
            done = [tokens[-1] in ends or step == count for _, tokens in candidates]
            if is_open[number]:
                pools[number] += [(total / step ** length_penalty, tokens) for (total, tokens), finished in
                                  list(zip(candidates, done))[:size] if finished]
                pools[number] = sorted(pools[number], key=lambda each: -each[0])[:size]
            order = sorted(range(len(candidates)), key=lambda place: (done[place], -candidates[place][0]))
            running[number] = [candidates[place] for place in order[:size]]
            taken.update(tokens[-1] for _, tokens in running[number])
            full = len(pools[number]) == size
            is_open[number] &= not full or running[number][0][0] / step ** length_penalty > pools[number][-1][0]
        if not any(is_open):
            break
    return sorted(sum(pools, []), key=lambda each: -each[0])


@pytest.mark.parametrize("groups, penalty, length_penalty", [
    (2, 0.9, 1.0), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((4, 2.0, 0.3),))])
def test_groups_of_beams_avoid_what_earlier_groups_chose(model, groups, penalty, length_penalty):  # noqa: F811
    ends = (3, 12)
    found = generator_of(model, 7, ends, num_beams=4, num_beam_groups=groups, num_return_sequences=4,
                         diversity_penalty=penalty, length_penalty=length_penalty).generate(PROMPTS)
    for number, prompt in enumerate(PROMPTS):
        expected = diverse(model, prompt, 4 // groups, groups, penalty, 7, ends, length_penalty)[:4]
        rows = [row[:length].tolist() for row, length in zip(found.token_ids, found.lengths)][4 * number:][:4]
        assert found.scores[4 * number:4 * number + 4] == pytest.approx([score for score, _ in expected], rel=1e-4)
        assert sorted(rows) == sorted(tokens for _, tokens in expected)
    assert len(set(map(tuple, rows))) > 2
