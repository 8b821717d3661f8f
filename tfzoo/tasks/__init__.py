"""Tasks: heads, features, objectives, answers and metrics for any body, one file per task."""
from tfzoo.tasks.build import build, build_for
from tfzoo.tasks.model import TaskModel
from tfzoo.tasks.registry import task_of, tasks
from tfzoo.tasks.task import Task

__all__ = ["Task", "TaskModel", "build", "build_for", "task_of", "tasks"]

tasks()  # importing tfzoo registers every head with Keras, so that keras.models.load_model finds it
