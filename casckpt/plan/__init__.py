"""Pure decisions: what a revision means, which refs a commit moves, how history is walked.

Start with `revision` (text to meaning) and `settle` (a commit's ref moves). No files, no clock: facts come in as
arguments. Imports `format` for the values it decides on.
"""
