"""The workloads that come in sizes, as an SVG: what one costs against the size, both axes logarithmic."""

import math
from xml.sax.saxutils import escape

from table import time_text

COLUMNS = 2
PANEL_WIDTH, PANEL_HEIGHT = 420, 250
# Around a panel's axes.
LEFT, RIGHT, TOP, BOTTOM = 70, 90, 40, 45
# Told apart without their colours too: each line ends in its name.
COLOURS = {"tmpfs": "#0072b2", "notapipe": "#d55e00", "disk": "#8a8a8a"}


class Scale:
    """Values onto pixels, by the logarithm."""

    def __init__(self, values, start, end):
        self.low, self.high = math.log10(min(values)), math.log10(max(values))
        if self.low == self.high:
            self.low, self.high = self.low - 0.5, self.high + 0.5
        self._start, self._end = start, end

    def at(self, value):
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self):
        """Round values: 1, 2 and 5 of each decade, or powers of ten alone where those are enough."""
        decades = range(math.floor(self.low), math.floor(self.high) + 1)
        steps = (1,) if self.high - self.low > 2.5 else (1, 2, 5)
        values = [step * 10.0**decade for decade in decades for step in steps]
        return [value for value in values if self.low <= math.log10(value) <= self.high]


def size_text(size, unit):
    if unit == "bytes":
        return f"{size >> 30} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"
    return f"{size:,}"


def families(results):
    """Lists of results of one workload with two sizes or more."""
    found = {}
    for result in results:
        if result.case.size is not None:
            found.setdefault(result.case.name.rpartition("-")[0], []).append(result)
    return {name: members for name, members in found.items() if len(members) > 1}


def svg(results):
    panels = list(families(results).items())
    rows = max(1, math.ceil(len(panels) / COLUMNS))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{COLUMNS * PANEL_WIDTH}"'
        f' height="{rows * PANEL_HEIGHT}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, (name, members) in enumerate(panels):
        across, down = index % COLUMNS * PANEL_WIDTH, index // COLUMNS * PANEL_HEIGHT
        parts += [f'<g transform="translate({across} {down})">', *panel(name, members), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(name, results):
    case = results[0].case
    costs = [result.seconds_per_one(place) for result in results for place in result.seconds]
    right, bottom = PANEL_WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM
    x = Scale([result.case.size for result in results], LEFT, right)
    # Half a decade of room at least, so that flat lines look flat.
    y = Scale([min(costs) / 1.8, max(costs) * 1.8], bottom, TOP)
    yield text(LEFT, 20, f"{name}: time per {case.unit}", "start", 'font-weight="bold"')
    yield text((LEFT + right) / 2, PANEL_HEIGHT - 10, case.size_unit, "middle")
    yield line([(LEFT, TOP), (LEFT, bottom), (right, bottom)], "#444444", 1)
    for cost in y.ticks():
        yield line([(LEFT, y.at(cost)), (right, y.at(cost))], "#dddddd", 1)
        yield text(LEFT - 6, y.at(cost) + 4, time_text(cost), "end")
    for result in results:
        label = size_text(result.case.size, case.size_unit)
        yield text(x.at(result.case.size), bottom + 16, label, "middle")
    # From top to bottom, so that names of lines that end close to each other do not overlap.
    last_label = -math.inf
    for place in sorted(results[-1].seconds, key=lambda it: -results[-1].seconds_per_one(it)):
        points = [(x.at(it.case.size), y.at(it.seconds_per_one(place))) for it in results]
        colour = COLOURS[place]
        yield line(points, colour, 2)
        for across, down in points:
            yield f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>'
        last_label = max(points[-1][1] + 4, last_label + 12)
        yield text(right + 8, last_label, place, "start", f'fill="{colour}"')


def line(points, colour, width):
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def text(across, down, content, anchor, attributes=""):
    return (
        f'<text x="{across:.1f}" y="{down:.1f}" text-anchor="{anchor}" {attributes}>'
        f"{escape(content)}</text>"
    )
