"""Training steps as CUDA graphs: the kernels of a step are recorded once and then launched together, without Python.

A batch of 100 images of 32x32 keeps a GPU busy for less time than Python takes to launch its kernels. A graph repeats
the same operations on the same memory. So every branch of a method's draw (for PatchUp the stage k) has a graph;
draw itself stays outside, and the tensors that it leaves are copied to where the graph reads them. Masks are drawn
inside, by the method's generator, which graphs know and which every step seeds anew.
"""

import collections
import contextlib

import torch

WARM_UP = 3  # steps of a branch before it is recorded, in which libraries choose their algorithms


class GraphedStep:
    """A training step that is recorded after a few times, and replayed from then on.

    record: a Recorder, or what stands in for it. A batch without branch is not recorded.
    """

    def __init__(self, regularizer, record):
        self.regularizer, self.record = regularizer, record
        self.kept = set(tensors_of(regularizer))  # constants, not draws
        self.seen = collections.Counter()
        self.recorded = {}  # (branch, shape): (its input tensors by name, what replays it)

    def __call__(self, x, y, draw, step):
        """What one step on images x [B, 3, H, W] with labels y [B] returns: a tensor that the next step overwrites.

        draw(x, y): lets the regularizer choose; step(x): forward, loss, backward and update for what it chose.
        """
        state = vars(self.regularizer)
        for name in tensors_of(self.regularizer).keys() - self.kept:  # of the batch before
            del state[name]
        draw(x, y)
        branch = self.regularizer.branch(), x.shape
        inputs = {"x": x} | tensors_of(self.regularizer)
        self.seen[branch] += 1
        if branch[0] is None or self.seen[branch] <= WARM_UP:
            with self.record.warm_up():
                return step(x)
        if branch not in self.recorded:
            read = {name: tensor.clone() for name, tensor in inputs.items()}
            state |= {name: tensor for name, tensor in read.items() if name != "x"}
            self.recorded[branch] = read, self.record(lambda: step(read["x"]))
        read, replay = self.recorded[branch]
        for name, tensor in inputs.items():
            read[name].copy_(tensor)
        return replay()


def tensors_of(regularizer):
    """{name: tensor} of a method's attributes that are tensors."""
    return {name: value for name, value in vars(regularizer).items() if isinstance(value, torch.Tensor)}


class Recorder:
    """Records functions as CUDA graphs that share their memory; generators: a regularizer's, {device: generator}."""

    def __init__(self, generators):
        self.generators = generators
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def warm_up(self):
        """Within it, work is done on the stream that recording uses, as CUDA asks for."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream().wait_stream(self.stream)

    def __call__(self, function):
        """What runs function's kernels again and returns its result, without running them now."""
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators.values():
            graph.register_generator_state(generator)
        # the thread that pins streamed images may allocate meanwhile
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            result = function()

        def replay():
            graph.replay()
            return result

        return replay
