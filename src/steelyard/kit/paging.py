"""Keyset paging: `limit` and `after` in, `data`, `has_more` and `next` out."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page of a list, in the list's order. `next` goes back as `after` to read on."""

    model_config = ConfigDict(frozen=True)

    data: list[Item]
    has_more: bool
    next: str | None = None


def page_of(items: list[Item], limit: int, ids: list[str]) -> Page[Item]:
    """Make a page of the first `limit` of `items`.

    `items` and `ids` run in parallel and hold one entry more than `limit` where more exist.
    """
    has_more = len(items) > limit
    return Page[Item](data=items[:limit], has_more=has_more, next=ids[limit - 1] if has_more else None)
