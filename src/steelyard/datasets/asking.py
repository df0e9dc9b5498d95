# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""What a row asks: its prompt, or a conversation's first question, or for plain text the text itself."""

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from steelyard.datasets.columns import Layout
from steelyard.datasets.texts import row_keys


def asked_keys(layout: Layout, table: pa.Table) -> pl.Series:
    """Return per row a string that is equal where the same is asked."""
    if layout.format == "messages":
        return _first_questions(table)
    return row_keys(layout, table, ("text" if layout.format == "text" else "prompt",))


def _first_questions(table: pa.Table) -> pl.Series:
    column = table.column("messages").combine_chunks()
    messages = column.flatten()
    frame = pl.DataFrame(
        {
            "row": pl.Series(pc.list_parent_indices(column)),
            "role": pl.Series(messages.field("role")),
            "content": pl.Series(messages.field("content")),
        }
    )
    questions = frame.filter(pl.col("role") == "user").group_by("row", maintain_order=True).first()
    rows = pl.DataFrame({"row": pl.Series(range(table.num_rows), dtype=frame.schema["row"])})
    return rows.join(questions, on="row", how="left", maintain_order="left")["content"].fill_null("")
