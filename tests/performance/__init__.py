"""Guards against losing speed: ratios of CPU seconds in one process, never wall time, so that they hold in CI."""
