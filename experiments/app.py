"""Code shared by all scripts: flags, one-line errors, exit codes, and the results in the last line of output."""
import json
import os
import signal
import sys
import textwrap
import traceback

from absl import flags

# Flags whose values may be paths.
PATHS = ("init", "tokenizer", "data", "eval_data", "test_data", "output_dir", "output", "report", "compare")
EXIT_FLAGS, EXIT_DATA, EXIT_MISSING, EXIT_INTERNAL, EXIT_WRITE, EXIT_INTERRUPTED = 1, 65, 66, 70, 74, 75
STOPPING = (signal.SIGINT, signal.SIGTERM)


class Failed(Exception):
    """Raised if a process that a script started has failed.

    Args:
        code: int, its exit code, which becomes the script's.
        line: str, the script's error line.
    """

    def __init__(self, code, line):
        super().__init__(line)
        self.code = code


class Flags:
    """The flags of one script, defined in groups and parsed from command-line arguments.

    Args:
        name: str, the script's name.
        about: str, the script's docstring, shown at the top of --help.
    """

    def __init__(self, name, about):
        self.name, self.about = name, about
        self.values = flags.FlagValues()
        self.groups, self.required = [], []

    def group(self, title):
        """Start a new group of flags in --help."""
        self.groups.append((title, []))

    def add(self, kind, name, default, text, required=False, **limits):
        """Define a flag in the current group.

        Args:
            kind: str: "string", "integer", "float", "bool", "enum", "list" (separated by commas) or "multi_string".
            name: str, without the dashes.
            default: the default value, or None if there is none.
            text: str, the description in --help.
            required: bool, whether `parse` raises an error if it is missing.
            limits: `allowed`, list of str, for "enum"; `lower_bound` and `upper_bound` for numbers.
        """
        define = getattr(flags, {"bool": "DEFINE_boolean"}.get(kind, f"DEFINE_{kind}"))
        if kind == "enum":
            define(name, default, limits.pop("allowed"), text, flag_values=self.values)
        else:
            define(name, default, text, flag_values=self.values, **limits)
        self.groups[-1][1].append((name, kind, text, required))
        if required:
            self.required.append(name)

    def parse(self, words):
        """Parse command-line arguments.

        Args:
            words: list of str, the arguments after the script's name.

        Returns:
            flags.FlagValues; the value of --name is `.name`.

        Raises:
            flags.Error: if arguments are unknown, malformed, out of range, missing or left over; the message is one
                line.
        """
        left = self.values([self.name, *words])[1:]
        if left:
            raise flags.Error(f"unexpected arguments {' '.join(left)}: flags are written --name=value")
        for name in self.required:
            if not self.values[name].value:
                raise flags.Error(f"--{name} is missing: see python -m experiments.{self.name} --help")
        return self.values

    def help(self):
        """Return the text of --help: str."""
        lines = [self.about.strip(), "", f"usage: python -m experiments.{self.name} --flag=value ... "
                 "[--flagfile=experiments/flags/NAME.flags]"]
        for title, members in self.groups:
            lines += ["", f"{title}:"]
            for name, kind, text, required in members:
                default = self.values[name].default
                shown = "--[no]" + name if kind == "bool" else f"--{name}"
                if kind == "enum":
                    shown += "=" + "| ".join(self.values[name].parser.enum_values)  # the spaces are where lines may end
                note = " (required)" if required else "" if default in (None, "", []) else f" (default: {default})"
                lines += (line.replace("| ", "|") for line in textwrap.wrap(
                    shown, 106, initial_indent="  ", subsequent_indent="      "))
                lines += textwrap.wrap(text + note, 100, initial_indent="      ", subsequent_indent="      ")
        return "\n".join(lines)


def given(values):
    """Return the flags set on the command line or in a flagfile, not those left at their defaults: dict of values."""
    return {name: values[name].value for name in values if values[name].present and name not in ("flagfile", "undefok")}


def import_tensorflow():
    """Import TensorFlow and tfzoo without TensorFlow's startup messages, and enable GPU memory growth.

    C++ prints these messages before any log level takes effect, so stderr's file descriptor is redirected while the
    libraries load. Signals are blocked in the meantime, because a signal that interrupts an import leaves
    half-initialized modules or surfaces as an unrelated error.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    os.dup2(nowhere, 2)
    try:
        import tfzoo.backend  # noqa: F401  first: its error about a wrong Keras backend is the clearest
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  it prints startup messages too
        import tfzoo  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    tf.get_logger().setLevel("ERROR")  # its messages about devices and tracing do not concern users
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)


def output_path(path):
    """Check the path of --output.

    Args:
        path: str, or None or "" if --output is not given.

    Returns:
        pathlib.Path, or None.

    Raises:
        ConfigError: if it is an address, such as gs://, instead of a local path.
        OSError: if the parent folder does not exist.
    """
    if not path:
        return None
    from tfzoo.files import local_path
    path = local_path(path, "--output")
    if not path.absolute().parent.is_dir():
        raise OSError(f"--output={path}: {path.absolute().parent} is not a folder; create it, or choose another path")
    return path


def _check_paths(values):
    # Refuse unsupported addresses, such as gs://, before any work.
    from tfzoo.files import local_path
    for name in PATHS:
        if name in values and values[name].value:
            local_path(values[name].value, f"--{name}")


def fail(name, line):
    """Print a script's final error line to stderr; ignore write errors, such as a log on a full disk."""
    try:
        print(f"{name}: {line}", file=sys.stderr, flush=True)
    except OSError:
        return


def _code_of(error):
    if isinstance(error, KeyboardInterrupt):  # first, since tfzoo cannot be imported after an interrupted import
        return EXIT_INTERRUPTED
    if isinstance(error, Failed):
        return error.code
    from tfzoo import errors
    for kind, code in ((errors.ConfigError, EXIT_FLAGS), (errors.DataError, EXIT_DATA),
                       (FileNotFoundError, EXIT_MISSING), (errors.Diverged, EXIT_INTERNAL),
                       (errors.OutOfMemory, EXIT_INTERNAL), (errors.Interrupted, EXIT_INTERRUPTED),
                       (errors.LostWorker, EXIT_INTERRUPTED), (OSError, EXIT_WRITE)):
        if isinstance(error, kind):
            return code
    return None


def _line_of(error):
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: run the same command again; training resumes from its latest checkpoint, if any"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        advice = "; check that the path is right and writable and that the disk has space"
        return f"{place}{error.strerror}{'' if isinstance(error, FileNotFoundError) else advice}"
    return " ".join(str(error).split())


def execute(script, run, words, results_to=None):
    """Parse and run a script.

    Args:
        script: Flags.
        run: callable that takes the parsed flags and returns a dict of results.
        words: list of str, the command-line arguments after the script's name.
        results_to: stream to which the results are printed as a line of JSON; None for stdout.

    Returns:
        int, the exit code.
    """
    if any(word in ("--help", "-help", "-h", "--helpfull", "--helpshort") for word in words):
        print(script.help())
        return 0
    try:
        values = script.parse(words)
    except flags.CantOpenFlagFileError as error:
        fail(script.name, f"{' '.join(str(error).split())}: give an existing flag file")
        return EXIT_MISSING
    except flags.Error as error:
        fail(script.name, " ".join(str(error).split()))
        return EXIT_FLAGS
    try:
        try:
            import_tensorflow()
        except ImportError as error:  # another Keras backend, or a missing package
            fail(script.name, " ".join(str(error).split()))
            return EXIT_FLAGS
        _check_paths(values)
        results = run(values)
        print(json.dumps(results), file=results_to or sys.stdout, flush=True)
        return 0
    except BrokenPipeError:  # the reader, such as `head`, has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_WRITE
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        code = _code_of(error)
        if code is not None:
            fail(script.name, _line_of(error))
            return code
        return _internal(script, error)


def _internal(script, error):
    import tensorflow as tf
    if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
        fail(script.name, "out of memory: lower --batch_size or --max_length, or raise --accumulate_steps")
        return EXIT_INTERNAL
    traceback.print_exception(error)
    fail(script.name, f"internal error of tfzoo ({type(error).__name__}): please report it with the lines above")
    return EXIT_INTERNAL


def main(script, run, results_to=None):
    """Run a script with the command-line arguments and end the process with the script's exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C, until training installs its own handlers
    code = execute(script, run, sys.argv[1:], results_to)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # a log on a full disk
            code = code or (EXIT_WRITE if stream is sys.stdout else 0)
    os._exit(code)  # a normal exit may wait seconds for TensorFlow's threads
