"""Whole stores in whole processes: concurrency, damage, scale."""
