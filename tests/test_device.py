"""The choice of a device, the card against the build of torch, and precision, with a mocked torch.cuda."""

import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from engine import cli, device
from engine.files import ROOT, BadInput
from scripts import tables
from scripts.grid import slurm

BUILDS = {  # torch.cuda.get_arch_list() of published builds
    "2.10": ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
    "2.14": ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"],
}


@pytest.fixture
def card(monkeypatch):
    """card(capability, build) pretends that there is one GPU of this kind and a torch built for these."""

    def insert(capability, build="2.14", available=True):
        for name, value in {
            "is_available": available,
            "device_count": int(available),
            "get_device_capability": capability,
            "get_arch_list": BUILDS[build],
            "get_device_name": "Tesla V100" if capability[0] == 7 else "H100",
        }.items():
            monkeypatch.setattr(torch.cuda, name, lambda *device, value=value: value)
        monkeypatch.setattr(torch, "empty", lambda size, device: SimpleNamespace(device=device))

    return insert


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """driver(reason) pretends that NVIDIA's driver is here, which torch cannot use for this reason."""

    def insert(reason):
        (tmp_path / "version").touch()

        def init():
            raise RuntimeError(reason)

        monkeypatch.setattr(device, "DRIVER", (tmp_path / "version",))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return insert


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_has_its_number_which_set_device_asks_for(card, name):
    card((9, 0))
    assert device.select_device(name) == torch.device("cuda", 0)


def test_each_process_of_a_node_has_its_own_gpu(card, monkeypatch):
    card((9, 0))
    monkeypatch.setattr(device.distributed, "size", lambda: 2)
    monkeypatch.setattr(device.distributed, "local_rank", lambda: 1)
    assert device.select_device("cuda") == torch.device("cuda", 1)
    with pytest.raises(BadInput, match="--device cuda:0 is one GPU, but there are 2 processes: give cuda"):
        device.select_device("cuda:0")


@pytest.mark.parametrize(
    "capability, build, serves",
    [
        ((7, 0), BUILDS["2.10"], True),
        ((7, 0), BUILDS["2.14"], False),
        ((8, 9), ["sm_80"], True),  # code of a lower minor version runs
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),  # not of a lower major one
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((12, 0), ["compute_90"], True),
        ((8, 0), ["compute_90"], False),
        ((10, 0), ["sm_100", "compute_120"], True),
        ((12, 1), ["sm_120"], True),
        ((9, 0), [], False),
    ],
)
def test_which_cards_a_build_serves(capability, build, serves):
    assert device.has_kernels(capability, build) == serves


@pytest.mark.parametrize(
    "capability, build, mend",
    [
        ((7, 0), "2.14", "REQUIREMENTS=requirements-v100.txt bash scripts/setup.sh"),
        ((6, 0), "2.10", "install torch==2.7.1 torchvision==0.22.1, the last that has it"),
        ((13, 0), "2.10", "install a newer torch"),
    ],
)
def test_a_card_that_the_build_lacks_is_refused_with_the_mend_for_it(card, capability, build, mend):
    card(capability, build)
    with pytest.raises(BadInput) as refusal:
        device.select_device("auto")
    text, name = str(refusal.value), "Tesla V100" if capability[0] == 7 else "H100"
    assert f"torch {torch.__version__} is not built for {name} (compute capability {capability[0]}.0)" in text
    assert text.endswith(f", but for {' '.join(BUILDS[build])}: {mend}")


def test_auto_says_loudly_that_it_takes_the_cpu_where_a_driver_is_here(driver):
    driver("The NVIDIA driver on your system is too old (found version 11040). Please update\nmore")
    with pytest.warns(UserWarning, match=r"cannot use it \(The NVIDIA driver .* 11040\)\): TRAINING ON THE CPU"):
        assert device.select_device("auto").type == "cpu"


def test_auto_says_nothing_without_a_driver_or_where_the_gpus_are_hidden(driver, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert device.select_device("auto").type == "cpu"
        driver("no CUDA-capable device is detected")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert device.select_device("auto").type == "cpu"


def test_amp_auto_takes_what_the_hardware_computes(card, monkeypatch):
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    for capability, amp in {(7, 0): "fp16", (7, 5): "fp16", (8, 0): "bf16", (9, 0): "bf16"}.items():
        card(capability)
        assert device.best_amp(gpu) == amp
    for avx512, amx, amp in [(False, False, "off"), (True, False, "bf16"), (False, True, "bf16")]:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda value=avx512: value)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda value=amx: value)
        assert device.best_amp(cpu) == amp
    assert device.best_amp(torch.device("mps")) == "off"


def test_bf16_is_refused_where_it_would_be_emulated(card):
    gpu = torch.device("cuda", 0)
    card((7, 0))
    with pytest.raises(
        BadInput, match="bf16 needs .* 8.0, Tesla V100 has 7.0 and would only emulate it: give --amp fp16"
    ):
        device.require_amp("bf16", gpu)
    device.require_amp("fp16", gpu)
    card((8, 0))
    device.require_amp("bf16", gpu)
    device.require_amp("bf16", torch.device("cpu"))


@pytest.mark.parametrize("best, given", [("bf16", {"amp": "bf16"}), ("off", {})])
def test_a_command_line_with_amp_auto_gives_what_was_chosen(monkeypatch, best, given):
    monkeypatch.setattr(cli, "best_amp", lambda device: best)
    args = SimpleNamespace(**dict.fromkeys(cli.recipes.OPTIONS), device="cpu")
    args.amp = "auto"
    assert cli.overrides_of(args) == given
    args.launcher = "slurm"
    with pytest.raises(BadInput, match="--amp auto asks the device of this machine"):
        cli.overrides_of(args)


def test_a_cluster_without_submitit_is_told_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    with pytest.raises(BadInput, match="needs submitit, which cannot be imported .*requirements.txt"):
        slurm.check(SimpleNamespace(jobs_per_gpu=1, jobs=None, gpus_per_run=1, cpus=1))


def test_nothing_but_attacks_and_clusters_needs_foolbox_and_submitit():
    code = "import sys; sys.modules |= dict.fromkeys(('foolbox', 'submitit')); import train, scripts.study"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_papers_tables_are_refused_where_a_gpu_would_stay_idle(driver, capsys, tmp_path):
    driver("too old")
    assert tables.main(["table2", "--dry-run", "--out", str(tmp_path)]) == 2
    assert "cannot use it (too old): mend that, or give --device cpu" in capsys.readouterr().err


def test_mps_is_taken_with_a_warning_and_named(monkeypatch):
    monkeypatch.setattr(torch, "empty", lambda size, device: None)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 3 * 2**20)
    with pytest.warns(UserWarning, match="mps is untested"):
        place = device.select_device("mps")
    assert place.type == "mps" and device.device_name(place).endswith(" mps")
    assert device.peak_memory(place) == 3
    with device.autocast("off", place):
        pass


def test_mps_is_refused_where_it_is_not():
    with pytest.raises(BadInput, match="--device mps cannot be used"):
        device.select_device("mps")
