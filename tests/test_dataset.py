"""`moda data prepare` on a short filmed clip: what comes out is in time and named; a second run does nothing."""

import shutil

import numpy as np
import pytest

from moda import ModaError
from moda.training.dataset import items, prepare


@pytest.mark.slow
def test_a_video_becomes_a_clip_once(shared, tmp_path):
    video = tmp_path / "videos" / "one.mp4"
    video.parent.mkdir()
    shutil.copy(shared / "data/video/train/grid_bbaf2n.mp4", video)
    found = prepare([video.parent], tmp_path / "set", people={"one.mp4": "Ann"})
    assert [f.person for f in found if f.clip] == ["Ann"]
    (item,) = items([tmp_path / "set"])
    assert item.motion.shape[1] == 70 and abs(len(item.wave) / 640 - len(item.motion)) <= 2
    assert np.isfinite(item.motion).all() and item.person == "Ann" and abs(item.lag) <= 6
    stamp = item.path.stat().st_mtime_ns
    assert prepare([video.parent], tmp_path / "set") == found and item.path.stat().st_mtime_ns == stamp


def test_no_videos_are_an_error(tmp_path):
    with pytest.raises(ModaError, match="no video"):
        prepare([tmp_path], tmp_path / "set")
