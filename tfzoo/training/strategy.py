"""Where a run computes: one device, the GPUs of a machine, several machines, or TPUs (tf.distribute)."""
import contextlib
import shutil
import signal
import threading

import tensorflow as tf

from tfzoo.errors import ConfigError, LostWorker
from tfzoo.training.cluster import check_alone, tasks_of_slurm, workers_of_tf_config

# What TensorFlow raises where another worker is gone; anything else is this worker's own.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


def make_strategy(kind="auto", virtual_devices=0):
    """Return the tf.distribute strategy of a name; to be called before TensorFlow makes its first tensor.

    Args:
        kind: "one_device"; "mirrored", all GPUs of this machine or the virtual devices; "multi_worker", one process a
            machine, from TF_CONFIG or Slurm's variables; "tpu"; or "auto": multi_worker where TF_CONFIG names several
            workers or Slurm's step has several tasks, mirrored where there are several devices, else one_device.
        virtual_devices: int, logical devices to divide the CPU into; 0 leaves it whole.

    Returns:
        tf.distribute.Strategy; for one device TensorFlow's default one.

    Raises:
        ConfigError: for an unknown kind, devices that are not there, or a cluster that is not described.
    """
    if "parameter" in kind or kind == "ps":
        raise ConfigError(f"--strategy={kind}: parameter servers update asynchronously, which Keras 3 does not support "
                          f"and no restart could repeat; allowed are {', '.join(STRATEGIES)}")
    if kind not in STRATEGIES:
        raise ConfigError(f"--strategy={kind}: allowed are {', '.join(STRATEGIES)}")
    workers = workers_of_tf_config()
    if kind == "auto" and (workers > 1 or not workers and tasks_of_slurm() > 1):
        kind = "multi_worker"
    elif kind == "auto" and not workers:
        check_alone()
    if workers > 1 and kind != "multi_worker":
        raise ConfigError(f"--strategy={kind}: TF_CONFIG names {workers} workers, which would train side by side in "
                          "one folder; use --strategy=multi_worker, or unset TF_CONFIG")
    if virtual_devices and kind not in ("auto", "mirrored"):
        raise ConfigError(f"--virtual_devices={virtual_devices} is for --strategy=mirrored: got {kind}")
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
        raise ConfigError("--strategy=mirrored: TensorFlow sees no GPU; use --strategy=one_device, or "
                          "--virtual_devices=2 to try it on the CPU")
    return tf.distribute.MirroredStrategy(devices)


def choose_xla(choice):
    """Return (whether to compile, a line that says so).

    Args:
        choice: "auto" (on a GPU or TPU; on CPUs the compiled matrix products measured slower), "on" or "off".
    """
    kind = next((kind for kind in ("TPU", "GPU") if tf.config.list_logical_devices(kind)), "CPU")
    xla = kind != "CPU" if choice == "auto" else choice == "on"
    return xla, f"XLA {'on' if xla else 'off'} on {kind} (--xla={choice})"


def check_batch(strategy, rows, parts):
    """Raise ConfigError where the devices, each with so many microbatches, cannot divide a batch of so many rows."""
    devices = strategy.num_replicas_in_sync
    if rows % (devices * parts):
        raise ConfigError(f"--batch_size={rows}: {devices} device(s) x --accumulate_steps={parts} must divide it; "
                          f"allowed are multiples of {devices * parts}")


def place(strategy, batch):
    """Return a batch, dict of arrays, as the strategy takes it: each replica gets the rows that are its own."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return {key: tf.constant(value) for key, value in batch.items()}
    size = len(next(iter(batch.values()))) // replicas

    def rows(context):
        first = context.replica_id_in_sync_group * size
        return {key: tf.constant(value[first:first + size]) for key, value in batch.items()}

    return strategy.experimental_distribute_values_from_function(rows)


def local_value(strategy, result):
    """Return a nest of values that are the same on all replicas, as one of this process has it."""
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], result)


def is_chief(strategy):
    """Return whether this process writes the run's files: worker 0, or the only one."""
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not is_multi_worker(strategy):
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def is_multi_worker(strategy):
    """Return whether several processes train together."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def agree(strategy, number):
    """Return the number that worker 0 has, an int of up to 53 bits, after all workers have come here."""
    if not is_multi_worker(strategy):
        return number
    mine = tf.constant(float(number) if is_chief(strategy) else 0.0, tf.float64)

    def add(value):
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))  # on this replica's device

    total = tf.function(lambda value: strategy.run(add, (value,)), autograph=False)(mine)
    # Each of the chief's devices has added its number once.
    return round(float(strategy.experimental_local_results(total)[0]) / len(strategy.extended.worker_devices))


def leave(strategy):
    """Wait until all workers are here and none of them needs this one any more.

    Args:
        strategy: tf.distribute.Strategy.

    Raises:
        tf.errors.OpError: one of LOST, if another worker is gone before all are here.
    """
    agree(strategy, 0)
    # A worker may exit as soon as it has the sum, before the others have received it. Whoever enters a second round has
    # completed the first, so a worker that is lost in the second has left in order.
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
            raise ConfigError(f"--virtual_devices={count}: TensorFlow has started with {there} in this process; set "
                              "them before anything is computed") from None
    return [f"CPU:{number}" for number in range(count)]


def _multi_worker(workers):
    resolver = None
    if not workers:
        tasks = tasks_of_slurm()
        if not tasks:
            raise ConfigError("--strategy=multi_worker: neither TF_CONFIG nor Slurm's variables describe the workers; "
                              "start it by srun, by python -m experiments.launch, or set TF_CONFIG on each machine")
        # TensorFlow counts tasks by GPUs, which it has from nvidia-smi: without any, each task stands for one.
        places = {} if shutil.which("nvidia-smi") else {"gpus_per_node": tasks, "gpus_per_task": 1}
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(auto_set_gpu=not places, **places)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except LOST as error:
        raise LostWorker(f"the workers did not come together ({error.message.strip().splitlines()[0][:200]}): start "
                         "all of them again") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # TensorFlow has put one of its own there


def _tpu():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, tf.errors.OpError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"--strategy=tpu: no TPU was found ({reason}); set TPU_NAME, or run on a TPU "
                          "machine") from None
    return tf.distribute.TPUStrategy(resolver)
