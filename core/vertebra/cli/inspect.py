"""`vertebra inspect`: a data set as the model will see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.cli.parser import Parser
from vertebra.host.manager import Host, create_host

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.config.schema import BackboneConfig, TaskChoice
    from vertebra.data.survey import SplitSurvey
    from vertebra.tasks.corpus_task import CorpusTask

WIDTH = 100
MOST_LABELS = 20
MOST_TOKENS = 80
POLICIES = {
    "window": "cut into overlapping windows; no label is lost",
    "truncate": "cut off behind the context",
    "error": "an error: a run refuses them",
}


def main(argv: list[str]) -> int:
    """Run the command; `argv` is what follows `vertebra inspect`."""
    arguments = parser().parse_intermixed_args(argv)
    host = create_host()

    from vertebra.cli.arguments import quoted
    from vertebra.config.compose import compose

    config = compose(quoted(arguments.overrides, host), host).config
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    for choice in config.tasks:
        inspect(choice, config.backbone, host, console, arguments.rows)
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="vertebra inspect",
        description="Show a data set as the model will see it: tokens against labels, lengths, labels, duplicates.",
        epilog="Example: vertebra inspect task=ner data.path=my/folder",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the same settings as for `vertebra train`")
    parser.add_argument("--rows", type=int, default=3, help="how many rows of train to show (default: %(default)s)")
    return parser


def inspect(choice: TaskChoice, backbone: BackboneConfig, host: Host, console: Console, n_rows: int = 3) -> None:
    """Load the data of a task, encode it with the backbone's tokenizer, and print what is in it."""
    from vertebra.data.encode import encode_row
    from vertebra.data.load import load_splits
    from vertebra.data.survey import shown_tokens, survey_split
    from vertebra.engine.loading import context_length, find_source, load_model_config, load_tokenizer
    from vertebra.runs.tasks import load_task
    from vertebra.tasks.corpus_task import CorpusTask

    task = load_task(choice, host)
    tokenizer = load_tokenizer(backbone, host)
    context = context_length(backbone, load_model_config(backbone, find_source(backbone, host)))
    if isinstance(task, CorpusTask):
        inspect_corpora(task, choice, tokenizer, context, host, console, n_rows)
        return
    splits = load_splits(choice.data, task, host)
    task.fit(splits.rows["train"])
    policy = task.too_long if choice.data.too_long == "auto" else choice.data.too_long
    surveys = {
        split: survey_split(task, rows, tokenizer, context, policy, f"reading {split}")
        for split, rows in splits.rows.items()
    }

    console.print(Text.assemble((f"{task.name}", "bold"), f"  {choice.data.path or choice.data.format}"))
    for row in splits.rows["train"][: max(0, n_rows)]:
        for one in encode_row(task, row, tokenizer):
            print_sequence(row["id"], shown_tokens(task, row, one, tokenizer), console)
    print_table(sizes_table(surveys), console)
    print_too_long(surveys, context, policy, backbone.name, console)
    if any(survey.labels for survey in surveys.values()):
        print_table(labels_table(surveys), console)
    print_duplicates(surveys, console)
    for note in splits.notes:
        console.print(Text.assemble(("Note: ", "bold yellow"), note))


def inspect_corpora(
    task: CorpusTask,
    choice: TaskChoice,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    host: Host,
    console: Console,
    n_rows: int,
) -> None:
    """Print the size of each split of a corpus, and the first windows."""
    from vertebra.data.windows import WindowRows
    from vertebra.report.numbers import count
    from vertebra.runs.corpora import read_corpora

    splits, encoded = read_corpora(task, choice.data, tokenizer, context, host)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="not bold dim")
    for name in ("split", "windows", "documents", "tokens", "bytes a token"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, rows in splits.rows.items():
        assert isinstance(rows, WindowRows)
        corpus, tokens = rows.windows.corpus, rows.windows.n_tokens
        per_token = f"{corpus.n_bytes / len(corpus):.2f}"
        table.add_row(split, count(len(rows)), count(rows.windows.n_documents), count(tokens), per_token)
    console.print(Text.assemble((f"{task.name}", "bold"), f"  {choice.data.path or choice.data.format}"))
    for pieces in (encoded["train"].examples or [])[: max(0, n_rows)]:
        for one in pieces[:1]:
            print_sequence(f"train-{one.example + 1}", task.describe({}, one, tokenizer), console)
    console.print()
    console.print(table)
    for note in splits.notes:
        console.print(Text.assemble(("Note: ", "bold yellow"), note))


# --- tokens


def print_sequence(name: str, pairs: Sequence[tuple[str, str]], console: Console) -> None:
    """Print a row's id, and each token of a sequence above its label."""
    console.print()
    console.print(Text.assemble((name, "bold"), (f"  {len(pairs)} tokens", "dim")))
    for line in aligned(pairs[:MOST_TOKENS], console.width - 2):
        console.print(Text("  ").append_text(line), no_wrap=True, crop=True)
    if len(pairs) > MOST_TOKENS:
        console.print(Text(f"  … and {len(pairs) - MOST_TOKENS} more", style="dim"))


def aligned(pairs: Sequence[tuple[str, str]], width: int) -> list[Text]:
    """Return lines of at most `width` columns, two and two: tokens, and below each its label."""
    lines: list[Text] = []
    tokens, labels = Text(), Text()
    for token, label in pairs:
        wide = max(cell_len(token), cell_len(label)) + 1
        if tokens and tokens.cell_len + wide > width:
            lines += [tokens, labels]
            tokens, labels = Text(), Text()
        tokens.append(token + " " * (wide - cell_len(token)))
        labels.append(label + " " * (wide - cell_len(label)), style="cyan")
    return [*lines, tokens, labels]


# --- tables


def print_table(table: Table, console: Console) -> None:
    """Print a table between two empty lines."""
    console.print()
    console.print(table)
    console.print()


def sizes_table(surveys: Mapping[str, SplitSurvey]) -> Table:
    """Return rows, sequences and lengths of each split."""
    table = _table("split", "rows", "sequences", "tokens", "shortest", "median", "95 %", "longest", "too long")
    for split, survey in surveys.items():
        lengths = survey.lengths
        sequences = "-" if survey.sequences is None else f"{survey.sequences:,}"
        numbers = (lengths.total, lengths.shortest, lengths.median, lengths.most, lengths.longest, survey.too_long)
        table.add_row(split, f"{survey.rows:,}", sequences, *(f"{number:,}" for number in numbers))
    return table


def labels_table(surveys: Mapping[str, SplitSurvey]) -> Table:
    """Return how often each label stands in each split, those of train first; what train lacks is marked."""
    train = surveys["train"].labels
    everywhere = {label for survey in surveys.values() for label in survey.labels}
    ordered = sorted(everywhere, key=lambda label: (-train[label], label))
    unseen = [label for label in ordered if label not in train]
    shown = ordered[:MOST_LABELS] + [label for label in ordered[MOST_LABELS:] if label in unseen[:MOST_LABELS]]
    table = _table("label", *surveys, "")
    for label in shown:
        counts = (_count(survey.labels, label) for survey in surveys.values())
        table.add_row(Text(label), *counts, Text("not in train", style="bold red") if label in unseen else "")
    if len(ordered) > len(shown):
        table.add_row(Text(f"… and {len(ordered) - len(shown)} more labels", style="dim"))
    return table


def print_too_long(
    surveys: Mapping[str, SplitSurvey], context: int, policy: str, backbone: str, console: Console
) -> None:
    """Print what happens to rows over the context."""
    number = sum(survey.too_long for survey in surveys.values())
    then = f": {POLICIES[policy]} (data.too_long={policy})" if number else ""
    console.print(f"{_rows(number)} over the context of '{backbone}', {context:,} tokens{then}.", markup=False)


def print_duplicates(surveys: Mapping[str, SplitSurvey], console: Console) -> None:
    """Print how many inputs stand more than once, in a split and across splits."""
    within = [f"{split} {survey.repeated:,}" for split, survey in surveys.items() if survey.repeated]
    across = [
        f"{one} and {other} {len(common):,}"
        for one, other in combinations(surveys, 2)
        if (common := surveys[one].inputs & surveys[other].inputs)
    ]
    console.print(f"Repeated inputs within a split: {', '.join(within) or 'none'}.", markup=False)
    style = "bold red" if across else None
    console.print(Text(f"The same input in two splits: {', '.join(across) or 'none'}.", style=style or ""))


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="not bold dim")
    table.add_column(first, overflow="fold", max_width=40)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _count(labels: Mapping[str, int], label: str) -> str:
    count = labels.get(label, 0)
    total = sum(labels.values())
    return f"{count:,}  {count / total:6.1%}" if count else "-"


def _rows(number: int) -> str:
    return "1 row is" if number == 1 else f"{number:,} rows are" if number else "No row is"
