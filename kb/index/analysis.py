"""Text to the terms of the lexical index: words in lower case, without accents, stemmed by their language."""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

# Part of a checkpoint: an index analysed otherwise is rebuilt.
ANALYSIS = "nfc-bigrams-lowercase-asciifold-snowball-2"

WORDS = "words"
"""The analysis of a text whose language is unknown or has no stemmer: its words as they stand."""

_STEMMERS = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
# Chinese, Japanese and Korean: no blanks between words, or endings that no stemmer here takes off.
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
# A quotation mark that opens stands before a word and not behind one: 6" and 8" are inches.
_QUOTED = re.compile(r'(?<!\w)["“„”](?=\S)([^"“„”]+)(?<=\S)["“”](?!\w)')


def stemmer_of(language: str) -> str:
    """The Snowball stemmer of a language (BCP 47), or WORDS."""
    return _STEMMERS.get(language, WORDS)


def terms(text: str, stemmer: str) -> list[str]:
    """The terms of a text in order. Every stemmer gives as many, each at its word's place."""
    spelled = unicodedata.normalize("NFC", text)
    return _analyzer(stemmer).analyze(_UNSPACED.sub(_bigrams, spelled))  # type: ignore[no-any-return]


def alternatives(text: str, stemmers: Sequence[str]) -> list[tuple[str, ...]]:
    """For each word of a text, the different terms that some stemmers make of it."""
    return [tuple(dict.fromkeys(word)) for word in zip(*(terms(text, one) for one in stemmers), strict=True)]


def quoted(query: str) -> list[str]:
    """What stands between double quotation marks; one that is not closed quotes nothing."""
    return _QUOTED.findall(query)


def _bigrams(found: re.Match[str]) -> str:
    """A run of characters without blanks as overlapping pairs, so that any word in it can be found."""
    run = found[0]
    pairs = [run[at : at + 2] for at in range(len(run) - 1)] or [run]
    return f" {' '.join(pairs)} "


@functools.cache
def _analyzer(stemmer: str) -> Any:
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    steps = [Filter.remove_long(255), Filter.lowercase(), Filter.ascii_fold()]
    if stemmer != WORDS:
        steps.append(Filter.stemmer(stemmer))
    builder = TextAnalyzerBuilder(Tokenizer.simple())
    for step in steps:
        builder = builder.filter(step)
    return builder.build()
