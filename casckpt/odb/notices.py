"""Notices to the operator, through the logger `casckpt`: what went wrong without anything being lost."""

from __future__ import annotations


def warn(text: str, *values: object) -> None:
    """Log a warning; `values` fill the `%s` of the text. The logging module is slow to import, and rarely needed."""
    import logging

    logging.getLogger("casckpt").warning(text, *values)
