"""Which cell is measured next, and by whom, where several places measure side by side."""


class Plan:
    """First each cell once, one after the other of those that need the same loaded; then again those that are open, the least measured first."""

    def __init__(self, loads):
        """`loads`: by cell, in their order, what must be loaded for it."""
        self.loads = loads
        self.measured = dict.fromkeys(loads, 0)
        self.busy = set()
        self.failed = set()
        # By place.
        self.loaded = {}

    def take(self, place, is_open):
        """A cell, and how often it was measured before; None: there is nothing to do until another place is done, if any is busy."""
        free = [cell for cell in self.loads if cell not in self.busy and cell not in self.failed]
        first = [cell for cell in free if not self.measured[cell]]
        elsewhere = {load for other, load in self.loaded.items() if other != place}

        def trouble(cell):
            load = self.loads[cell]
            return 0 if load == self.loaded.get(place) else 1 + (load in elsewhere)

        if first:
            cell = min(first, key=trouble)
        else:
            again = [cell for cell in free if is_open(cell)]
            cell = min(again, key=lambda cell: (self.measured[cell], trouble(cell)), default=None)
        if cell is None:
            return None
        self.busy.add(cell)
        self.loaded[place] = self.loads[cell]
        return cell, self.measured[cell]

    def done(self, cell, succeeded):
        self.busy.remove(cell)
        self.measured[cell] += 1
        if not succeeded:
            self.failed.add(cell)
