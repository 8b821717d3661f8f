"""launch.py with small workers in real processes: their environment, their output, and how they end."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from experiments import launch
from tests.helpers import CHECKOUT

# The real launcher with a different command and shorter times; its arguments: the worker, the times, the words.
RUNNER = """
import json, sys
from experiments import launch
worker, times = sys.argv[1], json.loads(sys.argv[2])
launch.command_of = lambda script, words: [sys.executable, "-S", "-c", worker, script, *words]
vars(launch).update(times)
del sys.argv[1:3]
try:
    launch.main()
finally:
    assert "tensorflow" not in sys.modules
"""
WORKER = """
import json, os, signal, subprocess, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
def on_signal(call):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: call(number))
    print("pid", os.getpid(), flush=True)
def say_it(number):
    print("got", number, flush=True)
"""
# Short sleeps, since a signal that arrives just before one is handled only after it.
SLEEP = "on_signal(say_it)\nuntil = time.monotonic() + 30\nwhile time.monotonic() < until: time.sleep(0.05)"


def start(code, *words, times=None, **options):
    command = [sys.executable, "-c", RUNNER, WORKER + code, json.dumps(times or {}), *(words or ["--", "finetune"])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment.update(options.pop("env", {}))
    return subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, errors="surrogateescape", **options)


def call(code, *words, **options):
    """Return (exit code, stdout, lines of stderr)."""
    process = start(code, *words, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.split("\n")[:-1]


def heard_from(lines, index):
    prefix = f"[worker {index}] "
    return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]


def read_until(process, lines, text, count=1):
    while sum(text in line for line in lines) < count:
        line = process.stderr.readline()
        assert line, lines
        lines.append(line.rstrip("\n"))


def read_pids(process, count=2):
    """Return the lines and the workers' process ids, once each has reported that it is ready."""
    lines = []
    read_until(process, lines, "] pid ", count)
    return lines, [int(heard_from(lines, index)[0].split()[1]) for index in range(count)]


def finish(process, lines):
    lines += process.stderr.read().splitlines()
    out = process.stdout.read()
    return process.wait(timeout=60), out, lines


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_the_end_of(pids):
    until = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(is_alive, pids))


TELL = """
names = ("TF_CONFIG", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "PYTHONUNBUFFERED")
print(json.dumps([sys.argv[1:], *(os.environ[name] for name in names)]))
"""


@pytest.mark.parametrize("count", [1, 3])
def test_each_worker_knows_its_place_and_its_share_of_the_cores(count):
    code, _, lines = call(TELL, f"--workers={count}", "--", "pretrain", "--data=a b", "--steps=3")
    assert code == 0, lines
    told = [json.loads(heard_from(lines, index)[0]) for index in range(count)]
    configs = [json.loads(each[1]) for each in told]
    assert [config["task"] for config in configs] == [{"type": "worker", "index": index} for index in range(count)]
    addresses = configs[0]["cluster"]["worker"]
    assert all(config["cluster"] == {"worker": addresses} for config in configs)
    assert len(set(addresses)) == count and all(re.fullmatch(r"127\.0\.0\.1:\d+", each) for each in addresses)
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    for each in told:
        assert each[0] == ["pretrain", "--data=a b", "--steps=3", "--strategy=multi_worker"]
        assert each[2:] == [threads, threads, "1"]


def test_what_the_user_set_stays():
    code, _, lines = call(TELL, "--", "finetune", "--strategy=auto", env={"TF_NUM_INTRAOP_THREADS": "7"})
    told = [json.loads(heard_from(lines, index)[0]) for index in range(2)]
    assert code == 0 and all(each[0] == ["finetune", "--strategy=auto"] and each[2] == "7" for each in told)
    for words in (["--strategy", "auto"], ["-strategy=auto"]):
        assert launch.parse(["--", "finetune", *words]) == (2, "finetune", words)
    words = ["--strategy_of_mine=1", "--", "--x=--strategy=y"]
    assert launch.parse(["--", "finetune", *words])[2] == [*words, "--strategy=multi_worker"]
    assert launch.command_of("finetune", ["--a"]) == [sys.executable, "-m", "experiments.finetune", "--a"]


def test_lines_stay_whole():
    code, out, lines = call("""
for number in range(300):
    for descriptor, name in ((1, b"out"), (2, b"err")):
        for part in (b"%d %s " % (number, name), b"x" * 500, b"y" * 500 + b"\\n"):
            os.write(descriptor, part)
os.write(2, b"a byte \\xff\\n\\n")
os.write(1, b"last of %d, without an end" % index)
""", "--workers=3", "--", "finetune")
    assert code == 0 and out == "last of 0, without an end\n"
    assert all(re.match(r"\[worker [012]\] ", line) for line in lines)
    for index in range(3):
        whole = [f"{number} {name} {'x' * 500}{'y' * 500}" for number in range(300) for name in ("out", "err")]
        whole += ["a byte \udcff", "", f"last of {index}, without an end"]
        heard = heard_from(lines, index)
        assert sorted(heard) == sorted(whole)
        numbers = [int(line.split()[0]) for line in heard if " out " in line]
        assert numbers == sorted(numbers)  # the lines of a stream keep their order


def test_standard_output_is_the_results_alone():
    code, out, lines = call("print('progress')\nprint(json.dumps({'worker': index}))")
    assert code == 0 and out == '{"worker": 0}\n'
    assert [heard_from(lines, index) for index in range(2)] == [["progress", f'{{"worker": {index}}}']
                                                                for index in range(2)]
    assert call("pass") == (0, "", [])


def test_the_first_failure_s_code_is_passed_on_and_the_others_end_by_themselves():
    process = start("""
def end(number):
    print("ended by itself")
    sys.exit(70 + index)
signal.signal(signal.SIGUSR1, lambda number, frame: end(number))
""" + SLEEP, "--workers=3", "--", "finetune")
    lines, pids = read_pids(process, 3)
    os.kill(pids[1], signal.SIGUSR1)
    read_until(process, lines, "launch: worker 1 ended first, with exit code 71; the others have 15 seconds to exit")
    for index in (0, 2):
        os.kill(pids[index], signal.SIGUSR1)
    code, out, lines = finish(process, lines)
    assert (code, out) == (71, "") and sum(line.startswith("launch: ") for line in lines) == 1
    assert [heard_from(lines, index)[1:] for index in range(3)] == [["ended by itself"]] * 3


def test_who_does_not_end_gets_sigterm_and_then_sigkill():
    process = start("signal.signal(signal.SIGUSR1, lambda number, frame: os._exit(65))\n" + SLEEP,
                    times={"GRACE": 0.2, "TERM_TO_KILL": 0.3})
    lines, pids = read_pids(process)
    os.kill(pids[1], signal.SIGUSR1)
    code, out, lines = finish(process, lines)
    assert (code, out) == (65, "") and heard_from(lines, 0)[1:] == ["got 15"] and not heard_from(lines, 1)[1:]
    wait_for_the_end_of(pids)


def test_a_killed_worker_s_code_is_that_of_a_shell():
    process = start(SLEEP, times={"GRACE": 0, "TERM_TO_KILL": 0})
    lines, pids = read_pids(process)
    os.kill(pids[0], signal.SIGKILL)
    code, out, lines = finish(process, lines)
    assert (code, out) == (128 + 9, "") and lines[2].startswith("launch: worker 0 ended first, killed by signal 9")


def test_an_interrupted_worker_s_others_have_the_time_to_save():
    code, out, lines = call("on_signal(say_it)\nif index == 0: sys.exit(75)\ntime.sleep(0.5)\nprint('saved')",
                            times={"GRACE": 0, "LOOK": 0.05, "TERM_TO_KILL": 0})
    assert (code, out) == (75, "") and heard_from(lines, 1)[1:] == ["saved"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_once_as_sigterm(number):
    process = start("""
def end(number):
    say_it(number)
    time.sleep(0.3)
    sys.exit(75)
""" + SLEEP.replace("say_it", "end"), start_new_session=True)
    lines, _ = read_pids(process)
    os.killpg(process.pid, number)  # as a terminal does
    code, out, lines = finish(process, lines)
    assert (code, out) == (75, "")
    assert [heard_from(lines, index)[1:] for index in range(2)] == [["got 15"], ["got 15"]]
    assert sum(line.startswith(f"launch: received {number.name}") for line in lines) == 1


def test_a_second_signal_kills():
    process = start(SLEEP, times={"PR_SET_PDEATHSIG": 0})  # an invalid option: the launcher acts, not the kernel
    lines, pids = read_pids(process)
    process.send_signal(signal.SIGTERM)
    read_until(process, lines, "got 15", 2)
    assert all(map(is_alive, pids))
    process.send_signal(signal.SIGINT)
    code, out, lines = finish(process, lines)
    assert (code, out) == (128 + signal.SIGINT, "") and not any("Traceback" in line for line in lines)
    wait_for_the_end_of(pids)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has PR_SET_PDEATHSIG")
def test_no_worker_outlives_a_killed_launch():
    process = start(SLEEP)
    _, pids = read_pids(process)
    assert all(map(is_alive, pids))
    process.kill()
    assert process.wait() == -9
    wait_for_the_end_of(pids)
    process.communicate()


def test_a_stray_process_with_the_pipe_keeps_nothing_alive():
    code, out, lines = call("""
stray = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(30)"], start_new_session=True)
print(stray.pid)
""", "--workers=1", "--", "finetune", times={"DRAIN": 0.2})
    stray = int(out)
    assert code == 0 and is_alive(stray)
    os.kill(stray, signal.SIGKILL)


def test_a_slow_reader_loses_nothing():
    # More than one pipe can hold, less than two: the worker has ended while the launcher still waits for its reader.
    process = start("for number in range(900): print(number, 'x' * 100)", "--workers=1", "--", "finetune",
                    times={"DRAIN": 0.1})
    time.sleep(0.8)
    assert process.poll() is None
    _, err = process.communicate(timeout=60)
    assert [int(line.split()[2]) for line in err.splitlines()] == list(range(900))


def test_a_log_that_nobody_reads_does_not_end_the_run():
    process = start("for number in range(3000): print(number, 'x' * 100)")
    process.stderr.close()
    assert process.stdout.read() == f"2999 {'x' * 100}\n" and process.wait(timeout=60) == 0


@pytest.mark.parametrize("words, code, says", [
    ([], 1, "-- is missing"), (["finetune", "--data=x"], 1, "-- is missing"), (["--"], 1, "no script"),
    (["--workers=2", "--"], 1, "pretrain|finetune"),
    (["--", "evaluate"], 1, "after --, choose from pretrain, finetune"),
    (["--", "--workers=2", "finetune"], 1, "--workers=2"), (["--workers=0", "--", "finetune"], 1, "--workers=0"),
    (["--workers=two", "--", "finetune"], 1, "two"), (["--data=x", "--", "finetune"], 1, "'data'"),
    (["finetune", "--", "finetune"], 1, "unexpected arguments finetune"),
    (["--flagfile=/none", "--", "finetune"], 66, "/none")])
def test_wrong_words_are_one_line(words, code, says, capsys, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert launch.execute(words) == code
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert captured.err.startswith("launch: ") and says in captured.err


def test_a_worker_does_not_launch(capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}')
    assert launch.execute(["--", "finetune"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1 and "TF_CONFIG is set" in captured.err


@pytest.mark.parametrize("words", [["--help"], ["-h", "--", "finetune"], ["--workers=2", "--help"]])
def test_help_reads_well(words, capsys):
    assert launch.execute(words) == 0
    captured = capsys.readouterr()
    assert "usage: python -m experiments.launch --workers=2 -- pretrain|finetune" in captured.out and not captured.err
    assert "--workers" in captured.out and max(map(len, captured.out.splitlines())) <= 110


def test_the_real_script_refuses_its_flags():
    command = [sys.executable, "-m", "experiments.launch", "--workers=2", "--", "finetune", "--no_such_flag=1"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "") and len(lines) == 3, lines
    for index in range(2):
        assert "no_such_flag" in heard_from(lines, index)[0]
