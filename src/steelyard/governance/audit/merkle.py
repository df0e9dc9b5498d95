"""The Merkle tree of RFC 6962, section 2.1, over SHA-256: roots, proofs, and their verification.

Pure. Hashes are 32 bytes. A tree of no leaves has the SHA-256 of nothing as its root. Proofs are built from
all leaf hashes; a growing tree (`Frontier`) needs only the roots of its complete subtrees.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

HASH_BYTES = 32
_LEAF = b"\x00"
_NODE = b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf's data."""
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with these children."""
    return hashlib.sha256(_NODE + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """A tree that only grows: its size, and the roots of its complete subtrees, the largest first.

    There is one root for each bit that is set in `size`.
    """

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def append(self, leaves: Sequence[bytes]) -> "Frontier":
        """Return the tree with more leaf hashes at its end."""
        size, roots = self.size, list(self.roots)
        for leaf in leaves:
            roots.append(leaf)
            carry = size
            while carry & 1:
                right = roots.pop()
                roots.append(node_hash(roots.pop(), right))
                carry >>= 1
            size += 1
        return Frontier(size, tuple(roots))

    def root(self) -> bytes:
        """Return the root hash."""
        if not self.roots:
            return hashlib.sha256(b"").digest()
        result = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            result = node_hash(left, result)
        return result

    def pack(self) -> bytes:
        """Write the subtree roots one after the other."""
        return b"".join(self.roots)

    @classmethod
    def unpack(cls, size: int, packed: bytes) -> "Frontier":
        """Read what `pack` wrote.

        Raises:
            ValueError: it can't be of a tree of this size.
        """
        if len(packed) != size.bit_count() * HASH_BYTES:
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} complete subtrees")
        places = range(0, len(packed), HASH_BYTES)
        return cls(size, tuple(packed[place : place + HASH_BYTES] for place in places))


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root of the tree of these leaf hashes."""
    return Frontier().append(leaves).root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of the leaf at `index`, the lowest sibling first (RFC 6962, 2.1.1).

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    path: list[bytes] = []
    start, end = 0, len(leaves)
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(root_of(leaves[middle:end]))
            end = middle
        else:
            path.append(root_of(leaves[start:middle]))
            start = middle
    return path[::-1]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Return the proof that the tree of the first `old_size` leaves is a beginning of this (RFC 6962, 2.1.2).

    Raises:
        IndexError: there are fewer leaves than that.
    """
    if not 0 <= old_size <= len(leaves):
        raise IndexError(f"size {old_size} of {len(leaves)}")
    if old_size in (0, len(leaves)):
        return []
    proof: list[bytes] = []
    start, end, whole = 0, len(leaves), True
    while old_size != end - start:
        middle = _split(end - start)
        if old_size <= middle:
            proof.append(root_of(leaves[start + middle : end]))
            end = start + middle
        else:
            proof.append(root_of(leaves[start : start + middle]))
            start, old_size, whole = start + middle, old_size - middle, False
    if not whole:
        proof.append(root_of(leaves[start:end]))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that a leaf is at `index` of a tree of `size` leaves (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and result == root


def verify_consistency(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether `proof` shows that the old tree is a beginning of the new one (RFC 9162, 2.1.4.2)."""
    if not 0 <= old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    if old_size == 0:
        return not proof and old_root == root_of([])
    hashes = list(proof)
    if old_size & (old_size - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        return False
    node, last = old_size - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_result = result = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old_result, result = node_hash(sibling, old_result), node_hash(sibling, result)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and old_result == old_root and result == root


def _split(size: int) -> int:
    """The largest power of two that is smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)
