"""Credits: decimals, and in the catalog whole nano-credits, so that sums in SQL are exact."""

from decimal import Context, Decimal, Inexact
from typing import Any

from sqlalchemy import BigInteger, Dialect
from sqlalchemy.types import TypeDecorator

from kb.errors import InvalidInput

NANO = 10**9
"""Nano-credits in one."""

_MOST = (2**63 - 1) // NANO
# Anything that would be rounded is an error.
_EXACT = Context(prec=60, traps=[Inexact])


class Credits(TypeDecorator[Decimal]):
    """A column of credits. What is written there was `checked`."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """As SQLAlchemy asks for it."""
        return None if value is None else int(_EXACT.to_integral_exact(_EXACT.scaleb(value, 9)))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """As SQLAlchemy asks for it."""
        return None if value is None else from_nano(int(value))


def from_nano(nano: int) -> Decimal:
    """Credits, at nine decimals."""
    return _EXACT.scaleb(Decimal(nano), -9)


def checked(credits: Decimal, *, param: str) -> Decimal:
    """The credits, or InvalidInput where no column could hold them."""
    if not credits.is_finite() or not 0 <= credits <= _MOST:
        raise InvalidInput(f"credits are from 0 to {_MOST:,}, not {credits}", param=param)
    if credits != round(credits, 9):
        raise InvalidInput(f"credits have at most 9 decimals, not as {credits}", param=param)
    return credits
