"""What the experiment on colours looks like: two figures and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from compjax import scenes
from experiments.local.color_rows import COMPATIBLE, OTHERS

NAMES = {"colors": "labels: colours", "places": "labels: places"}
STYLES = {"colors": ("o-", "tab:red"), "places": ("s-", "tab:green")}
NULLS = {
    "uniform": ("equal in all pixels", "--"),
    "mean_image": ("as in mean images", ":"),
}
SURFACES = {  # dots in the colours of the objects, a little darker to be seen
    "gray": "#575757",
    "red": "#ad2323",
    "blue": "#2a4bd7",
    "green": "#1d6914",
    "brown": "#814a19",
    "purple": "#8126c0",
    "cyan": "#1fb5b5",
    "yellow": "#e0c800",
}
SHOWN = 5
"""How many noise levels have a map."""

Rows = Sequence[Mapping[str, Any]]


def all_of(
    config: ConfigDict,
    numbers: Mapping[str, Any],
    drawn: Mapping[str, np.ndarray],
    measured: Mapping[str, Sequence[Any]],
) -> dict[str, Figure]:
    """Every figure of the experiment, by its name.

    Args:
        config: Of the experiment.
        numbers: As in `results.json`.
        drawn: The clean scenes.
        measured: The arrays of every model and training seed.
    """
    return {
        "colors_pixels": pixels(config, numbers, drawn, measured),
        "colors_features": features(config, numbers),
    }


def pixels(
    config: ConfigDict,
    numbers: Mapping[str, Any],
    drawn: Mapping[str, np.ndarray],
    measured: Mapping[str, Sequence[Any]],
) -> Figure:
    """Where labels act: maps of one scene, the curve against sigma; and requests."""
    figure = Figure(figsize=(11.5, 3.0 + 1.9 * len(measured)), dpi=140)
    figure.set_layout_engine("constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.9 * len(measured), 3.3])
    maps_of_changes(top, config, drawn, measured)
    left, right = bottom.subplots(1, 2)
    spread(left, numbers["locality"])
    lengths(right, numbers["requests"])
    return figure


def maps_of_changes(
    figure: Any,
    config: ConfigDict,
    drawn: Mapping[str, np.ndarray],
    measured: Mapping[str, Sequence[Any]],
) -> None:
    """The first scene, its first object circled, and where its label acts."""
    sigmas = config.locality.sigmas
    levels = np.unique(np.linspace(0, len(sigmas) - 1, SHOWN).round().astype(int))
    grid = figure.subplots(len(measured), len(levels) + 1, squeeze=False)
    mask = drawn["pair_distance"][0, ..., 0] == 0
    scale = np.abs(drawn["pair_x0"]).max()
    for (name, parts), line in zip(measured.items(), grid, strict=True):
        line[0].imshow(drawn["pair_x0"][0] / (2 * scale) + 0.5)
        line[0].set_ylabel(NAMES[name])
        for ax, i in zip(line[1:], levels, strict=True):
            share = parts[0]["locality"]["maps"][i]
            share = 100 * share / max(share.sum(), 1e-30)
            image = ax.imshow(share, norm=LogNorm(0.01, 10), cmap="magma")
        for ax in line:
            ax.contour(mask, [0.5], colors="cyan", linewidths=0.8)
            ax.set(xticks=[], yticks=[])
    grid[0][0].set_title("scene less background", fontsize=9)
    for ax, i in zip(grid[0][1:], levels, strict=True):
        ax.set_title(rf"$\sigma$ = {sigmas[i]:g}", fontsize=9)
    figure.colorbar(image, ax=grid, label="% of the change,\nsquared, in a pixel")
    figure.suptitle(
        "What taking the label of one object (outlined) away changes, one scene",
        fontsize=10,
    )


def spread(ax: Any, found: Mapping[str, Any]) -> None:
    """The share of the change that is not at the object, against sigma."""
    for name in dict.fromkeys(row["model"] for row in found["rows"]):
        mine = [row for row in found["rows"] if row["model"] == name]
        style, color = STYLES[name]
        sigma, mean, error = np.array(
            [[row["sigma"], row["beyond"], row["error"]] for row in mine], float
        ).T
        ax.errorbar(
            sigma,
            mean,
            error,
            fmt=style,
            color=color,
            ms=4,
            capsize=2,
            label=NAMES[name],
        )
    for name, (label, line) in NULLS.items():
        value = found["nulls"][name]["beyond"]
        ax.axhline(value, color="black", ls=line, lw=1, label=f"null: {label}")
    ax.set(
        xscale="log",
        ylim=(0, 1),
        xlabel=r"noise level $\sigma$ (data: an object is about 0.5 from its ground)",
        ylabel=f"share of the squared change further\nthan {found['margin']:g} pixels "
        "from the object",
        title="Is a label local in pixels?",
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.18))


def lengths(ax: Any, rows: Rows) -> None:
    """Images that hold every colour asked for, by how many these are."""
    asked = [row for row in rows if row["k"]]
    k = [row["k"] for row in asked]
    met, low, high = np.array(
        [[row["met"], row["met_low"], row["met_high"]] for row in asked]
    ).T
    errors = np.maximum([met - low, high - met], 0)
    ax.errorbar(k, met, errors, fmt="o-", color="tab:red", capsize=2, label="samples")
    for name, style in (("ceiling", "k--"), ("chance", "k:")):
        label = {"ceiling": "true pictures", "chance": "another request"}[name]
        ax.plot(k, [row[name] for row in asked], style, lw=1, label=label)
    ax.axvspan(0.75, 3.25, color="0.92", zorder=0)
    ax.set(
        xticks=k,
        ylim=(0, 1.05),
        xlabel="colours asked for (shaded: as in training)",
        ylabel="share of images with an object\nof every colour asked for",
        title="Are more colours drawn than were shown?",
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)


def chosen(config: ConfigDict, rows: Rows, background: str = "empty") -> list[Any]:
    """Images, the score, and the features that the claim is about, with titles."""
    f = config.features

    def one(**wanted: Any) -> Mapping[str, Any]:
        wanted |= {"background": background}
        return next(row for row in rows if wanted.items() <= row.items())

    at = {"sigma": f.sigma}
    first = ("mean colour of images", {"of": "image", "pooled": True})
    if background == "empty":
        first = ("R, G, B of objects less ground", {"of": "shift"})
    features = {"of": f.layer, "pooled": True, "told": "own"}
    found = [(first[0], one(**first[1]))]
    if background != "one":  # no score is of the mean of all colours
        found.append((rf"score, $\sigma$ = {f.sigma:g}", one(of="score", **at)))
    title = rf"features {f.layer}, $\sigma$ = {f.sigma:g}"
    features = title, one(**features, **at)
    return [*found, features]


def features(config: ConfigDict, numbers: Mapping[str, Any]) -> Figure:
    """Matrices of cosines over both backgrounds, and what they say of compositions."""
    figure = Figure(figsize=(12.5, 10.2), dpi=130, layout="constrained")
    grid = figure.subplots(3, 3)
    words = {"empty": "the empty scene", "any": "any scene"}
    for line, background in zip(grid, words, strict=False):
        kinds = chosen(config, numbers["cosines"], background)
        for ax, (title, row) in zip(line, kinds, strict=True):
            image = matrix(ax, row)
            ax.set_title(title, fontsize=9)
        line[0].set_ylabel(f"shifts from {words[background]}", fontsize=10)
    figure.colorbar(image, ax=grid[:2], label="cosine of the shifts of two colours")
    kinds = chosen(config, numbers["cosines"])
    for ax, (title, row) in zip(grid[2], kinds, strict=True):
        against(ax, row, numbers["composed"])
        ax.set_title(
            f"{title}\nrank correlation {text(row['rho'], '+.2f')}, "
            f"p = {text(row['p'], '.3f')}",
            fontsize=9,
        )
    grid[2, 0].set_ylabel("share of composed images\nwith yellow and this colour")
    figure.suptitle(
        "Shifts of colours in images, scores and features.  Below: the cosine with "
        "yellow beside the share of compositions\nwith yellow that hold both colours "
        f"(of 7 colours; chance gives |rank correlation| >= {numbers['least_rho']:.2f} "
        "in 5 %; filled: the paper's successes)",
        fontsize=10,
    )
    return figure


def matrix(ax: Any, row: Mapping[str, Any]) -> Any:
    """All cosines, with their values."""
    values = np.array(row["matrix"], float)
    image = ax.imshow(values, vmin=-1, vmax=1, cmap="RdBu_r")
    for (i, j), value in np.ndenumerate(values):
        color = "white" if abs(value) > 0.6 else "black"
        ax.text(
            j,
            i,
            f"{value:.1f}".replace("-0.0", "0.0"),
            ha="center",
            va="center",
            color=color,
            fontsize=6,
        )
    ax.set_xticks(range(len(values)), scenes.COLORS, rotation=60, fontsize=7)
    ax.set_yticks(range(len(values)), scenes.COLORS, fontsize=7)
    return image


def against(ax: Any, row: Mapping[str, Any], shares: Mapping[str, float]) -> None:
    """Shares of compositions by the cosine with yellow, and its 95 % interval."""
    for color in OTHERS:
        name = scenes.COLORS[color]
        cosine, width = row["yellow"][color], row["yellow_width"][color]
        if cosine is None:
            continue
        size = abs(cosine)
        ax.errorbar(
            size,
            shares[name],
            xerr=width or 0,
            fmt="o" if name in COMPATIBLE else "s",
            mfc=SURFACES[name] if name in COMPATIBLE else "white",
            color=SURFACES[name],
            capsize=2,
        )
        ax.annotate(
            name,
            (size + (width or 0), shares[name]),
            (6, -3),
            textcoords="offset points",
            fontsize=8,
        )
    ax.set(xlabel="|cosine| with the shift of yellow", xlim=(-0.05, 1.3))
    ax.set(yscale="log", ylim=(0.5 * min(shares.values()), 1))
    ax.grid(alpha=0.3)


def table(config: ConfigDict, numbers: Mapping[str, Any]) -> str:
    """Spread by noise level, cosines and ranks, and requests met."""
    found = numbers["locality"]
    lines = [f"share of a label's change beyond {found['margin']:g} pixels, %"]
    for name, null in found["nulls"].items():
        lines.append(f"  null {name}: {100 * null['beyond']:.0f}")
    for name in dict.fromkeys(row["model"] for row in found["rows"]):
        mine = [row for row in found["rows"] if row["model"] == name]
        cells = [
            f"{row['sigma']:g}: {100 * row['beyond']:.0f} +- {100 * row['error']:.0f}"
            for row in mine
            if row["beyond"] is not None
        ]
        lines.append(f"  {name}, by sigma  " + "  ".join(cells))
    lines.append(
        "shifts of colours                   background   mean |cos|   with yellow: "
        "compatible   not   rank correlation   p"
    )
    for background in ("empty", "any", "one"):
        for title, row in chosen(config, numbers["cosines"], background):
            title = title.replace(r"$\sigma$", "sigma")
            values = (row["off_diagonal"], row["compatible"], row["incompatible"])
            cells = "  ".join(text(value, ".2f").rjust(8) for value in values)
            rank = f"{text(row['rho'], '+.2f')}   {text(row['p'], '.3f')}"
            lines.append(f"  {title:33} {background:8} {cells}   {rank}")
    lines.append(
        "colours   all found [95 %]         chance   true   corrected   objects"
    )
    for row in numbers["requests"]:
        if not row["k"]:
            lines.append(f"{0:7}{row['objects']:56.2f}")
            continue
        rate = f"{row['met']:.0%} [{row['met_low']:.0%}, {row['met_high']:.0%}]"
        lines.append(
            f"{row['k']:7}   {rate:22}   {row['chance']:6.0%}   {row['ceiling']:4.0%}"
            f"   {text(row['corrected'], '.2f'):>9}   {row['objects']:7.2f}"
        )
    return "\n".join(lines)


def text(value: float | None, form: str) -> str:
    """A number that may not be known."""
    return "-" if value is None else format(value, form)
