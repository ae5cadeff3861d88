"""What a GPU would refuse or wait for, found without one: on tensors that say they are on cuda:0 and hold no values.

An operand on another device ends the pass with an error, and so does a value that is asked for. What else makes the
host wait for the device is listed in `waits`. A test of another pass takes this fixture, makes its tensors and modules
on DEVICE (`with DEVICE:`), runs the pass forward (a backward pass needs a driver) and says what `waits` then holds.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import models
import regularizers
from data import affine
from data.loaders import TRAIN, VAL, MemoryLoader, Pool
from engine import attacks, metrics
from engine.subject import PixelClassifier, Subject
from eval_activations import Activations
from eval_adversarial import Benchmark
from eval_affine import Affine
from regularizers import Regularizer

aten, DEVICE = torch.ops.aten, torch.device("cuda:0")
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10), reason="fake tensors of older torch ask for a driver"
)
SHAPES = {  # a shape for results whose true one is known on the device alone
    aten.nonzero.default: lambda x: (x.numel() // 2, x.dim()),
    aten.repeat_interleave.Tensor: lambda repeats: (3 * len(repeats),),
}
COUNT = 1000  # what an integer that is asked for is taken to be, a size


class Waits(TorchDispatchMode):
    """Lists in `names` the operators that wait for the device."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operator == aten._local_scalar_dense.default and args[0].dtype == torch.int64:
            self.names.append(operator.name())
            return COUNT
        if (shape := SHAPES.get(operator)) and "output_size" not in kwargs:
            self.names.append(operator.name())
            return args[0].new_empty(shape(*args), dtype=torch.int64)
        result = operator(*args, **kwargs)
        for device in sources(operator, args):
            if device != result.device and not (device.type == "cpu" and non_blocking(args, kwargs)):
                self.names.append(f"{operator.name()} from {device.type}")
        return result


def sources(operator, args):
    """Devices of what an operator copies, or of the indices that it takes to the device of what they index."""
    copied = {aten._to_copy.default: args[:1], aten.copy_.default: args[1:2]}.get(operator, ())
    indices = args[1] if operator == aten.index.Tensor else ()
    return {tensor.device for tensor in (*copied, *indices) if tensor is not None}


def non_blocking(args, kwargs):
    return kwargs.get("non_blocking") or args[2:] == (True,)


@pytest.fixture
def waits(monkeypatch):
    """The operators that would have waited for cuda:0, by name, in a test whose tensors are all fake."""
    monkeypatch.setattr(Regularizer, "generator", lambda self, device: None)  # there is none without a driver
    monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: np.zeros(tensor.shape, np.float32))
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, inputs: [torch.zeros_like(x) for x in inputs])
    with FakeTensorMode(), Waits() as mode:
        yield mode.names


def test_operands_on_another_device_and_waits_are_noticed(waits):
    x, here = torch.ones(4, device=DEVICE), torch.ones(4)
    with pytest.raises(RuntimeError, match="cuda:0"):
        x + here
    for wait in (x.sum().item, x.tolist, lambda: bool(x.any()), lambda: torch.equal(x, x)):
        with pytest.raises(DataDependentOutputException):
            wait()
    for wait in (x.unique, lambda: x[x > 0], lambda: torch.bincount(x.long())):
        with pytest.raises(DynamicOutputShapeException):
            wait()
    for ready in (x[x.long()], here.to(DEVICE, non_blocking=True), x.copy_(here, non_blocking=True), x.where(x > 0, 1)):
        assert ready.device == DEVICE and waits == []
    for wait, name in (
        (x.nonzero, "aten::nonzero"),
        (lambda: torch.repeat_interleave(x.long()), "aten::repeat_interleave.Tensor"),
        (x.long().sum().item, "aten::_local_scalar_dense"),
        (lambda: x[torch.arange(2)], "aten::index.Tensor from cpu"),
        (x.cpu, "aten::_to_copy from cuda"),
        (lambda: here.to(DEVICE), "aten::_to_copy from cpu"),
        (lambda: x.copy_(here), "aten::copy_ from cpu"),
    ):
        wait()
        assert waits.pop() == name and not waits


def passes(method, waits, steps, **options):
    """The waits of some batches' draws, forward passes and losses, network and data being on DEVICE."""
    with DEVICE:
        net = models.build("preactresnet18", num_classes=10, width=4)
        regularizer = regularizers.build(method, 10, **options)
        x, y = torch.zeros(6, 3, 32, 32), torch.zeros(6, dtype=torch.int64)
    regularizer.seed(0)
    regularizer.draw(x, y, net)  # the first brings constants to the device
    waits.clear()
    for step in range(steps):
        regularizer.seed(step)
        regularizer.draw(x, y, net)
        assert regularizer.loss(net(x, regularizer.mix)).device == DEVICE
        yield list(waits)
        waits.clear()


METHODS = [(method, {}) for method in regularizers.METHODS if method != "puzzlemix"] + [
    *[("patchup_hard", options) for options in ({"mask_per": "sample"}, {"input_mask": "patchup"})],
    *[("patchup_soft", {"loss_terms": terms, "input_target": "own"}) for terms in ("both", "first", "official_second")],
    *[("cutout", {"mask_per": "sample"}), ("cutmix", {"prob": 1.0}), ("feature_cutmix", {"layers": (0, 1, 2)})],
]


@pytest.mark.parametrize("method, options", METHODS)
def test_no_method_waits_for_the_device(method, options, waits):
    assert all(waited == [] for waited in passes(method, waits, 12, **options))


CUT, TRANSPORT = ["aten::_to_copy from cuda"], ["aten::_local_scalar_dense", "aten::nonzero"]


@pytest.mark.parametrize(
    "options, expected",
    [({}, CUT + TRANSPORT), ({"clean_lam": 1.0}, CUT + TRANSPORT), ({"transport": False}, CUT)],
)
def test_puzzle_mix_waits_for_its_costs_once_and_for_its_transport_twice(options, expected, waits):
    assert all(waited == expected for waited in passes("puzzlemix", waits, 4, **options))


@pytest.fixture
def evaluated(waits):
    """A network in evaluation mode, images and labels on DEVICE."""
    with DEVICE:
        net = models.build("preactresnet18", num_classes=10, width=4).eval()
        x, y = torch.zeros(6, 3, 32, 32), torch.zeros(6, dtype=torch.int64)
    waits.clear()
    return net, x, y


def test_an_evaluations_batch_does_not_wait(waits, evaluated):
    net, x, y = evaluated
    waited = metrics.outcomes(net(x), y)
    assert {value.device for value in waited.values()} == {DEVICE} and waits == []


def test_attacks_do_not_wait_between_their_steps(waits, evaluated):
    net, x, y = evaluated
    for _, attacked in attacks.fgsm(net, x, y, attacks.OFFICIAL_EPSILONS, -1.0, 1.0):
        assert attacked.device == DEVICE
    strongest = attacks.Restarts(steps=3, restarts=2)
    for loss in (attacks.cross_entropy, attacks.margin):
        assert strongest.ascend(net, x, y, 8 / 255, loss, torch.zeros_like(x)).device == DEVICE
    assert attacks.predict(net, x).device == DEVICE and waits == []


PLAIN, MEAN_AND_STD = (0.5, 0.5, 0.5), 2 * ["aten::_to_copy from cpu"]


def evaluation_waits(evaluation, task, waits, monkeypatch):
    """The waits of one batch of an evaluation whose network and images are on DEVICE."""
    fixed = SimpleNamespace(any=lambda: False)  # asking whether a matrix is in floating point waits
    monkeypatch.setattr(affine, "in_floating_point", lambda *given: fixed)
    monkeypatch.setattr(attacks, "audited", lambda images, *given: images)  # which waits, to stop at a broken attack
    monkeypatch.setattr(attacks, "starts", lambda rows, shape, *given: torch.zeros(len(rows), *shape, device=DEVICE))
    images = {"path": None, "recipe": None, "folder": None, "classes": None, "digest": "", "mean": PLAIN, "std": PLAIN}
    with DEVICE:
        net = models.build("preactresnet18", num_classes=10, width=4).eval()
        x, y, rows = torch.zeros(6, 3, 32, 32, dtype=torch.uint8), *torch.zeros(2, 6, dtype=torch.int64)
        evaluation.classifier = PixelClassifier(net, PLAIN, PLAIN).eval()
    evaluation.subject = Subject(net=net, test=range(6), device=DEVICE, **images)
    vars(evaluation.subject)["classifier"] = evaluation.classifier
    evaluation.values = dict.fromkeys(affine.SETS, np.zeros(1))
    monkeypatch.setattr(affine, "matrices", lambda *given: torch.zeros(6, 2, 3, dtype=torch.float64))
    waits.clear()
    cases = evaluation.evaluate(task, x, y, rows if task not in affine.SETS else Rows(), {})
    assert cases and all(tensor.device == DEVICE for case in cases.values() for tensor in case.values())
    return waits


class Rows:
    """Places of images, as affine asks for them."""

    def cpu(self):
        return self

    def numpy(self):
        return np.zeros(6, int)


@pytest.mark.parametrize(
    "evaluation, task, expected",
    [
        (Affine(geometry=affine.AUTHORS), "clean", MEAN_AND_STD),
        (Affine(geometry=affine.AUTHORS), "rotate_20", ["aten::_to_copy from cpu", *MEAN_AND_STD]),  # its matrices
        (Activations(official=False), "clean", MEAN_AND_STD + 10 * ["aten::_to_copy from cuda"]),  # sums of five stages
        (Activations(official=True), "clean", MEAN_AND_STD + 5 * ["aten::_to_copy from cuda"]),
        (Benchmark("strongest", {"pgd": attacks.Restarts(2, 2)}), "pgd", 10 * ["aten::nonzero"]),  # a restart's images
    ],
)
def test_what_evaluations_wait_for(evaluation, task, expected, waits, monkeypatch):
    assert evaluation_waits(evaluation, task, waits, monkeypatch) == expected


@pytest.mark.parametrize("augment", [TRAIN, VAL, None])
def test_images_in_memory_wait_at_the_first_batch_of_an_epoch_alone(augment, waits):
    pool = Pool(np.zeros((12, 3, 8, 8), np.uint8), np.zeros(12, np.int64))
    common = {"seed": 0, "augment": augment, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    loader = MemoryLoader(pool, np.arange(11), padding=2, flip=True, **common)
    for epoch in range(2):
        begun = []
        for x, y in loader.batches(4, DEVICE, epoch):
            assert x.device == y.device == DEVICE and x.dtype == torch.float32
            begun.append(list(waits))
            waits.clear()
        assert set(begun[0]) <= {"aten::_to_copy from cpu"} and begun[1:] == [[], []]
    for x, y, rows in loader.pixel_batches(4, DEVICE):
        assert x.device == y.device == rows.device == DEVICE and x.dtype == torch.uint8
