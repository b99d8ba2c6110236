"""A diagnosis as one self-contained HTML page: verdict first, then its evidence."""

import base64
import html
import io
import textwrap
from typing import Any

import numpy as np

from compjax import analysis

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.finding { border-left: .4rem solid; padding: .5rem 1rem; margin: .8rem 0;
  background: #f7f7f7; }
.good { border-color: #2a9d4a; } .bad { border-color: #c8372d; }
.unclear { border-color: #d9a514; }
.finding b { font-size: 1.05rem; } .finding p { margin: .3rem 0 0; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0;
  text-align: left; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } code { background: #f0f0f0; padding: 0 .2rem; }
.note { color: #555; }
"""

GOOD = ("yes", "yes", "no")
"""The answers that let a reader go on, question by question."""


def page(name: str, d: analysis.Diagnosis, composition: Any) -> str:
    """The HTML of a diagnosis.

    Args:
        name: What was diagnosed.
        d: The diagnosis.
        composition: As it prints itself.
    """
    findings = "\n".join(
        f'<div class="finding {tone(f.answer, good)}"><b>{html.escape(f.question)} '
        f"{f.answer.capitalize()}.</b><p>{html.escape(f.evidence)}</p></div>"
        for f, good in zip(d.findings, GOOD, strict=True)
    )
    rows = "\n".join(
        f"<tr><td>{html.escape(label)}</td><td>{value}</td><td class='note'>"
        f"{html.escape(meaning)}</td></tr>"
        for label, value, meaning in numbers(d)
    )
    pictures = "\n".join(
        f'<h2>{html.escape(title)}</h2><p class="note">{html.escape(text)}</p>'
        f'<img alt="{html.escape(title)}" src="data:image/png;base64,{encode(figure)}">'
        for title, text, figure in figures(d)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Diagnosis of {html.escape(name)}
</title><style>{STYLE}</style></head><body>
<h1>Diagnosis of {html.escape(name)}</h1>
<p><code>{html.escape(textwrap.shorten(repr(composition), 1000))}</code></p>
{findings}
<p class="note">The first answer is about sampling only: a composition that is sampled
exactly need not be projective, and one that is projective in other coordinates need not
be sampled exactly. All answers are about the scores that were given; how well they were
learned is another question.</p>
<h2>Numbers</h2><table>{rows}</table>
{pictures}
</body></html>
"""


def tone(answer: str, good: str) -> str:
    """The colour of an answer."""
    return "unclear" if answer == "unclear" else "good" if answer == good else "bad"


def numbers(d: analysis.Diagnosis) -> list[tuple[str, str, str]]:
    """Label, value and meaning of each number."""
    c, b = d.certificate, d.background
    rows = [
        (
            "bound on KL(sampled || composition)",
            f"{max(0.0, float(c.kl_bound)):.4f} nats",
            "0 if sampling is exact; estimated from the weights",
        ),
        (
            "effective sample size",
            f"{float(c.effective_sample_size):.1%} of {len(c.log_weights)}",
            "what is left of the samples when they are weighted",
        ),
        (
            "integral of sd(V)",
            f"{float(c.integral):.4f}",
            "0 if and only if composing commutes with noise",
        ),
    ]
    for i, (to, back) in enumerate(
        zip(b.to_background, b.from_background, strict=True)
    ):
        note = "the background contains it" if b.contained[i] else "not contained"
        rows.append(
            (
                f"KL(conditional {i} || background), and the reverse",
                f"{to:.2f}, {back:.2f} nats",
                note,
            )
        )
    k = len(b.to_background)
    for i in range(k):
        for j in range(i + 1, k):
            rows.append(
                (
                    f"conditionals {i} and {j}",
                    f"{np.exp(b.log_ratio[i, j]):.3g}",
                    "how much likelier one makes the other in the background; 1 if "
                    "independent",
                )
            )
    return rows


def encode(figure: Any) -> str:
    """A figure as base64 of its PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return base64.b64encode(stream.getvalue()).decode()


def figures(d: analysis.Diagnosis) -> list[tuple[str, str, Any]]:
    """Title, explanation and figure of each piece of evidence."""
    return [
        (
            "The certificate",
            "Left: how much V varies over samples at each noise level, times the "
            "squared level; 0 everywhere if sampling is exact. Right: the logarithms "
            "of the importance weights; one spike if sampling is exact.",
            certificate_figure(d),
        ),
        (
            "Samples of the parts and of the composition",
            "The plane as it is, more dimensions by the first two, images as images. "
            "Areas of the weighted samples are their weights.",
            samples_figure(d),
        ),
        (
            "Which coordinates each conditional changes",
            f"Strength of the score differences at noise {d.sigma:.2g}; factorized "
            "conditionals share no column.",
            blocks_figure(d),
        ),
        (
            "Cosines of mean shifts",
            "With 95 % intervals. Factorized conditionals have 0 off the diagonal; "
            "neither is 0 enough, nor other values fatal. Grey: no mean shift.",
            cosines_figure(d),
        ),
    ]


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def certificate_figure(d: analysis.Diagnosis) -> Any:
    """Where V varies, and what it does to the weights."""
    c = d.certificate
    figure = new_figure(9, 3.2)
    left, right = figure.subplots(1, 2)
    sigmas = np.asarray(c.sigmas)
    left.plot(sigmas, np.asarray(c.deviation) * sigmas**2, ".-")
    left.set(
        xscale="log",
        xlabel=r"noise level $\sigma$",
        ylabel=r"$\sigma^2\,$sd$(V)$",
        ylim=(0, max(0.01, 1.1 * float((c.deviation * c.sigmas**2).max()))),
    )
    logs = np.asarray(c.log_weights - c.log_weights.mean())
    reach = max(0.1, np.abs(logs).max())
    right.hist(logs, np.linspace(-reach, reach, 60))
    right.set(xlabel="log weight, less its mean", ylabel="samples")
    right.locator_params(axis="x", nbins=5)
    return figure


def samples_figure(d: analysis.Diagnosis) -> Any:
    """Parts, composition, and the composition weighted."""
    k = len(d.draws) - 1
    names = ["background", *(f"conditional {i}" for i in range(k)), "composition"]
    sets = [np.asarray(x) for x in (*d.draws, d.certificate.x)]
    if sets[0].ndim == 4:
        return images_figure(names, sets)
    flat = [x.reshape(len(x), -1)[:1000] for x in sets]
    if flat[0].shape[1] == 1:  # a line: the weighted law beside it
        flat = [np.column_stack([x, np.zeros(len(x))]) for x in flat]
    weights = np.exp(np.asarray(d.certificate.log_weights)[:1000])
    weights = weights / weights.mean()
    figure = new_figure(2.3 * (len(flat) + 1), 2.7)
    axes = figure.subplots(1, len(flat) + 1, sharex=True, sharey=True, squeeze=False)[0]
    for ax, name, x in zip(axes, names, flat, strict=False):
        ax.plot(x[:, 0], x[:, 1], ".", ms=2, alpha=0.5)
        ax.set_title(name, fontsize=10)
    axes[-1].scatter(*flat[-1][:, :2].T, s=3 * weights, alpha=0.5, lw=0)
    axes[-1].set_title("weighted", fontsize=10)
    for ax in axes:
        ax.set_xlabel("coordinate 0")
    axes[0].set_ylabel("coordinate 1")
    return figure


def images_figure(names: list[str], sets: list[np.ndarray]) -> Any:
    """Eight images of each set."""
    from compjax import plotting

    low = min(np.quantile(x, 0.01) for x in sets)
    high = max(np.quantile(x, 0.99) for x in sets)
    shown = [np.clip((x[:8] - low) / (high - low), 0, 1) for x in sets]
    # One channel is grey, three are colours; of more, the first.
    shown = [x if x.shape[-1] == 3 else x[..., :1].repeat(3, -1) for x in shown]
    return plotting.image_rows(dict(zip(names, shown, strict=True)))


def blocks_figure(d: analysis.Diagnosis) -> Any:
    """The strength of score differences, coordinate by coordinate."""
    strength = d.blocks.strength
    strength = strength / np.maximum(strength.max(1, keepdims=True), 1e-12)
    event = d.draws[0].shape[1:]
    if len(event) == 3:  # images: a map for each conditional
        figure = new_figure(2.3 * len(strength), 2.6)
        axes = figure.subplots(1, len(strength), squeeze=False)[0]
        for i, (ax, row) in enumerate(zip(axes, strength, strict=True)):
            shown = ax.imshow(
                row.reshape(event).max(-1), cmap="viridis", vmin=0, vmax=1
            )
            ax.set(title=f"conditional {i}", xticks=[], yticks=[])
    else:
        figure = new_figure(
            min(9, 3 + 0.5 * strength.shape[1]), 1.4 + 0.5 * len(strength)
        )
        ax = figure.subplots()
        shown = ax.imshow(strength, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        ax.set(xlabel="coordinate", ylabel="conditional", yticks=range(len(strength)))
        if strength.shape[1] <= 16:
            ax.set_xticks(range(strength.shape[1]))
        axes = [ax]
    figure.colorbar(shown, ax=axes, label="strength")
    return figure


def cosines_figure(d: analysis.Diagnosis) -> Any:
    """The matrix of cosines, with intervals."""
    from matplotlib import colormaps

    o = d.orthogonality
    k = len(o.cosines)
    figure = new_figure(2.4 + 0.9 * k, 1.2 + 0.7 * k)
    ax = figure.subplots()
    shown = ax.imshow(
        o.cosines,
        cmap=colormaps["RdBu_r"].with_extremes(bad="lightgrey"),
        vmin=-1,
        vmax=1,
    )
    for i in range(k):
        for j in range(k):
            if i != j and np.isfinite(o.cosines[i, j]):
                value, low, high = (
                    f"{round(float(x[i, j]), 2) + 0.0:.2f}"  # no -0.00
                    for x in (o.cosines, o.low, o.high)
                )
                text = f"{value}\n[{low}, {high}]"
                dark = abs(o.cosines[i, j]) > 0.6
                ax.text(
                    j,
                    i,
                    text,
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if dark else "black",
                )
    ax.set(xticks=range(k), yticks=range(k), xlabel="conditional", ylabel="conditional")
    figure.colorbar(shown, label="cosine")
    return figure
