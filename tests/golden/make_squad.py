"""Write the scores of the official scripts of SQuAD 1.1, SQuAD 2.0 and CMRC 2018 for hand-made and real predictions.

Run from the checkout in an environment with NLTK 3.9.1 (without its data, and without TensorFlow):
    PYTHONPATH=. python tests/golden/make_squad.py evaluate-v1.1.py evaluate-v2.0.py cmrc2018_evaluate.py DATA

The arguments are the official scripts and the folder of development data. CMRC's script is for Python 2: its text is
changed to run under Python 3, and to split words with NLTK's word tokenizer without splitting sentences first.
"""
import hashlib
import importlib.metadata
import json
import pathlib
import re
import sys

FILE = pathlib.Path(__file__).parent / "squad.json"
# (correct answers, prediction or None, score of no answer minus that of the prediction)
ENGLISH = [
    (["Denver Broncos", "The Denver Broncos"], "the Denver  Broncos!", -3.0), (["Denver Broncos"], "Broncos", -2.5),
    (["1990s"], "1990", -1.0), (["U.S. Army"], "US army", -0.5), (["an “apple”"], "apple", 0.25),
    (["a cat and a cat"], "cat cat cat", 0.5), (["Zürich"], "zurich", 1.0), (["x-ray"], "x ray", 1.5),
    (["Anna"], "an Anna the", -4.0), (["one two three"], "two three four", 2.0), (["\U0001f600 smile"], "smile", 2.5),
    (["co\u00f6perate"], "coo\u0308perate", -0.25), (["first\u00a0second"], "first second", -1.5),
    (["gold"], "", 3.0), (["of the people"], "people", -2.0), (["missing"], None, 0.75)]
NO_ANSWER = [([], "", 4.0), ([], "something", -3.5), ([], "wrong", 2.75), ([], "the", -0.75), ([], "other", 0.9),
             (["the", "..."], "", 1.2)]
CHINESE = [
    (["《红楼梦》"], "红楼梦", 0), (["北京大学"], "北京的大学", 0), (["1990年5月"], "1990 年5月", 0), (["约3,000人。"], "3,000人", 0),
    (["Brown's Deep Blue", "深蓝"], "brown's Deep blue 计算机", 0), (["iPhone 4S手机", "苹果"], "iPhone4S手机", 0),
    (["A-B"], "ab", 0), (["他说：“好……的”"], "他说好……的", 0), (["？"], "？", 0), (["香港 (HK)"], "香港(HK)", 0),
    (["歲月"], "岁月", 0), (["\u3400字"], "字", 0), (["can't stop, U.S.A."], "can't stop U.S.A.", 0), (["全部"], "", 0),
    (["没有预测"], None, 0), (["100%的“水”"], "100%的水", 0), (["ＡＢＣ公司"], "ABC公司", 0), (["e.g. one. two"], "one. two", 0)]

# In lowercase and without CMRC's marks, as its script hands words to NLTK.
WORDS = ["they'll say it's \"fine\".", "u.s.a. ver. 2.0100%!", "1,000, or (3.5%) & more...", "can't 'stop' o'neil",
         "don't", "dogs' [sic] {x} <y>", "cannot gonna gotta gimme", "a.b.", "e.g. one. two", "what?!", "$5 #1 a@b.com",
         "«x» ‘y"]


def dataset(cases):
    """Return hand-made cases in SQuAD's form, and their predictions and odds by id."""
    rows = [{"id": str(number), "question": "?", "answers": [{"text": text, "answer_start": 0} for text in golds]}
            for number, (golds, _, _) in enumerate(cases)]
    predictions = {str(number): text for number, (_, text, _) in enumerate(cases) if text is not None}
    return ({"version": "1.1", "data": [{"paragraphs": [{"context": "", "qas": rows}]}]}, predictions,
            {str(number): odds for number, (_, text, odds) in enumerate(cases) if text is not None})


def nearest(question, context):
    """Return the sentence of the context that shares most different characters with the question, and how many."""
    sentences = [part for part in re.split(r"(?<=[.!?。！？；\n])", context) if part.strip()] or [context]
    shared = [len({*sentence.lower()} & {*question.lower()} - {" "}) for sentence in sentences]
    return sentences[shared.index(max(shared))].strip(), max(shared)


def guessed(path):
    """Return a data set with a prediction for each question that a hash selects: `nearest`, cut to its last words."""
    whole, predictions, odds = json.loads(path.read_text(encoding="utf-8")), {}, {}
    for article in whole["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                number = int(hashlib.sha256(question["id"].encode()).hexdigest(), 16)
                text, shared = nearest(question["question"], paragraph["context"])
                golds = [answer["text"] for answer in question["answers"]]
                predictions[question["id"]] = [text, text[len(text) // 2:], golds[0] if golds else text][number % 3]
                odds[question["id"]] = number % 1000 / 100 - shared / 16 - (8 if golds and number % 4 else 0)
    return whole, predictions, odds


def module(path, change=lambda text: text):
    """Return the names of a script that is run with a changed text, but not as the main program."""
    names = {"__name__": "official"}
    exec(compile(change(pathlib.Path(path).read_text(encoding="utf-8")), path, "exec"), names)
    return names


def python_3(text):
    """Return CMRC's script for Python 3, whose `nltk` is a stand-in."""
    for old, new in (("reload(sys)", ""), ("sys.setdefaultencoding('utf8')", ""), (".decode('utf-8')", ""),
                     ("ur'", "r'"), ("import nltk", "from nltk.tokenize.destructive import NLTKWordTokenizer"),
                     ("nltk.word_tokenize", "NLTKWordTokenizer().tokenize")):
        text = text.replace(old, new)
    return text


def squad2(script, whole, predictions, odds):
    """Return what the script of SQuAD 2.0 reports, with a score of 0 for each missing prediction."""
    data = whole["data"]
    has = script["make_qid_to_has_ans"](data)
    exact, f1 = script["get_raw_scores"](data, predictions)
    found = {}
    script["find_all_best_thresh"](found, predictions, exact, f1, odds, has)
    exact, f1 = ({**dict.fromkeys(has, 0), **script["apply_no_ans_threshold"](scores, odds, has, 0.0)}
                 for scores in (exact, f1))
    found |= script["make_eval_dict"](exact, f1)
    for prefix, wanted in (("HasAns", True), ("NoAns", False)):
        part = [key for key, value in has.items() if value == wanted]
        script["merge_eval"](found, script["make_eval_dict"](exact, f1, part) if part else {}, prefix)
    return found


def main():
    one, two, cmrc = (module(path, change) for path, change in zip(sys.argv[1:4], (str, str, python_3)))
    folder = pathlib.Path(sys.argv[4])
    cases = {"english": dataset(ENGLISH), "no_answer": dataset(ENGLISH + NO_ANSWER), "chinese": dataset(CHINESE),
             "qa_squad1.1": guessed(folder / "qa_squad1.1" / "eval.json"),
             "qa_squad2.0": guessed(folder / "qa_squad2.0" / "eval.json"),
             "zh_qa_cmrc2018": guessed(folder / "zh_qa_cmrc2018" / "eval.json")}
    scores = {}
    for name in ("english", "qa_squad1.1"):
        scores[name] = one["evaluate"](cases[name][0]["data"], cases[name][1])
    for name in ("no_answer", "qa_squad2.0"):
        scores[name] = squad2(two, *cases[name])
    for name in ("chinese", "zh_qa_cmrc2018"):
        f1, exact, total, skipped = cmrc["evaluate"](*cases[name][:2])
        scores[name] = {"exact_match": exact, "f1": f1, "total": total, "skipped": skipped}
    words = {text: cmrc["NLTKWordTokenizer"]().tokenize(text) for text in WORDS}
    cases = {"english": ENGLISH, "no_answer": ENGLISH + NO_ANSWER, "chinese": CHINESE}
    FILE.write_text(json.dumps({"versions": {"nltk": importlib.metadata.version("nltk")}, "scores": scores,
                                "words": words, "cases": cases}, indent=0) + "\n")


if __name__ == "__main__":
    main()
