"""Read from the environment which cluster this process belongs to.

Anything not understood is an error: with a wrong description each machine would train alone and still exit with 0.
"""
import json
import os

from tfzoo.errors import ConfigError, shown

_EXAMPLE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
_KNOWN = {"cluster", "task", "environment", "job", "rpc_layer", "model_dir"}  # and what platforms add


def workers_of_tf_config():
    """Return the number of workers in TF_CONFIG: int, 0 without a cluster.

    Raises:
        ConfigError: TF_CONFIG has unknown keys, or describes a cluster that tf.distribute would not train as one.
    """
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        unknown = sorted(config.keys() - _KNOWN)  # such as sparseCluster, by Kubeflow
        if unknown:
            raise ValueError(f"it has {shown(unknown[0])}")
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        if not cluster:
            if int(task.get("index", 0)) > 0 or task.get("type", "worker") not in ("worker", "chief"):
                raise ValueError(f"it has a task {shown(task)} but no cluster")
            return 0
        hosts = _hosts(cluster)
        if not 0 <= int(task["index"]) < len(cluster[task["type"]]):
            raise ValueError(f"it has no {task['type']} {task['index']}")
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ConfigError(f"TF_CONFIG does not describe workers ({reason}): allowed is {_EXAMPLE}") from None
    return len(hosts)


def _hosts(cluster):
    for job, hosts in cluster.items():
        if hosts and job == "ps":
            raise ValueError("it names parameter servers (ps), which Keras 3 does not support")
        if hosts and job not in ("chief", "worker"):
            raise ValueError(f"it names {len(hosts)} {shown(job)}; rename master, as older platforms write it, to "
                             "chief")
        if not isinstance(hosts, list) or not all(isinstance(host, str) and ":" in host for host in hosts):
            raise ValueError(f"its {job} is {shown(hosts)}")
    every = [host for hosts in cluster.values() for host in hosts]
    if len(set(every)) < len(every):
        raise ValueError(f"it names {max(every, key=every.count)} twice")
    if len(cluster.get("chief", ())) > 1:
        raise ValueError(f"it names {len(cluster['chief'])} chiefs")
    return every


def tasks_of_slurm():
    """Return the number of tasks in the Slurm step of this process: int, 0 outside Slurm."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) if "SLURM_PROCID" in os.environ else 0


def check_alone():
    """Raise if a launcher or platform started this process as one of several.

    Raises:
        ConfigError: an environment variable, named in the message, counts several processes.
    """
    for name, count in (("OMPI_COMM_WORLD_SIZE", int), ("PMI_SIZE", int), ("WORLD_SIZE", int),
                        ("SM_HOSTS", lambda hosts: len(json.loads(hosts))),
                        ("CLUSTER_SPEC", lambda spec: sum(map(len, json.loads(spec)["cluster"].values()))),
                        ("TPU_WORKER_HOSTNAMES", lambda hosts: len(hosts.split(",")))):
        try:
            processes = count(os.environ[name])
        except (ValueError, LookupError, AttributeError, TypeError):
            continue  # not set, or set by something else that uses the same name
        if processes > 1:
            raise ConfigError(f"--strategy=auto: {name} says that this is one of {processes} processes, which would "
                              f"each train alone; set TF_CONFIG to {_EXAMPLE}, or choose another --strategy")
