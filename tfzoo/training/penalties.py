"""L1 and L2 penalties on trained weights, selected by regular expressions over their paths.

A penalty is part of the loss that is minimized but not of the loss that is reported. Its gradient is added once per
update, to the gradient of the whole batch, so it does not depend on how the batch is split.
"""
import tensorflow as tf

from tfzoo.errors import ConfigError


def coefficients_of(penalties, variables):
    """Return the coefficients of each variable; those of several matching patterns add up.

    Args:
        penalties: dict of "l1" or "l2" -> list of (compiled regular expression, float).
        variables: list of variables.

    Returns:
        list of (float, float), L1 and L2.

    Raises:
        ConfigError: if a pattern matches no variable.
    """
    found = [[0.0, 0.0] for _ in variables]
    for name, given in penalties.items():
        for pattern, coefficient in given:
            places = [place for place, variable in enumerate(variables) if pattern.search(variable.path)]
            if not places:
                raise ConfigError(f"--{name}={pattern.pattern}={coefficient:g} matches no trained weight; their paths "
                                  f"are like {variables[-1].path}")
            for place in places:
                found[place][name == "l2"] += coefficient
    return [tuple(each) for each in found]


def penalized(gradients, variables, coefficients):
    """Return gradients with those of l1 x sum |w| + l2 x sum w^2 added.

    Args:
        gradients: list of float32 tensors, one for each variable.
        variables, coefficients: as in `coefficients_of`.
    """
    values = [variable.value if any(each) else None for variable, each in zip(variables, coefficients)]
    return [gradient if value is None else gradient + l1 * tf.sign(value) + 2 * l2 * value
            for gradient, value, (l1, l2) in zip(gradients, values, coefficients)]
