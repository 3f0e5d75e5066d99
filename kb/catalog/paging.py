"""Pages of long lists, in order of ids: a page goes on from an id, also when what it named is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page:
    """Up to `limit` things. after: those behind this id; before: those that end in front of that one."""

    limit: int
    after: str | None = None
    before: str | None = None
    newest_first: bool = True

    @property
    def backwards(self) -> bool:
        """Whether the page is read from its end."""
        return self.before is not None and self.after is None


@dataclass(frozen=True, slots=True)
class Listed:
    """What stands on a page. more: whether the list goes on in the direction that was asked for."""

    items: Sequence[Any]
    more: bool


def paged(query: Select[Any], key: ColumnElement[str], page: Page, prefix: str = "") -> Select[Any]:
    """The rows of a page and one more, nearest to its cursor first. prefix: what all keys begin with; a
    cursor that begins otherwise stands where the same number would."""
    for cursor, behind in ((page.after, True), (page.before, False)):
        if cursor is not None:
            at = f"{prefix}{cursor.partition('_')[2]}" if prefix else cursor
            query = query.where(key < at if page.newest_first == behind else key > at)
    ascending = page.newest_first == page.backwards
    return query.order_by(key.asc() if ascending else key.desc()).limit(page.limit + 1)


def listed(items: Sequence[Item], page: Page) -> Listed:
    """A page of what `paged` gave."""
    shown = items[: page.limit]
    return Listed(list(reversed(shown)) if page.backwards else shown, len(items) > page.limit)
