"""Rates and sizes that every room agrees on; everything else is derived from them."""

FPS = 25  # frames of motion and video a second
SAMPLE_RATE = 16_000  # samples of audio a second
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS  # 640
KEYPOINTS = 21  # K, points whose offsets are the expression
MOTION_DIM = KEYPOINTS * 3 + 7  # 70: expression, scale, translation, pitch, yaw, roll
LANDMARKS = 478  # MediaPipe's face mesh with irises
DEFAULT_SIZE = 512  # pixels, the side of the square video
