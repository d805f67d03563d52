"""From a flat state to a tree: chunks, pages, structures, components and the tree object, in a write session."""

from __future__ import annotations

from casckpt.format import chunking
from casckpt.format.elements import element_code
from casckpt.format.ids import Kind, ObjectId, TreeId
from casckpt.format.objects import Component, Structure, Tree
from casckpt.format.pack import PACK_BYTES
from casckpt.odb.session import Session
from casckpt.state.flat import Blob, FlatComponent, FlatState


def save_state(session: Session, flat: FlatState) -> tuple[TreeId, int]:
    """Put a whole state; returns the id of its tree and its plain bytes.

    Memory: one chunk, the id column, and what the session stages, whatever the size of the state.
    """
    entries: dict[int, bytes] = {}
    parts = []
    for component in flat.components:
        session.begin_part()
        parts.append((component.name, _save_component(session, component, entries)))
        session.end_part()
    root = _save_component(session, flat.root, entries)
    tree = session.put(Kind.TREE, Tree(root, tuple(parts), flat.links).encode())
    return TreeId(tree), _nbytes(flat)


def _nbytes(flat: FlatState) -> int:
    total = sum(blob.nbytes for component in (flat.root, *flat.components) for blob in component.blobs)
    components = (flat.root, *flat.components)
    for group in flat.links:
        total -= sum(components[part].blobs[blob].nbytes for part, blob in group[1:])
    return total


def _save_component(session: Session, component: FlatComponent, entries: dict[int, bytes]) -> ObjectId:
    """Put one component.

    Args:
        entries: id column entries of large blobs by the identity of their memory, so that memory several
            components share is hashed once.
    """
    blobs = component.blobs
    sizes = [blob.nbytes for blob in blobs]
    codes = [element_code(blob.element) for blob in blobs]
    groups = chunking.group_blobs(sizes, codes, (blob.path for blob in blobs))
    digests = bytearray()
    for group in groups:
        joined = b"".join([blobs[number].read(0, sizes[number]) for number in group])
        first = blobs[group[0]]
        digests += session.put_chunk(memoryview(joined), codes[group[0]], first.path)
        session.end_leaf()
    for blob, code in zip(blobs, codes, strict=True):
        if not chunking.is_tiny(blob.nbytes) and not chunking.is_small(blob.nbytes):
            key = id(blob.source)
            if key not in entries:
                entries[key] = _save_large(session, blob, code)
            digests += entries[key]
    tiny = b"".join([blob.read(0, blob.nbytes) for blob in blobs if chunking.is_tiny(blob.nbytes)])
    structure = Structure(component.node, tuple(sizes), bytes(codes), tuple(map(tuple, groups)))
    identity = session.put(Kind.STRUCTURE, structure.encode())
    return session.put(Kind.COMPONENT, Component(identity, component.values, tiny, bytes(digests)).encode())


def _save_large(session: Session, blob: Blob, code: int) -> bytes:
    """Put the chunks of a large blob, and their pages if they are many; returns its entries of the id column."""
    ids = bytearray()
    for start in range(0, blob.nbytes, chunking.CHUNK):
        piece = blob.read(start, min(start + chunking.CHUNK, blob.nbytes))
        ids += session.put_chunk(piece, code, blob.path)
        if (start + chunking.CHUNK) % PACK_BYTES == 0:
            session.end_leaf()
    session.end_leaf()
    if not chunking.page_count(chunking.chunk_count(blob.nbytes)):
        return bytes(ids)
    step = chunking.PAGE_IDS * 32
    pages = [session.put(Kind.PAGE, bytes(ids[at : at + step])) for at in range(0, len(ids), step)]
    return b"".join(pages)
