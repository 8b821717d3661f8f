"""The cluster that a process belongs to, as its environment describes it.

A description that is not understood is refused: under a wrong one each machine would train alone, and end with exit 0.
"""
import json
import os

from tfzoo.errors import ConfigError, shown

_EXAMPLE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
_IGNORED = {"cluster", "task", "environment", "job", "rpc_layer", "model_dir"}  # beside them, what platforms write


def workers_of_tf_config():
    """Return how many workers TF_CONFIG names, an int; 0 without a cluster.

    Raises:
        ConfigError: for a description that tf.distribute would not train together by, or that holds anything unknown.
    """
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        unknown = sorted(config.keys() - _IGNORED)  # such as Kubeflow's sparseCluster
        if unknown:
            raise ValueError(f"it has {shown(unknown[0])}")
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        if not cluster:
            if int(task.get("index", 0)) > 0 or task.get("type", "worker") not in ("worker", "chief"):
                raise ValueError(f"it has a task {shown(task)} of no cluster")
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
            raise ConfigError("TF_CONFIG names parameter servers (ps), which Keras 3 does not support: name workers "
                              "only")
        if hosts and job not in ("chief", "worker"):
            raise ConfigError(f"TF_CONFIG names {len(hosts)} {shown(job)}: allowed are one chief, which older "
                              "platforms call master, and worker")
        if not isinstance(hosts, list) or not all(isinstance(host, str) and ":" in host for host in hosts):
            raise ValueError(f"its {job} is {shown(hosts)}")
    every = [host for hosts in cluster.values() for host in hosts]
    if len(set(every)) < len(every):
        raise ValueError(f"it names {max(every, key=every.count)} twice")
    if len(cluster.get("chief", ())) > 1:
        raise ValueError(f"it names {len(cluster['chief'])} chiefs")
    return every


def tasks_of_slurm():
    """Return how many tasks Slurm's step has that this process is one of, an int; 0 outside of one."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) if "SLURM_PROCID" in os.environ else 0


def check_alone():
    """Refuse to train alone where a launcher or a platform has started this process as one of several.

    Raises:
        ConfigError: names the variable that says so.
    """
    for name, count in (("OMPI_COMM_WORLD_SIZE", int), ("PMI_SIZE", int), ("WORLD_SIZE", int),
                        ("SM_HOSTS", lambda hosts: len(json.loads(hosts))),
                        ("CLUSTER_SPEC", lambda spec: sum(map(len, json.loads(spec)["cluster"].values()))),
                        ("TPU_WORKER_HOSTNAMES", lambda hosts: len(hosts.split(",")))):
        try:
            processes = count(os.environ[name])
        except (ValueError, LookupError, AttributeError, TypeError):
            continue  # not set, or not by the platform that this name is known of
        if processes > 1:
            raise ConfigError(f"--strategy=auto: {name} says that this is one of {processes} processes, which would "
                              f"each train alone; set TF_CONFIG to {_EXAMPLE}, or give another --strategy")
