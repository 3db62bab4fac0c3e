"""Prometheus metrics, one name for each, declared in one place so that no two mean different things."""

from prometheus_client import Counter, Gauge

__all__ = ["Counter", "Gauge"]
