"""What an emotion does to the face: offsets of the named points, from the facial actions that go with it.

No recording here is labelled with emotions, so the embedded model learns them from these shapes, drawn by hand
after the action units that the Facial Action Coding System (Ekman & Friesen 1978) names for each emotion.
Units: eye distances, x to the picture's right, y down, z away; degrees.
"""

from __future__ import annotations

import numpy as np

from moda.constants import MOTION_DIM
from moda.errors import ModaError
from moda.motion.explicit import INDEX
from moda.validation import check_choice

_PITCH, _ROLL = 67, 69
_LOWER = ("lip_lower_outer", "lip_lower_inner", "lip_lower_inner_right", "lip_lower_inner_left")
_UPPER = ("lip_upper_outer", "lip_upper_inner", "lip_upper_inner_right", "lip_upper_inner_left")

# emotion -> {point, or both sides of it: (x outwards, y, z)}; both lips move alike, so a closed mouth stays closed
ACTIONS: dict[str, dict[str, tuple[float, float, float]]] = {
    "happiness": {  # cheeks raised, lip corners pulled
        "lip_corner": (0.06, -0.07, 0.03), "lid_lower": (0, -0.015, 0), "lid_upper": (0, 0.01, 0), "lips": (0, -0.01, 0.02),
    },
    "sadness": {  # inner brows raised, corners down
        "lip_corner": (-0.01, 0.055, 0), "brow_center": (0, -0.045, 0), "brow": (0, -0.01, 0), "lid_upper": (0, 0.03, 0),
    },
    "surprise": {  # brows and upper lids raised
        "brow": (0, -0.11, 0), "brow_center": (0, -0.09, 0), "lid_upper": (0, -0.035, 0), "jaw": (0, 0.04, 0),
    },
    "fear": {  # brows raised and drawn together, lids tight, lips stretched
        "brow": (-0.02, -0.06, 0), "brow_center": (0, -0.07, 0), "lid_upper": (0, -0.03, 0), "lid_lower": (0, -0.01, 0),
        "lip_corner": (0.035, 0.02, 0),
    },
    "anger": {  # brows lowered, lids tight, lips pressed
        "brow": (-0.025, 0.055, 0), "brow_center": (0, 0.055, 0), "lid_upper": (0, 0.012, 0), "lid_lower": (0, -0.015, 0),
        "lip_corner": (-0.015, 0.01, 0),
    },
    "disgust": {  # nose wrinkled, upper lip raised
        "brow": (0, 0.035, 0), "brow_center": (0, 0.045, 0), "lid_lower": (0, -0.025, 0), "lid_upper": (0, 0.02, 0),
        "nose": (0, -0.015, 0), "lips": (0, -0.02, 0), "lip_corner": (0.01, 0.02, 0),
    },
    "contempt": {  # one corner tightened and raised
        "lip_corner_left": (0.045, -0.05, 0.02), "lid_upper": (0, 0.018, 0), "brow_left": (0, -0.035, 0),
    },
    "neutral": {},
}  # fmt: skip
_POSE = {  # degrees of pitch and roll
    "sadness": (-4.0, 0.0), "surprise": (2.0, 0.0), "anger": (-3.0, 0.0), "contempt": (2.5, 3.0), "disgust": (1.5, 0.0),
}  # fmt: skip


def parse_emotion(text: str | None) -> tuple[str | None, float]:
    """ "happiness" or "happiness:0.6" -> name, intensity 0..1 (1 unless given). Errors: ModaError for another number."""
    if text is None:
        return None, 1.0
    name, colon, number = str(text).partition(":")
    try:
        intensity = float(number) if colon else 1.0
    except ValueError:
        intensity = -1.0
    if not 0 <= intensity <= 1:
        raise ModaError(f"emotion is {text!r}, but an intensity is a number from 0 to 1: happiness:0.6")
    return name, intensity


def offset(emotion: str) -> np.ndarray:
    """-> (70,) what the emotion adds to a frame of motion at full strength. Errors: ModaError that lists the names."""
    check_choice("emotion", emotion, tuple(ACTIONS))
    frame = np.zeros(MOTION_DIM, dtype=np.float32)
    exp = frame[:63].reshape(-1, 3)
    for name, (out, y, z) in ACTIONS[emotion].items():
        if name == "lips":
            for point in (*_UPPER, *_LOWER):
                exp[INDEX[point]] += (0, y, z)
        elif name in INDEX:
            exp[INDEX[name]] += (
                out if "left" in name else 0 if name in ("nose", "jaw", "brow_center") else -out,
                y,
                z,
            )
        else:
            exp[INDEX[f"{name}_right"]] += (-out, y, z)
            exp[INDEX[f"{name}_left"]] += (out, y, z)
    frame[_PITCH], frame[_ROLL] = _POSE.get(emotion, (0.0, 0.0))
    return frame
