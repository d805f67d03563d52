"""Every limit of format v1: what a writer may produce and what a reader accepts before it allocates anything."""

from __future__ import annotations

from casckpt.format.ids import Kind

MAX_OBJECT_BYTES: dict[int, int] = {
    Kind.CHUNK: 1 << 20,
    Kind.PAGE: 2048 * 36,
    Kind.STRUCTURE: 256 << 20,
    Kind.COMPONENT: 256 << 20,
    Kind.TREE: 1 << 20,
    Kind.COMMIT: 1 << 20,
    Kind.META: 16 << 20,
}
"""Plain bytes of an object by kind; kinds this release does not know are never decoded."""

MAX_BLOB_BYTES = 1 << 50
MAX_PARTS = 64
MAX_PARENTS = 64
MAX_METRICS = 4096
MAX_NAME_BYTES = 255
MAX_REF_BYTES = 1024
MAX_MESSAGE_BYTES = 64 << 10
MAX_MARK_BYTES = 64 << 10
"""Encoded bytes of one fact about a commit."""
MAX_REQUIRED = 64
MAX_PATTERN_BYTES = 1024
MAX_DEPTH = 200

MAX_PACK_BYTES = 256 << 30
"""Reach of a record's offset: 2^32 units of 64 bytes."""
MAX_PACK_RECORDS = 1 << 20
MAX_HINT_BYTES = 16 << 20
MAX_BASE_DISTANCE = 0xFFFF
MAX_DECODE_COST = 16
"""Records in the closure of one delta, itself included."""

MAX_FRAME_BYTES = 32 << 20
"""Payload of one journal frame."""
MAX_STORED_EXCESS = 1024
"""A stored form may be longer than the plain bytes by at most this; writers keep raw what does not shrink."""
MAX_ZSTD_WINDOW = 8 << 20
