"""The tests of casckpt, cut by what they protect; `tests/unit` mirrors the package."""
