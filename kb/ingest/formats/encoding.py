"""Bytes to text: byte order marks, UTF-8, UTF-16/32 without a mark, then the legacy code pages."""

import codecs
import re
import unicodedata
from collections import Counter

BOMS = (
    # UTF-32 first: its little-endian mark begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAMPLE = 1 << 18
"""Bytes looked at to choose a legacy encoding: a quarter of a megabyte decides as well as a gigabyte."""

MAX_CONTROLS = 0.005
"""Share of control characters that text may hold: terminal logs carry some, binaries carry many."""

MAX_DAMAGE = 0.002
"""Share of undecodable characters up to which a text is UTF-8 with a flaw rather than something else."""

# Bytes below 0x20 that are no control: tab, newlines, form feed, and ESC for coloured terminal logs.
CONTROLS = bytes(b for b in [*range(0x20), 0x7F] if b not in b"\t\n\v\f\r\x1a\x1b")

PUNCTUATION = "\u00a0«»‹›“”„‘’‚–—…·•°§©®™€£¥¢±×÷½¼¾²³µ¿¡ªº†‰\u00ad"

# Letters beyond ASCII, per language. One language must explain a text: the union of several would
# let Czech in cp1250 pass for a medley of Italian and Danish in cp1252.
WESTERN = (
    "äöüß",  # German
    "áéíñóúüç",  # Spanish
    "àâæçéèêëîïôœùûüÿ",  # French
    "àèéìíîòóùú",  # Italian
    "áâãàçéêíóôõúü",  # Portuguese
    "æøåéèóòôü",  # Danish, Norwegian
    "åäöéüà",  # Swedish, Finnish
    "áéëèêïíóöüúç",  # Dutch
    "áðéíóúýþæö",  # Icelandic
    "àçéèíïóòúü",  # Catalan
)
CENTRAL = (
    "áčďéěíňóřšťúůýž",  # Czech
    "áäčďéíĺľňóôŕšťúýž",  # Slovak
    "ąćęłńóśźż",  # Polish
    "áéíóöőúüű",  # Hungarian
    "ăâîşţșț",  # Romanian
    "čćđšž",  # Croatian, Slovene
)
VIETNAMESE = "àáâãèéêìíòóôõùúýăđĩũơư\u0300\u0301\u0303\u0309\u0323"
Encodings = tuple[tuple[str, tuple[str, ...]], ...]
LATIN_ENCODINGS: Encodings = (
    # In order of likelihood: the first of equals wins.
    ("cp1252", WESTERN),
    ("cp1254", ("çğıöşüâîûİ",)),
    ("cp1250", CENTRAL),
    ("iso8859_2", CENTRAL),
    ("iso8859_16", ("ăâîșț",)),
    ("cp1257", ("āčēģīķļņšūž", "ąčęėįšųūž", "äöõüšž")),
    ("cp1258", (VIETNAMESE,)),
    ("iso8859_15", WESTERN),
    ("mac_roman", WESTERN),
)
LATIN = re.compile(
    r"cp125[02478]|iso8859_(1|2|3|4|9|10|13|14|15|16)|latin_1|mac_(?!cyr|greek).*|cp(437|775|85.)"
)
GREEK = ("αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋΐΰ",)
GREEK_ENCODINGS: Encodings = (("cp1253", GREEK), ("iso8859_7", GREEK))

LATIN_COVERAGE = 0.95
"""Share of the non-ASCII characters that one language must explain."""

LATIN_DENSITY = 0.35
"""Non-ASCII share above which a text is hardly in Latin letters (Vietnamese reaches 0.27)."""


def looks_like_text(data: bytes) -> bool:
    """Whether `data` could be text in some encoding; cheap, and certain only when it says no."""
    if any(data.startswith(bom) for bom, _ in BOMS):
        return True
    if b"\0" in data:
        return decode_wide(data) is not None
    sample = data[:SAMPLE]
    return len(sample) - len(sample.translate(None, CONTROLS)) <= MAX_CONTROLS * len(sample)


def decode(data: bytes) -> str | None:
    """The text of `data`, or None when no encoding gives a plausible one. A byte order mark is dropped."""
    for bom, encoding in BOMS:
        if data.startswith(bom):
            return data.decode(encoding, errors="replace")
    if b"\0" in data:
        return decode_wide(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return decode_flawed_utf8(data) or decode_legacy(data)


def decode_wide(data: bytes) -> str | None:
    """UTF-32 or UTF-16 without a mark, in the byte order that gives assigned characters; else None."""
    for encodings, width in ((("utf-32-le", "utf-32-be"), 4), (("utf-16-le", "utf-16-be"), 2)):
        if len(data) % width:
            continue
        texts = []
        for encoding in encodings:
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            strange = strangeness(text[:10_000])
            if strange <= MAX_CONTROLS:
                # Of two readings the one with more plain spaces and line ends is the right one:
                # byte-swapped they are U+2000 and U+0A00.
                texts.append((sum(map(text.count, " \n")), -strange, text))
        if texts:
            return max(texts)[2]
    return None


def strangeness(text: str) -> float:
    """Share of characters that no text has: unassigned, private, lone surrogates, controls."""
    usual = "\t\n\v\f\r\x1a\x1b"
    strange = sum(unicodedata.category(c) in ("Cn", "Co", "Cs", "Cc") and c not in usual for c in text)
    return strange / max(1, len(text))


def decode_flawed_utf8(data: bytes) -> str | None:
    """UTF-8 with a few broken bytes, which become U+FFFD; None when it is no UTF-8 at all."""
    text = data.decode("utf-8", errors="replace")
    flaws = text.count("\ufffd")
    good = sum(1 for c in re.findall(r"[^\x00-\x7f]", text[:SAMPLE])) - flaws
    # Legacy text hardly ever forms valid multi-byte sequences by accident, so a clear majority proves UTF-8.
    return text if flaws <= max(1, MAX_DAMAGE * len(text)) and good >= 5 * flaws else None


def decode_legacy(data: bytes) -> str | None:
    """Text in a code page: told by its letters for Latin scripts, by charset-normalizer for others."""
    if not looks_like_text(data):
        return None
    sample = data[:SAMPLE]
    if len(data) > SAMPLE:
        sample = sample[: sample.rfind(b"\n") + 1] or sample  # not amid a character of several bytes
    density = len(sample.translate(None, bytes(range(0x80)))) / len(sample)
    latin = best_by_letters(sample, LATIN_ENCODINGS)
    # A single word may be half umlauts; in other scripts it is wholly non-ASCII.
    if latin and latin[0] >= LATIN_COVERAGE and density <= (0.5 if len(data) < 50 else LATIN_DENSITY):
        return data.decode(latin[1], errors="replace")

    from charset_normalizer import from_bytes

    # charset-normalizer tells scripts apart well, but takes the first of the Latin code pages that fits.
    match = from_bytes(sample).best()
    if match is None:
        return None
    chosen: tuple[float, str] | None = None
    if match.encoding in ("cp1253", "iso8859_7"):
        chosen = best_by_letters(sample, GREEK_ENCODINGS)
    elif LATIN.fullmatch(match.encoding):
        chosen = latin
    text = data.decode(chosen[1] if chosen else match.encoding, errors="replace")
    return text if strangeness(text[:10_000]) <= MAX_CONTROLS else None


def best_by_letters(sample: bytes, encodings: Encodings) -> tuple[float, str] | None:
    """The encoding in which one language explains most of the non-ASCII characters, as (share, encoding)."""
    best: tuple[float, str] | None = None
    for encoding, languages in encodings:
        try:
            counts = Counter(sample.decode(encoding))
        except UnicodeDecodeError:
            continue
        foreign = sum(count for character, count in counts.items() if not character.isascii())
        # Punctuation counts half: it is likely in any language, and so proves none of them.
        marks = sum(counts[character] for character in PUNCTUATION) / 2
        letters = max(sum(counts[c] for c in set(language + language.upper())) for language in languages)
        share = (letters + marks) / (foreign - marks) if foreign > marks else 1.0
        if best is None or share > best[0]:
            best = share, encoding
    return best
