"""What TensorBoard shows of a run: the numbers of its log and its result, an epoch a step, and its recipe.

All of it follows from the run's files: a run that goes on writes anew what its log says, and TensorBoard drops what was
written before.
"""

import contextlib
import importlib.util
import time

from engine.files import BadInput, RunFailed, make_folder

FINAL = ("test_error", "last_epoch_test_error")  # beside the recipe in TensorBoard's table of runs


def require_tensorboard(folder):
    """Raise BadInput where TensorBoard is not installed or the folder cannot be written. None: it is not asked for."""
    if folder is None:
        return
    if not importlib.util.find_spec("tensorboard"):
        raise BadInput("--tensorboard needs TensorBoard, which is not installed: pip install tensorboard")
    make_folder(folder, "--tensorboard")


class Board:
    """The folder of one run in TensorBoard's folder; files: its RunFiles; images: trained on in an epoch.

    Its methods raise RunFailed where it cannot be written (disk full).
    """

    def __init__(self, folder, files, images):
        self.folder, self.files, self.images = folder / files.name, files, images
        self.writer, self.started, self.seconds = None, 0.0, 0.0

    def begin(self, seconds):
        """Write the recipe, and what the log says of a run that was trained for so many seconds before."""
        from torch.utils.tensorboard import SummaryWriter  # optional, and slow to import
        from torch.utils.tensorboard.summary import hparams

        recipe = {name: str(value) if isinstance(value, list) else value for name, value in self.files.recipe.items()}
        rows = [f"| {name} | {value} |" for name, value in recipe.items()]
        self.started = time.time() - seconds
        lines = self.files.logged()
        known = lines and self.folder.exists()  # TensorBoard drops numbers, but not texts
        with self.writing():
            self.writer = SummaryWriter(self.folder, purge_step=0)
            if not known:
                self.writer.add_text("recipe", "\n".join(["| field | value |", "|---|---|", *rows]), 0)
                for summary in hparams(recipe, dict.fromkeys(FINAL, 0)):
                    self.writer.file_writer.add_summary(summary)
        for line in lines:
            self.add_epoch(line)

    def add_epoch(self, line):
        """Write what a line of the log says, and the images a second of its epoch, validation included."""
        values = {name: value for name, value in line.items() if name not in ("format", "epoch", "seconds")}
        values["images_per_second"] = self.images / max(line["seconds"] - self.seconds, 1e-3)
        self.seconds = line["seconds"]
        self.add(values, line["epoch"])

    def finish(self, result):
        """Write the test metrics of a run's result, and close the file."""
        self.add({name: value for name, value in result.items() if "test_" in name}, result["recipe"]["epochs"])
        with self.writing():
            self.writer.close()

    def add(self, values, epoch):
        """Write numbers {name: value} of an epoch, at the time at which it ended; a value of None is left out."""
        with self.writing():
            for name, value in values.items():
                if value is not None:
                    self.writer.add_scalar(name, value, epoch, walltime=self.started + self.seconds)
            self.writer.flush()

    @contextlib.contextmanager
    def writing(self):
        """Within it, an error of the file system is RunFailed."""
        try:
            yield
        except OSError as error:
            raise RunFailed(f"cannot write {self.folder} ({error}); what was saved before is whole") from error
