import cv2
import numpy as np
import pytest
from scipy import stats

from worldmodels.evaluation.pictures import grid, write_png, write_webm, write_webp
from worldmodels.evaluation.statistics import ended_by, interquartile_mean, rank_correlation, summarize


def test_summary_by_hand():
    summary = summarize([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 100.0])
    assert (summary.n, summary.mean) == (8, 16.0)
    assert summary.sd == pytest.approx(np.sqrt((15**2 + 14**2 + 13**2 + 12**2 + 11**2 + 10**2 + 9**2 + 84**2) / 7))
    assert summary.iqm == 4.5, "of 3, 4, 5 and 6"
    assert summary.low < 16 < summary.high and summary.iqm_low < 4.5 < summary.iqm_high


def test_the_interval_covers_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        summary = summarize(random.normal(3, 2, 40))
        inside += summary.low <= 3 <= summary.high
    assert stats.binomtest(inside, 200, 0.95).pvalue > 0.01


def test_few_or_equal_scores():
    assert summarize([7.0])[:5] == (1, 7.0, 0.0, 7.0, 7.0)
    assert summarize([5.0] * 4)[2:5] == (0.0, 5.0, 5.0)
    assert np.isfinite(summarize([1.0, 2.0])).all()
    with pytest.raises(ValueError, match="no scores"):
        summarize([])


def test_interquartile_mean_along_an_axis():
    assert interquartile_mean(np.array([[0.0, 1, 2, 9], [4, 4, 4, 4]])).tolist() == [1.5, 4]


def test_rank_correlation_by_hand_and_by_scipy():
    """Ranks 1 2 3 4 against 1 3 2 4: ρ = 1 − 6 · 2 / (4 · 15) = 0.8."""
    found = rank_correlation(np.array([1.0, 2.0, 30.0, 400.0]), np.array([0.1, 0.3, 0.2, 9.0]))
    assert found.value == pytest.approx(0.8) and found.low < 0.8 <= found.high
    random = np.random.default_rng(0)
    first, second = random.integers(0, 5, 30).astype(float), random.normal(size=30)  # with ties
    assert rank_correlation(first, second).value == pytest.approx(stats.spearmanr(first, second).statistic)
    assert rank_correlation(np.ones(5), np.arange(5.0)) == (0, 0, 0)


def test_a_film_that_can_be_read_again(tmp_path):
    frames = [np.full((63, 101, 3), (250, 10, value), np.uint8) for value in (0, 60, 120, 180, 240)]
    path = tmp_path / "film.webm"
    write_webm(path, frames, fps=10)
    assert path.read_bytes()[:4] == b"\x1a\x45\xdf\xa3", "a Matroska container"
    film = cv2.VideoCapture(str(path))
    assert film.get(cv2.CAP_PROP_FPS) == 10
    for wanted in frames:
        there, frame = film.read()
        assert there and frame.shape == (64, 102, 3)
        blue, green, red = frame[:63, :101].reshape(-1, 3).mean(0)
        assert abs(red - 250) < 12 and abs(green - 10) < 12 and abs(blue - wanted[0, 0, 2]) < 12
    assert not film.read()[0]


def test_an_animated_picture_that_can_be_read_again(tmp_path):
    frames = [np.full((63, 101, 3), (250, 10, value), np.uint8) for value in (0, 60, 120, 180, 240)]
    path = tmp_path / "clip.webp"
    write_webp(path, frames, fps=12.5)
    assert path.read_bytes()[8:16] == b"WEBPVP8X"
    there, animation = cv2.imreadanimation(str(path))
    assert there and list(animation.durations) == [80] * 5 and animation.loop_count == 0, "0: for ever"
    for wanted, frame in zip(frames, animation.frames, strict=True):
        assert frame.shape[:2] == (63, 101)
        blue, green, red = frame[..., :3].reshape(-1, 3).mean(0)
        assert abs(red - 250) < 12 and abs(green - 10) < 12 and abs(blue - wanted[0, 0, 2]) < 12


def test_a_grid_keeps_the_frames_and_their_order(tmp_path):
    frames = [np.full((4, 4, 3), value, np.uint8) for value in (10, 20)]
    picture = grid([("a", frames), ("b", frames[::-1])], factor=3)
    write_png(tmp_path / "grid.png", picture)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "grid.png")), cv2.COLOR_BGR2RGB)
    assert np.array_equal(read, picture)
    rows = [
        row for row in range(len(picture)) if (picture[row, :12] == picture[row, 0]).all() and picture[row, 0, 0] < 30
    ]
    assert len(rows) == 24, "two rows of frames, enlarged three times"
    assert (picture[rows[0], 0] == 10).all() and (picture[rows[0], -1] == 20).all()
    assert (picture[rows[-1], 0] == 20).all() and (picture[rows[-1], -1] == 10).all()


def test_a_share_that_has_ended():
    """A chance of ½ each step: ½, ¾ and ⅞ have ended."""
    assert ended_by([0.5] * 3).tolist() == [0.5, 0.75, 0.875]
