"""Alerts over time as a picture: one lane for each, faults as bands behind them."""

from __future__ import annotations

from html import escape

LEFT, RIGHT, TOP, LANE = 250, 20, 74, 22
WIDTH = 1100
COLOURS = {"pending": "#e0a030", "firing": "#c8323c"}


def draw(phases: list[tuple[str, float, float]], rows: list[tuple[float, str, str, str]]) -> str:
    last = max(end for _, _, end in phases)
    names = sorted({name for _, name, _, state in rows if state == "firing"},
                   key=lambda name: min(at for at, other, _, state in rows if other == name and state == "firing"))
    height = TOP + LANE * len(names) + 40

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / last

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
             '<text x="14" y="22" font-size="15" font-weight="600" fill="#191c1f">Alerts in a scripted incident</text>']
    labels = 0
    for name, begins, ends in phases:
        broken = not (name.startswith("mended") or name == "healthy")
        fill = "#fbe4e1" if broken else "#eef6f0"
        parts.append(f'<rect x="{x(begins):.1f}" y="{TOP - 18}" width="{x(ends) - x(begins):.1f}" height="{LANE * len(names) + 22}" fill="{fill}"/>')
        if broken:
            # In two rows: a short fault's name is longer than its band.
            labels += 1
            parts.append(f'<text x="{x(begins):.1f}" y="{TOP - 23 - 14 * (labels % 2)}" font-weight="600" fill="#8a2a30">{escape(name)}</text>')
    for lane, name in enumerate(names):
        y = TOP + LANE * lane
        parts.append(f'<text x="{LEFT - 10}" y="{y + 12}" text-anchor="end" fill="#191c1f">{escape(name)}</text>')
        # Firing is drawn last: of several series of an alert the worst is seen.
        for state in ("pending", "firing"):
            for begins, ends in spans(sorted({at for at, other, _, was in rows if other == name and was == state})):
                parts.append(f'<rect x="{x(begins):.1f}" y="{y + 2}" width="{max(1.5, x(ends) - x(begins)):.1f}" height="{LANE - 8}" rx="2" fill="{COLOURS[state]}"/>')
    axis = TOP + LANE * len(names) + 8
    for second in range(0, int(last) + 1, 30):
        parts.append(f'<line x1="{x(second):.1f}" x2="{x(second):.1f}" y1="{axis}" y2="{axis + 4}" stroke="#8b939b"/>')
        parts.append(f'<text x="{x(second):.1f}" y="{axis + 17}" text-anchor="middle" fill="#5a626b">{second} s</text>')
    for index, (state, colour) in enumerate(COLOURS.items()):
        parts.append(f'<rect x="{WIDTH - 190 + 90 * index}" y="12" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - 173 + 90 * index}" y="22" fill="#444c54">{state}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def spans(times: list[float]) -> list[tuple[float, float]]:
    """Seconds that follow one another as one span."""
    found: list[tuple[float, float]] = []
    for at in times:
        if found and at - found[-1][1] < 2.5:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at + 1))
    return found
