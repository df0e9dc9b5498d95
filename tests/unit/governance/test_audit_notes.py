"""Signed notes and checkpoints, against a published example, and bent in every way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.governance.audit.checkpoints import (
    Checkpoint,
    open_checkpoint,
    peek_checkpoint,
    sign_checkpoint,
)
from steelyard.governance.audit.notes import InvalidNote, Signer, Verifier, open_note, split_note

# From the tests of other implementations of signed notes.
KNOWN_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
KNOWN_TEXT = "This is an example message.\n"
KNOWN_NOTE = (
    KNOWN_TEXT + "\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
SIGNER = Signer("steelyard.internal/audit/test", bytes(range(32)))
ROOT = bytes(range(32))


class TestKnownNote:
    def test_is_opened(self) -> None:
        assert open_note(KNOWN_NOTE, Verifier.parse(KNOWN_KEY)) == KNOWN_TEXT

    def test_its_key_is_written_as_it_was_read(self) -> None:
        assert str(Verifier.parse(KNOWN_KEY)) == KNOWN_KEY

    @pytest.mark.parametrize("place", range(len(KNOWN_NOTE) - 1))
    def test_no_character_of_it_can_be_another(self, place: int) -> None:
        other = "x" if KNOWN_NOTE[place] != "x" else "y"
        with pytest.raises(InvalidNote):
            open_note(KNOWN_NOTE[:place] + other + KNOWN_NOTE[place + 1 :], Verifier.parse(KNOWN_KEY))


class TestSigning:
    @given(st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs"))), min_size=1))
    def test_what_is_signed_is_opened(self, lines: list[str]) -> None:
        text = "\n".join(lines) + "\n"
        assert open_note(SIGNER.sign(text), SIGNER.verifier) == text

    def test_other_keys_are_passed_over(self) -> None:
        note = SIGNER.sign("text\n")
        others = split_note(Signer("somebody.else/x", bytes(32)).sign("text\n").replace("text\n\n", "x\n\n"))
        assert others[1][0][0] == "somebody.else/x"
        foreign_line = Signer("somebody.else/x", bytes(32)).sign("text\n").split("\n\n")[1]

        assert open_note(note + foreign_line, SIGNER.verifier) == "text\n"

    def test_one_bad_signature_of_the_key_spoils_the_note(self) -> None:
        good, bad = SIGNER.sign("text\n"), SIGNER.sign("other\n").split("\n\n")[1]
        with pytest.raises(InvalidNote, match="doesn't hold"):
            open_note(good + bad, SIGNER.verifier)

    def test_another_key_of_the_same_name_is_unknown(self) -> None:
        with pytest.raises(InvalidNote, match="isn't signed by"):
            open_note(Signer(SIGNER.name, bytes(32)).sign("text\n"), SIGNER.verifier)

    @pytest.mark.parametrize(("count", "fits"), [(100, True), (101, False)])
    def test_a_note_has_a_hundred_signatures_at_most(self, count: int, fits: bool) -> None:
        line = SIGNER.sign("a\n").split("\n\n")[1]
        note = "a\n\n" + line * count
        if fits:
            assert len(split_note(note)[1]) == count
            return
        with pytest.raises(InvalidNote, match="more than 100"):
            split_note(note)

    @pytest.mark.parametrize(
        "line",
        [
            "- name Uw2QOkn8srV1\n",
            "— na+me Uw2QOkn8srV1\n",
            "— name Uw2QOg==\n",
            "— name\n",
            "—  Uw2QOkn8srV1\n",
        ],
    )
    def test_a_signature_line_is_well_formed_in_all_its_parts(self, line: str) -> None:
        assert split_note("a\n\n— name Uw2QOkn8srV1\n")[1][0][0] == "name"
        with pytest.raises(InvalidNote, match="malformed"):
            split_note("a\n\n" + line)

    @pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "return\r\n"])
    def test_texts_that_no_note_has_are_refused(self, text: str) -> None:
        with pytest.raises(InvalidNote):
            SIGNER.sign(text)


class TestKeys:
    def test_a_private_key_is_read_as_it_was_written(self) -> None:
        assert Signer.parse(SIGNER.encode()) == SIGNER

    def test_it_is_not_shown(self) -> None:
        assert "seed" not in repr(SIGNER)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "name",
            KNOWN_KEY[:-4],
            KNOWN_KEY.replace("530d903a", "530d903b"),
            KNOWN_KEY.replace("Aeky", "Beky"),
            KNOWN_KEY.replace("example.com/foo", "example.com/bar"),
        ],
    )
    def test_a_key_that_was_bent_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidNote):
            Verifier.parse(text)

    def test_a_public_key_is_no_private_one(self) -> None:
        with pytest.raises(InvalidNote):
            Signer.parse(KNOWN_KEY)
        with pytest.raises(InvalidNote):
            Verifier.parse(SIGNER.encode())


class TestCheckpoints:
    def test_have_three_lines(self) -> None:
        text, signatures = split_note(sign_checkpoint(7, ROOT, SIGNER))

        assert text == f"{SIGNER.name}\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
        assert [name for name, _ in signatures] == [SIGNER.name]

    @given(st.integers(0, 1 << 60), st.binary(min_size=32, max_size=32))
    def test_are_read_as_they_were_signed(self, size: int, root: bytes) -> None:
        note = sign_checkpoint(size, root, SIGNER)

        assert open_checkpoint(note, SIGNER.verifier) == Checkpoint(SIGNER.name, size, root)
        assert peek_checkpoint(note) == Checkpoint(SIGNER.name, size, root)

    @pytest.mark.parametrize(
        "text",
        [
            "x\n",
            f"{SIGNER.name}\n1\n",
            f"{SIGNER.name}\n01\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
            f"{SIGNER.name}\n-1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
            f"{SIGNER.name}\n1\nAAEC\n",
            f"{SIGNER.name}\n1\n!\n",
            "\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
            "another/log\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        ],
    )
    def test_a_signed_text_that_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidNote):
            open_checkpoint(SIGNER.sign(text), SIGNER.verifier)
