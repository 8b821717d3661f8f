"""The contract of the scripts: flags, one-line errors, exit codes, the results as the last line."""
import json
import os
import signal
import sys
import textwrap
import traceback

from absl import flags

PATHS = ("init", "tokenizer", "data", "eval_data", "output_dir", "output")  # flags that may be one
EXIT_FLAGS, EXIT_DATA, EXIT_MISSING, EXIT_INTERNAL, EXIT_WRITE, EXIT_INTERRUPTED = 1, 65, 66, 70, 74, 75
STOPPING = (signal.SIGINT, signal.SIGTERM)


class Flags:
    """The flags of one script, defined in groups, parsed from words.

    Args:
        name: str, the script's name.
        about: str, its docstring; the first line is the summary of --help.
    """

    def __init__(self, name, about):
        self.name, self.about = name, about
        self.values = flags.FlagValues()
        self.groups, self.required = [], []

    def group(self, title):
        """Begin a group of --help."""
        self.groups.append((title, []))

    def add(self, kind, name, default, text, required=False, **limits):
        """Define a flag: kind is "string", "integer", "float", "bool", "enum" or "multi_string"."""
        define = getattr(flags, {"bool": "DEFINE_boolean"}.get(kind, f"DEFINE_{kind}"))
        if kind == "enum":
            define(name, default, limits.pop("allowed"), text, flag_values=self.values)
        else:
            define(name, default, text, flag_values=self.values, **limits)
        self.groups[-1][1].append((name, kind, text, required))
        if required:
            self.required.append(name)

    def parse(self, words):
        """Return the values; raises flags.Error with one line for wrong words."""
        left = self.values([self.name, *words])[1:]
        if left:
            raise flags.Error(f"leftover words {' '.join(left)}: flags are written --name=value")
        for name in self.required:
            if not self.values[name].value:
                raise flags.Error(f"--{name} is missing: python -m experiments.{self.name} --help says what it takes")
        return self.values

    def help(self):
        """Return the text of --help."""
        lines = [self.about.strip(), "", f"usage: python -m experiments.{self.name} --flag=value ... "
                 "[--flagfile=experiments/flags/NAME.flags]"]
        for title, members in self.groups:
            lines += ["", f"{title}:"]
            for name, kind, text, required in members:
                default = self.values[name].default
                shown = "--[no]" + name if kind == "bool" else f"--{name}"
                if kind == "enum":
                    shown += "=" + "|".join(self.values[name].parser.enum_values)
                note = " (required)" if required else "" if default in (None, "", []) else f" (default: {default})"
                lines.append(f"  {shown}")
                lines += textwrap.wrap(text + note, 100, initial_indent="      ", subsequent_indent="      ")
        return "\n".join(lines)


def given(values):
    """Return the flags that were given, in words or a flagfile, and not left at their defaults: dict of values."""
    return {name: values[name].value for name in values if values[name].present and name not in ("flagfile", "undefok")}


def import_tensorflow():
    """Import TensorFlow and tfzoo without TensorFlow's start-up lines, and let GPU memory grow.

    They come from C++ before any log level holds, so the descriptor itself is turned away while the libraries load. A
    signal waits until then: amid an import it leaves modules that are half there, or becomes another error.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    os.dup2(nowhere, 2)
    try:
        import tfzoo.backend  # noqa: F401  first: whatever imports another backend of Keras would say less
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  it has start-up lines of its own
        import tfzoo  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    tf.get_logger().setLevel("ERROR")  # notes on devices and traces are for its developers
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)


def output_path(path):
    """Return --output as a pathlib.Path, None without it; raise OSError where it names a file in no folder."""
    if not path:
        return None
    from tfzoo.files import local_path
    path = local_path(path, "--output")
    if not path.absolute().parent.is_dir():
        raise OSError(f"--output={path}: {path.absolute().parent} is no folder; make it first, or name another")
    return path


def _check_paths(values):
    """Raise ConfigError for addresses of kinds that are not supported, before any work."""
    from tfzoo.files import local_path
    for name in PATHS:
        if name in values and values[name].value:
            local_path(values[name].value, f"--{name}")


def fail(name, line):
    """Print the one line with which a script ends, to stderr, even where that is a file on a full disk."""
    try:
        print(f"{name}: {line}", file=sys.stderr, flush=True)
    except OSError:
        return


def _code_of(error):
    """Return the exit code of an error that has one line, or None."""
    if isinstance(error, KeyboardInterrupt):  # amid an import perhaps, after which tfzoo cannot be imported
        return EXIT_INTERRUPTED
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
        return "interrupted: run the same command again; training goes on from its last checkpoint, if any"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        advice = "; check that the path is right, can be written and has space"
        return f"{place}{error.strerror}{'' if isinstance(error, FileNotFoundError) else advice}"
    return " ".join(str(error).split())


def execute(script, run, words, results_to=None):
    """Parse and run a script.

    Args:
        script: Flags.
        run: callable of the flags' values, returns the results: a dict.
        words: list of str, the command line without the script.
        results_to: stream of the results' JSON line; None is stdout.

    Returns:
        int, the exit code.
    """
    if any(word in ("--help", "-help", "-h", "--helpfull", "--helpshort") for word in words):
        print(script.help())
        return 0
    try:
        values = script.parse(words)
    except flags.CantOpenFlagFileError as error:
        fail(script.name, f"{' '.join(str(error).split())}: name a file of flags")
        return EXIT_MISSING
    except flags.Error as error:
        fail(script.name, " ".join(str(error).split()))
        return EXIT_FLAGS
    try:
        try:
            import_tensorflow()
        except ImportError as error:  # another backend of Keras, or a package that is missing
            fail(script.name, " ".join(str(error).split()))
            return EXIT_FLAGS
        _check_paths(values)
        results = run(values)
        print(json.dumps(results), file=results_to or sys.stdout, flush=True)
        return 0
    except BrokenPipeError:  # the reader, as `head`, has had enough
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
    fail(script.name, f"an error of tfzoo's own ({type(error).__name__}): please report it with the lines above")
    return EXIT_INTERNAL


def main(script, run, results_to=None):
    """Run a script with the words of the command line and end the process with its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, until training takes care of both
    code = execute(script, run, sys.argv[1:], results_to)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # a log on a full disk
            code = code or (EXIT_WRITE if stream is sys.stdout else 0)
    os._exit(code)  # TensorFlow's threads may hold an interpreter that ends by itself for seconds
