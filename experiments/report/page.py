"""The page of a report: HTML without scripts or external files, made from the report's numbers alone."""
import re
from html import escape

from experiments.report.svg import chart

STYLE = """body{font:14px/1.5 sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.5em 0}th,td{padding:.15em .7em;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}.matrix{overflow-x:auto}.matrix td,.matrix th{padding:.15em .4em}
.chart{display:flex;gap:1em}.chart ul{list-style:none;padding:0}svg text{font-size:11px}
svg .grid{stroke:#ddd}svg .diagonal{stroke:#999;stroke-dasharray:4}
.error{border-top:1px solid #ccc;padding:.5em 0}
.text{white-space:pre-wrap;overflow-wrap:anywhere;background:#f7f7f7;padding:.5em}
.gold{border-bottom:3px solid #2a8a2a}.predicted{background:#f6c7b6}.gold.predicted{background:#c9e7c3}
.type{font-size:75%;color:#555;margin-left:.2em}.note{color:#555}"""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # not allowed in HTML


def _number(value):
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else escape(str(value))


def _table(head, rows):
    cells = ["".join(f"<th>{escape(name)}</th>" for name in head)]
    cells += ["".join(f"<td>{_number(value)}</td>" for value in row) for row in rows]
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _range(row):
    return f"{row['low']:.4f} to {row['high']:.4f}" if "low" in row else None


def page(numbers):
    """Return the HTML page of a report: str.

    Args:
        numbers: dict, from `numbers_of`. All strings in it, such as texts and labels, are escaped.
    """
    parts = [_summary(numbers)]
    if "compare" in numbers:
        parts.append(_comparison(numbers["compare"]))
    for title, rows in numbers["tables"].items():
        parts.append(f"<h2>By {escape(title)}</h2>" + _table(
            [title, "F1", "95 % interval", "precision", "recall", "true", "predicted", "right"],
            [[row["name"], row["f1"], _range(row), row["precision"], row["recall"], row["true"], row["predicted"],
              row["right"]] for row in rows]))
    if "confusion" in numbers:
        parts.append(_confusion(numbers["confusion"]))
    if numbers.get("precision_recall"):
        lines = {f"{name} (average precision {curve['average_precision']:.3f})": (curve["recall"], curve["precision"])
                 for name, curve in numbers["precision_recall"].items()}
        parts.append("<h2>Precision and recall</h2>" + chart(lines, "recall", "precision"))
    if "calibration" in numbers:
        parts.append(_calibration(numbers["calibration"]))
    parts.append(_errors(numbers))
    title = "Report" + "".join(f" on {escape(str(numbers['about'][key]))}" for key in ("model",)
                               if key in numbers["about"])
    text = (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
            f"</head><body><h1>{title}</h1>{''.join(parts)}</body></html>\n")
    return _CONTROL.sub("\ufffd", text)


def _summary(numbers):
    about = {**numbers["about"], "examples": numbers["examples"]}
    names = {**numbers["metrics"], **numbers["intervals"]}
    rows = [[name, numbers["metrics"].get(name, numbers["intervals"].get(name, {}).get("value")),
             _range(numbers["intervals"].get(name, {}))] for name in names]
    return (_table(["", ""], about.items()) + "<h2>Metrics</h2>" + _table(["metric", "value", "95 % interval"], rows)
            + f'<p class="note">Percentile intervals from {numbers["resamples"]:,} bootstrap resamples of the examples '
            f'(seed {numbers["seed"]}).</p>')


def _comparison(compare):
    rows = [[name, row["value"], row["other"], row["difference"], _range(row), row["p_value"]]
            for name, row in compare["scores"].items()]
    test = compare.get("mcnemar")
    more = "" if test is None else (
        f"<p>McNemar's exact test: {test['only_one']:,} examples are right only here, {test['only_other']:,} only "
        f"there; p = {test['p_value']:.4g}.</p>")
    return (f"<h2>Compared with {escape(compare['with'])}</h2>" + _table(
        ["metric", "here", "there", "difference", "95 % interval", "p-value"], rows) + more
        + '<p class="note">Paired bootstrap: both are scored on the same resamples.</p>')


def _confusion(confusion):
    most = max(map(max, confusion["counts"]), default=0) or 1
    head = "".join(f"<th>{escape(name)}</th>" for name in ("true \\ predicted", *confusion["labels"]))
    rows = ""
    for place, (name, counts) in enumerate(zip(confusion["labels"], confusion["counts"])):
        shades = [f"rgba({'42,138,42' if place == other else '214,70,30'},{0.8 * count / most:.3f})"
                  for other, count in enumerate(counts)]
        rows += f"<tr><th>{escape(name)}</th>" + "".join(
            f'<td style="background:{shade}">{count:,}</td>' for count, shade in zip(counts, shades)) + "</tr>"
    return f'<h2>Confusion matrix</h2><div class="matrix"><table><tr>{head}</tr>{rows}</table></div>'


def _calibration(found):
    full = [each for each in found["bins"] if each["count"]]
    line = {f"expected calibration error {found['ece']:.4f}": (
        [each["probability"] for each in full], [each["accuracy"] for each in full])}
    rows = [[f"{each['low']:.3f} to {each['high']:.3f}", each["count"], each["probability"], each["accuracy"]]
            for each in full]
    return ("<h2>Calibration</h2>" + chart(line, "probability", "share that is right", diagonal=True)
            + _table(["probability", "examples", "mean probability", "accuracy"], rows))


def _errors(numbers):
    parts = [f"<h2>Worst errors</h2><p>{len(numbers['errors']):,} of {numbers['wrong']:,}, sorted by "
             f'{escape(numbers["unit"])}. <span class="gold">Gold</span>, <span class="predicted">predicted</span>, '
             '<span class="gold predicted">both</span>.</p>']
    for error in numbers["errors"]:
        facts = [f"{escape(name)}: <b>{_number(value)}</b>" for name, value in error.items() if name != "texts"]
        texts = [f'<div class="text">{_marked(each)}</div>' for each in error["texts"]]
        parts.append(f'<div class="error"><div>{" · ".join(facts)}</div>{"".join(texts)}</div>')
    return "".join(parts)


def _marked(each):
    # A text with its spans, which may overlap: each piece between two edges has the classes of the spans around it.
    text, spans = each["text"], each["spans"]
    edges = sorted({0, len(text), *(span[key] for span in spans for key in ("start", "end"))})
    parts = []
    for start, end in zip(edges, edges[1:]):
        piece = escape(text[start:end])
        around = [span for span in spans if span["start"] <= start and end <= span["end"]]
        types = [f"{span['of']} {span['type']}".strip() for span in around if span["end"] == end]
        if around:
            kinds = " ".join(sorted({span["of"] for span in around}))
            piece = f'<span class="{escape(kinds)}">{piece}</span>'
        parts.append(piece + (f'<span class="type">{escape(", ".join(types))}</span>' if types else ""))
    before, after = (f'<span class="note"> … {each[key]:,} more characters … </span>' if each[key] else ""
                     for key in ("before", "after"))
    return before + "".join(parts) + after
