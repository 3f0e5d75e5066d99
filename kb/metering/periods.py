"""Points in time as people and programs write them."""

from datetime import UTC, datetime

from kb.errors import InvalidInput


def instant(given: str, *, param: str) -> datetime:
    """The beginning of a day (2026-11-24), or an instant (2026-11-24T09:30:00Z); in UTC if none is told.

    Raises InvalidInput.
    """
    try:
        at = datetime.fromisoformat(given)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{param} is a day like 2026-11-24 or an instant like 2026-11-24T09:30:00Z, not {given!r}",
            param=param,
        ) from error
