"""Model folders: resolving, strict loading, converting published files, downloading from a stand-in hub."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from published import shapes
from rule import randn, state_dict
from safetensors.torch import load_file, save_file

from moda import TalkingHead, weights
from moda.errors import ModaError
from moda.generator.config import PUBLISHED
from moda.generator.generator import Generator
from moda.generator.model import MotionTransformer
from moda.generator.statistics import Statistics
from moda.motion import Motion, join
from moda.weights.description import Description
from moda.weights.published import RENDERER, convert, fold_spectral


@pytest.fixture(autouse=True)
def tiny_renderers(monkeypatch, request):
    """The renderers of these tests are stand-ins of a few numbers, which no strict loading can take."""
    if "whole_renderer" not in request.keywords:
        monkeypatch.setattr("moda.weights.published.check_parts", lambda folder: None)


TINY = replace(PUBLISHED, width=16, heads=2, depths=(1, 1, 2), audio_layers=3, audio_width=16, audio_hidden=8)


def published_tensors() -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v) for k, v in state_dict(shapes(TINY)).items()}


def originals(folder: Path, checkpoint: dict | None = None) -> Path:
    """A folder like the downloads, with tiny networks."""
    from test_hubert import tiny

    for sub in ("moda", "liveportrait/base_models", "liveportrait/retargeting_models", "hubert"):
        (folder / sub).mkdir(parents=True)
    torch.save({"module." + k: v for k, v in published_tensors().items()} if checkpoint is None else checkpoint,
               folder / "moda" / "net-200.pth")  # fmt: skip
    for stem in RENDERER[:4]:
        network = {
            "conv.weight_orig": torch.ones(2, 3),
            "conv.weight_u": torch.ones(2),
            "conv.weight_v": torch.ones(3),
        }
        torch.save({**network, "fc.bias": torch.ones(2)}, folder / "liveportrait/base_models" / f"{stem}.pth")
    stitching = {
        "retarget_mouth": {"module.mlp.0.weight": torch.ones(2, 2)},
        "retarget_eye": {"module.mlp.0.bias": torch.ones(2)},
    }
    torch.save(stitching, folder / "liveportrait/retargeting_models" / f"{RENDERER[4]}.pth")
    model = tiny()
    model.config.save_pretrained(folder / "hubert")
    torch.save(model.state_dict(), folder / "hubert" / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moda.weights.published.check_parts", lambda folder: None)
        convert(originals(folder), config=TINY)
    return folder


def copy(folder: Path, out: Path) -> Path:
    import shutil

    shutil.copytree(folder, out)
    return out


# -- where --------------------------------------------------------------------------------------


def test_names_and_folders(converted, tmp_path, monkeypatch):
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    assert weights.resolve(converted) == converted
    with pytest.raises(ModaError, match="moda weights download official"):
        weights.resolve("official")
    with pytest.raises(ModaError, match="neither embedded nor moditalker nor official nor a folder"):
        weights.resolve("ofical")
    with pytest.raises(ModaError, match=r"no config\.json"):
        weights.resolve(tmp_path)
    copy(converted, tmp_path / "official")
    assert weights.resolve("official") == tmp_path / "official"
    (line,) = [line for line in weights.list_weights() if line.startswith("official")]
    assert "hubert" in line and "liveportrait" in line and "MB" in line


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"generator": 1}'])
def test_a_broken_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModaError, match=r"config\.json"):
        Description.read(tmp_path)


def test_importing_costs_no_torch():
    code = (
        "import sys, moda.weights; assert not {'torch', 'huggingface_hub', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- converting and loading ---------------------------------------------------------------------


def test_a_converted_folder_generates(converted):
    """From .pth files to motion, through the encoder; the same as from the tensors themselves."""
    head = TalkingHead.from_pretrained(converted, "cpu")
    encoder, generator = head.encoder, head.generator
    features = list(encoder.encode([randn(1, (16_000,), 0.1)]))
    assert (encoder.layers, encoder.width) == (3, 16) and sum(map(len, features)) == 75
    start = Motion.from_array(generator.statistics.mean[None], "liveportrait")
    motion = join(list(generator.stream(features, randn(2, (21, 3)), start, "fear", steps=2)))
    assert len(motion) == 25 and motion.space.name == "liveportrait"

    from moda.generator.products import pack
    from moda.weights.names import published_generator

    model = MotionTransformer(TINY)
    model.load_state_dict(published_generator(published_tensors()))
    pack(model)  # as loading does
    same = Generator(model, generator.statistics).stream(features, randn(2, (21, 3)), start, "fear", steps=2)
    np.testing.assert_allclose(join(list(same)).to_array(), motion.to_array(), atol=1e-4)  # packed products


def test_the_published_statistics_are_shipped(converted, shared):
    golden = json.loads((shared / "golden" / "motion_stats.json").read_text())
    ours = Description.read(converted).generator
    assert np.array_equal(np.float32(ours.mean), np.float32(golden["mean"]))
    assert np.array_equal(np.float32(ours.std), np.float32(golden["std"]))


def test_nothing_but_safetensors_and_json_is_written(converted):
    made = {p.relative_to(converted).as_posix() for p in converted.rglob("*.safetensors")}
    assert made == {
        "generator.safetensors",
        "hubert/model.safetensors",
        *(f"liveportrait/{s}.safetensors" for s in RENDERER),
    }
    assert not list(converted.rglob("*.part"))


def test_spectral_norm_is_folded_and_parallel_prefixes_go(converted):
    decoder = load_file(converted / "liveportrait" / "spade_generator.safetensors")
    assert decoder.keys() == {"conv.weight", "fc.bias"}
    torch.testing.assert_close(decoder["conv.weight"], torch.ones(2, 3) / 6)
    assert set(load_file(converted / "liveportrait" / f"{RENDERER[4]}.safetensors")) == {
        "retarget_mouth.mlp.0.weight",
        "retarget_eye.mlp.0.bias",
    }


def test_folding_is_what_torch_does():
    layer = torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 4, 3))
    x = torch.randn(1, 3, 5, 5)
    layer(x)  # a training step, so that u and v are no longer the first ones
    layer.eval()
    folded = fold_spectral({"conv." + k: v for k, v in layer.state_dict().items()})
    assert folded.keys() == {"conv.weight", "conv.bias"}
    expected = layer(x)
    torch.testing.assert_close(
        torch.nn.functional.conv2d(x, folded["conv.weight"], folded["conv.bias"]), expected
    )
    with pytest.raises(ModaError, match="weight_u"):
        fold_spectral({"conv.weight_orig": torch.ones(2, 2)})


@pytest.mark.parametrize(
    "nest", [lambda d: d, lambda d: {"epoch": 3, "model": d}, lambda d: {"state": {"net": d}}]
)
def test_the_generator_is_found_in_a_checkpoint(tmp_path, nest):
    convert(originals(tmp_path / "in", nest(published_tensors())), tmp_path / "out", TINY)
    assert not (tmp_path / "in" / "config.json").exists()
    assert TalkingHead.from_pretrained(tmp_path / "out", "cpu").generator.config == TINY


def test_a_lost_null_vector_is_drawn_and_told(tmp_path, caplog):
    tensors = published_tensors()
    del tensors["null_audio_feat"]
    folder = originals(tmp_path / "in", tensors)
    with caplog.at_level(logging.WARNING):
        convert(folder, tmp_path / "a", TINY)
        convert(folder, tmp_path / "b", TINY)
    assert "null audio vector" in caplog.text and "42" in caplog.text
    a, b = (load_file(tmp_path / x / "generator.safetensors")["null_audio"] for x in "ab")
    assert torch.equal(a, b) and a.shape == (16,) and a.std() > 0.3


KEY = "talking_head_dit.blocks2.0.attn1.qkv_au.bias"
OURS = "blocks2.0.streams.1.qkv.bias"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop(KEY), f"lacks {OURS}"),
        (lambda d: d.update({"talking_head_dit.extra.weight": torch.ones(2)}), r"unknown extra\.weight"),
        (lambda d: d.update({KEY: torch.ones(5)}), rf"{OURS} of shape \(5,\), but \(48,\)"),
    ],
)
def test_no_key_is_dropped_by_converting(tmp_path, change, words):
    tensors = published_tensors()
    change(tensors)
    with pytest.raises(ModaError, match=words):
        convert(originals(tmp_path / "in", tensors), tmp_path / "out", TINY)
    assert not (tmp_path / "out").exists(), "parts of a model are left behind"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop(OURS), f"lacks {OURS}"),
        (lambda d: d.update({"extra.weight": torch.ones(2)}), r"unknown extra\.weight"),
        (lambda d: d.update({OURS: torch.ones(5)}), rf"{OURS} of shape \(5,\), but \(48,\)"),
    ],
)
def test_no_key_is_dropped_by_loading(converted, tmp_path, change, words):
    folder = copy(converted, tmp_path / "model")
    tensors = load_file(folder / "generator.safetensors")
    change(tensors)
    save_file(tensors, folder / "generator.safetensors")
    with pytest.raises(ModaError, match=words):
        TalkingHead.from_pretrained(folder, "cpu").generator  # noqa: B018


def test_every_published_key_is_used_or_known_dead():
    """Change one entry and the model changes, for all but the named dead ones."""
    from moda.weights.names import DEAD, published_generator

    assert set(published_tensors()) - set(DEAD) == {k for k in published_tensors() if k not in DEAD}
    assert len(published_generator(published_tensors())) == len(published_tensors()) - len(DEAD)
    model = MotionTransformer(TINY)
    model.load_state_dict(published_generator(published_tensors()))
    audio = model.without_audio(torch.randn(2, 4, 3, 16), torch.tensor([True, False]))
    emotion = torch.arange(2)
    out = model(torch.randn(2, 4, 140), torch.tensor([500.0, 3.0]), audio, emotion, torch.randn(2, 63))
    out.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_files_that_are_missing_or_unsafe_are_named(tmp_path):
    with pytest.raises(ModaError, match="there is no folder"):
        convert(tmp_path / "nowhere")
    with pytest.raises(ModaError, match=r"no net-200\.pth"):
        convert(tmp_path)
    folder = originals(tmp_path / "in")
    (folder / "hubert" / "config.json").unlink()
    with pytest.raises(ModaError, match="no HuBERT"):
        convert(folder, tmp_path / "out", TINY)
    folder = originals(tmp_path / "unsafe", {"model": Motion.still(1)})  # an object: needs pickle
    with pytest.raises(ModaError, match=r"net-200\.pth cannot be read safely"):
        convert(folder, tmp_path / "out", TINY)
    folder = originals(tmp_path / "other", {"weight": torch.ones(2)})
    with pytest.raises(ModaError, match="no MoDA generator"):
        convert(folder, tmp_path / "out", TINY)
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModaError, match="cannot write .*file"):
        convert(originals(tmp_path / "in"), tmp_path / "file" / "out", TINY)


def test_a_saved_model_loads_in_half_precision(tmp_path):
    (tmp_path / "encoder.safetensors").write_bytes(b"sound")
    (tmp_path / "encoder.json").write_text("{}")
    config = replace(TINY, rest_frames=0, space="explicit")
    model = MotionTransformer(config)
    out = weights.save_model(tmp_path / "out", model, Statistics(np.zeros(70), np.ones(70)), tmp_path)
    assert (out / "encoder.safetensors").read_bytes() == b"sound"
    generator = TalkingHead.from_pretrained(out, "cpu").generator
    assert generator.config == config
    for key, value in generator.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[key], atol=1e-3, rtol=1e-3)
    with pytest.raises(ModaError, match="precision is 'int4'"):
        TalkingHead.from_pretrained(out, "cpu", precision="int4")


# -- downloading --------------------------------------------------------------------------------


class Hub:
    """As much of the hub's interface as fetching uses, from a dictionary of files."""

    def __init__(self, files: dict[str, dict[str, bytes]]) -> None:
        self.files, self.requests, self.lie = files, [], None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                hub.requests.append((self.command, self.path, self.headers.get("Range")))
                if self.path.startswith("/api/models/"):
                    return self.model(body)
                repository, _, rest = self.path.lstrip("/").partition("/resolve/")
                data = hub.files.get(repository, {}).get(rest.partition("/")[2])
                if data is None:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                start = 0
                if (
                    self.headers.get("Range", "").startswith("bytes=")
                    and self.headers["Range"] != "bytes=0-0"
                ):
                    start = int(self.headers["Range"][6:].split("-")[0] or 0)
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                if body:
                    self.wfile.write(data[start:])

            def model(self, body: bool) -> None:
                repository = (
                    self.path.removeprefix("/api/models/").partition("?")[0].partition("/revision")[0]
                )
                siblings = []
                for name, data in hub.files.get(repository, {}).items():
                    stated = hub.lie if hub.lie is not None and name.endswith(".pth") else data
                    sha256 = hashlib.sha256(stated).hexdigest()
                    entry = {"rfilename": name, "size": len(data)}
                    if len(data) > 2000:
                        entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
                    else:
                        entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(stated) + stated).hexdigest()
                    siblings.append(entry)
                text = json.dumps({
                    "_id": "1", "id": repository, "modelId": repository, "sha": "0" * 40, "private": False, "downloads": 0,
                    "likes": 0, "tags": [], "siblings": siblings, "cardData": {"license": "mit"},
                }).encode()  # fmt: skip
                self.send_response(200 if siblings else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if body:
                    self.wfile.write(text)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from moda.weights.hub import OFFICIAL

    folder = originals(tmp_path / "published")
    (folder / "hubert" / "preprocessor_config.json").write_text(
        '{"feature_extractor_type": "Wav2Vec2FeatureExtractor"}'
    )
    files = {
        repository: {name: next(folder.rglob(Path(name).name)).read_bytes() for name in names}
        for repository, names in OFFICIAL.items()
    }
    hub = Hub(files)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("MODA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("moda.weights.published.convert.__defaults__", (None, TINY))
    yield hub
    hub.server.shutdown()


def fetched(hub) -> list[str]:
    return [path for command, path, _ in hub.requests if command == "GET" and "/resolve/" in path]


def test_downloading_checks_converts_and_is_done_once(hub):
    lines = []
    assert "--model official" in weights.download("official", lines.append)
    assert sum("licence mit" in line for line in lines) == 3
    assert len(fetched(hub)) == 9
    folder = weights.resolve("official")
    assert TalkingHead.from_pretrained(folder, "cpu").generator.config == TINY
    before = len(hub.requests)
    assert "already here" in weights.download("official", lines.append)
    assert len(hub.requests) == before


def test_downloading_goes_on_where_it_was_broken_off(hub, tmp_path):
    lost = hub.files["KwaiVGI/LivePortrait"].pop("liveportrait/base_models/spade_generator.pth")
    with pytest.raises(ModaError, match=r"has no liveportrait/base_models/spade_generator\.pth"):
        weights.download(report=lambda line: None)
    hub.files["KwaiVGI/LivePortrait"]["liveportrait/base_models/spade_generator.pth"] = lost
    hub.requests.clear()
    weights.download(report=lambda line: None)
    assert not any("net-200" in path for path in fetched(hub))
    assert len(fetched(hub)) == 8


def test_half_a_file_is_continued(hub, tmp_path):
    name, repository = "moda/net-200.pth", "lixinyizju/moda"
    data = hub.files[repository][name]
    target = tmp_path / "home" / "downloads" / "lixinyizju--moda" / name
    target.parent.mkdir(parents=True)
    target.with_name("net-200.pth.part").write_bytes(data[:5000])
    parts = []
    weights.download(report=lambda line: None, progress=parts.append)
    assert target.read_bytes() == data
    assert [r for c, p, r in hub.requests if "net-200" in p] == ["bytes=5000-"]
    assert parts[-1] == 1 and not list((tmp_path / "home").rglob("*.part"))


def test_a_spoilt_half_is_refused_then_fetched_anew(hub, tmp_path):
    part = tmp_path / "home" / "downloads" / "lixinyizju--moda" / "moda" / "net-200.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 5000)
    with pytest.raises(ModaError, match="another size or hash"):
        weights.download(report=lambda line: None)
    weights.download(report=lambda line: None)


def test_what_is_not_what_the_hub_states_is_refused(hub, tmp_path):
    hub.lie = b"other"
    with pytest.raises(ModaError, match="another size or hash"):
        weights.download(report=lambda line: None)
    assert not list((tmp_path / "home").rglob("*.pth"))


def test_no_connection_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModaError, match="cannot be asked for") as error:
        weights.download(report=lambda line: None)
    assert "\n" not in str(error.value)
    with pytest.raises(ModaError, match="called 'large'"):
        weights.download("large")


def test_offline_is_respected(hub, tmp_path):
    code = "from moda import weights; weights.download(report=lambda line: None)"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "ModaError" in result.stderr and "cannot be asked" in result.stderr
    assert hub.requests == []


@pytest.mark.slow
@pytest.mark.whole_renderer
def test_a_renderer_with_a_part_missing_or_too_many_is_refused(tmp_path):
    """The networks at their real sizes, as the published files hold them."""
    from test_liveportrait import SHAPES

    def network(name: str) -> dict[str, torch.Tensor]:
        return {key: torch.full(shape, 0.01) for key, shape in SHAPES[name].items()}

    folder = originals(tmp_path / "in")
    for stem, name in zip(RENDERER, "FMWG"):
        torch.save(network(name), next(folder.rglob(f"{stem}.pth")))
    parts = {"retarget_shoulder": "S_stitching", "retarget_mouth": "S_lip", "retarget_eye": "S_eye"}
    torch.save(
        {part: network(name) for part, name in parts.items()}, next(folder.rglob(f"{RENDERER[4]}.pth"))
    )
    convert(folder, tmp_path / "good", TINY)
    path = next(folder.rglob("warping_module.pth"))
    whole = torch.load(path)
    for change in ({"extra.weight": torch.ones(2)}, None):
        key = next(iter(whole))
        torch.save(whole | change if change else {k: v for k, v in whole.items() if k != key}, path)
        with pytest.raises(ModaError, match="extra" if change else "lack"):
            convert(folder, tmp_path / "bad", TINY)
        assert not list((tmp_path / "bad").iterdir())
