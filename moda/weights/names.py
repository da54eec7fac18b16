"""The names of MoDA's published generator in our model: one renaming, nothing else."""

from __future__ import annotations

import re

# Entries of the published file that no computation uses.
DEAD = ("null_motion_feat", "scheduler.sigmas")


_RENAMED = [
    (r"null_audio_feat", "null_audio"),
    (r"emo_embedder\.embedding_table\.", "emotion_embedder."),
    (r"(motion|identity|time)_embedder\.mlp\.0\.", r"\1_embedder.fc1."),
    (r"(motion|identity|time)_embedder\.mlp\.2\.", r"\1_embedder.fc2."),
    (r"audio_embedder\.proj([123])\.", r"audio_embedder.fc\1."),
    (r"final_layer\.linear\.", "final."),
    (r"final_layer\.adaLN_modulation\.1\.", "final_modulation."),
    # single-stream blocks
    (r"blocks\.(\d+)\.adaLN_modulation_xs\.1\.", r"blocks1.\1.modulation."),
    (r"blocks\.(\d+)\.qkv_xs\.", r"blocks1.\1.qkv_mlp."),
    (r"blocks\.(\d+)\.linear2\.", r"blocks1.\1.out."),
    (r"blocks\.(\d+)\.attn1\.xs_([qk])_norm\.", r"blocks1.\1.norms.\2."),
    # joint blocks, stream 0 (motion)
    (r"blocks([42])\.(\d+)\.adaLN_modulation_xs\.1\.", r"blocks\1.\2.streams.0.modulation."),
    (r"blocks([42])\.(\d+)\.attn1\.qkv_xs\.", r"blocks\1.\2.streams.0.qkv."),
    (r"blocks([42])\.(\d+)\.attn1\.xs_([qk])_norm\.", r"blocks\1.\2.streams.0.norms.\3."),
    (r"blocks([42])\.(\d+)\.attn1\.xs_proj\.", r"blocks\1.\2.streams.0.out."),
    (r"blocks([42])\.(\d+)\.xs_mlp\.", r"blocks\1.\2.streams.0.mlp."),
    # joint blocks, the other streams: numbered 1..3 in the four-stream blocks, the only other one of two
    (
        r"blocks2\.(\d+)\.(adaLN_modulation_audio|attn1\.(?:qkv_au|au_[qk]_norm|au_proj)|audio_mlp)\.",
        r"blocks2.\1.\g<2>1.",
    ),
    (r"blocks([42])\.(\d+)\.adaLN_modulation_audio(\d)\.(?:1\.)", r"blocks\1.\2.streams.\3.modulation."),
    (r"blocks([42])\.(\d+)\.attn1\.qkv_au(\d)\.", r"blocks\1.\2.streams.\3.qkv."),
    (r"blocks([42])\.(\d+)\.attn1\.au_([qk])_norm(\d)\.", r"blocks\1.\2.streams.\4.norms.\3."),
    (r"blocks([42])\.(\d+)\.attn1\.au_proj(\d)\.", r"blocks\1.\2.streams.\3.out."),
    (r"blocks([42])\.(\d+)\.audio_mlp(\d)\.", r"blocks\1.\2.streams.\3.mlp."),
]
_RULES = [(re.compile(pattern), replacement) for pattern, replacement in _RENAMED]


def generator_name(published: str) -> str:
    """A published key, with or without its `talking_head_dit.`, -> ours; unknown keys stay as they are."""
    name = published.removeprefix("talking_head_dit.")
    for pattern, replacement in _RULES:
        name = pattern.sub(replacement, name) if pattern.match(name) else name
    return name


def published_generator(tensors: dict) -> dict:
    """The published state dict under our names, without its dead entries; strict loading does the rest."""
    renamed = {generator_name(key): tensor for key, tensor in tensors.items() if key not in DEAD}
    if "null_audio" in renamed:
        renamed["null_audio"] = renamed[
            "null_audio"
        ].flatten()  # (1, 1, 1, 1, width): the same for all layers
    return renamed
