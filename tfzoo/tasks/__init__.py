"""Heads, features, objectives, answers and metrics over any body, one file a task."""
from tfzoo.tasks.build import build, build_for
from tfzoo.tasks.model import TaskModel
from tfzoo.tasks.registry import task_of, tasks
from tfzoo.tasks.task import Task

__all__ = ["Task", "TaskModel", "build", "build_for", "task_of", "tasks"]

tasks()  # every head is known to Keras once tfzoo is imported, so that keras.models.load_model finds it
