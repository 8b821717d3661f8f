"""Plain-Python records that represent the predictions and references of tasks."""
