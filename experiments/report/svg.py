"""Line charts as inline SVG."""
from html import escape

SIZE, LEFT, BELOW, TOP = 320, 40, 36, 10  # pixels
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")


def chart(lines, x, y, diagonal=False):
    """Draw lines in a square whose axes go from 0 to 1.

    Args:
        lines: dict of name to (list of x, list of y); a line of one point is drawn as a dot.
        x, y: str, the names of the axes.
        diagonal: bool, draw the line x = y too.

    Returns:
        str, an `<svg>` element and its legend.
    """
    def place(across, up):
        return f"{LEFT + across * SIZE:.1f},{TOP + (1 - up) * SIZE:.1f}"

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts += [f'<polyline class="grid" points="{place(tick, 0)} {place(tick, 1)}"/>',
                  f'<polyline class="grid" points="{place(0, tick)} {place(1, tick)}"/>',
                  f'<text x="{LEFT + tick * SIZE:.1f}" y="{TOP + SIZE + 14}" text-anchor="middle">{tick:g}</text>',
                  f'<text x="{LEFT - 4}" y="{TOP + (1 - tick) * SIZE + 4:.1f}" text-anchor="end">{tick:g}</text>']
    if diagonal:
        parts.append(f'<polyline class="diagonal" points="{place(0, 0)} {place(1, 1)}"/>')
    for number, (name, (across, up)) in enumerate(lines.items()):
        color, points = COLORS[number % len(COLORS)], " ".join(map(place, across, up))
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{points}">'
                     f"<title>{escape(name)}</title></polyline>")
        if len(across) <= 20:
            parts += [f'<circle cx="{LEFT + one * SIZE:.1f}" cy="{TOP + (1 - other) * SIZE:.1f}" r="2.5" '
                      f'fill="{color}"/>' for one, other in zip(across, up)]
    parts += [f'<text x="{LEFT + SIZE / 2}" y="{TOP + SIZE + 30}" text-anchor="middle">{escape(x)}</text>',
              f'<text transform="translate(10,{TOP + SIZE / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text>']
    legend = "".join(f'<li><span style="color:{COLORS[number % len(COLORS)]}">&#9632;</span> {escape(name)}</li>'
                     for number, name in enumerate(lines))
    return (f'<div class="chart"><svg width="{LEFT + SIZE + 10}" height="{TOP + SIZE + BELOW}" role="img" '
            f'aria-label="{escape(y)} by {escape(x)}">{"".join(parts)}</svg><ul>{legend}</ul></div>')
