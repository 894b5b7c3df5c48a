"""Metrics in the formats of Prometheus: its text format, and OpenMetrics for a scraper that asks for it.

Owns: handing the samples to prometheus-client.
Elsewhere: which metrics there are (master.metrics.table), their values (master.metrics.samples).
Fails: never.

Imported only when metrics are served: prometheus-client is megabytes of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from chatd.master.metrics import table
from chatd.master.metrics.samples import Samples
from chatd.master.metrics.table import Kind


class Exposition:
    """collect: gives the values as they are now."""

    def __init__(self, collect: Callable[[], Samples]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Samples(collect))

    def render(self, accept: str) -> tuple[str, bytes]:
        """The content type and the body. accept: the header of the request. Costs one to three milliseconds."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)


class _Samples(Collector):
    def __init__(self, collect: Callable[[], Samples]) -> None:
        self._collect = collect
        self._metrics = table.metrics()

    def collect(self) -> Iterator[Metric]:
        found = self._collect()
        for metric in self._metrics:
            if metric.kind is Kind.HISTOGRAM:
                yield _histogram(metric, found)
            elif (values := found.values.get(metric.name)) is not None:
                yield _family(metric, values)

    def describe(self) -> list[Metric]:
        return []


def _family(metric: table.Metric, values: dict[tuple[str, ...], float]) -> Metric:
    family: CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily
    if metric.kind is Kind.INFO:
        family = InfoMetricFamily(metric.name, metric.meaning)
        for labels in values:
            family.add_metric([], dict(zip(metric.labels, labels, strict=True)))
        return family
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, float(value))
    return family


def _histogram(metric: table.Metric, found: Samples) -> HistogramMetricFamily:
    one = found.histograms[metric.name]
    bounds = [*map(str, one.bounds_s), "+Inf"]
    family = HistogramMetricFamily(metric.name, metric.meaning)
    family.add_metric([], list(zip(bounds, map(float, one.counts), strict=True)), one.total_s)
    return family
