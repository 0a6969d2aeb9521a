"""One picture of a film: the right one, small, whatever the film is."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from rollcam.encode.poster import MAX_SIDE, poster
from rollcam.errors import MediaError
from tests import barcode
from tests.envs import CountingEnv
from tests.films import film


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poster")
    film("RecordVideo", CountingEnv(length=40, fps=10), folder, n_episodes=1)
    return folder / "rl-video-episode-0.mp4"


def _read(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.parametrize(
    ("at_s", "index"), [(0.0, 0), (0.05, 0), (1.05, 10), (3.95, 39), (99.0, 40), (-1.0, 0)]
)
def test_the_frame_of_that_time(path: Path, at_s: float, index: int) -> None:
    assert barcode.read(_read(poster(path, at_s))) == index


def test_it_is_small(tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    with av.open(str(large), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 1280, 48, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.full((48, 1280, 3), 200, np.uint8))
        for packet in [*stream.encode(picture), *stream.encode(None)]:
            container.mux(packet)
    height, width, _ = _read(poster(large, 0.0)).shape
    assert (width, height) == (MAX_SIDE, 12)


@pytest.mark.parametrize("data", [b"", b"no film at all", b"\x00" * 5000])
def test_what_is_no_film(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "odd.mp4").write_bytes(data)
    with pytest.raises(MediaError):
        poster(tmp_path / "odd.mp4", 0.0)


def test_a_torn_film_still_has_one(path: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(path.read_bytes()[:-200])
    assert poster(torn, 1e9)[:2] == b"\xff\xd8"
