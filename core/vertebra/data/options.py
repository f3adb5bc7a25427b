"""What `data.options` says to a reader."""

from __future__ import annotations

from typing import TypeVar

from vertebra.config import validate
from vertebra.config.schema import DataConfig
from vertebra.errors import DataError

T = TypeVar("T")


def reader_options(owner: type[T], data: DataConfig) -> T:
    """Return `data.options` as an instance of the dataclass `owner`; `DataError` with a line for each that is wrong."""
    errors: list[str] = []
    options = validate.read(owner, data.options, "data.options", errors)
    if options is None:
        raise DataError("\n".join(errors))
    return options
