"""Which checkpoints of a training are restored, and what their CPU seconds say."""

from __future__ import annotations

from collections.abc import Mapping


def sampled(count: int) -> range:
    """Every third checkpoint: of every level of a pyramid as many as it has of all."""
    return range(0, count, 3)


def speeds(seconds: Mapping[int, float], megabytes: float, count: int) -> dict[str, float]:
    """MB/s by checkpoint: the oldest, the middle and the newest of `count`, the slowest of all, and the mean.

    Args:
        seconds: of one core, by number of the checkpoint; of those that are sampled, and of any others.
        megabytes: of one checkpoint.
    """
    mean = sum(seconds[number] for number in sampled(count)) / len(sampled(count))
    return {
        "oldest_mb_s": megabytes / seconds[0],
        "middle_mb_s": megabytes / seconds[count // 2],
        "newest_mb_s": megabytes / seconds[count - 1],
        "worst_mb_s": megabytes / max(seconds.values()),
        "mean_mb_s": megabytes / mean,
    }
