"""Fine-tune a pretrained model on a task, or train one on it from scratch."""
from experiments import app, assembly, groups


def make_flags():
    script = app.Flags("finetune", __doc__)
    groups.what(script, ("classification",))
    groups.data(script)
    groups.texts(script)
    groups.optimization(script)
    groups.running(script)
    return script


def run(values, script):
    from tfzoo.tasks import task_of
    assembly.check_training_flags(values)
    strategy = assembly.prepare(values)
    loaded = assembly.load_init(values)
    sources = assembly.open_sources(values, ("text", "label"))
    task = task_of(values.task, labels=sources[0].labels())
    return assembly.run_training(script, values, task, sources, loaded, strategy)


if __name__ == "__main__":
    flags = make_flags()
    app.main(flags, lambda values: run(values, flags))
