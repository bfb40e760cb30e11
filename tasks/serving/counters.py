"""The counters of a service, as Prometheus reads them."""

import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Counters:
    """The counters of a service; they begin at 0 when it starts."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "graftline_serve_requests", "Requests, by path and status.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "graftline_serve_predict_seconds", "From a request to its answer.", buckets=SECONDS, registry=registry
        )  # fmt: skip
        self.samples = Counter(
            "graftline_serve_samples",
            "Samples; the reason is empty where one was answered.",
            ["reason"],
            registry=registry,
        )
        self.minibatches = Histogram(
            "graftline_serve_minibatch_samples",
            "Samples that were computed together.",
            buckets=SAMPLES,
            registry=registry,
        )
        self.waiting = Gauge("graftline_serve_waiting_samples", "Samples that wait for a free core.", registry=registry)
        self.swaps = Counter("graftline_serve_swaps", "Models that replaced the one in use.", registry=registry)
        self.refused = Counter("graftline_serve_refused_bundles", "Bundles that could not be used.", registry=registry)
        self.is_current = Gauge(
            "graftline_serve_bundle_is_whole", "Whether the model in use is the one in the place of the bundle.",
            registry=registry,
        )  # fmt: skip
        self.model = Gauge(
            "graftline_serve_model_loaded_timestamp_seconds", "When the model in use was loaded.", ["model"],
            registry=registry,
        )  # fmt: skip
        self.logged = Counter("graftline_serve_logged_rows", "Rows of the log of answers.", registry=registry)
        self.not_logged = Counter("graftline_serve_lost_rows", "Rows that could not be logged.", registry=registry)

    def take_model(self, sha256: str) -> None:
        """Note which model answers from now on."""
        self.model.clear()
        self.model.labels(sha256).set(time.time())
        self.is_current.set(1)

    def text(self) -> bytes:
        """Return all counters in the text format of Prometheus."""
        return generate_latest(self._registry)


class CountersOfReplicas(Collector):
    """The counters of several services as one: each sample has the label `replica`.

    Their sum would fall whenever a replica starts anew, and Prometheus would take the whole of it for new requests.

    Args:
        texts: the results of `Counters.text`, by the name of the replica.
    """

    def __init__(self, texts: Mapping[str, bytes]) -> None:
        self._metrics: dict[str, Metric] = {}
        for replica, text in texts.items():
            for metric in text_string_to_metric_families(text.decode()):
                joined = self._metrics.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    joined.add_sample(sample.name, sample.labels | {"replica": replica}, sample.value)

    def collect(self) -> Iterable[Metric]:
        return self._metrics.values()

    def text(self) -> bytes:
        """Return all counters in the text format of Prometheus."""
        return generate_latest(self)
