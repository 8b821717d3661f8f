"""Heads, features, objectives and metrics over any body."""
from tfzoo.tasks.build import build, task_of
from tfzoo.tasks.task import StreamBatches, TextBatches
from tfzoo.tasks.task_model import TaskModel

__all__ = ["StreamBatches", "TaskModel", "TextBatches", "build", "task_of"]
