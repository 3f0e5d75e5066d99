"""Trip 2b: hits become a context that fits a window, with a receipt of what it is made of."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from kb.catalog.versions import Versions
from kb.content.core import Contents
from kb.context.outline import Outline, section_starts
from kb.context.pack import Packed, Place, named_by, pack
from kb.tokens import count_tokens
from kb.types import Chunk, Hit, Version

# Chunks whose places are kept in memory, a hundred bytes each.
_KEPT_CHUNKS = 200_000


@dataclass(frozen=True, slots=True)
class PackedContext:
    """What was packed, the versions that it is from, by id, and the hits that it was made of, best first."""

    packed: Packed
    versions: dict[str, Version]
    hits: tuple[Hit, ...] = ()


class ContextCore:
    """Packs what a search found. Thread-safe."""

    def __init__(self, versions: Versions, contents: Contents) -> None:
        self._versions = versions
        self._contents = contents
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Outline] = OrderedDict()

    def pack(
        self, hits: Sequence[Hit], budget: int, before: Sequence[Place] = (), numbered_from: int = 1
    ) -> PackedContext:
        """As many of the hits as fit into a budget of tokens, and what stands around them.

        before: what the call before packed; from the first that was replaced or deleted since it is left
        out, since no prefix goes on behind that. numbered_from: the first passage's number. Raises
        InvalidInput for a budget or a span that cannot be.
        """
        found = [Place(hit.content_version_id, hit.start, hit.end) for hit in hits]
        names = list(dict.fromkeys(place.version_id for place in (*before, *found)))
        # Who was replaced between the search and now is missing, as it would be in the next search.
        versions = self._versions.still_current(names)
        text_of = cache(lambda name: self._contents.of(versions[name]).text)
        outlines = self._outlines(versions)
        still = next((at for at, one in enumerate(before) if one.version_id not in outlines), len(before))
        for place in before[:still]:
            self._contents.text(place.version_id, place.start, place.end)
        found = [place for place in found if place.version_id in outlines]
        packed = pack(found, outlines, text_of, budget, before=before[:still], numbered_from=numbered_from)
        return PackedContext(packed, versions, tuple(hits))

    def _outlines(self, versions: dict[str, Version]) -> dict[str, Outline]:
        """Those of some versions: of most the chunks are known, which never change."""
        with self._lock:
            kept = {name: self._kept[name] for name in versions if name in self._kept}
        read = self._versions.chunks([name for name in versions if name not in kept])
        new = {name: self._outline(versions[name], chunks) for name, chunks in read.items()}
        kept |= new
        with self._lock:
            self._kept |= new
            while sum(map(len, self._kept.values())) > _KEPT_CHUNKS and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return {name: _as_now(kept[name], version) for name, version in versions.items() if name in kept}

    def _outline(self, version: Version, chunks: Sequence[Chunk]) -> Outline:
        return _named(
            Outline(
                version.id,
                version.title,
                version.uri,
                [chunk.start for chunk in chunks],
                [chunk.end for chunk in chunks],
                [chunk.tokens or 0 for chunk in chunks],
                [chunk.page for chunk in chunks],
                [chunk.heading for chunk in chunks],
                section_starts([chunk.heading for chunk in chunks]),
                reference=0,
            )
        )


def _as_now(outline: Outline, version: Version) -> Outline:
    """With its place as it is now: a document can be moved."""
    return outline if outline.uri == version.uri else _named(replace(outline, uri=version.uri))


def _named(outline: Outline) -> Outline:
    return replace(outline, reference=count_tokens(named_by(outline)))
