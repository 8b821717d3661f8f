"""Heads, features, objectives and metrics over any body."""
from tfzoo.tasks.batches import StreamBatches, TextBatches
from tfzoo.tasks.build import build, build_for, task_of
from tfzoo.tasks.task_model import TaskModel

__all__ = ["StreamBatches", "TaskModel", "TextBatches", "build", "build_for", "task_of"]
