"""Curves, cues, meshes and streams: motion goes out, and what can come back comes back the same."""

from __future__ import annotations

import json
import socket
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda import ModaError, Motion, TalkingHead
from moda.engine.performance import Sampling, Settings
from moda.interchange import arkit, cues, gltf, tables
from moda.interchange.arkit import CURVES, UNSEEN, curves
from moda.motion import join
from moda.motion.explicit import MIRROR, rotation
from moda.render.mesh.basis import dense
from moda.streams import pushed


@pytest.fixture(scope="module")
def spoken(portrait, speech) -> Motion:
    from moda.audio.decode import read_audio

    character = TalkingHead.from_pretrained("embedded", "cpu").prepare(portrait, size=64)
    return join(list(pushed(character.performance(Settings(), Sampling()), [read_audio(speech)[:96_000]])))


def weights(seed: int, frames: int = 60) -> np.ndarray:
    """(T, 52) that a face may show: of opposites one, closing within the opening, those that are derived."""
    rng = np.random.default_rng(seed)
    values = rng.random((frames, len(CURVES)))
    at = CURVES.index
    values[:, [at(name) for name in UNSEEN]] = 0
    for left in ("eyeLookIn", "eyeLookUp", "eyeBlink"):
        right = {"eyeLookIn": "eyeLookOut", "eyeLookUp": "eyeLookDown", "eyeBlink": "eyeWide"}[left]
        for side in ("Left", "Right"):
            values[:, at(left + side)] *= values[:, at(right + side)] < 0.5
            values[:, at(right + side)] *= values[:, at(left + side)] == 0
    values[:, at("mouthClose")] *= values[:, at("jawOpen")]
    return values


def test_there_are_apples_52():
    assert len(set(CURVES)) == 52 and "tongueOut" in CURVES and "_neutral" not in CURVES


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_points_come_back_from_their_curves(seed):
    motion = arkit.motion(weights(seed))
    again = arkit.motion(curves(motion))
    assert np.abs(again.exp - motion.exp).max() < 0.02  # eye distances: a millimeter


def test_real_performances_come_back_within_a_stated_bound(spoken):
    again = arkit.motion(curves(spoken))
    gap, gap_again = spoken.space.lip_gap(spoken), spoken.space.lip_gap(again)
    assert np.corrcoef(gap, gap_again)[0, 1] > 0.97
    assert np.abs(spoken.exp - again.exp).mean() < 0.01


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_a_mirrored_face_has_mirrored_curves(seed):
    motion = Motion.from_array(np.random.default_rng(seed).standard_normal((8, 70)) * 0.05)
    mirrored = Motion(
        motion.exp[:, MIRROR] * np.float32([-1, 1, 1]),
        motion.scale, motion.t, motion.pitch, motion.yaw, motion.roll,
    )  # fmt: skip
    other = [
        CURVES.index(name.replace("Left", "x").replace("Right", "Left").replace("x", "Right"))
        for name in CURVES
    ]
    assert np.allclose(curves(motion), curves(mirrored)[:, other], atol=0.02)


def test_a_face_at_rest_has_no_curves(portrait):
    assert curves(Motion.still(10)).max() < 1e-6
    character = TalkingHead.from_pretrained("embedded", "cpu").prepare(portrait, size=64)
    silence = np.zeros(80_000, np.float32)
    values = curves(join(list(pushed(character.performance(Settings(), Sampling()), [silence]))))
    speaking = [i for i, name in enumerate(CURVES) if name.startswith("jaw") or name == "mouthClose"]
    assert values[:, speaking].max() < 0.05  # a jaw that nobody sees open


def test_closing_never_exceeds_opening(spoken):
    values = curves(spoken)
    assert (values[:, CURVES.index("mouthClose")] <= values[:, CURVES.index("jawOpen")] + 1e-6).all()


@pytest.mark.parametrize("name", [name for name in CURVES if name not in UNSEEN])
def test_each_shape_is_told_as_itself(name):
    """A face that shows one curve is not taken for another."""
    values = np.zeros((1, 52))
    values[0, CURVES.index(name)] = 0.8
    if name == "mouthClose":  # means nothing without an open jaw
        values[0, CURVES.index("jawOpen")] = 0.9
    found = curves(arkit.motion(values))[0]
    assert found[CURVES.index(name)] == pytest.approx(0.8, abs=0.12)


# -- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [tables.save_livelink, tables.save_audio2face])
def test_tables_come_back_the_same(tmp_path, save):
    head = np.stack([np.linspace(-20, 20, 60), np.linspace(10, -10, 60), np.linspace(0, 5, 60)], axis=1)
    motion = arkit.motion(curves(arkit.motion(weights(1))), head)
    again = tables.read_curves(save(motion, tmp_path / "curves.csv"))
    assert len(again) == len(motion)
    assert np.abs(again.exp - arkit.motion(curves(motion)).exp).max() < 1e-3
    if save is tables.save_livelink:
        assert np.allclose(again.yaw, motion.yaw, atol=1e-3) and np.allclose(
            again.pitch, motion.pitch, atol=1e-3
        )


def test_live_link_files_have_the_apps_columns(tmp_path, spoken):
    lines = tables.save_livelink(spoken, tmp_path / "a.csv").read_text().splitlines()
    header = lines[0].split(",")
    assert header[:3] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft"] and len(header) == 63
    assert lines[26].startswith("00:00:01:00.000,61,") and len(lines) == len(spoken) + 1


def test_an_iphones_recording_is_read_by_names(tmp_path):
    """60 a second, another order of columns, time codes that begin at noon, old names."""
    rows = ["Timecode,BlendShapeCount,JawOpen,eyeBlink_L,MouthSmileLeft,HeadPitch,HeadYaw,HeadRoll," + "".join(
        f"{name}," for name in ("BrowInnerUp", "MouthPucker", "MouthFunnel", "JawLeft", "EyeBlinkRight", "MouthLeft", "MouthRight")
    )[:-1]]  # fmt: skip
    for i in range(120):
        rows.append(f"12:00:{i // 60:02d}:{i % 60:02d}.000,61,{i / 120},1,0,0.1,0.2,0" + ",0" * 7)
    path = tmp_path / "iphone.csv"
    path.write_text("\n".join(rows) + "\n")
    motion = tables.read_curves(path)
    assert len(motion) == 51 and motion.fps == 25
    values = curves(motion)
    assert np.allclose(values[:, CURVES.index("eyeBlinkLeft")], 1, atol=0.02)
    assert values[25, CURVES.index("jawOpen")] == pytest.approx(0.5, abs=0.05)
    assert np.allclose(motion.yaw, np.degrees(0.2), atol=1e-3)


HEADER = "timeCode," + ",".join(name[0].upper() + name[1:] for name in CURVES)
ROW = ",0" * 52


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no file of face curves"),
        ("a,b,c\n1,2,3\n", "no file of face curves"),
        (HEADER.replace("timeCode", "when") + "\n0" + ROW + "\n", "no file of face curves"),
        (HEADER + "\n", "holds no frames"),
        (HEADER + "\n0" + ROW + ",1\n", "line 2: it has 54 fields"),
        (HEADER + "\n0" + ROW[:-1] + "x\n", "line 2"),
        (HEADER + "\n0" + ROW[:-1] + "nan\n", "line 2: it has a number that is not finite"),
        (HEADER + "\n0" + ROW + "\n0.1" + ROW[:-1] + "inf\n", "line 3: it has a number that is not finite"),
        (HEADER + "\n1" + ROW + "\n0" + ROW + "\n", "do not rise"),
        (HEADER + "\nnow" + ROW + "\n", "time codes cannot be read"),
        (HEADER + "\n00:00:00" + ROW + "\n", "time codes cannot be read"),
        (HEADER + "\n0" + ROW + "\n1e9" + ROW + "\n", "more than a day"),
        (b"\xff\xfe\x00\x01", "cannot be read"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(tmp_path, content, said):
    path = tmp_path / "curves.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModaError, match=said) as error:
        tables.read_curves(path)
    assert "\n" not in str(error.value)


# -- cues ----------------------------------------------------------------------------------------


def test_cues_rest_close_and_open(tmp_path):
    gap = np.concatenate([np.zeros(25), np.full(5, 0.2), np.zeros(2), np.full(5, 0.1), np.zeros(25)])
    values = np.zeros((len(gap), 52))
    values[:, CURVES.index("jawOpen")] = gap / 0.16
    found = cues.cues(arkit.motion(values))
    assert [shape for _, shape in found] == ["X", "D", "A", "C", "X"]
    assert [seconds for seconds, _ in found] == pytest.approx([0, 1.0, 1.2, 1.28, 1.48])
    tsv = cues.save_cues(arkit.motion(values), tmp_path / "a.tsv").read_text().splitlines()
    assert tsv[0] == "0.00\tX" and tsv[1] == "1.00\tD" and tsv[-1] == "2.48\tX"
    marks = json.loads(cues.save_cues(arkit.motion(values), tmp_path / "a.json").read_text())["mouthCues"]
    assert marks[1] == {"start": 1.0, "end": 1.2, "value": "D"} and marks[-1]["end"] == 2.48


# -- meshes --------------------------------------------------------------------------------------


def chunks(path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def accessor(document: dict, data: bytes, index: int) -> np.ndarray:
    found = document["accessors"][index]
    view = document["bufferViews"][found["bufferView"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[found["type"]]
    kind = {5126: np.float32, 5123: np.uint16}[found["componentType"]]
    array = np.frombuffer(data, kind, found["count"] * width, view["byteOffset"])
    return array.reshape(found["count"], width)


def test_glb_carries_the_face_the_curves_and_the_head(tmp_path, portrait, spoken):
    from moda.face import read_portrait

    document, data = chunks(gltf.save_glb(spoken, read_portrait(portrait), tmp_path / "a.glb"))
    mesh = document["meshes"][0]
    assert mesh["extras"]["targetNames"] == list(CURVES)
    primitive = mesh["primitives"][0]
    position = accessor(document, data, primitive["attributes"]["POSITION"])
    assert position.shape == (478, 3) and 0.1 < np.ptp(position[:, 1]) < 0.3  # a face's height, meters
    triangles = accessor(document, data, primitive["indices"]).reshape(-1, 3)
    a, b, c = (position[triangles[:, i]] for i in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).mean() > 0.97  # they face the camera
    uv = accessor(document, data, primitive["attributes"]["TEXCOORD_0"])
    assert uv.min() > 0 and uv.max() < 1
    animation = document["animations"][0]
    by_path = {c["target"]["path"]: animation["samplers"][c["sampler"]] for c in animation["channels"]}
    weights = accessor(document, data, by_path["weights"]["output"]).reshape(len(spoken), 52)
    assert np.allclose(weights, curves(spoken))
    # the mesh moves as the renderer's does for the same curves
    moved = np.stack([accessor(document, data, target["POSITION"]) for target in primitive["targets"]])
    shown = np.tensordot(weights[40], moved, 1) / gltf.EYE_DISTANCE * gltf.TURN
    assert np.allclose(shown, dense(arkit.motion(weights).exp[40]), atol=1e-4)


@given(st.floats(-80, 80), st.floats(-80, 80), st.floats(-80, 80))
def test_quaternions_turn_as_their_matrices(pitch, yaw, roll):
    matrix = rotation(np.array([pitch]), np.array([yaw]), np.array([roll]))
    x, y, z, w = gltf.quaternions(matrix)[0].astype(float)
    again = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    assert np.allclose(again, matrix[0], atol=1e-4)


def test_vrma_has_head_and_mouths_that_add_up_to_one_at_most(tmp_path, spoken):
    document, data = chunks(gltf.save_vrma(spoken, tmp_path / "a.vrma"))
    extension = document["extensions"]["VRMC_vrm_animation"]
    assert extension["specVersion"] == "1.0" and {"hips", "head"} <= set(extension["humanoid"]["humanBones"])
    presets = extension["expressions"]["preset"]
    assert set(presets) == {"aa", "ih", "ou", "ee", "oh", "blinkLeft", "blinkRight"}
    animation = document["animations"][0]
    outputs = {
        c["target"]["node"]: animation["samplers"][c["sampler"]]["output"] for c in animation["channels"]
    }
    weight = {name: accessor(document, data, outputs[p["node"]])[:, 0] for name, p in presets.items()}
    assert sum(weight[name] for name in ("aa", "ih", "ou", "ee", "oh")).max() <= 1 + 1e-5
    assert np.corrcoef(weight["aa"], spoken.space.lip_gap(spoken))[0, 1] > 0.7


# -- streams -------------------------------------------------------------------------------------


def test_a_frame_goes_out_as_one_bundle(spoken):
    pytest.importorskip("pythonosc")
    from pythonosc.osc_bundle import OscBundle

    from moda.interchange.vmc import Sender, play

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        play(spoken[:3], Sender(port=receiver.getsockname()[1]))
        bundles = [OscBundle(receiver.recv(65_536)) for _ in range(3)]
    messages = list(bundles[2])
    sent = {
        message.params[0]: message.params[1] for message in messages if message.address.endswith("Blend/Val")
    }
    assert sent["JawOpen"] == pytest.approx(curves(spoken)[2, CURVES.index("jawOpen")], abs=1e-6)
    assert {"A", "Blink_L"} <= set(sent) and len(sent) == 52 + 7
    head = next(message.params for message in messages if message.address == "/VMC/Ext/Bone/Pos")
    assert head[0] == "Head" and np.linalg.norm(head[4:]) == pytest.approx(1, abs=1e-5)


def test_other_spaces_have_no_curves():
    with pytest.raises(ModaError, match="explicit"):
        curves(Motion.still(3, "liveportrait"))


@pytest.mark.parametrize("value", [np.array(["1"] * 21 * 3).reshape(1, 21, 3), np.full((1, 21, 3), 1e30)])
def test_files_whose_numbers_are_no_faces_are_refused(tmp_path, value):
    still = Motion.still(1)
    arrays = {name: getattr(still, name) for name in ("scale", "t", "pitch", "yaw", "roll")}
    np.savez(tmp_path / "a.npz", exp=value, fps=25.0, space="explicit", **arrays)
    with pytest.raises(ModaError, match="its exp holds"):
        Motion.load(tmp_path / "a.npz")
