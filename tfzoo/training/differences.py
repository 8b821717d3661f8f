"""The configuration that a run recorded: what it meant then, and where another one differs from it."""
import json

_ABSENT = "absent"


def _flatten(config, prefix=""):
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def in_effect(recorded):
    """Return config.json of an older release, which left some settings undecided, with what they stood for then.

    They are those releases' defaults: they stay as they are when today's change.
    """
    there = dict(recorded)

    def is_open(name):
        return name in there and there[name] is None

    if is_open("learning_rate"):
        there["learning_rate"] = 5e-5 if there.get("init") else 5e-4
    if is_open("schedule_power") and there.get("schedule") == "polynomial":
        there["schedule_power"] = 2.0
    if is_open("epochs") and there.get("steps") is None:
        there["epochs"] = 3.0
    if there.get("document") == "auto":
        there["document"] = "file" if there.get("task") == "causal_lm" else "paragraph"
    return there


def differences(got, there, may_change):
    """Return the fields that differ between two configurations.

    Args:
        got, there: dict of JSON values, nested too.
        may_change: set of str, fields that may differ, dotted where nested; what lies in them may too.

    Returns:
        list of str, a phrase for each: "optimizer.learning_rate (got 0.1, there 0.2)".
    """
    got, there = _flatten(got), _flatten(there)
    phrases = []
    for name in sorted(got.keys() | there.keys()):
        parts = name.split(".")
        if got.get(name, _ABSENT) == there.get(name, _ABSENT):
            continue
        if not any(".".join(parts[:length]) in may_change for length in range(1, len(parts) + 1)):
            phrases.append(f"{name} (got {_show(got, name)}, there {_show(there, name)})")
    return phrases


def _show(flat, name):
    return json.dumps(flat[name])[:100] if name in flat else _ABSENT


def list_some(phrases, most=5):
    """Return the first `most` phrases in a row, and how many more there are."""
    return ", ".join(phrases[:most]) + (f" and {len(phrases) - most} more" if len(phrases) > most else "")
