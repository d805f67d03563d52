"""Pure decisions: what a revision means, which refs a commit moves, how history is walked, which commits are kept.

Start with `revision` (text to meaning), `settle` (a commit's ref moves) and `retention`. No files, no clock: facts
come in as arguments. Imports `format` for the values it decides on, and of `state` what patterns of paths mean.
"""
