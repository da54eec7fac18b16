"""Sample motion from an exported model without torch: numpy and onnxruntime.

    moda export-model embedded -o exported
    python examples/onnx_sample.py exported features.npy motion.npy

features.npy: (frames, layers, width) float32, what the model's encoder gives, 25 a second. motion.npy: (frames, dim), in
the model's units; they are made a Motion's by the mean and std in config.json. One segment after the other, the last
overlapping frames of each blended into the next, as moda.generator.offline does it.
"""

import json
import sys

import numpy as np
import onnxruntime


def sample(session, config, features, previous, rng, steps):
    """One segment: (N, layers, width) and the frame before it (dim,) -> (N, dim), normalized."""
    x = rng.standard_normal((1, len(features), config["motion_dim"])).astype(np.float32)
    times = np.linspace(1000, 1, steps)
    for i, time in enumerate(times):
        inputs = {
            "motion": np.concatenate([np.broadcast_to(previous, x.shape), x], axis=-1).astype(np.float32),
            "time": np.array([time], np.float32),
            "audio": features[None].astype(np.float32),
            "emotion": np.array([len(config["emotions"])]),
            "identity": np.zeros((1, config["identity_dim"]), np.float32),
        }
        (velocity,) = session.run(None, inputs)
        end = times[i + 1] / 1000 if i + 1 < steps else 0.0
        x = x + velocity * np.float32(end - time / 1000)
    return x[0]


def main(folder, features_path, motion_path):
    part = json.load(open(f"{folder}/config.json"))["generator"]
    config = part["config"]
    session = onnxruntime.InferenceSession(f"{folder}/velocity.onnx", providers=["CPUExecutionProvider"])
    features = np.load(features_path)
    rng = np.random.default_rng(0)
    size, overlap = config["segment"], config["overlap"]
    made = np.zeros((0, config["motion_dim"]), np.float32)
    previous = np.zeros(config["motion_dim"], np.float32)
    for start in range(0, max(1, len(features) - overlap), size - overlap):
        piece = features[start : start + size]
        piece = np.concatenate([piece, np.repeat(piece[-1:], size - len(piece), axis=0)])
        segment = sample(session, config, piece, previous, rng, config["steps"])
        if len(made):
            part_new = np.linspace(0, 1, overlap, dtype=np.float32)[:, None]
            made[-overlap:] += part_new * (segment[:overlap] - made[-overlap:])
            segment = segment[overlap:]
        made = np.concatenate([made, segment])
        previous = made[-overlap - 1]
    np.save(motion_path, made[: len(features)] * np.array(part["std"]) + np.array(part["mean"]))


if __name__ == "__main__":
    main(*sys.argv[1:4])
