"""Tests of the documentation: its examples run, its tables are those of the code."""
