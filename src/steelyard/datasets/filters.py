# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Length, quality and preference filters: each drops rows by what can be counted in their text."""

import polars as pl
import pyarrow as pa

from steelyard.datasets.columns import Layout
from steelyard.datasets.stages import Outcome
from steelyard.datasets.texts import joined_texts, row_keys, turns_of
from steelyard.specs.datasets import LengthBlock, PreferenceBlock, QualityBlock

_LETTERS = r"\p{L}"
_SYMBOLS = r"#|…|\.\.\."


class LengthFilter:
    """Drops rows that are too short, too long, or have too many turns."""

    name = "length"

    def __init__(self, block: LengthBlock) -> None:
        self._block = block

    def run(self, layout: Layout, table: pa.Table) -> Outcome:
        """Count characters of all text together."""
        block = self._block
        frame = pl.DataFrame(
            {"chars": joined_texts(layout, table).str.len_chars(), "turns": turns_of(layout, table)}
        )
        reason = pl.when(pl.col("chars") < block.min_chars).then(
            pl.lit(f"under {block.min_chars} characters")
        )
        if block.max_chars is not None:
            too_long = pl.lit(f"over {block.max_chars} characters")
            reason = reason.when(pl.col("chars") > block.max_chars).then(too_long)
        if block.max_turns is not None:
            reason = reason.when(pl.col("turns") > block.max_turns).then(
                pl.lit(f"over {block.max_turns} turns")
            )
        return Outcome(table, frame.select(reason).to_series())


class QualityFilter:
    """Drops text that looks like noise (Gopher: Rae et al. 2021, table A1; C4: Raffel et al. 2020)."""

    name = "quality"

    def __init__(self, block: QualityBlock) -> None:
        self._block = block

    def run(self, layout: Layout, table: pa.Table) -> Outcome:
        """Measure each row's joined text."""
        block = self._block
        text = pl.col("text")
        words = text.str.count_matches(r"\S+").clip(1)
        dense = text.str.count_matches(r"\S").clip(1)
        lines = text.str.split("\n")
        frame = pl.DataFrame({"text": joined_texts(layout, table)}).select(
            repeated=1.0 - lines.list.n_unique() / lines.list.len(),
            letters=text.str.count_matches(_LETTERS) / dense,
            word_length=dense / words,
            symbols=text.str.count_matches(_SYMBOLS) / words,
        )
        reason = (
            pl.when(pl.col("repeated") > block.max_repeated_line_fraction)
            .then(pl.lit("repeated lines"))
            .when(pl.col("letters") < block.min_letter_fraction)
            .then(pl.lit("few letters"))
            .when(pl.col("word_length") > block.max_mean_word_length)
            .then(pl.lit("long words"))
            .when(pl.col("symbols") > block.max_symbol_word_ratio)
            .then(pl.lit("many symbols"))
        )
        return Outcome(table, frame.select(reason).to_series())


class EqualPairs:
    """Drops preference pairs that prefer nothing."""

    name = "chosen_equals_rejected"

    def __init__(self, block: PreferenceBlock) -> None:
        del block

    def run(self, layout: Layout, table: pa.Table) -> Outcome:
        """Compare the two answers, white space at their edges aside."""
        chosen, rejected = (
            row_keys(layout, table, (name,)).str.strip_chars() for name in ("chosen", "rejected")
        )
        reason = pl.when(chosen == rejected).then(pl.lit("chosen equals rejected"))
        return Outcome(table, pl.select(reason).to_series())
