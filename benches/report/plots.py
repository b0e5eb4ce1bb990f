"""Draws `plots/KEY.svg` for the tables of a `results.json`. A program of its own, as it alone needs matplotlib:

python -m report.plots RESULTS.json FOLDER
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from .figures import METRICS, number, spread_of
from .plan import FLOOR, FLOOR_BATCHED, FLOOR_UNBOUND, OURS

# Text stays text, and the same figures give the same file.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "pool", "font.size": 10})
LOGARITHMIC_FROM = 30
"""Where the longest bar is so many times the shortest, the shortest would not be seen."""


def colour(system: str) -> str:
    """Ours stands out, the floor stands back."""
    if system.startswith(OURS) or system.isdigit():
        return "#2458a6"
    return "#c9c9c9" if system in (FLOOR, FLOOR_BATCHED, FLOOR_UNBOUND) else "#e0a458"


def draw(table: dict, folder: Path) -> None:
    """One bar per system that has figures, with the ends of its rounds."""
    metric = table["plot"]
    known = [(row["system"], spread_of(row["rounds"], metric)) for row in table["rows"]]
    bars = [(system, figure) for system, figure in known if figure]
    if not bars:
        return
    figure, axes = pyplot.subplots(figsize=(9, 0.6 + 0.36 * len(bars)), layout="constrained")
    middles = [spread.median for _, spread in bars]
    ends = [[spread.median - spread.low for _, spread in bars], [spread.high - spread.median for _, spread in bars]]
    drawn = axes.barh(
        [system for system, _ in bars],
        middles,
        xerr=ends,
        color=[colour(system) for system, _ in bars],
        error_kw={"elinewidth": 1, "ecolor": "#444444"},
    )
    axes.bar_label(drawn, [number(middle) for middle in middles], padding=4, fontsize=9)
    if min(middles) > 0 and max(middles) / min(middles) > LOGARITHMIC_FROM:
        axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    better = "more" if METRICS[metric].more_is_better else "less"
    axes.set_xlabel(f"{METRICS[metric].title} ({better} is better)")
    axes.set_title(f"({table['letter']}) {table['title']}", loc="left", fontsize=10)
    figure.savefig(folder / f"{table['key']}.svg", metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Draws all."""
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for table in json.loads(Path(sys.argv[1]).read_text())["tables"]:
        if table["plot"]:
            draw(table, folder)


main()
