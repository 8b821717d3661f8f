"""Compare a configuration with the one a run recorded, and resolve settings that older releases left undecided."""
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
    """Replace undecided settings in an older release's config.json with that release's defaults: dict.

    These values are fixed and do not follow changes to the current defaults.
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
    """List the fields that differ between two configurations.

    Args:
        got: dict of JSON values, possibly nested; the new configuration.
        there: dict of JSON values, possibly nested; the recorded configuration.
        may_change: set of str, fields that may differ, including all fields nested in them; nested names are dotted.

    Returns:
        list of str, one phrase per field: "optimizer.learning_rate (got 0.1, recorded 0.2)".
    """
    got, there = _flatten(got), _flatten(there)
    phrases = []
    for name in sorted(got.keys() | there.keys()):
        parts = name.split(".")
        if got.get(name, _ABSENT) == there.get(name, _ABSENT):
            continue
        if not any(".".join(parts[:length]) in may_change for length in range(1, len(parts) + 1)):
            phrases.append(f"{name} (got {_show(got, name)}, recorded {_show(there, name)})")
    return phrases


def _show(flat, name):
    return json.dumps(flat[name])[:100] if name in flat else _ABSENT


def list_some(phrases, most=5):
    """Join the first `most` phrases with commas, and state how many more there are: str."""
    return ", ".join(phrases[:most]) + (f" and {len(phrases) - most} more" if len(phrases) > most else "")
