"""Where lips, eyes and irises lie in MediaPipe's 478 landmarks. "right" is the person's right, the picture's left."""

from __future__ import annotations

import numpy as np

# Lip contours from the person's right corner to the left one.
LIP_INNER_UPPER = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308])
LIP_INNER_LOWER = np.array([78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308])
LIP_OUTER_UPPER = np.array([61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291])
LIP_OUTER_LOWER = np.array([61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291])

# Between the contours, corner to corner, without the corners.
_UPPER_BETWEEN = [183, 42, 41, 38, 12, 268, 271, 272, 407, 184, 74, 73, 72, 11, 302, 303, 304, 408]
_LOWER_BETWEEN = [96, 89, 179, 86, 15, 316, 403, 319, 325, 77, 90, 180, 85, 16, 315, 404, 320, 307]
LIP_UPPER = np.concatenate([LIP_INNER_UPPER[1:-1], LIP_OUTER_UPPER[1:-1], _UPPER_BETWEEN])
LIP_LOWER = np.concatenate([LIP_INNER_LOWER[1:-1], LIP_OUTER_LOWER[1:-1], _LOWER_BETWEEN])

# Lid contours (upper, lower), each from the picture's left corner to the right one.
EYE_R = (
    np.array([33, 246, 161, 160, 159, 158, 157, 173, 133]),
    np.array([33, 7, 163, 144, 145, 153, 154, 155, 133]),
)
EYE_L = (
    np.array([362, 398, 384, 385, 386, 387, 388, 466, 263]),
    np.array([362, 382, 381, 380, 374, 373, 390, 249, 263]),
)
EYES = (EYE_R, EYE_L)
# The brows' lower edges, left to right.
BROWS = (np.array([46, 53, 52, 65, 55]), np.array([285, 295, 282, 283, 276]))
IRIS_RINGS = (np.array([469, 470, 471, 472]), np.array([474, 475, 476, 477]))  # about 468 and 473

FACE_OVAL = np.array(
    [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377]
    + [152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
)
