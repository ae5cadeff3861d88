"""The live display of many runs, read from their files alone."""

import sys
import time

from tqdm import tqdm

STATUS_SECONDS = 1  # between looks at the runs that are shown
ALL_SECONDS = 60  # and at all of them, which other launchers may do


class Status:
    """One bar over the epochs of all jobs and, on a terminal, one for every run; read from the runs' files alone."""

    def __init__(self, jobs):
        self.live = sys.stderr.isatty()
        self.epochs = {job: job.files.state().epoch for job in jobs}  # done
        self.shown, self.lines, self.looked_at, self.looked_at_all = {}, {}, 0.0, time.monotonic()

    def __enter__(self):
        self.whole = self._bar("all", sum(job.recipe.epochs for job in self.epochs), sum(self.epochs.values()), 0)
        return self

    def __exit__(self, *exception):
        self._look({}, self.epochs)
        self.whole.close()

    def say(self, text):
        """Print text above the bars."""
        tqdm.write(text, file=sys.stderr)

    def update(self, running, elsewhere=(), failed=0):
        """Show the jobs of this launcher and of other processes (elsewhere); failed: how many were given up.

        Looks into the files once a second at most.
        """
        now = time.monotonic()
        if now - self.looked_at < STATUS_SECONDS:
            return
        done = sum(job.recipe.epochs == epochs for job, epochs in self.epochs.items())
        counts = {"trained": done, "elsewhere": len(elsewhere), "failed": failed}
        words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        self.whole.set_postfix_str(words, refresh=False)
        self.looked_at, more = now, ()
        if now - self.looked_at_all >= ALL_SECONDS:
            self.looked_at_all, more = now, self.epochs
        self._look(dict.fromkeys(running, "") | dict.fromkeys(elsewhere, "elsewhere"), more)

    def _look(self, shown, more=()):
        """Read how far the jobs are that are shown now, {job: remark}, that were so the last time, and more."""
        for job in dict.fromkeys((*self.shown, *shown, *more)):
            state = job.files.state()
            self.epochs[job] = state.epoch
            if job not in shown:
                self._clear(job)
            elif self.live:
                self._draw(job, state, shown[job])
        self.shown = shown
        self.whole.update(sum(self.epochs.values()) - self.whole.n)
        if self.live:
            self.whole.refresh()

    def _draw(self, job, state, remark):
        if job not in self.lines:
            taken = {abs(bar.pos) for bar in self.lines.values()}
            position = min(set(range(1, len(taken) + 2)) - taken)
            self.lines[job] = self._bar(job.name, state.epochs, state.epoch, position)
        best = None if state.best_val_error is None else f"best val error {state.best_val_error:.2f} %"
        evaluating = "evaluating" if state.name == "finished" else None
        self.lines[job].n = state.epoch
        self.lines[job].set_postfix_str(", ".join(filter(None, (best, evaluating, remark))), refresh=False)
        self.lines[job].refresh()

    def _clear(self, job):
        if job in self.lines:
            self.lines.pop(job).close()

    def _bar(self, name, total, initial, position):
        return tqdm(
            desc=name,
            total=total,
            initial=initial,
            position=position,
            unit="epoch",
            dynamic_ncols=True,
            leave=position == 0,
            mininterval=0.5 if self.live else 60,  # a log file is no screen
        )
