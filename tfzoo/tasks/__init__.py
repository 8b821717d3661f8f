"""Heads, features, objectives and metrics over any body."""
from tfzoo.tasks.batches import PackedBatches, StreamBatches, TextBatches
from tfzoo.tasks.build import build, build_for, task_of
from tfzoo.tasks.task_model import TaskModel

__all__ = ["PackedBatches", "StreamBatches", "TaskModel", "TextBatches", "build", "build_for", "task_of"]
