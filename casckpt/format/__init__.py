"""What the bytes mean: ids, objects, packs, journal frames, encodings. Pure: bytes in, values out.

Start with `ids` (names of content), `objects` (tree and commit), `pack` and `frame` (the two files that hold
everything). The specification is docs/reference/format-v1.md. Imports only `units` and `errors`.
"""
