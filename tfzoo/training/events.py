"""TensorBoard event files of a run, rewritten from scratch whenever the run starts or resumes."""
import contextlib
import re

import tensorflow as tf
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.scalar.summary_v2 import scalar_pb


class Events:
    """Write records of metrics and sample texts as TensorBoard events.

    Args:
        folder: pathlib.Path; created if missing. Existing event files are deleted; the caller rewrites their records.

    Raises:
        OSError: if the folder cannot be created, or old event files cannot be deleted.
    """

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        for stale in folder.glob("events.out.tfevents.*"):
            stale.unlink()
        self._folder = folder
        self._writer = None

    def metrics(self, records):
        """Write the numbers in records from `metrics.jsonl` as scalars named `split/name`.

        Args:
            records: list of dict with step, split and metrics by name.

        Raises:
            OSError: if the events cannot be written.
        """
        self._write(_write_metrics, records)

    def texts(self, samples):
        """Write records from `samples.jsonl` as texts.

        Args:
            samples: list of dict with step, tag and text.

        Raises:
            OSError: if the events cannot be written.
        """
        self._write(_write_text, samples)

    def close(self):
        """Close the event file; nothing can be written afterwards.

        Raises:
            OSError: if the events cannot be written.
        """
        if self._writer is not None:
            with _os_errors(self._folder):
                self._writer.close()

    def _write(self, write, records):
        if not records:
            return
        with _os_errors(self._folder):
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(str(self._folder))
            with self._writer.as_default():
                for record in records:
                    write(record)
            self._writer.flush()


def _write_metrics(record):
    # One event for all scalars of a step is six times faster than one tf.summary.scalar each, which matters on resume.
    summary = Summary()
    for name, value in record.items():
        if name not in ("step", "split") and isinstance(value, (int, float)) and not isinstance(value, bool):
            summary.MergeFrom(scalar_pb(f"{record['split']}/{name}", value))
    tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=record["step"])


def _write_text(record):
    tf.summary.text(record["tag"], record["text"], step=record["step"])


@contextlib.contextmanager
def _os_errors(folder):
    # Turns TensorFlow's write errors into a one-line OSError.
    try:
        yield
    except tf.errors.OpError as error:
        reason = re.sub(r"\{\{.*?\}\} ", "", error.message.splitlines()[0])
        raise OSError(f"cannot write TensorBoard events in {folder}: {reason}") from error
