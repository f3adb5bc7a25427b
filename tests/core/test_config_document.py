"""`config.yaml` of a run folder gives back the configuration that was written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra.config.document import from_document, to_document
from vertebra.config.options import configure
from vertebra.config.schema import BackboneConfig, DataConfig, GPUConfig, RunConfig, TaskChoice, TrainerConfig
from vertebra.errors import ConfigError
from vertebra.host.manager import create_host

HOST = create_host()
NER = configure(HOST, task="ner").tasks[0].config

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x85"))  # PyYAML makes a space of U+0085
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | st.integers() | numbers | texts
data = st.builds(
    DataConfig,
    path=st.none() | texts,
    columns=st.dictionaries(texts, texts | st.integers()),
    splits=st.dictionaries(texts, texts),
    limit=st.none() | st.integers(1),
    encoding=texts,
    options=st.dictionaries(texts, values | st.lists(values)),
)
backbones = st.builds(BackboneConfig, name=texts, path=st.none() | texts, context=st.none() | st.integers(1))
trainers = st.builds(
    TrainerConfig,
    epochs=st.just("auto") | st.floats(1e-300, 1e300),
    learning_rate=st.just("auto") | st.floats(1e-300, 1.0),
    evaluate_every=st.just("epoch") | st.integers(1),
    behaviours=st.lists(texts).map(tuple),
)
runs = st.builds(
    RunConfig,
    tasks=st.lists(st.builds(TaskChoice, st.just("ner"), st.just(NER), data), min_size=1, max_size=2).map(tuple),
    backbone=backbones,
    gpu=st.builds(GPUConfig, processes=st.just("auto") | st.integers(1)),
    trainer=trainers,
    seed=st.integers(0, 2**63 - 1),
)


@settings(deadline=None)
@given(runs)
def test_what_was_written_comes_back(config: RunConfig) -> None:
    text = yaml.safe_dump(to_document(config), allow_unicode=True, sort_keys=False)
    assert from_document(yaml.safe_load(text), HOST) == config


def test_a_run_is_read_where_its_data_is_no_more() -> None:
    config = configure(HOST, task="ner")
    gone = replace(config, tasks=(replace(config.tasks[0], data=DataConfig(path="/no/longer/there")),))
    assert from_document(to_document(gone), HOST) == gone


def test_a_broken_document_is_refused_with_every_error() -> None:
    document = to_document(configure(HOST, task="ner"))
    document["trainer"]["epochs"] = 0
    document["tasks"][0]["data"]["pth"] = "x"
    document["sede"] = 1
    with pytest.raises(ConfigError) as caught:
        from_document(document, HOST)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["sede", "data.pth", "trainer.epochs=0"]
    with pytest.raises(ConfigError, match="tasks"):
        from_document({**to_document(configure(HOST, task="ner")), "tasks": "ner"}, HOST)
