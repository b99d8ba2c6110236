"""Figures.  matplotlib is imported when a figure is drawn, and not before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.types import AnnealedDensity, Sigma


def samples(
    x: Float[Array, "b 2"],
    density: AnnealedDensity | None = None,
    sigma: Sigma = 0.0,
    ax: Any = None,
) -> Any:
    """Points in the plane, over the contours of an annealed density.

    Args:
        x: `[b, 2]`.
        density: What the points were to follow; no contours if None.
        sigma: The noise level of the contours.
        ax: Axes to draw on; a new figure's if None.

    Returns:
        The axes.

    Example:
        >>> from compjax.densities import Gaussian
        >>> import matplotlib; matplotlib.use("Agg")
        >>> p = Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> samples(jnp.ones((3, 2)), p).get_xlabel()
        '$x_1$'
    """
    from matplotlib import pyplot as plt

    ax = (
        plt.figure(figsize=(4, 4), layout="constrained").subplots()
        if ax is None
        else ax
    )
    ax.plot(*np.asarray(x).T, ".", ms=2, alpha=0.4, color="tab:blue")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    if density is not None:
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        axes = np.linspace(left, right, 80), np.linspace(low, high, 80)
        grid = np.stack(np.meshgrid(*axes), axis=-1, dtype=np.float32)
        logs = density.log_density(jnp.asarray(grid.reshape(-1, 2)), sigma)
        values = np.exp(np.asarray(logs - logs.max())).reshape(80, 80)
        ax.contour(
            *axes, values, levels=[0.05, 0.2, 0.5, 0.8], colors="k", linewidths=0.8
        )
    return ax


COLORS = ("tab:green", "tab:red", "tab:orange", "tab:purple")
LINES = ("o-", "s--", "^-.", "D:")


def length_generalisation(
    rows: Sequence[Mapping[str, Any]],
    images: Mapping[str, Any],
    example: int = 0,
    title: str = "Asked for in the circles; training saw at most one object",
) -> Any:
    """Samples by setting and number of requests, beside the corrected rate of hits.

    Args:
        rows: Of `analysis.tally`, with `setting` and `k`.
        images: `"setting/k"` and `"true renders/k"`, `[n, h, w, 3]` bytes, and
            `"requests"`, `[n, K, 2]` pixels.
        example: Which of the n to show.
        title: Above the images.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If there are more settings than colours.

    Example:
        >>> import matplotlib; matplotlib.use("Agg")
        >>> row = {"setting": "A", "k": 1, "corrected": 1.0, "hit": 1.0, "ceiling": 1.0}
        >>> row |= {"hit_low": 1.0, "hit_high": 1.0, "chance": 0.0}
        >>> blank = np.zeros((1, 8, 8, 3), np.uint8)
        >>> images = {"A/1": blank, "true renders/1": blank}
        >>> images["requests"] = np.ones((1, 1, 2))
        >>> figure = length_generalisation([row], images)
        >>> len(figure.axes)
        3
    """
    from matplotlib import pyplot as plt

    settings = list(dict.fromkeys(row["setting"] for row in rows))
    if len(settings) > len(COLORS):
        raise ValueError(
            f"At most {len(COLORS)} settings can be shown, got {settings}."
        )
    ks = sorted({row["k"] for row in rows})
    figure = plt.figure(figsize=(12.5, 5.6), dpi=150, layout="constrained")
    parts = figure.subfigures(1, 2, squeeze=False, width_ratios=[len(ks) + 0.9, 4.2])
    left, right = parts[0]
    names = ["true renders", *settings]
    grid = left.subplots(len(names), len(ks), squeeze=False)
    for name, line in zip(names, grid, strict=True):
        for k, ax in zip(ks, line, strict=True):
            xy = np.asarray(images["requests"])[example, :k]
            requested(ax, images[f"{name}/{k}"][example], xy)
            if name == names[0]:
                ax.set_title(f"k = {k}", fontsize=11)
        color = "black" if name == names[0] else COLORS[names.index(name) - 1]
        line[0].set_ylabel(
            name.replace(" background", "\nbackground").replace(": ", ":\n"),
            rotation=0,
            ha="right",
            va="center",
            fontsize=10,
            color=color,
        )
    left.suptitle(title)

    ax = right.subplots()
    for setting, color, style in zip(settings, COLORS, LINES, strict=False):
        mine = [row for row in rows if row["setting"] == setting]
        rates = np.array([row["corrected"] for row in mine], float)  # None: nan
        hits = np.array([[row["hit"], row["hit_low"], row["hit_high"]] for row in mine])
        span = np.array([row["ceiling"] - row["chance"] for row in mine])
        errors = np.abs(hits[:, 1:] - hits[:, :1]).T / span
        x = [row["k"] for row in mine]
        ax.errorbar(x, rates, errors, fmt=style, color=color, label=setting, capsize=2)
    ax.set(
        xlabel="requested objects k",
        ylabel="requests met: (hits - chance) / (ceiling - chance)",
        xticks=ks,
        ylim=(-0.15, 1.05),
    )
    ax.axhline(0, color="grey", lw=0.8)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=9, loc="center right", bbox_to_anchor=(1.0, 0.62))
    return figure


def locality(reports: Mapping[str, Any], radius: float = 0.0) -> Any:
    """How local scores are against sigma: shares beyond a radius, of s and of D.

    Draw a model beside densities whose locality is known: noise alone makes every score
    look more local, and every denoiser less.

    Args:
        reports: `{name: analysis.Locality}`.
        radius: In the units of their distances; 0 for all that is outside of a tile.

    Returns:
        The matplotlib figure.

    Example:
        >>> import matplotlib; matplotlib.use("Agg")
        >>> from compjax.analysis import Locality, Views
        >>> mass = np.ones((2, 3, 4))
        >>> mass = Views(mass, mass, mass)
        >>> report = Locality(np.array([0.1, 1.0]), np.arange(4.0), mass)
        >>> len(locality({"a model": report}).axes)
        2
    """
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(9, 3.4), dpi=150, layout="constrained")
    titles = {"score": "of the score s", "denoiser": "of the denoiser D"}
    for ax, (view, title) in zip(
        figure.subplots(1, 2, sharey=True), titles.items(), strict=True
    ):
        for name, report in reports.items():
            share = getattr(report.beyond(radius), view)
            ax.errorbar(report.sigmas, share.mean, share.error, capsize=2, label=name)
        ax.set(xscale="log", xlabel=r"noise level $\sigma$", ylim=(-0.03, 1.03))
        ax.set_title(f"squared derivatives {title}", fontsize=10)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"share from beyond {radius:g}")
    figure.axes[0].legend(fontsize=8)
    return figure


def requested(ax: Any, image: np.ndarray, xy: Float[np.ndarray, "k 2"]) -> None:
    """An image, with a circle around every place where an object was asked for.

    Args:
        ax: Axes to draw on.
        image: `[h, w, 3]`, floats in [0, 1] or bytes.
        xy: `[k, 2]`, in pixels from the image's corner.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = Figure().subplots()
        >>> requested(ax, np.zeros((8, 8, 3)), np.array([[2.0, 3.0], [6.0, 5.0]]))
        >>> len(ax.patches)
        2
    """
    from matplotlib.patches import Circle

    ax.imshow(image, interpolation="bicubic")
    radius = 0.12 * image.shape[1]  # that of a large object, and a little more
    for center in xy - 0.5:  # imshow counts pixels from the centre of the first
        ax.add_patch(
            Circle(tuple(center), radius, fill=False, color="white", lw=0.6, alpha=0.8)
        )
    ax.set(xticks=[], yticks=[])


def image_rows(rows: Mapping[str, np.ndarray], title: str = "") -> Any:
    """Images in labelled rows, as many to a row as there are.

    Args:
        rows: `{label: images [n, h, w, 3]}`, floats in [0, 1] or bytes, n the same.
        title: Above the figure.

    Returns:
        The figure.

    Example:
        >>> import matplotlib; matplotlib.use("Agg")
        >>> two = np.zeros((2, 4, 4, 3))
        >>> len(image_rows({"examples": two, "samples": two}).axes)
        4
    """
    from matplotlib.figure import Figure

    count = max(len(images) for images in rows.values())
    size = (0.9 * count + 0.9, 0.95 * len(rows) + 0.4)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(len(rows), count, squeeze=False)
    for (label, images), line in zip(rows.items(), grid, strict=True):
        for image, ax in zip(images, line, strict=True):
            ax.imshow(image, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.suptitle(title)
    return figure
