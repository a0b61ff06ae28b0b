"""Scores of n episodes, summed up."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Summary(NamedTuple):
    n: int
    mean: float
    sd: float  # sample standard deviation, n − 1
    low: float  # 95 % bootstrap interval of the mean
    high: float
    iqm: float  # interquartile mean: of the middle half
    iqm_low: float
    iqm_high: float

    def __str__(self) -> str:
        return f"{self.mean:.0f} ± {self.sd:.0f} (95 % of the mean {self.low:.0f} to {self.high:.0f}, n={self.n})"


def interquartile_mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half (Agarwal et al. 2021, arXiv 2108.13264)."""
    return stats.trim_mean(scores, 0.25, axis=axis)


def summarize(scores: Sequence[float], seed: int = 0) -> Summary:
    """Intervals by the bias-corrected bootstrap over episodes; a single score's, or equal ones', has no width."""
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        raise ValueError("no scores to sum up")

    def interval(statistic) -> tuple[float, float]:
        if np.ptp(values) == 0:
            return float(values[0]), float(values[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said of the case that the next lines handle
            found = stats.bootstrap((values,), statistic, rng=np.random.default_rng(seed)).confidence_interval
        if np.isnan([found.low, found.high]).any():  # BCa is undefined where leaving one out changes nothing
            found = stats.bootstrap(
                (values,), statistic, rng=np.random.default_rng(seed), method="percentile"
            ).confidence_interval
        return float(found.low), float(found.high)

    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Summary(
        len(values),
        float(values.mean()),
        sd,
        *interval(np.mean),
        float(interquartile_mean(values)),
        *interval(interquartile_mean),
    )


def ended_by(chances: Sequence[float]) -> np.ndarray:
    """The share of episodes that have ended after each step [T], by the chance of each to be the last of those that had
    not ended before (Kaplan and Meier 1958)."""
    return 1 - np.cumprod(1 - np.asarray(chances))


class Correlation(NamedTuple):
    value: float
    low: float  # 95 % bootstrap interval
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} (95 %: {self.low:.2f} to {self.high:.2f})"


def rank_correlation(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Correlation:
    """Spearman's ρ of [N] and [N], and the percentiles of 2,000 resamples of the pairs; 0 where one never varies."""

    def of(pairs: np.ndarray) -> float:
        ranks = stats.rankdata(pairs, axis=0)
        return float(np.corrcoef(ranks.T)[0, 1]) if np.ptp(ranks, axis=0).all() else 0.0

    pairs = np.stack([first, second], 1)
    random = np.random.default_rng(seed)
    drawn = [of(pairs[random.integers(len(pairs), size=len(pairs))]) for _ in range(2000)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Correlation(of(pairs), float(low), float(high))
