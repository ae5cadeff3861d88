"""Attacks against the closed form on linear classifiers; what Foolbox gets wrong is guarded; nothing else changes."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine import attacks
from engine.attacks import AS_LABELLED, CARLINI_WAGNER, CONVERGED, LINF_EPSILONS, STRONGEST, Bounded, Nearest, strength
from engine.files import BadInput, RunFailed

ROWS = torch.arange(40, 52)  # of the images below
ALL = AS_LABELLED | CONVERGED | CARLINI_WAGNER | STRONGEST


def linear(weights, biases=(0.0, 0.0), scale=1.0):
    """A classifier with logits scale (w . x + b)."""
    layer = nn.Linear(weights.shape[1], len(weights))
    layer.weight.data, layer.bias.data = scale * weights, scale * torch.tensor(biases)
    return nn.Sequential(nn.Flatten(), layer).eval()


@pytest.fixture
def two_classes():
    """A linear classifier of 12 images [12, 3, 4, 4] far from black and white, their labels, w_1 - w_0, and margins."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(2, 48, generator=generator)
    x = 0.3 + 0.4 * torch.rand(12, 3, 4, 4, generator=generator)
    difference = weights[1] - weights[0]
    bias = -(x.flatten(1) @ difference).mean().item()
    net = linear(weights, (0.0, bias))
    margins = x.flatten(1) @ difference + bias
    return net, x, (margins > 0).long(), difference.view(3, 4, 4), margins


@pytest.fixture
def network():
    """A small convolutional classifier with BatchNorm, 12 images of its own opinion, two of them labelled wrong."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
        x = torch.rand(12, 3, 8, 8)
    net[1].running_mean.normal_(generator=torch.Generator().manual_seed(0))
    net.eval()
    with torch.no_grad():
        net[4].bias -= net(x).mean(0)  # all classes occur, none is far
    y = attacks.predict(net, x)
    y[-2:] = (y[-2:] + 1) % 4
    return net, x, y


def images_of(attack, net, x, y, rows=ROWS):
    return dict(attack.images(net, x, y, rows))


def misclassified(net, images, y):
    return attacks.predict(net, images) != y


# ---- FGSM ----


def test_fgsm_is_the_closed_form_on_a_linear_classifier(two_classes):
    net, x, y, difference, _ = two_classes
    away = difference.sign() * (1 - 2 * y.view(-1, 1, 1, 1))
    for epsilon, images in attacks.fgsm(net, x, y, ("0", "0.05", "8/255", "0.5"), 0, 1):
        torch.testing.assert_close(images, (x + strength(epsilon) * away).clamp(0, 1), rtol=0, atol=1e-7)


def test_fgsm_of_epsilon_zero_is_the_image_itself(network):
    net, x, y = network
    for low, high in ((0, 1), (x.min(), x.max())):
        (_, images), *_ = attacks.fgsm(net, x, y, attacks.OFFICIAL_EPSILONS, low, high)
        assert torch.equal(images, x)


def test_official_fgsm_stays_in_the_range_of_its_batch(network):
    net, x, y = network
    x = 3 * x - 2  # as if normalised
    direction = attacks.gradient(attacks.cross_entropy, net, x, y).sign()
    assert (direction != 0).all()
    images = dict(attacks.fgsm(net, x, y, attacks.OFFICIAL_EPSILONS, x.min(), x.max()))["0.2"]
    assert (images.min(), images.max()) == (x.min(), x.max())
    free = (x + 0.2 * direction - images).abs() < 1e-6
    assert free.any() and torch.equal(free, (x + 0.2 * direction >= x.min()) & (x + 0.2 * direction <= x.max()))


def test_gradient_is_that_of_every_image_alone(network):
    net, x, y = network
    together = attacks.gradient(attacks.margin, net, x, y)
    for i in range(len(x)):
        z = x[i : i + 1].clone().requires_grad_()
        logits = net(z)[0]
        best = max((k for k in range(4) if k != y[i]), key=lambda k: logits[k].item())
        (alone,) = torch.autograd.grad(logits[best] - logits[y[i]], z)
        torch.testing.assert_close(together[i : i + 1], alone)


# ---- Foolbox ----


@pytest.mark.parametrize("name", ["pgd_linf_7", "pgd_linf_40", "pgd_restarts"])
def test_converged_pgd_reaches_the_optimum_of_a_linear_classifier(name, two_classes):
    net, x, y, difference, margins = two_classes
    for epsilon, images in images_of(ALL[name], net, x, y).items():
        radius = strength(epsilon)
        resists = margins.abs() > radius * difference.abs().sum()  # |margin| is lost at the rate of the L1 norm
        assert torch.equal(misclassified(net, images, y), ~resists)
        if name != "pgd_restarts":  # whose images that are broken at a smaller epsilon stay so
            best = x + radius * difference.sign() * (1 - 2 * y.view(-1, 1, 1, 1))
            torch.testing.assert_close(images, best, rtol=0, atol=1e-6)


def test_default_pgd_hardly_leaves_its_start(two_classes):
    net, x, y, _, _ = two_classes
    start = attacks.starts(ROWS, x.shape[1:])
    for epsilon, images in images_of(AS_LABELLED["pgd_linf"], net, x, y).items():
        from_start = (images - (x + strength(epsilon) * start)).abs().max().item()
        assert 0.2 * strength(epsilon) < from_start < (7 / 30 + 1e-3) * strength(epsilon)


@pytest.mark.parametrize(
    ("name", "excess"), [("deepfool", 0.05), ("deepfool_linf", 0.05), ("ddn_100", 0.06), ("cw_100", 0.1)]
)
def test_nearest_images_are_at_the_distance_of_the_boundary(name, excess, two_classes):
    net, x, y, difference, margins = two_classes
    attack = ALL[name]
    attacked = images_of(attack, net, x, y)
    assert misclassified(net, attacked[None], y).all()
    assert list(attacked)[1:] == list(LINF_EPSILONS if "linf" in name else attacks.L2_EPSILONS)
    dual = difference.abs().sum() if attack.norm == math.inf else difference.norm()
    exact = (margins.abs() / dual).double()
    distance = attacks.distances(attacked[None], x, attack.norm)
    assert (distance >= exact - 1e-6).all() and (distance <= (1 + excess) * exact + 5e-3).all()
    del attacked[None]
    for epsilon, images in attacked.items():
        fooled = misclassified(net, images, y)
        assert fooled[distance <= strength(epsilon)].all() and not fooled[exact > strength(epsilon)].any()
        expected = distance.clamp(max=strength(epsilon))
        torch.testing.assert_close(attacks.distances(images, x, attack.norm), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["deepfool", "deepfool_linf", "ddn"])
def test_accuracy_within_epsilon_is_what_foolbox_reports(name, network):
    net, x, y = network
    attack = AS_LABELLED[name]
    attacked = images_of(attack, net, x, y)
    del attacked[None]
    fmodel = attacks.library().PyTorchModel(net, bounds=(0, 1), device="cpu")
    *_, success = attack.build()(fmodel, x, y, epsilons=[strength(epsilon) for epsilon in attacked])
    assert torch.equal(torch.stack([misclassified(net, images, y) for images in attacked.values()]), success)
    assert 2 < success.sum() < success.numel()


def test_black_images_of_carlini_and_wagner_are_no_success():
    net = linear(torch.stack([torch.full((48,), 10.0), torch.zeros(48)]), (0.0, 1.0))  # black is of class 1
    x, y = torch.full((3, 3, 4, 4), 0.9), torch.zeros(3, dtype=torch.long)
    attack = AS_LABELLED["cw"]
    fmodel = attacks.library().PyTorchModel(net, bounds=(0, 1), device="cpu")
    raw, _, success = attack.build()(fmodel, x, y, epsilons=None)
    assert success.all() and (raw == 0).all()  # says Foolbox
    for images in images_of(attack, net, x, y, ROWS[:3]).values():
        assert torch.equal(images, x) and not misclassified(net, images, y).any()


def test_images_that_are_not_finite_are_no_success(two_classes, monkeypatch):
    net, x, y, _, _ = two_classes
    broken = x.clone()
    broken[3, 1, 2, 2] = math.nan
    build = Nearest.build

    def damaged(self):
        class Damaged(type(build(self))):
            def run(self, model, inputs, criterion, **options):
                return type(inputs)(broken)

        return Damaged()

    monkeypatch.setattr(Nearest, "build", damaged)
    assert torch.equal(images_of(AS_LABELLED["ddn"], net, x, y)[None], x)


@pytest.mark.parametrize("name", ["deepfool", "deepfool_linf", "ddn", "cw", "ddn_100", "pgd_restarts"])
def test_what_is_misclassified_already_stays_as_it_is(name, network):
    net, x, y = network
    for images in images_of(ALL[name], net, x, y).values():
        assert torch.equal(images[-2:], x[-2:])


# ---- the strongest ----


def test_margin_breaks_what_cross_entropy_cannot(two_classes):
    weak, x, y, difference, _ = two_classes
    net = linear(1e3 * weak[1].weight.data, (1e3 * weak[1].bias.data).tolist())  # so sure that the softmax is exactly 1
    assert (attacks.gradient(attacks.cross_entropy, net, x, y) == 0).flatten(1).all(1).any()
    once = images_of(CONVERGED["pgd_linf_40"], net, x, y)
    strongest = images_of(STRONGEST["pgd_restarts"], net, x, y)
    assert misclassified(net, once["8/255"], y).sum() < misclassified(net, strongest["8/255"], y).sum()
    expected = images_of(CONVERGED["pgd_linf_40"], weak, x, y)
    for epsilon, images in strongest.items():
        assert torch.equal(misclassified(net, images, y), misclassified(weak, expected[epsilon], y))


def test_what_is_broken_stays_broken_at_a_larger_epsilon(network):
    net, x, y = network
    attacked = list(images_of(STRONGEST["pgd_restarts"], net, x, y).values())
    fooled = [misclassified(net, images, y) for images in attacked]
    assert 2 < fooled[0].sum() < fooled[-1].sum()
    for i in range(1, len(attacked)):
        assert torch.equal(attacked[i][fooled[i - 1]], attacked[i - 1][fooled[i - 1]])


# ---- randomness ----


def test_every_restart_has_starts_of_its_own(network, monkeypatch):
    starts, drawn = attacks.starts, []
    monkeypatch.setattr(attacks, "starts", lambda *args: drawn.append(args[2]) or starts(*args))
    images_of(attacks.Restarts(steps=1, restarts=3), *network)
    assert drawn[:3] == [1, 2, 3]  # 0 is that of Bounded
    net, x, y = network
    start = starts(ROWS, x.shape[1:])
    begun = attacks.Restarts(steps=0, restarts=1).ascend(net, x, y, 0.1, attacks.margin, start)
    assert torch.equal(begun, (x + 0.1 * start).clamp(0, 1))


def test_starts_follow_from_the_row_alone():
    together = attacks.starts(ROWS, (3, 8, 8))
    assert torch.equal(attacks.starts(ROWS[[7, 2]], (3, 8, 8)), together[[7, 2]])
    assert together.dtype == torch.float32 and together.min() >= -1 and together.max() <= 1
    assert abs(together.mean()) < 0.05 and together.std() == pytest.approx(3**-0.5, abs=0.03)
    values = torch.cat([together, attacks.starts(ROWS, (3, 8, 8), restart=1)]).flatten(1)
    assert (torch.corrcoef(values).fill_diagonal_(0).abs() < 0.4).all()


@pytest.mark.parametrize("name", ["pgd_linf", "pgd_linf_7", "pgd_restarts", "ddn"])
def test_images_depend_neither_on_their_batch_nor_on_global_generators(name, network):
    net, x, y = network
    together = images_of(ALL[name], net, x, y)
    torch.manual_seed(11)
    part = torch.tensor([8, 1, 5])
    alone = images_of(ALL[name], net, x[part], y[part], ROWS[part])
    for epsilon, images in together.items():
        torch.testing.assert_close(alone[epsilon], images[part], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_nothing_but_the_images_changes(name, network):
    net, x, y = network
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), {k: v.clone() for k, v in net.state_dict().items()}
    given = x.clone()
    images = images_of(ALL[name], net, x, y)
    assert any(not torch.equal(attacked, x) for attacked in images.values()) and torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert all(torch.equal(v, before[2][k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters()) and not net.training


def test_gradients_reach_images_within_no_grad_too(network):
    net, x, y = network
    with torch.no_grad():
        images = images_of(CONVERGED["pgd_linf_7"], net, x, y)
    assert misclassified(net, images["8/255"], y).sum() > 2


def test_training_mode_is_refused(network):
    net, x, y = network
    net[1].train()
    with pytest.raises(AssertionError, match="evaluation mode"):
        attacks.gradient(attacks.cross_entropy, net, x, y)


# ---- audit ----


def test_distances_are_norms_image_by_image():
    x, images = torch.rand(2, 5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    for i in range(5):
        change = (images[i] - x[i]).double().numpy()
        assert attacks.distances(images, x, 2)[i] == pytest.approx(math.sqrt((change**2).sum()))
        assert attacks.distances(images, x, math.inf)[i] == pytest.approx(np.abs(change).max())


def test_audit_passes_what_is_in_the_ball():
    x = torch.full((2, 3, 4, 4), 0.5)
    assert torch.equal(attacks.audited(x + 8 / 255, x, math.inf, "8/255"), x + 8 / 255)
    assert torch.equal(attacks.audited(x + 0.25 / 48**0.5, x, 2, "0.25"), x + 0.25 / 48**0.5)


@pytest.mark.parametrize(
    ("change", "norm", "message"),
    [
        (0.032, math.inf, r"epsilon 8/255 \(Linf\) returned images at 0.032"),
        (0.032, 2, r"epsilon 8/255 \(L2\) returned images at 0.2"),
        (8 / 255 + 1e-6, math.inf, r"epsilon 8/255 \(Linf\) returned images at 0.03137"),  # beyond rounding
        ((8 / 255 + 5e-6) / 48**0.5, 2, r"epsilon 8/255 \(L2\) returned images at 0.03137"),
        (0.6, math.inf, "pixels outside"),
        (-0.6, 2, "pixels outside"),
        (math.nan, 2, "pixels outside"),
    ],
)
def test_audit_refuses_what_is_not(change, norm, message):
    x = torch.full((2, 3, 4, 4), 0.5)
    with pytest.raises(RunFailed, match=message):
        attacks.audited(x + change, x, norm, "8/255")


def test_an_attack_that_leaves_the_ball_is_caught(two_classes, monkeypatch):
    net, x, y, _, _ = two_classes
    base = attacks.library().attacks.LinfPGD
    clip = type("Unclipped", (), {"clip_perturbation": staticmethod(lambda x, images, epsilon: images)})()
    loose = type("Loose", (base,), {"distance": clip, "project": lambda self, x, x0, epsilon: x})
    monkeypatch.setattr(Bounded, "build", lambda self: loose(**self.options))
    with pytest.raises(RunFailed, match="Linf"):
        images_of(CONVERGED["pgd_linf_7"], net, x, y)


# ---- the library ----


def test_foolbox_is_imported_without_a_git_executable_and_only_when_asked_for():
    code = (
        "import sys; from engine import attacks; assert 'foolbox' not in sys.modules; attacks.library(); "
        "assert 'foolbox' in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GIT_PYTHON_REFRESH"} | {"PATH": "/nowhere"}
    where = Path(attacks.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_missing_foolbox_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(BadInput, match="need foolbox, which cannot be imported .*requirements.txt"):
        attacks.library()


def test_settings_are_those_that_docs_evaluations_gives():
    settings = {name: list(attack.described.values()) for name, attack in ALL.items()}
    assert settings == {
        "deepfool": ["L2DeepFoolAttack", 7],
        "deepfool_linf": ["LinfDeepFoolAttack", 7],
        "ddn": ["DDNAttack", 7],
        "cw": ["L2CarliniWagnerAttack", 7],
        "pgd_linf": ["LinfPGD", 7],
        "pgd_linf_7": ["LinfPGD", 7, 2.5 / 7],
        "pgd_linf_40": ["LinfPGD", 40, 2.5 / 40],
        "ddn_100": ["DDNAttack", 100],
        "cw_100": ["L2CarliniWagnerAttack", 100, 0.005, False],
        "pgd_restarts": ["PGD", 40, 4, ["ce", "margin"]],
    }


def test_strength():
    assert [strength(epsilon) for epsilon in ("0", "0.25", "8/255", "0.5/255")] == [0, 0.25, 8 / 255, 0.5 / 255]
    assert sorted(LINF_EPSILONS, key=strength) == list(LINF_EPSILONS)  # Restarts takes the images along
