from vertebra.cli.parser import Parser
from vertebra.errors import RunError
from vertebra.report.read import read_lines
from vertebra.runs.folder import RunFolder


def disagree(argv):
    """Print the rows that one of two runs gets right and the other does not."""
    parser = Parser("vertebra disagree", description="Show the test rows that only one of two runs gets right.")
    parser.add_argument("runs", nargs=2, metavar="RUN_DIR")
    first, other = (predictions(run) for run in parser.parse_args(argv).runs)
    if first.keys() != other.keys():
        raise RunError("The runs were tested on different rows: they cannot be compared one by one.")
    differing = [name for name in first if first[name]["right"] != other[name]["right"]]
    for name in differing:
        print(f"{name}: {'first' if first[name]['right'] else 'second'} is right on {first[name]['input']}")
    print(f"{len(differing)} of {len(first)} rows differ.")


def predictions(run):
    lines = read_lines(RunFolder.open(run), "predictions.jsonl")
    return {line["id"]: line for line in lines if line["split"] == "test"}
