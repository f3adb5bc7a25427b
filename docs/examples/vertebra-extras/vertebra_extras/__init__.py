"""Everything but a task that a plugin can bring, one of each; what is named here is imported when it is used."""

from vertebra import (
    AdapterRef,
    BackboneRef,
    BehaviourRef,
    CommandRef,
    MetricRef,
    ReaderRef,
    ReportSectionRef,
    hookimpl,
)


@hookimpl
def register_metrics():
    return [MetricRef("brier", "vertebra_extras.metrics:Brier", plain=True)]


@hookimpl
def register_backbones():
    return [BackboneRef("bytes", "vertebra_extras.backbones:find", summary="a small model that reads bytes")]


@hookimpl
def register_adapters():
    with_biases = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "qwen2", "bloom")
    return [AdapterRef("biases", "vertebra_extras.adapters:biases", models=with_biases, summary="train biases alone")]


@hookimpl
def register_readers():
    return [ReaderRef("sqlite", "vertebra_extras.readers:read", summary="tables of an SQLite database", splits="parts")]


@hookimpl
def register_behaviours():
    return [BehaviourRef("word_dropout", "vertebra_extras.behaviours:WordDropout", summary="random words")]


@hookimpl
def register_commands():
    return [CommandRef("disagree", "vertebra_extras.commands:disagree", summary="show where two runs differ")]


@hookimpl
def register_report_sections():
    return [ReportSectionRef("lengths", "vertebra_extras.sections:by_length", summary="Score by length")]


@hookimpl
def register_config_packages():
    return ["vertebra_extras.conf"]
