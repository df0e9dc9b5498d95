"""Spec files as people write them: numbers are numbers, text is text, and every fault has its line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from steelyard.client.spec_file import load_spec_file, read_spec_text
from steelyard.client.spec_text import parse_scalar, parse_spec_text
from steelyard.kit.errors import InvalidSpec

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.-_", max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


class _Writer(yaml.SafeDumper):
    """Quotes text that is a number in YAML 1.2 and none in PyYAML's 1.1, such as 0E0 and 0o17."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        node: yaml.ScalarNode = self.represent_str(text)
        if re.fullmatch(r"[-+.0-9eExo]+", text):
            node.style = '"'
        return node


_Writer.add_representer(str, _Writer.represent_text)


class TestScalars:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("2.0e-4", 2e-4),
            ("2e-4", 2e-4),
            ("1E5", 1e5),
            (".5", 0.5),
            ("5.", 5.0),
            ("-3", -3),
            ("007", 7),
            ("0x1F", 31),
            ("0o17", 15),
            ("true", True),
            ("False", False),
            ("null", None),
            ("~", None),
            ("", None),
            ("yes", "yes"),
            ("no", "no"),
            ("on", "on"),
            ("off", "off"),
            ("12:30", "12:30"),
            ("2024-01-01", "2024-01-01"),
            ("1_000", "1_000"),
            ("2e-4x", "2e-4x"),
            ('"2e-4"', "2e-4"),
            ("chats@v3", "chats@v3"),
            ("[1, 2e-1, a]", [1, 0.2, "a"]),
            ("{a: 1}", {"a": 1}),
        ],
    )
    def test_are_read_as_in_json(self, text: str, value: Any) -> None:
        read = parse_scalar(text)
        assert read == value
        assert type(read) is type(value)

    @pytest.mark.parametrize("text", ["[1", '"x', "@v3", "{a: 1, a: 2}", "!!python/name:os.system"])
    def test_that_can_not_be_read_are_refused(self, text: str) -> None:
        with pytest.raises(InvalidSpec):
            parse_scalar(text)

    def test_yaml_at_large_is_left_alone(self) -> None:
        assert yaml.safe_load("a: yes") == {"a": True}


class TestTexts:
    @given(st.dictionaries(st.text("abc", min_size=1, max_size=5), JSON_VALUES, min_size=1, max_size=5))
    def test_json_is_read_as_it_is(self, value: dict[str, Any]) -> None:
        for text in (json.dumps(value), json.dumps(value, indent=2), json.dumps(value, indent="\t")):
            assert parse_spec_text(text, "f")[0] == value

    @given(st.dictionaries(st.text("abc", min_size=1, max_size=5), JSON_VALUES, min_size=1, max_size=5))
    def test_what_yaml_writes_is_read_back(self, value: dict[str, Any]) -> None:
        text = yaml.dump(value, Dumper=_Writer)
        assert parse_spec_text(text, "f")[0] == value

    def test_lines_are_known(self) -> None:
        _, lines = parse_spec_text("a: 1\nb:\n  - x\n  -\n    c: 2\n", "f")
        assert (lines[("a",)], lines[("b",)], lines[("b", 1, "c")]) == (1, 2, 5)

    def test_merge_keys_and_aliases_work(self) -> None:
        data, _ = parse_spec_text("a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\nc: *a\n", "f")
        assert data == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}

    @pytest.mark.parametrize(
        ("text", "place", "words"),
        [
            ("a: 1\nb:\n  c: 1\n  c: 2\n", "job.yaml:4:", "b.c is given twice, first on line 3"),
            ("a: [1\nb: 2", "job.yaml:2:", "not YAML"),
            ("a: b: c", "job.yaml:1:", "not YAML"),
            ("a:\n\t- 1", "job.yaml:2:", "not YAML"),
            ("- a", "job.yaml:1:", "a mapping"),
            ("just text", "job.yaml:1:", "a mapping"),
            ("", "job.yaml:", "empty"),
            ("# nothing\n", "job.yaml:", "empty"),
            ("a: 1\n---\nb: 2", "job.yaml:2:", "another document"),
            ("a: !!python/object/apply:os.system [id]", "job.yaml:1:", "not YAML"),
            ("a: 1\n2: b", "job.yaml:2:", "isn't text"),
            ("a: &x [*x]", "job.yaml:1:", "refers to the block"),
            ('{"a": 1,\n\t"a": 2}', "job.yaml:", "given twice"),
            ('{"a":\n\tNaN}', "job.yaml:", "NaN"),
            ('{"a": 1,\n\t"b" 2}', "job.yaml:2:", "not JSON"),
        ],
    )
    def test_faults_have_their_place(self, text: str, place: str, words: str) -> None:
        with pytest.raises(InvalidSpec) as caught:
            parse_spec_text(text, "job.yaml")
        assert caught.value.message.startswith(place)
        assert words in caught.value.message


class TestFiles:
    @pytest.mark.parametrize("above", [(), ("trial",), ("template",)])
    def test_scripts_are_read_from_beside_the_file(self, tmp_path: Path, above: tuple[str, ...]) -> None:
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "t.py").write_text("x = 1\n")
        block: Any = {"script": {"path": "code/t.py", "args": ["-v"]}}
        for name in above:
            block = {name: block}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(block))

        data = load_spec_file(tmp_path / "job.yaml").data

        for name in above:
            data = data[name]
        assert data == {"script": {"filename": "t.py", "source": "x = 1\n", "args": ["-v"]}}

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("{path: none.py}", "can't be read: No such file"),
            ("{path: t.py, source: x}", "not both"),
            ("{path: 3}", "takes a path"),
            ("{path: bad.py}", "isn't UTF-8"),
        ],
    )
    def test_a_script_that_can_not_be_read(self, tmp_path: Path, script: str, words: str) -> None:
        (tmp_path / "t.py").write_text("")
        (tmp_path / "bad.py").write_bytes(b"\xff\xfe")
        (tmp_path / "job.yaml").write_text(f"name: a\nscript: {script}\n")

        with pytest.raises(InvalidSpec, match=words) as caught:
            load_spec_file(tmp_path / "job.yaml")
        assert "job.yaml:2" in caught.value.message
        assert caught.value.param == "script.path"

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSpec, match="No such file"):
            load_spec_file(tmp_path / "job.yaml")

    def test_the_place_of_a_missing_field_is_its_blocks(self) -> None:
        spec = read_spec_text("a: 1\nb:\n  c: 1\n", "job.yaml", Path())
        assert spec.place(("b", "d", "e")) == "job.yaml:2"
        assert spec.place(("z",)) == "job.yaml:1"
