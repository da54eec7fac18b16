"""Where in a picture a person is: MediaPipe's selfie segmentation, whose weights lie in its wheel."""

from __future__ import annotations

import logging

import cv2
import numpy as np

from moda.face.mesh import solutions

log = logging.getLogger(__name__)

SIDE = 256  # pixels that the network looks at


def person_mask(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB, head and shoulders filling it, -> (H, W) float32, 0..1, how sure a pixel shows the person.

    It was made for photographs, serves most paintings too, and says anything of a statue: who uses it must look
    whether it fits the face. Where the network does not run, a warning is logged and nothing is the person's.
    """
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    try:
        with solutions().selfie_segmentation.SelfieSegmentation(model_selection=0) as network:
            mask = network.process(small).segmentation_mask
    except (
        RuntimeError
    ) as error:  # seen in processes where another library has changed how floats are computed
        log.warning("the person cannot be told from the background here (%s)", str(error).splitlines()[0])
        return np.zeros(image.shape[:2], np.float32)
    mask = cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.clip(mask, 0, 1).astype(np.float32)
