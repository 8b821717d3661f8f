"""Choose the devices to train on with tf.distribute: one device, the GPUs of a machine, several machines, or TPUs."""
import contextlib
import shutil
import signal
import threading

import tensorflow as tf

from tfzoo.errors import ConfigError, LostWorker, reason_of
from tfzoo.training.cluster import check_alone, tasks_of_slurm, workers_of_tf_config

# Errors that TensorFlow raises if another worker is lost; any other error originates in this worker.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


def make_strategy(kind="auto", virtual_devices=0):
    """Create a tf.distribute strategy; call this before TensorFlow creates its first tensor.

    Args:
        kind: "one_device"; "mirrored", all GPUs on this machine or the virtual devices; "multi_worker", several
            processes, described by TF_CONFIG or Slurm's variables; "tpu"; or "auto", which chooses multi_worker if
            TF_CONFIG lists several workers or the Slurm step has several tasks, mirrored if there are several devices,
            and otherwise one_device.
        virtual_devices: int, the number of logical devices to split the CPU into; 0: do not split it.

    Returns:
        tf.distribute.Strategy; for one device, TensorFlow's default strategy.

    Raises:
        ConfigError: if the kind is unknown, devices are missing, or the cluster description is invalid or missing.
        LostWorker: if the workers cannot connect.
    """
    if "parameter" in kind or kind == "ps":
        raise ConfigError(f"--strategy={kind}: parameter servers update asynchronously, which Keras 3 does not support "
                          f"and no restart could reproduce; choose from {', '.join(STRATEGIES)}")
    if kind not in STRATEGIES:
        raise ConfigError(f"--strategy must be one of {', '.join(STRATEGIES)}, got {kind}")
    workers = workers_of_tf_config()
    if kind == "auto" and (workers > 1 or not workers and tasks_of_slurm() > 1):
        kind = "multi_worker"
    elif kind == "auto" and not workers:
        check_alone()
    if workers > 1 and kind != "multi_worker":
        raise ConfigError(f"--strategy={kind}: TF_CONFIG lists {workers} workers, each of which would train alone in "
                          "the same folder; use --strategy=multi_worker, or unset TF_CONFIG")
    if virtual_devices and kind not in ("auto", "mirrored"):
        raise ConfigError(f"--virtual_devices={virtual_devices} requires --strategy=mirrored, got --strategy={kind}")
    if kind == "multi_worker":
        return _multi_worker(workers)
    if kind == "tpu":
        return _tpu()
    devices = _virtual(virtual_devices) if virtual_devices else _gpus()
    if kind == "auto":
        kind = "mirrored" if len(devices) > 1 else "one_device"
    if kind == "one_device":
        return tf.distribute.get_strategy()
    if not devices:
        raise ConfigError("--strategy=mirrored: TensorFlow found no GPU; use --strategy=one_device, or "
                          "--virtual_devices=2 to try it out on the CPU")
    return tf.distribute.MirroredStrategy(devices)


def choose_xla(choice):
    """Decide whether to compile with XLA.

    Args:
        choice: "on", "off", or "auto": on for GPUs and TPUs, off for CPUs, where compiled matrix products are slower.

    Returns:
        (bool, whether to compile; str, a log line that reports the choice).
    """
    kind = next((kind for kind in ("TPU", "GPU") if tf.config.list_logical_devices(kind)), "CPU")
    xla = kind != "CPU" if choice == "auto" else choice == "on"
    return xla, f"XLA {'on' if xla else 'off'} on {kind} (--xla={choice})"


def check_batch(strategy, rows, parts, group=None):
    """Raise ConfigError unless devices x microbatches (`parts`) x rows of a group divides the rows of the batch."""
    devices = strategy.num_replicas_in_sync
    if rows % (devices * parts):
        raise ConfigError(f"--batch_size={rows}: {devices} device(s) x --accumulate_steps={parts} must divide it; "
                          f"choose a multiple of {devices * parts}")
    if group and rows // (devices * parts) % group:
        raise ConfigError(f"--group_size={group}: must divide the {rows // (devices * parts)} rows of a microbatch "
                          f"(--batch_size={rows}, {devices} device(s), --accumulate_steps={parts})")


def place(strategy, batch):
    """Convert the global batch, a dict of arrays, to per-replica tensors; each replica gets a slice of the rows."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return {key: tf.constant(value) for key, value in batch.items()}
    size = len(next(iter(batch.values()))) // replicas

    def rows(context):
        first = context.replica_id_in_sync_group * size
        return {key: tf.constant(value[first:first + size]) for key, value in batch.items()}

    return strategy.experimental_distribute_values_from_function(rows)


def local_value(strategy, result):
    """Return one local replica's copy of a nested structure whose values are equal on all replicas."""
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], result)


def is_chief(strategy):
    """Return whether this process writes the run's files: the chief if any, else worker 0 or the only process."""
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not is_multi_worker(strategy):
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def is_multi_worker(strategy):
    """Return whether the strategy trains with several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def agree(strategy, number):
    """Return the chief's `number`, an int of up to 53 bits, on all workers; wait until all have called this."""
    if not is_multi_worker(strategy):
        return number
    mine = tf.constant(float(number) if is_chief(strategy) else 0.0, tf.float64)

    def add(value):
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))  # on this replica's device

    total = tf.function(lambda value: strategy.run(add, (value,)), autograph=False)(mine)
    # The sum contains the chief's number once for each of the chief's devices.
    return round(float(strategy.experimental_local_results(total)[0]) / len(strategy.extended.worker_devices))


def leave(strategy):
    """Wait until all workers have called this and none of them still needs this one.

    Args:
        strategy: tf.distribute.Strategy.

    Raises:
        tf.errors.OpError: one of `LOST`, if another worker is lost before all have called this.
    """
    agree(strategy, 0)
    # A worker may exit as soon as it has the sum, before others have received it. A worker that enters the second round
    # has completed the first, so a worker that is lost during the second round has exited normally.
    with contextlib.suppress(*LOST):
        agree(strategy, 0)


def _gpus():
    return [f"GPU:{number}" for number, _ in enumerate(tf.config.list_logical_devices("GPU"))]


def _virtual(count):
    devices = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    try:
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    except RuntimeError:
        there = len(tf.config.list_logical_devices("CPU"))
        if there != count:
            raise ConfigError(f"--virtual_devices={count}: TensorFlow has already started with {there} CPU device(s) "
                              "in this process; set it before anything is computed") from None
    return [f"CPU:{number}" for number in range(count)]


def _multi_worker(workers):
    resolver = None
    if not workers:
        tasks = tasks_of_slurm()
        if not tasks:
            raise ConfigError("--strategy=multi_worker: neither TF_CONFIG nor Slurm's variables describe the workers; "
                              "start them with srun or python -m experiments.launch, or set TF_CONFIG on each machine")
        # TensorFlow derives the tasks from the GPUs that nvidia-smi lists; without GPUs, claim one per task.
        places = {} if shutil.which("nvidia-smi") else {"gpus_per_node": tasks, "gpus_per_task": 1}
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(auto_set_gpu=not places, **places)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except LOST as error:
        raise LostWorker(f"the workers could not connect ({error.message.strip().splitlines()[0][:200]}): restart all "
                         "of them") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # undo TensorFlow's own handler


def _tpu():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, tf.errors.OpError) as error:
        raise ConfigError(f"--strategy=tpu: no TPU was found ({reason_of(error)}); set TPU_NAME, or run on a TPU "
                          "machine") from None
    return tf.distribute.TPUStrategy(resolver)
