"""One client: 70 % searches, 20 % ingests, 10 % deletions, and a check of every answer."""

import http.client
import json
import random
import threading
import time
from typing import Any

from benchmarks.soak.ledger import Calm, Entry, Ledger

_NOUNS = (
    "valve pump harbour ledger orchard kettle compass garden lantern bridge engine market saddle turbine "
    "violin glacier pottery archive beacon canal dairy falcon granary hammer island jetty kiln loom meadow "
    "needle oven parcel quarry rudder sluice tannery umbrella vineyard wagon anchor"
)
_VERBS = "opens repairs carries measures paints follows guards empties counts turns lifts stores"
_HOW = ("slowly before dawn", "after the storm", "twice a year", "without noise", "by hand", "in winter")

# The server closes a connection that is idle for five seconds; asking at that very moment proves nothing.
_IDLE_SECONDS = 3.0
# Behind fifteen others on a busy machine an ingest may take a minute; what never comes is a fault.
_TIMEOUT_SECONDS = 180


class Lost(Exception):
    """No answer."""


class Connection:
    """One keep-alive connection, made when it is needed."""

    def __init__(self, port: int, calm: Calm) -> None:
        self._port = port
        self._calm = calm
        self._open: http.client.HTTPConnection | None = None
        self._used = 0.0
        self.born = -1

    def ask(self, method: str, path: str, body: Any) -> tuple[int, Any, str | None]:
        """Status, answer and Retry-After. Raises OSError, HTTPException, or ValueError for no JSON."""
        if self._open is None or time.monotonic() - self._used > _IDLE_SECONDS:
            self.close()
            self.born = self._calm.generation
            self._open = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_SECONDS)
        sent = None if body is None else json.dumps(body)
        self._open.request(method, path, sent, {"content-type": "application/json"})
        answer = self._open.getresponse()
        read = json.loads(answer.read())
        self._used = time.monotonic()
        return answer.status, read, answer.getheader("retry-after")

    def close(self) -> None:
        """The next question opens a new one."""
        if self._open is not None:
            self._open.close()
        self._open = None


class Client(threading.Thread):
    """Works until `over`; seeded by the run's seed and its number.

    kbs: names and ids of the knowledge bases. over: set when the run ends.
    Only this client changes the documents it made.
    """

    def __init__(
        self,
        number: int,
        seed: int,
        port: int,
        kbs: dict[str, str],
        ledger: Ledger,
        calm: Calm,
        over: threading.Event,
    ) -> None:
        super().__init__(name=f"client-{number}")
        self._number = number
        self._chance = random.Random(f"{seed}-{number}")
        self._port = port
        self._kbs = kbs
        self._ledger = ledger
        self._calm = calm
        self._over = over
        self._own = Connection(port, calm)
        self._mine: list[Entry] = []
        self._made = 0

    def run(self) -> None:
        """Until the time is over. What was never foreseen is a violation as well."""
        try:
            while not self._over.is_set():
                draw = self._chance.random()
                try:
                    if draw < 0.7:
                        self._search()
                    elif draw < 0.9:
                        self._ingest()
                    else:
                        self._delete()
                except Lost:
                    self._ledger.count("answers lost in a disturbance")
                    self._calm.wait()
        except Exception as error:
            self._ledger.violation(f"client {self._number} failed: {error!r}")
            raise
        finally:
            self._own.close()

    def _search(self) -> None:
        kb = self._chance.choice(list(self._kbs))
        mode = self._chance.choice(["hybrid", "hybrid", "dense", "lexical"])
        entry = self._ledger.known(kb, self._chance.randrange(400))
        before = entry.changes if entry else 0
        token, text = (entry.token, entry.text) if entry else ("", "")
        query = text if entry and mode == "dense" else token
        if not entry or self._chance.random() < 0.5:
            entry, query = None, " ".join(self._chance.choices(_NOUNS.split(), k=3))
        hits = self._hits("search", self._own, kb, query, mode)
        if entry and entry.changes == before and entry.name not in {hit["uri"] for hit in hits}:
            self._ledger.violation(f"{entry.name} is in, and a {mode} search for it finds others: {query!r}")

    def _ingest(self) -> None:
        old = self._own_entry() if self._mine and self._chance.random() < 0.2 else None
        self._made += 1
        kb = old.kb if old else self._chance.choice(list(self._kbs))
        token = f"zq{self._number:02d}x{self._made:05d}"
        text = self._text(token)
        gone = old.token if old else None
        if old:
            entry, entry.token, entry.text = old, token, text
            entry.become("either")
        else:
            entry = Entry(kb, f"{kb}/{self._number:02d}-{self._made:05d}.txt", token, text, "either")
            self._mine.append(entry)
            self._ledger.add(entry)
        path = f"/v1/knowledge_bases/{kb}/documents?wait=true"
        body = {"documents": [{"name": entry.name, "text": text, "attributes": {"client": self._number}}]}
        status, answer = self._ask("ingest", self._own, "POST", path, body)
        if status == 202:
            # Accepted, and the server is stopping.
            entry.become("accepted")
            return
        report = answer.get("report") or {}
        if status != 200 or report.get("added", 0) + report.get("changed", 0) != 1:
            self._ledger.violation(f"ingest of {entry.name}: {status} {answer}")
            return
        self._check_in(entry, gone)
        entry.become("in")

    def _check_in(self, entry: Entry, gone: str | None) -> None:
        """An acknowledged document is found by the next search of any connection."""
        for mode, query in (("lexical", entry.token), ("dense", entry.text)):
            hits = self._surely(entry.kb, query, mode)
            mine = [hit for hit in hits if hit["uri"] == entry.name]
            if not mine:
                self._ledger.violation(f"{entry.name} was acknowledged, and {mode} does not find it")
                continue
            entry.content_id = mine[0]["content_id"]
            if entry.token not in mine[0]["text"]:
                self._ledger.violation(f"{entry.name} was replaced, and {mode} finds {mine[0]['text']!r}")
        if gone and any(hit["uri"] == entry.name for hit in self._surely(entry.kb, gone, "lexical")):
            self._ledger.violation(f"{entry.name} was replaced, and lexical finds its old text")

    def _delete(self) -> None:
        entry = self._own_entry()
        if entry is None:
            return
        entry.become("either")
        path = f"/v1/knowledge_bases/{entry.kb}/documents/{entry.content_id}"
        status, answer = self._ask("delete", self._own, "DELETE", path)
        if status != 200:
            self._ledger.violation(f"deletion of {entry.name}: {status} {answer}")
            return
        entry.become("out")
        for mode, query in (("lexical", entry.token), ("dense", entry.text)):
            if any(hit["content_id"] == entry.content_id for hit in self._surely(entry.kb, query, mode)):
                self._ledger.violation(f"{entry.name} was deleted, and {mode} finds it")

    def _own_entry(self) -> Entry | None:
        inside = [entry for entry in self._mine if entry.state == "in" and entry.content_id]
        return self._chance.choice(inside) if inside else None

    def _text(self, token: str) -> str:
        first, second, third = self._chance.sample(_NOUNS.split(), 3)
        verb, how = self._chance.choice(_VERBS.split()), self._chance.choice(_HOW)
        count = self._chance.randrange(2, 10_000)
        return f"The {first} of {token} {verb} {count} times {how}, near the {second} and the {third}."

    def _surely(self, kb: str, query: str, mode: str) -> list[dict[str, Any]]:
        """The hits over a connection of its own; asked again when a disturbance takes the answer."""
        while True:
            connection = Connection(self._port, self._calm)
            try:
                return self._hits("check", connection, kb, query, mode)
            except Lost:
                self._calm.wait()
            finally:
                connection.close()

    def _hits(
        self, operation: str, connection: Connection, kb: str, query: str, mode: str
    ) -> list[dict[str, Any]]:
        body = {"query": query, "mode": mode, "top_k": 10}
        status, answer = self._ask(operation, connection, "POST", f"/v1/knowledge_bases/{kb}/search", body)
        if status != 200:
            self._ledger.violation(f"search in {kb}: {status} {answer}")
            return []
        hits: list[dict[str, Any]] = answer["hits"]
        for hit in hits:
            if hit["knowledge_base_id"] != self._kbs[kb] or not hit["uri"].startswith(f"{kb}/"):
                self._ledger.violation(f"a search in {kb} found {hit['uri']} of {hit['knowledge_base_id']}")
            self._open(hit)
        self._ledger.count("hits checked", len(hits))
        return hits

    def _open(self, hit: dict[str, Any]) -> None:
        """A hit's text is its span's; each span is opened once in a run."""
        version, start, end = hit["content_version_id"], hit["start"], hit["end"]
        if self._ledger.seen(version, start, end, hit["text"]):
            return
        status, answer = self._ask(
            "contents", self._own, "GET", f"/v1/contents/{version}?start={start}&end={end}"
        )
        if status == 404:
            # Deleted between the two: its writer judges that.
            self._ledger.count("spans deleted before they were opened")
        elif status != 200 or answer["text"] != hit["text"]:
            self._ledger.violation(f"{hit['uri']} [{start}:{end}] is {answer}, the hit said {hit['text']!r}")
        else:
            self._ledger.count("spans opened")

    def _ask(
        self, operation: str, connection: Connection, method: str, path: str, body: Any = None
    ) -> tuple[int, Any]:
        """Status and answer; what is refused for overload is sent again when told. Raises Lost."""
        while True:
            started = time.perf_counter()
            try:
                status, answer, again = connection.ask(method, path, body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                self._unless_explained(connection, f"{operation}: no answer: {error!r}")
                raise Lost from None
            if status >= 500:
                self._unless_explained(connection, f"{operation}: {status} {answer}")
                raise Lost
            if status != 429:
                self._ledger.took(operation, time.perf_counter() - started)
                return status, answer
            self._ledger.count("refused for overload")
            time.sleep(int(again or 1))

    def _unless_explained(self, connection: Connection, what: str) -> None:
        if not self._calm.explains(connection.born):
            self._ledger.violation(what)
