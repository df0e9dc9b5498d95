"""The tree of RFC 6962, against its published vectors, against the RFC's own recursion, and by properties."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.governance.audit import chain
from steelyard.governance.audit.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The leaves, roots and proofs that Certificate Transparency's implementations test each other with.
VECTOR_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
VECTOR_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
EMPTY_ROOT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
# (leaf index, tree size, path)
VECTOR_PATHS: list[tuple[int, int, list[str]]] = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
]
# (old size, new size, proof)
VECTOR_PROOFS = [
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]

hashes = st.lists(st.integers(0, 255).map(lambda number: leaf_hash(bytes([number]))), max_size=40)
some_hashes = st.lists(
    st.integers(0, 1 << 20).map(lambda n: leaf_hash(str(n).encode())), min_size=1, max_size=70
)


def rfc_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(rfc_root(leaves[:split]), rfc_root(leaves[split:]))


class TestVectors:
    @pytest.mark.parametrize("size", range(1, 9))
    def test_roots(self, size: int) -> None:
        leaves = [leaf_hash(data) for data in VECTOR_LEAVES[:size]]
        assert root_of(leaves).hex() == VECTOR_ROOTS[size - 1]

    def test_the_root_of_nothing(self) -> None:
        assert root_of([]).hex() == EMPTY_ROOT

    @pytest.mark.parametrize(("index", "size", "path"), VECTOR_PATHS)
    def test_inclusion(self, index: int, size: int, path: list[str]) -> None:
        leaves = [leaf_hash(data) for data in VECTOR_LEAVES[:size]]
        assert [step.hex() for step in inclusion_proof(leaves, index)] == path

    @pytest.mark.parametrize(("old_size", "size", "proof"), VECTOR_PROOFS)
    def test_consistency(self, old_size: int, size: int, proof: list[str]) -> None:
        leaves = [leaf_hash(data) for data in VECTOR_LEAVES[:size]]
        assert [step.hex() for step in consistency_proof(leaves, old_size)] == proof


class TestGrowth:
    @given(hashes, hashes)
    def test_a_grown_tree_is_the_tree_of_all(self, first: list[bytes], then: list[bytes]) -> None:
        grown = Frontier().append(first)
        kept = Frontier.unpack(grown.size, grown.pack())

        assert kept.append(then).root() == rfc_root(first + then)

    def test_another_size_is_refused(self) -> None:
        with pytest.raises(ValueError, match="subtrees"):
            Frontier.unpack(3, Frontier().append([bytes(32)]).pack())


class TestInclusion:
    @given(some_hashes, st.data())
    def test_every_leaf_is_proved_at_its_place_alone(self, leaves: list[bytes], data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(leaves) - 1))
        other = data.draw(st.integers(0, len(leaves) - 1))
        path, root = inclusion_proof(leaves, index), root_of(leaves)

        assert verify_inclusion(leaves[index], index, len(leaves), path, root)
        assert not verify_inclusion(leaf_hash(b"foreign"), index, len(leaves), path, root)
        if leaves[other] != leaves[index]:
            assert not verify_inclusion(leaves[other], index, len(leaves), path, root)
            assert not verify_inclusion(
                leaves[index], other, len(leaves), inclusion_proof(leaves, other), root
            )

    @given(some_hashes, st.data())
    def test_a_bent_path_proves_nothing(self, leaves: list[bytes], data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(leaves) - 1))
        path, root = inclusion_proof(leaves, index), root_of(leaves)

        assert not verify_inclusion(leaves[index], index, len(leaves), [*path, bytes(32)], root)
        if path:
            place = data.draw(st.integers(0, len(path) - 1))
            bent = [*path[:place], bytes([path[place][0] ^ 1]) + path[place][1:], *path[place + 1 :]]
            assert not verify_inclusion(leaves[index], index, len(leaves), bent, root)
            assert not verify_inclusion(leaves[index], index, len(leaves), path[:-1], root)

    def test_places_outside_are_refused(self) -> None:
        with pytest.raises(IndexError):
            inclusion_proof([bytes(32)], 1)
        assert not verify_inclusion(bytes(32), 1, 1, [], bytes(32))
        assert not verify_inclusion(bytes(32), -1, 1, [], bytes(32))


class TestConsistency:
    @given(some_hashes, st.data())
    def test_every_beginning_is_proved(self, leaves: list[bytes], data: st.DataObject) -> None:
        old_size = data.draw(st.integers(0, len(leaves)))
        proof = consistency_proof(leaves, old_size)
        old_root, root = root_of(leaves[:old_size]), root_of(leaves)

        assert verify_consistency(old_size, old_root, len(leaves), root, proof)
        assert not verify_consistency(old_size, leaf_hash(b"other"), len(leaves), root, proof)
        assert not verify_consistency(old_size, old_root, len(leaves), root, [*proof, bytes(32)])

    @given(some_hashes, st.data())
    def test_a_rewritten_tree_has_no_proof(self, leaves: list[bytes], data: st.DataObject) -> None:
        old_size = data.draw(st.integers(1, len(leaves)))
        place = data.draw(st.integers(0, old_size - 1))
        rewritten = [*leaves[:place], leaf_hash(b"rewritten"), *leaves[place + 1 :]]
        proof = consistency_proof(rewritten, old_size)

        assert not verify_consistency(
            old_size, root_of(leaves[:old_size]), len(leaves), root_of(rewritten), proof
        )

    def test_a_smaller_tree_follows_none(self) -> None:
        assert not verify_consistency(2, bytes(32), 1, bytes(32), [])
        with pytest.raises(IndexError):
            consistency_proof([bytes(32)], 2)


def test_links_depend_on_all_before_and_on_their_order() -> None:
    one, other = leaf_hash(b"one"), leaf_hash(b"other")

    assert chain.extend(chain.ORIGIN, [one, other])[-1] != chain.extend(chain.ORIGIN, [other, one])[-1]
    assert (
        chain.extend(chain.extend(chain.ORIGIN, [one])[-1], [other])
        == chain.extend(chain.ORIGIN, [one, other])[1:]
    )
    assert chain.link(bytes(32), one) == hashlib.sha256(b"\x02" + bytes(32) + one).digest()
