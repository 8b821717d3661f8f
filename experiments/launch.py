"""Start the workers of a multi-worker run on one machine, and stop them together.

    python -m experiments.launch --workers=2 -- finetune --init=runs/bert --data=reviews \\
        --output_dir=runs/reviews

Put the script (pretrain or finetune) and its flags after --. --strategy=multi_worker is added unless a
strategy is given. The output of all workers goes to stderr, with each line prefixed by the worker that wrote
it; only the results from worker 0 go to stdout. If a worker fails, the others are stopped and its exit code
is returned. Ctrl-C makes all workers save a checkpoint and exit with code 75 (run the same command again to
resume); a second Ctrl-C kills them.
"""
import ctypes
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from absl import flags

from experiments import app
from experiments.app import STOPPING, fail

SCRIPTS = ("pretrain", "finetune")
HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")
USAGE = f"python -m experiments.launch --workers=2 -- {'|'.join(SCRIPTS)} --flag=value ..."
GRACE = 15  # seconds for the other workers to exit on their own after one has failed
SAVING = 120  # the same after an interruption: the others are saving, and a signal would abort it
TERM_TO_KILL = 5  # seconds from SIGTERM to SIGKILL
DRAIN = 1  # seconds of silence after which a pipe that outlives its worker is abandoned
LOOK = 0.5  # seconds between checks for signals: one that arrives just before a wait does not end the wait
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def make_flags():
    script = app.Flags("launch", __doc__)
    script.group("running")
    script.add("integer", "workers", 2, "Number of processes to start; they share the cores of this machine.",
               lower_bound=1)
    return script


def parse(words):
    """Parse the command line.

    Args:
        words: list of str, the arguments after the script's name.

    Returns:
        (int, the number of workers; str, the script to run; list of str, its arguments).

    Raises:
        flags.Error: if the arguments are wrong; its message is one line.
    """
    if "--" not in words:
        raise flags.Error(f"-- is missing from the arguments: use {USAGE}")
    at = words.index("--")
    values = make_flags().parse(words[:at])
    if at + 1 == len(words):
        raise flags.Error(f"no script after --: use {USAGE}")
    script, words = words[at + 1], words[at + 2:]
    if script not in SCRIPTS:
        raise flags.Error(f"{script} cannot run on several workers: after --, choose from {', '.join(SCRIPTS)}")
    if not any(re.match("--?strategy(=|$)", word) for word in words):
        words = [*words, "--strategy=multi_worker"]
    return values.workers, script, words


def command_of(script, words):
    """Return the command that starts a worker: list of str."""
    return [sys.executable, "-m", f"experiments.{script}", *words]


def environments(count):
    """Return one environment per worker, with TF_CONFIG and, unless already set, thread counts: list of dict."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // count))
    common = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads, **os.environ,
              "PYTHONUNBUFFERED": "1"}
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(count)]}
    return [{**common, "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})}
            for index in range(count)]


def free_ports(count):
    """Find free ports on this machine: list of int."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def dies_with_this_process():
    """Return a preexec_fn that makes the kernel kill the child when its parent thread ends; None except on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def call():
        prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(128 + signal.SIGKILL)

    return call


def _write(descriptor, data):
    # Bypass Python's streams: a blocked thread that holds their lock would keep the interpreter from exiting.
    while data:
        data = data[os.write(descriptor, data):]


class _Log:
    def __init__(self):
        self.lock = threading.Lock()

    def write(self, prefix, lines):
        with self.lock:
            try:
                _write(2, b"".join(prefix + line + b"\n" for line in lines))
            except OSError:
                pass  # stderr is closed or on a full disk, but the run matters more than its log


class _Copy(threading.Thread):
    def __init__(self, pipe, prefix, log):
        super().__init__(daemon=True)
        self.pipe, self.prefix, self.log = pipe, prefix, log
        self.last, self.reading_since = None, None

    def run(self):
        data, rest = b"more", b""
        while data:
            self.reading_since = time.monotonic()
            data = self.pipe.read(1 << 16)
            self.reading_since = None
            *lines, rest = (rest + data).split(b"\n")
            if rest and not data:
                lines = [rest]
            if lines:
                self.last = lines[-1]
                self.log.write(self.prefix, lines)

    def finish(self):
        # Copy everything, however slow the log is, but give up on a pipe that a stray process keeps open.
        begin = time.monotonic()
        while self.is_alive():
            self.join(0.05)
            since = self.reading_since
            if since is not None and time.monotonic() - max(since, begin) > DRAIN:
                return


class Cluster:
    """Run workers that start and end together.

    Args:
        command: list of str, the command that starts a worker.
        environments: list of dict of str to str, one environment per worker.
    """

    def __init__(self, command, environments):
        self.command, self.environments = command, environments
        self.events, self.log, self.signals = queue.SimpleQueue(), _Log(), []
        self.processes, self.copies = [], []

    def run(self):
        """Start the workers and wait for all of them; call this from the main thread.

        Returns:
            (int, 0 or the exit code of the first worker that failed; bytes, the last line that worker 0 wrote to
            stdout, or None).

        Raises:
            OSError: if a worker cannot be started.
            SystemExit: if a second signal arrives; the workers are killed.
        """
        for number in STOPPING:
            signal.signal(number, self._note)
        try:
            self._start()
            code = self._wait()
        finally:
            self._send(signal.SIGKILL)
        for copy in self.copies:
            copy.finish()
        return code, self.copies[0].last

    def _note(self, number, frame):
        self.signals.append(number)
        if len(self.signals) > 1:
            for other in STOPPING:  # a third one must not interrupt the cleanup
                signal.signal(other, signal.SIG_IGN)
            raise SystemExit(128 + number)
        self.events.put((None, number))

    def _start(self):
        # Start all workers before the first thread, since a fork of a threaded process may inherit a locked lock, and
        # from the main thread, since the kernel kills the workers when the thread that started them ends.
        for environment in self.environments:
            self.processes.append(subprocess.Popen(
                self.command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, bufsize=0, start_new_session=True, preexec_fn=dies_with_this_process()))
        for index, process in enumerate(self.processes):
            prefix = b"[worker %d] " % index
            self.copies += [_Copy(pipe, prefix, self.log) for pipe in (process.stdout, process.stderr)]
            threading.Thread(target=self._watch, args=(index, process), daemon=True).start()
        for copy in self.copies:
            copy.start()

    def _watch(self, index, process):
        self.events.put((index, process.wait()))

    def _wait(self):
        code, plan, running = 0, [], len(self.processes)
        while running:
            left = plan[0][0] - time.monotonic() if plan else LOOK
            try:
                index, value = self.events.get(timeout=min(max(left, 0), LOOK))
            except queue.Empty:
                if plan and plan[0][0] <= time.monotonic():
                    self._send(plan.pop(0)[1])
                continue
            if index is None:
                self._say(f"received {signal.Signals(value).name}: sending SIGTERM so that the workers save and exit; "
                          "a second signal kills them")
                self._send(signal.SIGTERM)
                continue
            running -= 1
            if value and not code:
                code = 128 - value if value < 0 else value
                seconds = SAVING if code == app.EXIT_INTERRUPTED else GRACE
                last = time.monotonic() + seconds
                plan = [(last, signal.SIGTERM), (last + TERM_TO_KILL, signal.SIGKILL)]
                how = f"killed by signal {-value}" if value < 0 else f"with exit code {value}"
                self._say(f"worker {index} ended first, {how}" +
                          (f"; the others have {seconds} seconds to exit" if running else ""))
        return code

    def _send(self, number):
        for process in self.processes:
            process.send_signal(number)  # does nothing if it has ended

    def _say(self, line):
        self.log.write(b"launch: ", [line.encode()])


def execute(words):
    """Parse the command line, run the workers and print the results.

    Args:
        words: list of str, the arguments after the script's name.

    Returns:
        int, the exit code.
    """
    own = words[:words.index("--")] if "--" in words else words
    if any(word in HELP for word in own):
        print(re.sub("^usage: .*$", f"usage: {USAGE}", make_flags().help(), flags=re.MULTILINE))
        return 0
    try:
        workers, script, words = parse(words)
        if os.environ.get("TF_CONFIG"):
            raise flags.Error("TF_CONFIG is set, so this process already belongs to a cluster: unset it, or run "
                              f"python -m experiments.{script} on each machine")
    except flags.CantOpenFlagFileError as error:
        fail("launch", f"{' '.join(str(error).split())}: give an existing flag file")
        return app.EXIT_MISSING
    except flags.Error as error:
        fail("launch", " ".join(str(error).split()))
        return app.EXIT_FLAGS
    try:
        code, results = Cluster(command_of(script, words), environments(workers)).run()
    except OSError as error:
        fail("launch", f"cannot start {workers} workers ({error}): try a smaller --workers")
        return app.EXIT_INTERNAL
    if code == 0 and results is not None:
        try:
            _write(1, results + b"\n")
        except OSError as error:
            fail("launch", f"cannot write the results to stdout ({error.strerror}); the run itself is "
                 "complete")
            return app.EXIT_WRITE
    return code


def main():
    """Run the launcher with the command-line arguments, and end the process with its exit code."""
    sys.exit(execute(sys.argv[1:]))


if __name__ == "__main__":
    main()
