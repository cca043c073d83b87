"""What a work gives back: a table and the bars that the project set itself, each passed or failed."""

from dataclasses import dataclass, field

OURS = "monoceros"


@dataclass
class Bar:
    """One figure to reach. `passed` is None where a server that it needs was not measured."""

    text: str
    figure: str
    passed: bool | None


@dataclass
class Outcome:
    """The result of one work, ready to be printed and kept."""

    work: str
    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def bar(self, text, value, limit, unit="", least=False):
        """Adds a bar: `value` at most `limit`, or at least it. None: not measured."""
        if value is None:
            self.bars.append(Bar(text, "not measured", None))
        else:
            passed = value >= limit if least else value <= limit
            self.bars.append(Bar(text, f"{number(value)}{unit}", passed))

    def lines(self):
        """The outcome as Markdown."""
        widths = [max(len(row[column]) for row in [self.columns, *self.rows]) for column in range(len(self.columns))]

        def row(cells):
            aligned = [cells[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
            return f"| {' | '.join(aligned)} |"

        rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
        yield from (row(self.columns), row(rule), *map(row, self.rows))
        for note in self.notes:
            yield from ("", note)
        if self.bars:
            yield ""
        for bar in self.bars:
            verdict = {True: "pass", False: "**FAIL**", None: "open"}[bar.passed]
            yield f"- {verdict}: {bar.text}: {bar.figure}"


def number(value):
    """Three significant digits or the whole number, with thousands apart; a dash for what there is none of."""
    if value is None:
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def mebibytes(value):
    return f"{value / (1 << 20):,.1f}"
