"""A small synthetic data set: users, and items that belong to series of a genre.

A user likes two genres. They go on with a series that they have begun, part by part, or begin another one of a genre that
they like. All of that can be read off the texts (`The Saga of Tamel, part 2, space`), so that what follows an item
that nobody has taken yet can be told, too; and hardly anything of it is known to who only counts what is popular.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from vertebra.config.schema import DataConfig, Fraction, Positive
from vertebra.data.options import reader_options
from vertebra.data.readers import NotedRows
from vertebra_recommendation.interactions import Interaction, InteractionOptions, Item, leave_one_out

GENRES = ("space", "crime", "love", "war", "magic", "sport")
KINDS = ("The Saga of", "Tales from", "Return to", "The House of")
CONTINUED = 0.6
"""How often a user goes on with a series that has another part."""
LIKED = 0.9
"""How often a new series is of a genre that the user likes."""


@dataclass(frozen=True)
class SampleOptions(InteractionOptions):
    """What `data.options` may set besides: the seed, and how much there is."""

    cold_items: Fraction = 0.1
    """The share of items that are held out of all training histories."""
    seed: int = 1
    users: Positive = 300
    series: Positive = 60
    parts: Positive = 4
    """Items of a series."""
    shortest: Positive = 6
    longest: Positive = 20
    """Items that a user has taken."""


def read(config: DataConfig) -> NotedRows:
    """Return the rows of each split and the items, the same ones for the same options."""
    options = reader_options(SampleOptions, config)
    rng = random.Random(options.seed)
    genres = [GENRES[number % len(GENRES)] for number in range(options.series)]
    items = _items(rng, genres, options.parts)
    interactions = [
        Interaction(f"{user}", f"{item}", time, "sample")
        for user in range(1, options.users + 1)
        for time, item in enumerate(_history(rng, genres, options))
    ]
    return leave_one_out(interactions, items, options)


def _items(rng: random.Random, genres: list[str], parts: int) -> list[Item]:
    """Return the parts of each series, numbered from 1."""
    names: dict[str, None] = {}
    while len(names) < len(genres):
        names["".join(rng.choice("bdfgklmnrst") + rng.choice("aeiou") for _ in range(3)).capitalize()] = None
    titles = [f"{rng.choice(KINDS)} {name}, part {part}" for name in names for part in range(1, parts + 1)]
    return [
        {"item": f"{number + 1}", "title": title, "text": f"{title}, {genres[number // parts]}"}
        for number, title in enumerate(titles)
    ]


def _history(rng: random.Random, genres: list[str], options: SampleOptions) -> list[int]:
    """Return the items of a user, the oldest first; none twice."""
    liked = rng.sample(GENRES, 2)
    wanted = min(rng.randint(min(options.shortest, options.longest), options.longest), options.series * options.parts)
    begun: dict[int, int] = {}  # the parts taken of each series
    history: list[int] = []
    while len(history) < wanted:
        open_series = [series for series, parts in begun.items() if parts < options.parts]
        fresh = [series for series in range(options.series) if series not in begun]
        if open_series and (not fresh or rng.random() < CONTINUED):
            series = open_series[-1]
        else:
            preferred = [series for series in fresh if (genres[series] in liked) == (rng.random() < LIKED)]
            series = rng.choice(preferred or fresh)
        begun[series] = begun.get(series, 0) + 1
        history.append(series * options.parts + begun[series])
    return history
