"""Which values are secret, and that none of them stays in what comes back."""

import logging

from kb.redact import credentials, quieted, redacted


def test_names_tell_which_values_are_secret() -> None:
    """With what stands behind a scheme and in a packed password; the longest come first."""
    headers = {
        "Authorization": "Bearer abcdefghij",
        "Cookie": "Basic am9lOmh1bnRlcjEyMw==",
        "X-Api-Key": "0123456789",
        "X-Team": "operations",
        "X-Token": "short",
    }
    found = credentials(headers)
    assert set(found) == {
        "Basic am9lOmh1bnRlcjEyMw==",
        "am9lOmh1bnRlcjEyMw==",
        "Bearer abcdefghij",
        "joe:hunter123",
        "abcdefghij",
        "0123456789",
        "hunter123",
    }
    assert [len(one) for one in found] == sorted(map(len, found), reverse=True)


def test_nothing_of_a_value_holds_one() -> None:
    """However deep, and as a name too; other values are as they were."""
    value = {"a s3cr3t-key": ["s3cr3t-key s3cr3t-key", 1, None, True], "b": {"c": ("s3cr3t-keys",)}}
    assert redacted(value, ("s3cr3t-key",)) == {
        "a [redacted]": ["[redacted] [redacted]", 1, None, True],
        "b": {"c": ["[redacted]s"]},
    }
    assert redacted(value, ()) is value


def test_a_level_that_somebody_set_stays() -> None:
    """By the library's own name; one that is set for all does not count."""
    for name, level in (("test_redact.plain", logging.NOTSET), ("test_redact.chosen", logging.DEBUG)):
        logging.getLogger(name).setLevel(level)
    quieted("test_redact.plain", "test_redact.chosen")
    assert logging.getLogger("test_redact.plain").level == logging.WARNING
    assert logging.getLogger("test_redact.chosen").level == logging.DEBUG
