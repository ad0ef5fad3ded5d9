"""What a server counts, in the text format of Prometheus."""

from collections.abc import Iterable

from specialm.common import extras
from specialm.serving.server.models import Models

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self, models: Models):
        client = extras.load("prometheus_client", "serve", "metrics")
        self._client, self._registry = client, client.CollectorRegistry()
        self._models = models

        def named(kind, name: str, text: str, labels: Iterable[str], **more):
            return kind(f"specialm_{name}", text, labels, registry=self._registry, **more)

        self.requests = named(
            client.Counter, "requests", "by route and status", ("route", "status")
        )
        self.prompt_tokens = named(client.Counter, "prompt_tokens", "read", ("model",))
        self.drawn_tokens = named(client.Counter, "drawn_tokens", "drawn", ("model",))
        self.cancelled = named(client.Counter, "cancelled", "texts that were given up", ("model",))
        self.first = named(
            client.Histogram,
            "first_token_seconds",
            "from a request to its first token",
            ("model",),
            buckets=SECONDS,
        )
        self.whole = named(
            client.Histogram, "request_seconds", "of a request", ("route",), buckets=SECONDS
        )
        gauges = {
            "running": ("texts that have a row", lambda model: model.worker.running),
            "unfinished": (
                "texts that have a row or wait for one",
                lambda model: model.worker.unfinished,
            ),
            "cache_bytes": (
                "of keys and values, on the device",
                lambda model: model.worker.engine.cache_bytes,
            ),
        }
        for name, (text, value) in gauges.items():
            gauge = named(client.Gauge, name, text, ("model",))
            for group, held in models.groups().items():
                gauge.labels(group).set_function(
                    lambda held=held, value=value: sum(value(model) for model in held())
                )

    def text(self) -> tuple[bytes, str]:
        """(the page that Prometheus reads, its media type)."""
        return self._client.generate_latest(self._registry), self._client.CONTENT_TYPE_LATEST
