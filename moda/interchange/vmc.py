"""Virtual Motion Capture: a motion as OSC messages over UDP, to VSeeFace, VNyan, Warudo, Blender and others that listen.

A frame is one bundle: the 52 curves by ARKit's names (models with PerfectSync), VRM 0's mouths and blinks (all
others), the head's turn. Receivers ignore what they do not know. Source: protocol.vmc.info, "VMC Protocol".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moda.errors import ModaError
from moda.interchange.arkit import CURVES, curves
from moda.interchange.gltf import quaternions, vrm_presets
from moda.motion.explicit import rotation

if TYPE_CHECKING:
    from moda.motion import Motion

PORT = 39539
_PRESETS = {
    "aa": "A",
    "ih": "I",
    "ou": "U",
    "ee": "E",
    "oh": "O",
    "blinkLeft": "Blink_L",
    "blinkRight": "Blink_R",
}


class Sender:
    """Sends motion to a host and port, frame by frame as they come (a session's), or in time."""

    def __init__(self, host: str = "127.0.0.1", port: int = PORT) -> None:
        """Errors: ModaError without python-osc, or for an address that cannot be."""
        try:
            from pythonosc.udp_client import UDPClient
        except ImportError as error:
            raise ModaError(
                "curves are sent by python-osc: pip install 'moda-talkinghead[curves]'"
            ) from error
        try:
            self._client = UDPClient(host, port)
        except (OSError, OverflowError, UnicodeError) as error:  # UnicodeError: no host name
            raise ModaError(f"curves cannot be sent to {host}:{port}: {error}") from error

    def send(self, motion: Motion, seconds: float) -> None:
        """The motion's last frame. seconds: of the sender's clock."""
        from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
        from pythonosc.osc_message_builder import OscMessageBuilder

        bundle = OscBundleBuilder(IMMEDIATELY)

        def add(address: str, *values: object) -> None:
            message = OscMessageBuilder(address)
            for value in values:
                message.add_arg(float(value) if isinstance(value, (float, np.floating)) else value)
            bundle.add_content(message.build())

        motion = motion[len(motion) - 1 :]
        add("/VMC/Ext/OK", 1)
        add("/VMC/Ext/T", float(seconds))
        for name, weight in zip(CURVES, curves(motion)[0]):
            add("/VMC/Ext/Blend/Val", name[0].upper() + name[1:], float(weight))
        for name, values in vrm_presets(curves(motion)).items():
            add("/VMC/Ext/Blend/Val", _PRESETS[name], float(values[0]))
        add("/VMC/Ext/Blend/Apply")
        # Unity's axes are left-handed, y up: x is mirrored, so y and z of the turn change their sign.
        flip = np.array([1.0, -1.0, -1.0])
        turn = flip[:, None] * rotation(motion.pitch, motion.yaw, motion.roll) * flip
        x, y, z, w = (float(value) for value in quaternions(turn)[0])
        add("/VMC/Ext/Bone/Pos", "Head", 0.0, 0.0, 0.0, x, -y, -z, w)
        try:
            self._client.send(bundle.build())
        except OSError as error:
            raise ModaError(f"curves cannot be sent: {error}") from error


def play(
    motion: Motion,
    sender: Sender,
    progress: Callable[[float], None] | None = None,
    wait: Callable = time.sleep,
) -> None:
    """The whole motion in its own time."""
    began = time.monotonic()
    for index in range(len(motion)):
        due = index / motion.fps
        wait(max(0.0, began + due - time.monotonic()))
        sender.send(motion[index : index + 1], due)
        if progress:
            progress((index + 1) / len(motion))
