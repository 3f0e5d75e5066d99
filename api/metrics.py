"""What Prometheus reads. With several worker processes set PROMETHEUS_MULTIPROC_DIR to an empty folder
before they start; then any one of them answers for all."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kb.types import KnowledgeBase

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# A made-up method must not make a new time series.
_METHODS = frozenset({"GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT"})


class Metrics:
    """Counters of one process, and the sizes of the knowledge bases when asked.

    knowledge_bases: lists them with their counts.
    """

    def __init__(self, knowledge_bases: Callable[[], Sequence[KnowledgeBase]]) -> None:
        self._registry = CollectorRegistry()
        self._sizes = _Sizes(knowledge_bases)
        requests = Counter(
            "kb_http_requests", "Requests answered.", ("route", "method", "status"), registry=self._registry
        )
        latency = Histogram(
            "kb_http_request_seconds",
            "Time to answer.",
            ("route",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        stages = Histogram(
            "kb_search_stage_seconds",
            "Time per search stage.",
            ("stage",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        refusals = Counter(
            "kb_overloaded", "Requests turned away: no room.", ("work",), registry=self._registry
        )

        # Finding a series by its labels costs more than counting in it, and there are few of them.
        self._request = lru_cache(1024)(requests.labels)
        self._latency = lru_cache(64)(latency.labels)
        self._stage = lru_cache(64)(stages.labels)
        self._refusal = refusals.labels

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request. route: its template, never its path."""
        self._request(route, method if method in _METHODS else "other", status).inc()
        self._latency(route).observe(seconds)

    def observe_refusal(self, work: str) -> None:
        """Count a request that was answered 429. work: search, wait, request."""
        self._refusal(work).inc()

    def observe_search(self, timings_ms: Mapping[str, float]) -> None:
        """Count the stages of a search."""
        for stage, spent in timings_ms.items():
            self._stage(stage).observe(spent / 1000)

    def exposition(self) -> bytes:
        """All of it in the Prometheus text format."""
        return self._counted() + generate_latest(_only(self._sizes))

    def _counted(self) -> bytes:
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        every = CollectorRegistry()
        MultiProcessCollector(every)  # type: ignore[no-untyped-call]
        return generate_latest(every)


class _Sizes(Collector):
    """Documents and chunks by knowledge base, read when asked."""

    def __init__(self, knowledge_bases: Callable[[], Sequence[KnowledgeBase]]) -> None:
        self._knowledge_bases = knowledge_bases

    def collect(self) -> Iterable[Metric]:
        documents = GaugeMetricFamily("kb_documents", "Documents.", labels=["knowledge_base"])
        chunks = GaugeMetricFamily("kb_chunks", "Chunks.", labels=["knowledge_base"])
        for kb in self._knowledge_bases():
            documents.add_metric([kb.name], kb.documents)
            chunks.add_metric([kb.name], kb.chunks)
        return documents, chunks


def _only(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
