"""The pages of the cache: each belongs to one slot, and those in use have no holes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vertebra.engine.generation.cache import PAGE, KeyValues, Pages, Slot


@given(
    st.lists(
        st.tuples(st.sampled_from(["reserve", "release", "compact"]), st.integers(0, 4), st.integers(1, 5 * PAGE)),
        max_size=40,
    )
)
def test_pages_keep_their_owners_and_contents(steps: list[tuple[str, int, int]]) -> None:
    pages, contents = Pages(), KeyValues()
    slots = [Slot([]) for _ in range(5)]
    written: dict[Slot, list[float]] = {slot: [] for slot in slots}
    stamp = 0.0
    for kind, number, n_tokens in [*steps, ("compact", 0, 0)]:
        slot = slots[number]
        if kind == "reserve":
            pages.reserve(slot, n_tokens)
            assert len(slot.pages) * PAGE >= n_tokens
        elif kind == "release":
            pages.release(slot)
            written[slot] = []
        else:
            contents.move(pages.compact())
            assert sorted(page for one in slots for page in one.pages) == list(range(pages.used))
        empty = torch.empty(1, 1, 1)
        keys, values = contents.layer(0, empty, empty, pages.used)
        for page in slot.pages[len(written[slot]) :]:
            stamp += 1
            keys[page], values[page] = stamp, -stamp
            written[slot].append(stamp)
        for one in slots:
            assert keys[one.pages, 0, -1, 0].tolist() == written[one]
            assert values[one.pages, 0, 0, 0].tolist() == [-value for value in written[one]]
