#!/usr/bin/env python3
"""Speed against depth, drawn and tabled from results of bench/compare.py, into docs/speed.md.

    $(bench/fetch_peers.py matplotlib) bench/plot_depth.py bench/results/A.json [B.json ...]

Results of one model and cache type make one section: a table, one row a depth, and a picture docs/speed-NAME.png with
a panel for prefill and one for decoding. What is written replaces what stands between the two marks in docs/speed.md,
so name all results that shall be seen in one call. Figures are medians over rounds; of a peer with several settings
the better one at each point counts; in brackets how many times faster lcrun is.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- speed against depth: begin -->", "<!-- speed against depth: end -->"
TEST = re.compile(r"^(pp|tg)\d+(?: @ d(\d+))?$")
NAMES = {"pp": "prefill", "tg": "decode"}


def curves(results):
    """{"pp" or "tg": {contender: {depth: tokens/s}}}, lcrun first."""
    found = {"pp": {"lcrun": {}}, "tg": {"lcrun": {}}}
    for result in results:
        for name, tests in result["samples"].items():
            for test, values in tests.items():
                match = TEST.match(test)
                if match is None or not values:
                    continue
                points = found[match[1]].setdefault(name.split(" fa=")[0], {})
                depth = int(match[2] or 0)
                points[depth] = max(points.get(depth, 0.0), statistics.median(values))
    return found


def cell(points, ours, depth):
    if depth not in points:
        return "-"
    value = points[depth]
    text = f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return text if points is ours or depth not in ours else f"{text} ({ours[depth] / value:.2f})"


def table(found):
    depths = sorted({depth for kind in found.values() for points in kind.values() for depth in points})
    head, columns = [], []
    for kind, contenders in found.items():
        for name, points in contenders.items():
            head.append(f"{NAMES[kind]}: {name}" if name == "lcrun" else name)
            columns.append((points, contenders["lcrun"]))
    lines = ["| depth | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for depth in depths:
        lines.append(f"| {depth} | " + " | ".join(cell(points, ours, depth) for points, ours in columns) + " |")
    return "\n".join(lines)


def draw(found, title, target):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, (kind, contenders) in zip(axes, found.items()):
        for name, points in contenders.items():
            depths = sorted(points)
            axis.plot([depth / 1024 for depth in depths], [points[depth] for depth in depths], marker="o",
                      linewidth=2.2 if name == "lcrun" else 1.4, label=name)
        axis.set(title=NAMES[kind], xlabel="depth, thousand tokens of 1024", ylabel="tokens a second", yscale="log")
        axis.grid(True, which="both", alpha=0.3)
    axes[0].legend()
    figure.suptitle(title)
    figure.savefig(target, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def replace_between_marks(page, text):
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise SystemExit(f"plot_depth.py: wanted the two marks once each: {BEGIN} {END}")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def section(results, folder):
    """Draws one model's picture; returns its part of the page."""
    first = results[0]
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(first["model"]["file"]).stem).lower()
    picture = folder / f"speed-{stem}-{first['type_k']}.png"
    found = curves(results)
    isa = first.get("contenders", {}).get("lcrun", {}).get("isa", "?")
    title = f"{first['model']['file']}, {first['type_k']} cache"
    draw(found, title, picture)
    lines = [f"**{title}** ({first['date']}, {first['commit']}; {first['machine']['cpu']}, {isa}, "
             f"{first['threads']} threads; tokens a second)", "", table(found), ""]
    for result in results:
        for name, why in result.get("unmeasured", {}).items():
            lines += [f"Left out from depth {why['from_depth']} on: {name} ({why['reason']}).", ""]
    return "\n".join([*lines, f"![{title}: speed against depth]({picture.name})"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+")
    parser.add_argument("--page", default=str(ROOT / "docs/speed.md"))
    options = parser.parse_args()
    groups = {}
    for path in options.results:
        result = json.loads(Path(path).read_text())
        groups.setdefault((result["model"]["file"], result["type_k"]), []).append(result)
    page = Path(options.page)
    text = "\n\n".join(section(group, page.parent) for group in groups.values())
    page.write_text(replace_between_marks(page.read_text(), text))
    print(f"{len(groups)} sections in {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
