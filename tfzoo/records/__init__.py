"""Plain-Python records of which the predictions and references of tasks consist."""
