"""Plain Python representations of predictions and references."""
