"""What a run folder says of its backbone: how it attends, and which version of it the run began with."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from vertebra.config.schema import BackboneConfig
from vertebra.engine.sources import nano
from vertebra.errors import RunError
from vertebra.host.manager import create_host
from vertebra.runs.folder import RunFolder
from vertebra.runs.load import _say_whether_the_backbone_has_changed, saved_attention

NOW = nano(BackboneConfig()).version


def folder_of(place: Path, **backbone: Any) -> RunFolder:
    (place / "run.json").write_text(json.dumps({"format": 1, "status": "finished", "backbone": backbone}))
    return RunFolder(place)


@pytest.mark.parametrize(
    ("written", "read"),
    [("causal", "causal"), (0.5, 0.5), (1, 1.0), (["causal", "bidirectional"], ("causal", "bidirectional"))],
)
def test_attention_is_read_as_it_was_configured(tmp_path: Path, written: Any, read: Any) -> None:
    assert saved_attention(folder_of(tmp_path, attention=written)) == read


@pytest.mark.parametrize("written", [None, "sideways", 2, -1, True, [], ["causal", 1], {"causal": 1}])
def test_other_attention_is_refused(tmp_path: Path, written: Any) -> None:
    with pytest.raises(RunError, match=r"does not say how the backbone attends"):
        saved_attention(folder_of(tmp_path, attention=written))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"name": "nano", "version": NOW}, None),
        ({"name": "nano", "version": "0.0"}, f"began with version 0.0 of 'nano'; this one has {NOW}"),
        ({"name": "nano"}, f"began with an earlier version of 'nano'; this one has {NOW}"),
        ({"name": "hf"}, None),
    ],
)
def test_a_run_of_another_nano_says_so_when_it_is_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, written: dict[str, Any], said: str | None
) -> None:
    with caplog.at_level(logging.WARNING):
        _say_whether_the_backbone_has_changed(BackboneConfig(), folder_of(tmp_path, **written), create_host())
    assert (said in caplog.text) if said else not caplog.text
