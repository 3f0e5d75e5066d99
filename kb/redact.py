"""What proves who asks goes to whom it is for, and comes back from there into no answer, row or log."""

import base64
import binascii
import logging
import re
from collections.abc import Mapping
from typing import Any, TypeVar

REDACTED = "[redacted]"

# What is shorter is no secret, and may stand in any sentence.
_LEAST = 8
_SECRET = re.compile(r"auth|cookie|credential|key|pass|pwd|secret|session|signature|token", re.I)

Json = TypeVar("Json")


def credentials(fields: Mapping[str, str]) -> tuple[str, ...]:
    """Of headers or variables those values that are secret, which their names tell, the longest first.

    Of one with a scheme (RFC 9110, 11.6.2) also what is behind that, and of Basic what is packed in it.
    """
    found: set[str] = set()
    for name, value in fields.items():
        if _SECRET.search(name):
            scheme, _, rest = value.partition(" ")
            found |= {value, rest.strip()}
            if scheme.lower() == "basic":
                found |= _unpacked(rest.strip())
    return tuple(sorted((one for one in found if len(one) >= _LEAST), key=len, reverse=True))


def redacted(value: Json, secrets: tuple[str, ...]) -> Json:
    """A value of JSON's types in which none of them stands as it is, as a key neither."""
    return _redacted(value, secrets) if secrets else value


def quieted(*loggers: str) -> None:
    """Have libraries tell no more than warnings, but for those whose level somebody has set by their name.

    Below that they write down whole addresses, headers and messages, as they were sent and as they came.
    """
    for logger in map(logging.getLogger, loggers):
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def _redacted(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REDACTED)
        return value
    if isinstance(value, Mapping):
        return {_redacted(name, secrets): _redacted(one, secrets) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(one, secrets) for one in value]
    return value


def _unpacked(packed: str) -> set[str]:
    try:
        whole = base64.b64decode(packed, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return set()
    return {whole, whole.partition(":")[2]}
