"""Wrong backbones, and devices that are not there, through the real command line."""

from __future__ import annotations

import pytest
from refusals import CPU, TINY, Captured, Places, check_failed, refused, wrong


@wrong(
    ("no_tokenizer", "no_tokenizer' has no tokenizer: put its tokenizer.json beside config.json"),
    ("broken_tokenizer", "Cannot read the tokenizer of", "broken_tokenizer"),
    ("pickled", "pickled' holds no .safetensors weights", "loading them can run code", "backbone.init=random"),
    (("pickled", "backbone.init=pretrained"), "pickled", ".safetensors", "backbone.init=random"),
    ("no_config", "no_config' is not a model folder: it has no config.json"),
    ("broken_config", "broken_config/config.json' is not JSON"),
    ("list_config", "list_config/config.json' is no model's configuration: it has no model_type"),
    ("no_type", "no_type/config.json' is no model's configuration: it has no model_type"),
    ("unknown_type", "transformers has no model family 'gpt7'. Did you mean 'gpt"),
    ("text_for_number", "text_for_number", "'n_layer' expected int"),
    ("other_shape", "do not fit its configuration", "h.0.", "backbone.init=random"),
    ("fewer_entries", "do not fit its configuration", "wte.weight is [16384, 32], not [100, 32]"),
    ("more_layers", "do not fit its configuration", "h.1.", "is missing", "and "),
    ("fewer_heads", "fewer_heads", "divisible by num_heads"),
    ("encoder", "encoder' do not fit its configuration"),
    (("encoder", "backbone.init=random", "backbone.attention=causal"), "(family 'bert') is no causal decoder"),
    (("no_weights", "backbone.init=pretrained"), "Backbone 'hf' has no trained weights", "backbone.init=random"),
    ("cut_weights", "cut_weights': the file is damaged or cut off"),
    ("empty_weights", "empty_weights': the file is damaged or cut off"),
    (("../data/texts.txt",), "texts.txt is a file; give the model's folder"),
    (("good", "backbone.config.n_layer=3"), "h.1.", "is missing", "backbone.init=random"),
    (("good", "backbone.config.n_layr=3"), "There is no setting 'n_layr'. Did you mean 'n_layer'?"),
    (("good", "backbone.config.n_layer=two"), "backbone.config.n_layer=two", "expected int"),
    (("good", "backbone.config.n_layer=-2"), "backbone.config.n_layer=-2: must be at least 1"),
    (("good", "backbone.config.activation_function=gelo"), "'gelo'"),
    (("good", "backbone.config.vocab_size=10", "backbone.init=random"), "16384 entries", "only 10"),
)
@pytest.mark.usefixtures("models")
def test_wrong_model_folders(arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured) -> None:
    name, *others = arguments
    given = ["backbone=hf", places.filled(f"backbone.path=MODELS/{name}"), *others, "data.limit=40"]
    message = refused(["train", "task=ner", *given, *CPU, f"hydra.run.dir={places.out}"], says, capsys)
    check_failed(places.out, message)


@wrong(
    ("backbone=gpt2", "'openai-community/gpt2' from the Hub", "backbone=hf backbone.path=FOLDER", "backbone=nano"),
    (("backbone=hf", "backbone.path=nobody/nothing"), "'nobody/nothing' from the Hub", "backbone.path=FOLDER"),
    ("backbone.config.n_embd=64", "do not fit its configuration", "Changes of shape need backbone.init=random"),
    ("backbone.config.resid_pdrop=7", "between 0 and 1"),
)
def test_backbones_that_cannot_be_had(
    arguments: tuple[str, ...], says: list[str], places: Places, capsys: Captured
) -> None:
    given = ["train", "task=ner", *arguments, *CPU, "data.limit=40", f"hydra.run.dir={places.out}"]
    check_failed(places.out, refused(given, says, capsys))


def test_a_gpu_that_is_not_there(places: Places, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    given = ["train", "task=ner", "gpu=single", *TINY, f"hydra.run.dir={places.out}"]
    check_failed(places.out, refused(given, ["torch finds no CUDA device", "gpu=cpu"], capsys))
