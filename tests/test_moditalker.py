"""MoDiTalker's family at small sizes: the space, AToM over long sound, MToV on portraits and footage, their training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import write_frames

from moda.cli import run
from moda.errors import ModaError
from moda.generator.atom.config import AtomConfig
from moda.generator.atom.generator import AtomGenerator
from moda.generator.atom.model import MotionDecoder
from moda.media.picture import read_picture
from moda.media.read import probe, read_video
from moda.motion import Motion, join, space
from moda.motion.landmarks68 import LANDMARK_OF, centimeters, eye_distances
from moda.motion.space import converted
from moda.pipeline import TalkingHead
from moda.render.triplane import region
from moda.render.triplane.autoencoder import TriplaneAutoencoder
from moda.render.triplane.config import PUBLISHED, VideoConfig
from moda.render.triplane.files import DOTS, RGB, UNET, write_network
from moda.render.triplane.painter import Painter, Shown
from moda.render.triplane.unet import PlaneUNet

ATOM = AtomConfig(
    space="landmarks68", frames=20, hop=14, width=16, heads=2, hidden=16, encoder_layers=1, layers=1, audio_width=110,
    audio_tokens=1, dropout=0.0, condition_dropout=0.2, steps=3, guidance=1.5, eta=1.0, bound=1.0, aligned=True,
    separate=True, residual=True,
)  # fmt: skip
VIDEO = VideoConfig.from_dict(
    {
        "triplane": {"size": 32, "frames": 8, "patch": 8, "channels": 16, "depth": 1, "heads": 2, "head_width": 8,
                     "latent": 4, "plane_depth": 1, "plane_heads": 2, "plane_hidden": 16},
        "unet": {"width": 8, "multipliers": [1, 2], "blocks": 1, "heads": 2, "attention": [0], "inputs": 16, "outputs": 4},
        "steps": 4, "eta": 0.0, "bound": 1.0, "start_part": 0.25, "overlap": 2, "region": "mouth",
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def atom() -> AtomGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AtomGenerator(MotionDecoder(ATOM))


@pytest.fixture(scope="module")
def folder(atom, tmp_path_factory) -> Path:
    """A model: the embedded encoder, a tiny AToM, a tiny MToV, all untrained."""
    folder = tmp_path_factory.mktemp("models") / "tiny_moditalker"
    folder.mkdir()
    write_network(atom.model, folder / "generator.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        write_network(TriplaneAutoencoder(VIDEO.triplane), folder / RGB)
        write_network(TriplaneAutoencoder(VIDEO.triplane), folder / DOTS, decoder=False)
        write_network(PlaneUNet(VIDEO.unet, VIDEO.triplane), folder / UNET)
    description = {
        "encoder": {"name": "speech", "source": "embedded"},
        "generator": {"name": "atom", "config": ATOM.to_dict()},
        "renderer": {"name": "mtov", "config": VIDEO.to_dict()},
    }
    (folder / "config.json").write_text(json.dumps(description))
    return folder


# -- the space ----------------------------------------------------------------------------------


def test_points_are_mirror_symmetric():
    from moda.face.landmarks import mirror

    pairs = [
        *zip(range(17), range(16, -1, -1)),
        *zip(range(17, 22), range(26, 21, -1)),
        (31, 35),
        (32, 34),
        (36, 45),
    ]
    pairs += [(39, 42), (37, 44), (41, 46), (48, 54), (50, 52), (60, 64), (61, 63), (67, 65), (59, 55)]
    for a, b in pairs:
        assert mirror()[LANDMARK_OF[a]] == LANDMARK_OF[b]


def test_to_explicit_and_back():
    """What both spaces know survives; the pose is untouched; what is neutral stays neutral."""
    random = np.random.default_rng(0)
    motion = Motion.still(5)
    motion.exp[:, :10, 1] = random.normal(0, 0.05, (5, 10))
    motion = replace(motion, yaw=np.arange(5, dtype=np.float32))
    there = converted(motion, space("landmarks68"))
    back = converted(there, space("explicit"))
    assert there.exp.shape == (5, 68, 3) and np.array_equal(there.yaw, motion.yaw)
    assert np.abs(back.space.lip_gap(back) - motion.space.lip_gap(motion)).max() < 0.02
    assert np.abs(there.space.lip_gap(there) - motion.space.lip_gap(motion)).max() < 0.02
    still = converted(Motion.still(2), space("landmarks68"))
    assert not still.exp.any()
    with pytest.raises(ModaError, match="cannot be carried to the 'liveportrait'"):
        converted(motion, space("liveportrait"))


def test_units():
    offsets = np.random.default_rng(0).normal(size=(4, 68, 3)).astype(np.float32)
    assert np.allclose(eye_distances(centimeters(offsets)), offsets, atol=1e-6)
    down = np.zeros((68, 3), np.float32)
    down[:, 1] = 1
    assert np.allclose(centimeters(down)[0], [0, -6.3, 0])


def test_gains_and_file(tmp_path):
    motion = converted(Motion.still(3), space("landmarks68"))
    motion.exp[1, 66, 1] = 0.1
    own = motion[:1]
    halved = motion.space.gains(motion, own, lips=0.5)
    assert np.allclose(motion.space.lip_gap(halved), [0, 0.05, 0])
    assert Motion.load(motion.save(tmp_path / "motion.npz")) == motion


# -- AToM ---------------------------------------------------------------------------------------


def features(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, 1, 110)).astype(np.float32)


def neutral() -> np.ndarray:
    from moda.face.pose import canonical

    return canonical()[LANDMARK_OF]


@pytest.mark.parametrize("frames", [1, 13, 20, 21, 47, 62])
def test_any_length_and_any_pieces(atom, frames):
    start, sound = Motion.still(1, "landmarks68"), features(frames)
    whole = join(list(atom.stream([sound], neutral(), start, seed=5)))
    parts = join(list(atom.stream(np.array_split(sound, 4), neutral(), start, seed=5)))
    assert len(whole) == frames and whole == parts
    assert np.isfinite(whole.exp).all() and np.abs(centimeters(whole.exp)).max() <= 1 + 1e-4


def test_seeds(atom):
    start = Motion.still(1, "landmarks68")
    a, b, c = (join(list(atom.stream([features(30)], neutral(), start, seed=s))) for s in (1, 1, 2))
    assert a == b and a != c


def test_windows_as_one_batch(atom):
    """Window by window, as it runs here, equals all windows as a batch, each bound to the one before at every step."""
    from moda.diffusion import ddim, from_data
    from moda.generator.atom.generator import BOUND, face_condition
    from moda.generator.offline import fuse

    config, count = atom.config, 3
    frames = config.frames + (count - 1) * config.hop
    sound, random = features(frames), torch.Generator().manual_seed(9)
    face = torch.from_numpy(face_condition(neutral())).reshape(1, 1, -1).expand(count, -1, -1)
    audio = torch.stack([torch.from_numpy(sound[i * config.hop :][: config.frames, 0]) for i in range(count)])
    pairs = atom.schedule.grid(config.steps)
    # The noise of window k, in the order in which windows are sampled.
    shape = (1, config.frames, config.numbers)
    noises = [[torch.randn(shape, generator=random) for _ in range(len(pairs))] for _ in range(count)]
    drawn = iter(torch.cat(row) for row in zip(*noises))

    with torch.no_grad():
        null = atom.model.condition(audio, face, torch.ones(count, dtype=torch.bool))
        known = atom.model.condition(audio, face, torch.zeros(count, dtype=torch.bool))

        def network(x: torch.Tensor, t: int) -> torch.Tensor:
            at = torch.full((count,), t)
            a, b = atom.model(x, at, null), atom.model(x, at, known)
            return a + config.guidance * (b - a)

        done = iter(range(config.steps))

        def bind(x: torch.Tensor) -> torch.Tensor:
            bound = next(done) < int(BOUND * config.steps)
            for k in range(1, count if bound else 1):
                x[k, : config.frames - config.hop] = x[k - 1, config.hop :]
            return x

        estimate = from_data(network, atom.schedule, config.bound)
        *_, x = ddim(estimate, atom.schedule, next(drawn), pairs, lambda: next(drawn), config.eta, bind)
    whole, ends = x[0].numpy(), config.frames - config.hop
    for row in x[1:].numpy():
        whole = np.concatenate([whole[:-ends], fuse(whole[-ends:], row[:ends]), row[ends:]])
    ours = join(list(atom.stream([sound], neutral(), Motion.still(1, "landmarks68"), seed=9)))
    assert np.allclose(centimeters(ours.exp).reshape(frames, -1), whole, atol=1e-4)


def test_what_atom_cannot(atom):
    start = Motion.still(1, "landmarks68")
    with pytest.raises(ModaError, match="cannot run live"):
        atom.live(neutral(), start, features(1)[0])
    with pytest.raises(ModaError, match="no emotion 'anger'"):
        atom.offline(neutral(), start, "anger")
    with pytest.raises(ModaError, match="do not belong together"):
        atom.offline(neutral(), start).push(np.zeros((3, 2, 4), np.float32))
    with pytest.raises(ModaError, match="works in the 'landmarks68' space"):
        atom.offline(neutral(), Motion.still(1))


# -- MToV ---------------------------------------------------------------------------------------


def untrained() -> Painter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = TriplaneAutoencoder(VIDEO.triplane), TriplaneAutoencoder(VIDEO.triplane)
        return Painter(VIDEO, *parts, PlaneUNet(VIDEO.unet, VIDEO.triplane))


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 14, 21])
def test_painting_any_number_of_frames_changes_the_hidden_field_alone(portrait, frames):
    from moda.face import read_portrait

    source = read_portrait(portrait)
    crop = region.squares(source.landmarks[None], "mouth", 32, True)[0]
    points = region.points68(source.landmarks, crop)
    painter = untrained()
    shown = [Shown(source.image, crop, points)] * frames
    out = list(painter.paint(iter(shown), painter.reference(crop.cut(source.image))))
    assert len(out) == frames
    far = np.linalg.norm(np.mgrid[: source.image.shape[0], : source.image.shape[1]][::-1].T - source.landmarks[13, :2], axis=-1).T  # fmt: skip
    outside = far > 2.2 * source.pose.scale
    assert all(np.array_equal(frame[outside], source.image[outside]) for frame in out)
    assert not np.array_equal(out[0], source.image)


def test_what_is_hidden_does_not_depend_on_the_mouth():
    picture, a, b = np.full((64, 64, 3), 200, np.uint8), np.zeros((68, 2)), np.full((68, 2), 40.0)
    assert np.array_equal(region.hide(picture, a, "mouth"), region.hide(picture, b, "mouth"))
    assert (region.hide(picture, b, "head")[40:] == 0).all() and (
        region.hide(picture, b, "head")[:40] == 200
    ).all()


def test_generate_and_dub_with_the_model(folder, portrait, speech, tmp_path):
    head = TalkingHead.from_pretrained(folder)
    wave = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    video = head(portrait, wave, size=128)
    video.save(tmp_path / "out.mp4")
    assert len(list(read_video(tmp_path / "out.mp4"))) == 25
    assert video.motion.space.name == "landmarks68"
    picture = cv2.resize(read_picture(portrait)[:512, :512], (192, 192), interpolation=cv2.INTER_AREA)
    footage = write_frames(tmp_path / "video.mp4", [picture] * 20)
    out = tmp_path / "dubbed.mp4"
    assert run(["dub", str(footage), str(speech), "-o", str(out), "--model", str(folder)]) == 0
    assert len(list(read_video(out))) == 20 and probe(out).has_sound


def test_atom_drives_the_mesh_renderer_and_ours_drives_mtov(folder, portrait, tmp_path):
    wave = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    head = TalkingHead.from_pretrained(folder, renderer="mesh")
    assert head(portrait, wave, size=64).motion.space.name == "explicit"
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    from moda.weights.folder import EMBEDDED

    for name in (RGB, DOTS, UNET):
        (mixed / name).symlink_to(folder / name)
    (mixed / "generator.safetensors").symlink_to(EMBEDDED / "generator.safetensors")
    ours = json.loads((EMBEDDED / "config.json").read_text())
    theirs = json.loads((folder / "config.json").read_text())
    values = {"encoder": theirs["encoder"], "generator": ours["generator"], "renderer": theirs["renderer"]}
    (mixed / "config.json").write_text(json.dumps(values))
    frames = list(TalkingHead.from_pretrained(mixed)(portrait, wave, size=64).frames())
    assert len(frames) == 25 and frames[0].shape == (64, 64, 3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_published_region(folder, portrait, tmp_path, precision):
    """The whole square, hidden below the nose, as published; also in half precision."""
    for name in ("generator.safetensors", RGB, DOTS, UNET):
        (tmp_path / name).symlink_to(folder / name)
    values = json.loads((folder / "config.json").read_text())
    values["renderer"]["config"] |= {"region": "head", "overlap": 0, "steps": 3, "eta": 1.0}
    (tmp_path / "config.json").write_text(json.dumps(values))
    head = TalkingHead.from_pretrained(tmp_path, precision=precision)
    wave = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    frames = list(head(portrait, wave, size=64).frames())
    assert len(frames) == 12 and frames[0].std() > 1
    picture = cv2.resize(read_picture(portrait)[:512, :512], (192, 192), interpolation=cv2.INTER_AREA)
    footage = write_frames(
        tmp_path / "video.mp4", [picture] * 6 + [np.full_like(picture, 80)] * 3 + [picture] * 4
    )
    with head.dub(footage, wave) as dub:
        frames, original = list(dub.frames()), list(read_video(footage))
    assert len(frames) == 13
    unseen = np.flatnonzero(~dub.footage.seen)
    assert {6, 7, 8} <= set(unseen) and all(np.array_equal(frames[i], original[i]) for i in unseen)


def test_files_are_read_strictly(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "generator.safetensors", RGB, DOTS, UNET):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    tensors = load_file(tmp_path / UNET)
    tensors.pop("out.2.bias")
    save_file(tensors, tmp_path / UNET)
    with pytest.raises(ModaError, match=r"lacks out\.2\.bias"):
        TalkingHead.from_pretrained(tmp_path).renderer()


def test_configs_say_what_does_not_fit():
    triplane, unet = VIDEO.to_dict()["triplane"], VIDEO.to_dict()["unet"]
    for wrong, message in (
        ({"triplane": triplane | {"size": 36}}, "not made of patches"),
        ({"triplane": triplane | {"frames": 7}}, "cannot be halved"),
        ({"unet": unet | {"inputs": 12}}, "takes 12 channels"),
        ({"overlap": 5}, "at most half"),
        ({"region": "ear"}, "region is 'ear'"),
        ({"extra": 1}, "unknown extra"),
    ):
        with pytest.raises(ModaError, match=message):
            VideoConfig.from_dict(VIDEO.to_dict() | wrong)
    with pytest.raises(ModaError, match="hop is 2"):
        AtomConfig.from_dict(ATOM.to_dict() | {"hop": 2})
    assert VideoConfig.from_dict(PUBLISHED.to_dict()) == PUBLISHED


# -- training -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(portrait, speech, tmp_path_factory) -> Path:
    """Two short videos of a picture that speaks."""
    folder = tmp_path_factory.mktemp("videos")
    head = TalkingHead.from_pretrained("embedded")
    for seed in (0, 1):
        head(portrait, speech, size=128, seed=seed).save(folder / f"person{seed}.mp4")
    return folder


def config(tmp_path: Path, task: str, videos: Path, model: dict, **more) -> Path:
    training = {
        "steps": 3,
        "batch": 2,
        "learning_rate": 1e-3,
        "warmup": 1,
        "save_every": 1,
        "validate_every": 3,
    }
    values = {
        "task": task,
        "out": task,
        "cache": "cache",
        "data": [str(videos)],
        "hold_out": ["person1"],
        "model": model,
    }
    path = tmp_path / f"{task}.json"
    path.write_text(json.dumps(values | {"training": training} | more))
    return path


def test_every_stage_trains_and_goes_on(videos, tmp_path):
    from moda.training.runs import train

    adversarial = config(tmp_path, "autoencoder", videos, VIDEO.to_dict(), adversarial=True)
    train(adversarial)
    dots = config(tmp_path, "dots", videos, VIDEO.to_dict(), initial="autoencoder/model")
    train(dots)
    both = tmp_path / "both"
    both.mkdir()
    for name, task in ((RGB, "autoencoder"), (DOTS, "dots")):
        (both / name).write_bytes((tmp_path / task / "model" / name).read_bytes())
    unet = config(tmp_path, "unet", videos, VIDEO.to_dict(), autoencoders="both")
    train(unet)
    losses = [json.loads(line) for line in (tmp_path / "unet" / "loss.jsonl").read_text().splitlines()]
    assert {"psnr", "latent_error"} <= {k.removeprefix("valid_") for row in losses for k in row}
    assert (tmp_path / "unet" / "unet.png").exists()
    values = json.loads(unet.read_text())
    values["training"]["steps"] = 4
    unet.write_text(json.dumps(values))
    train(unet)  # goes on from its checkpoint
    steps = [json.loads(line)["step"] for line in (tmp_path / "unet" / "loss.jsonl").read_text().splitlines()]
    assert steps[-1] == 4 and steps.count(0) == 1
    train(
        config(tmp_path, "atom", videos, ATOM.to_dict(), speech=[str(Path(__file__).parents[1] / "assets")])
    )
    assert (tmp_path / "atom" / "model" / "generator.safetensors").exists()


def test_training_configs_say_what_is_wrong(videos, tmp_path):
    from moda.training.runs import train

    for path, message in (
        (config(tmp_path, "nothing", videos, {}), "task is 'nothing'"),
        (config(tmp_path, "unet", videos, VIDEO.to_dict()), "lacks autoencoders"),
        (config(tmp_path, "dots", videos, VIDEO.to_dict(), wrong=1), "wrong"),
        (config(tmp_path, "atom", tmp_path / "none", ATOM.to_dict()), "there is no video"),
    ):
        with pytest.raises(ModaError, match=message):
            train(path)


def test_the_shipped_configs_are_read():
    from moda.training.atom import AtomRunConfig
    from moda.training.run import load
    from moda.training.video import VideoRunConfig

    root = Path(__file__).parents[1] / "configs" / "moditalker"
    for path in root.glob("*.json"):
        kind = AtomRunConfig if path.stem == "atom" else VideoRunConfig
        assert load(kind, path).model.to_dict()
