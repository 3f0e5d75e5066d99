"""What a disk refuses is told as such, whichever library met it."""

import errno

import pytest

from kb.errors import CatalogCorrupt, StorageFailed, StorageFull, storage


@pytest.mark.parametrize(
    ("met", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageFull),
        (OSError(errno.EIO, "Input/output error"), StorageFailed),
        (RuntimeError("Error in write_index: No space left on device"), StorageFull),
        (ValueError("An index writer was killed.. A worker thread (io::Error most likely)"), StorageFailed),
        (RuntimeError("attempt to write a readonly database"), StorageFailed),
        (RuntimeError("database disk image is malformed"), CatalogCorrupt),
    ],
)
def test_what_a_disk_refuses_is_told_as_such(met: Exception, told: type[Exception]) -> None:
    """By number or by words, with what to do; the first error stays the cause."""
    with pytest.raises(told, match=r"run again|restore a backup") as raised, storage():
        raise met
    assert raised.value.__cause__ is met


def test_other_errors_pass() -> None:
    """They are not the disk's."""
    with pytest.raises(ValueError, match="something else"), storage():
        raise ValueError("something else")
