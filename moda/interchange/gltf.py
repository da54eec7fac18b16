"""glTF 2.0 files: a talking mesh of the portrait (.glb), and a face animation for any VRM model (.vrma).

Right-handed, y up, meters, the face towards +z: our axes turned half about x, an eye distance taken for 63 mm.
Source: Khronos, glTF 2.0 specification; VRM consortium, VRMC_vrm_animation 1.0.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import cv2
import numpy as np

from moda.face.source import Source
from moda.interchange.arkit import CURVES, curves, shapes
from moda.media.files import whole
from moda.motion import Motion
from moda.motion.explicit import NECK_PIVOT, SPACE, rotation
from moda.render.mesh.basis import basis
from moda.render.mesh.topology import LIP_INNER_LOWER, LIP_INNER_UPPER

EYE_DISTANCE = 0.063  # meters
TURN = np.array([1.0, -1.0, -1.0])  # half a turn about x
FLOAT, UINT16 = 5126, 5123
ARRAY_BUFFER, ELEMENT_BUFFER = 34962, 34963
TEXTURE = 1024  # pixels a side at most
MARGIN = 0.1  # of the face's box around it
MOUTH_DEPTH = 0.25  # eye distances behind the lips: the dark inside
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


class _Document:
    """A glTF document with one binary buffer, filled bit by bit."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.json: dict = {
            "asset": {"version": "2.0", "generator": "moda"},
            "scene": 0,
            "scenes": [{"nodes": []}],
            "nodes": [],
            "bufferViews": [],
            "accessors": [],
            "animations": [{"name": "speech", "channels": [], "samplers": []}],
        }

    def view(self, data: bytes, target: int | None = None) -> int:
        self.data += bytes(-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.json["bufferViews"].append(view | ({"target": target} if target else {}))
        self.data += data
        return len(self.json["bufferViews"]) - 1

    def accessor(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """(n,) or (n, 2..4) float32, or (n,) uint16."""
        kind = UINT16 if array.dtype == np.uint16 else FLOAT
        rows = array.reshape(len(array), -1)
        made = {
            "bufferView": self.view(np.ascontiguousarray(array).tobytes(), target),
            "componentType": kind,
            "count": len(rows),
            "type": KINDS[rows.shape[1]],
        }
        if bounds:
            made |= {"min": rows.min(axis=0).tolist(), "max": rows.max(axis=0).tolist()}
        self.json["accessors"].append(made)
        return len(self.json["accessors"]) - 1

    def node(self, parent: int | None = None, **fields: object) -> int:
        self.json["nodes"].append(fields)
        index = len(self.json["nodes"]) - 1
        if parent is None:
            self.json["scenes"][0]["nodes"].append(index)
        else:
            self.json["nodes"][parent].setdefault("children", []).append(index)
        return index

    def animate(self, node: int, path: str, times: int, values: np.ndarray) -> None:
        """values: (T, ...) float32, linear between the times of the accessor."""
        animation = self.json["animations"][0]
        flat = values.reshape(-1) if path == "weights" else values
        animation["samplers"].append(
            {"input": times, "output": self.accessor(flat), "interpolation": "LINEAR"}
        )
        animation["channels"].append(
            {"sampler": len(animation["samplers"]) - 1, "target": {"node": node, "path": path}}
        )

    def save(self, path: Path) -> Path:
        """As .glb: header, JSON chunk, binary chunk."""
        self.data += bytes(-len(self.data) % 4)
        self.json["buffers"] = [{"byteLength": len(self.data)}]
        text = json.dumps(self.json, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        with whole(path) as part, open(part, "wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(self.data)))
            file.write(struct.pack("<I4s", len(text), b"JSON") + text)
            file.write(struct.pack("<I4s", len(self.data), b"BIN\0") + self.data)
        return path


def save_glb(
    motion: Motion, source: Source, path: str | os.PathLike, values: np.ndarray | None = None
) -> Path:
    """The portrait's face as a textured mesh with 52 morph targets, moved by a motion.

    Nodes: "neck", which the head turns about, above "face" (the mesh; mesh.extras.targetNames has the curves' names) and
    "mouth" (the dark inside). The back of the head, hair and shoulders are not in it, sound neither.
    values: (T, 52) curves, if they are known better than from the motion's points.
    Errors: ModaError for a motion of another space, or no writing.
    """
    document = _Document()
    shape = source.neutral
    face = _triangles(shape)
    position = ((shape - NECK_PIVOT) * TURN * EYE_DISTANCE).astype(np.float32)
    texture, coordinates = _texture(source)
    morphs = np.tensordot(shapes().reshape(len(CURVES), -1), basis(), 1) * TURN * EYE_DISTANCE
    attributes = {
        "POSITION": document.accessor(position, ARRAY_BUFFER, bounds=True),
        "NORMAL": document.accessor(_normals(position, face), ARRAY_BUFFER),
        "TEXCOORD_0": document.accessor(coordinates, ARRAY_BUFFER),
    }
    targets = [
        {"POSITION": document.accessor(morph.astype(np.float32), ARRAY_BUFFER, bounds=True)}
        for morph in morphs
    ]
    indices = document.accessor(face.astype(np.uint16).reshape(-1), ELEMENT_BUFFER)
    inside, inner = _inside(shape)
    dark = {
        "POSITION": document.accessor(inside, ARRAY_BUFFER, bounds=True),
        "NORMAL": document.accessor(np.tile(np.array([0, 0, 1], np.float32), (len(inside), 1)), ARRAY_BUFFER),
    }
    document.json |= {
        "images": [{"bufferView": document.view(texture), "mimeType": "image/jpeg"}],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
        "textures": [{"source": 0, "sampler": 0}],
        # The picture has its own light in it: it is shown as it is.
        "extensionsUsed": ["KHR_materials_unlit"],
        "materials": [
            {
                "name": "portrait",
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0},
                "extensions": {"KHR_materials_unlit": {}},
                "doubleSided": True,
            },
            {
                "name": "mouth",
                "pbrMetallicRoughness": {"baseColorFactor": [0.05, 0.012, 0.012, 1], "metallicFactor": 0},
                "extensions": {"KHR_materials_unlit": {}},
                "doubleSided": True,
            },
        ],
        "meshes": [
            {
                "name": "face",
                "primitives": [
                    {"attributes": attributes, "indices": indices, "material": 0, "targets": targets}
                ],
                "weights": [0.0] * len(CURVES),
                "extras": {"targetNames": list(CURVES)},
            },
            {
                "name": "mouth",
                "primitives": [
                    {
                        "attributes": dark,
                        "indices": document.accessor(inner.astype(np.uint16).reshape(-1), ELEMENT_BUFFER),
                        "material": 1,
                    }
                ],
            },
        ],
    }
    neck = document.node(name="neck")
    speaking = document.node(neck, name="face", mesh=0)
    document.node(neck, name="mouth", mesh=1)
    times = document.accessor(_times(motion), bounds=True)
    document.animate(speaking, "weights", times, curves(motion) if values is None else values)
    document.animate(neck, "rotation", times, _turns(motion))
    document.animate(neck, "translation", times, (motion.t * TURN * EYE_DISTANCE).astype(np.float32))
    return document.save(Path(path))


def save_vrma(motion: Motion, path: str | os.PathLike, values: np.ndarray | None = None) -> Path:
    """The motion for any VRM model: head, blinks and the five mouths of VRM's presets. Gaze is not in it.

    Arguments and errors: as `save_glb`.
    """
    document = _Document()
    times = document.accessor(_times(motion), bounds=True)
    hips = document.node(name="hips", translation=[0.0, 1.0, 0.0])
    spine = document.node(hips, name="spine", translation=[0.0, 0.2, 0.0])
    head = document.node(spine, name="head", translation=[0.0, 0.4, 0.0])
    document.animate(head, "rotation", times, _turns(motion))
    presets = {}
    for name, weight in vrm_presets(curves(motion) if values is None else values).items():
        presets[name] = {"node": document.node(name=name, translation=[0.0, 0.0, 0.0])}
        along = np.zeros((len(motion), 3), np.float32)
        along[:, 0] = weight
        document.animate(presets[name]["node"], "translation", times, along)
    bones = {"hips": {"node": hips}, "spine": {"node": spine}, "head": {"node": head}}
    document.json["extensionsUsed"] = ["VRMC_vrm_animation"]
    document.json["extensions"] = {
        "VRMC_vrm_animation": {
            "specVersion": "1.0",
            "humanoid": {"humanBones": bones},
            "expressions": {"preset": presets},
        }
    }
    return document.save(Path(path))


def vrm_presets(shown: np.ndarray) -> dict[str, np.ndarray]:
    """VRM 1.0's aa, ih, ou, ee, oh (together at most 1) and blinks, (T,) each, of (T, 52) curves."""
    values = dict(zip(CURVES, shown.T))
    opened = np.clip(values["jawOpen"] - values["mouthClose"], 0, 1)
    wide = (values["mouthStretchLeft"] + values["mouthStretchRight"]) / 2
    wide = wide + (values["mouthSmileLeft"] + values["mouthSmileRight"]) / 2
    mouths = {
        "aa": opened * (1 - np.clip(values["mouthPucker"] + values["mouthFunnel"], 0, 1)),
        "ih": wide * np.clip(1 - opened, 0, 1) * 0.5,
        "ou": values["mouthPucker"] * np.clip(1 - 0.5 * opened, 0, 1),
        "ee": wide * np.clip(1 - opened, 0, 1) * 0.5,
        "oh": values["mouthFunnel"],
    }
    total = np.maximum(1, sum(mouths.values()))
    mouths = {name: (value / total).astype(np.float32) for name, value in mouths.items()}
    return mouths | {f"blink{side}": values[f"eyeBlink{side}"] for side in ("Left", "Right")}


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """(T, 3, 3) -> (T, 4) x y z w, neighbors on the same side of the sphere."""
    found = np.empty((len(matrices), 4))
    for i, m in enumerate(matrices.astype(np.float64)):
        # of the symmetric matrix whose largest eigenvector is the quaternion (Bar-Itzhack 2000): no case is special
        k = np.array(
            [
                [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
                [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
                [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
                [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
            ]
        )
        q = np.linalg.eigh(k)[1][:, -1]
        before = found[i - 1] if i else np.array([0, 0, 0, 1.0])
        found[i] = q if q @ before >= 0 else -q
    return found.astype(np.float32)


def _turns(motion: Motion) -> np.ndarray:
    motion.require(SPACE, "a mesh's animation")
    return quaternions(TURN[:, None] * rotation(motion.pitch, motion.yaw, motion.roll) * TURN)


def _times(motion: Motion) -> np.ndarray:
    return (np.arange(len(motion)) / motion.fps).astype(np.float32)


def _triangles(shape: np.ndarray) -> np.ndarray:
    """(n, 3) of the face seen from the front, without the opening between the lips."""
    flat = shape[:, :2] - shape[:, :2].min(axis=0) + 1
    size = flat.max(axis=0) + 1
    division = cv2.Subdiv2D((0, 0, int(np.ceil(size[0])), int(np.ceil(size[1]))))
    places: dict[tuple[float, float], int] = {}
    for i, point in enumerate(flat.astype(np.float32)):
        division.insert((float(point[0]), float(point[1])))
        places[(float(point[0]), float(point[1]))] = i
    opening = {*LIP_INNER_UPPER.tolist(), *LIP_INNER_LOWER.tolist()}
    found = []
    for x1, y1, x2, y2, x3, y3 in np.asarray(division.getTriangleList(), np.float64):
        corners = [places.get(corner) for corner in ((x1, y1), (x2, y2), (x3, y3))]
        known = [corner for corner in corners if corner is not None]
        if len(known) < 3 or opening.issuperset(known):
            continue
        a, b, c = known
        normal = np.cross(flat[b] - flat[a], flat[c] - flat[a])
        if abs(normal) < 1e-9:
            continue
        found.append((a, b, c) if normal < 0 else (a, c, b))  # y turns over: counterclockwise from the front
    return np.array(found)


def _normals(position: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    normals = np.zeros_like(position)
    a, b, c = (position[triangles[:, i]] for i in range(3))
    for i in range(3):
        np.add.at(normals, triangles[:, i], np.cross(b - a, c - a))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-12, normals / np.maximum(length, 1e-12), (0, 0, 1)).astype(np.float32)


def _inside(shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A dark fan behind the lips, larger than they open -> positions, triangles."""
    ring = np.concatenate([LIP_INNER_UPPER, LIP_INNER_LOWER[-2:0:-1]])
    points = shape[ring].copy()
    middle = points.mean(axis=0)
    points = middle + (points - middle) * (0.9, 1.0, 1.0)
    lower = np.isin(ring, LIP_INNER_LOWER[1:-1])
    points[lower, 1] += 0.3
    points[~lower, 1] -= 0.12
    points = np.concatenate([points, [middle + (0, 0.1, 0)]])
    points[:, 2] = shape[ring, 2].max() + MOUTH_DEPTH * 0.2
    points[-1, 2] += MOUTH_DEPTH
    count = len(ring)
    fan = np.array([(i, (i + 1) % count, count) for i in range(count)])
    return ((points - NECK_PIVOT) * TURN * EYE_DISTANCE).astype(np.float32), fan


def _texture(source: Source) -> tuple[bytes, np.ndarray]:
    """-> JPEG of the face's box, (478, 2) texture coordinates."""
    points = source.landmarks[:, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    scale = min(1.0, TEXTURE / float((high - low).max()))
    size = np.maximum(np.round((high - low) * scale).astype(int), 2)
    matrix = np.array([[scale, 0, -low[0] * scale], [0, scale, -low[1] * scale]])
    image = cv2.warpAffine(
        source.image, matrix, tuple(size.tolist()), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    return encoded.tobytes(), (((points - low) * scale + 0.5) / size).astype(np.float32)
