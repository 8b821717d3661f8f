"""Determine from the environment which cluster this process belongs to.

Anything unrecognized is an error: given a wrong description, each machine would train on its own and still exit with
code 0.
"""
import json
import os

from tfzoo.errors import ConfigError, shown

_EXAMPLE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
_KNOWN = {"cluster", "task", "environment", "job", "rpc_layer", "model_dir"}  # and keys that platforms add


def workers_of_tf_config():
    """Return the number of workers in TF_CONFIG: int, 0 if it describes no cluster.

    Raises:
        ConfigError: if TF_CONFIG has unknown keys, or describes workers that tf.distribute would not train together.
    """
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        unknown = sorted(config.keys() - _KNOWN)  # such as Kubeflow's sparseCluster
        if unknown:
            raise ValueError(f"unknown key {shown(unknown[0])}")
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        if not cluster:
            if int(task.get("index", 0)) > 0 or task.get("type", "worker") not in ("worker", "chief"):
                raise ValueError(f"task {shown(task)} without a cluster")
            return 0
        hosts = _hosts(cluster)
        if not 0 <= int(task["index"]) < len(cluster[task["type"]]):
            raise ValueError(f"there is no {task['type']} {task['index']}")
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        reason = f"missing key {error}" if isinstance(error, KeyError) else error
        raise ConfigError(f"TF_CONFIG does not describe workers ({reason}): expected {_EXAMPLE}") from None
    return len(hosts)


def _hosts(cluster):
    for job, hosts in cluster.items():
        if hosts and job == "ps":
            raise ValueError("Keras 3 does not support parameter servers (ps)")
        if hosts and job not in ("chief", "worker"):
            raise ValueError(f"it has {len(hosts)} host(s) of unknown type {shown(job)}; rename master, the "
                             "older name, to chief")
        if not isinstance(hosts, list) or not all(isinstance(host, str) and ":" in host for host in hosts):
            raise ValueError(f"{job} is {shown(hosts)}")
    every = [host for hosts in cluster.values() for host in hosts]
    if len(set(every)) < len(every):
        raise ValueError(f"{max(every, key=every.count)} is listed twice")
    if len(cluster.get("chief", ())) > 1:
        raise ValueError(f"it has {len(cluster['chief'])} chiefs")
    return every


def tasks_of_slurm():
    """Return the number of tasks in this process's Slurm step: int, 0 outside Slurm."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) if "SLURM_PROCID" in os.environ else 0


def check_alone():
    """Check that this process was not started as one of several by a launcher or platform.

    Raises:
        ConfigError: if an environment variable, named in the message, indicates several processes.
    """
    for name, count in (("OMPI_COMM_WORLD_SIZE", int), ("PMI_SIZE", int), ("WORLD_SIZE", int),
                        ("SM_HOSTS", lambda hosts: len(json.loads(hosts))),
                        ("CLUSTER_SPEC", lambda spec: sum(map(len, json.loads(spec)["cluster"].values()))),
                        ("TPU_WORKER_HOSTNAMES", lambda hosts: len(hosts.split(",")))):
        try:
            processes = count(os.environ[name])
        except (ValueError, LookupError, AttributeError, TypeError):
            continue  # not set, or set for another purpose
        if processes > 1:
            raise ConfigError(f"--strategy=auto: {name} indicates that this is one of {processes} processes, each of "
                              f"which would train alone; set TF_CONFIG to {_EXAMPLE}, or choose another --strategy")
