"""Every optimisation of a training step, before and after: the plain formulation and ours, taking turns; on a CPU.

python scripts/optimisations.py --out results/published/benchmarks/optimisations.md

The plain formulations are those that the tests compare values and gradients with. EXPECTED is what counting of reads,
writes and operations, or others' measurements, let us expect. Nothing else may run.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import check_install

check_install.main()  # before anything else imports torchvision

import torch
import torch.nn.functional as F

import engine
import recipes
import train
from records import make_folder, write_whole
from regularizers import blend, build
from regularizers.dropblock import drop
from regularizers.patchup import adjusted_gamma, block_mask
from scripts.timing import Case, Official, medians, medians_apart, our_step, separate_relu

CPU = torch.device("cpu")
SHAPE = (100, 64, 32, 32)  # of PreActResNet18's maps at k = 1 and 2, batch 100
BLOCK, GAMMA = 7, 0.5
EXPECTED = {  # time before over time after
    "mixing": "3: a scatter into zeros is slower than all else; six reads and writes of the tensor are left",
    "mixing compiled": "1.5: the gathered tensor is not written and read again, four of the six are left",
    "mask": "8: six ors of bool instead of 49 comparisons",
    "dropblock": "10: one position in 300 is a seed; drawing and pooling all of them is most of the work",
    "fused": "1.07: the parameters are gone through once",
    "relu": "1.0: a map less to write for every ReLU, beside much slower convolutions",
    "channels_last": "1.08: no reordering around the convolutions",
    "memory": "1.05 to 1.1: no page fault for what is given back and taken again in every step",
    "compiled": "1.02: BatchNorm, ReLU and sum in one pass",
}
WHAT = {
    "mixing": "blending with partners: autograd's gather and scatter / gathers in both passes (regularizers/blend.py)",
    "mixing compiled": "the same: eager / compiled",
    "mask": "PatchUp's mask: max-pooling / doubling (regularizers/patchup.py)",
    "dropblock": "DropBlock: a draw for every position and max-pooling / its seeds alone (regularizers/dropblock.py)",
    "fused": "step of `none`: official formulation / with fused SGD",
    "relu": "step of `none`: that / with ReLU in place",
    "channels_last": "step of `none`: that / channels_last",
    "memory": "step of `none`: memory given back / kept (train.keep_freed_memory)",
    "compiled": "step of `none`: eager / `--compile`",
}


def plain_blend(h, partner, weight):
    """(1 - weight) h + weight h[partner], its gradient left to autograd."""
    return torch.lerp(h, h.index_select(0, partner), weight)


def pooled_mask(seeds):
    """regularizers.patchup.block_mask by max-pooling."""
    before, after = (BLOCK - 1) // 2, BLOCK // 2
    return F.max_pool2d(F.pad(seeds.float(), (before, after, before, after)), BLOCK, stride=1) == 0


def operations():
    """{optimisation: (before, after)}, functions, of the methods' own operations."""
    h, gradient = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)
    partner, weight = torch.randperm(SHAPE[0]), torch.rand(1, *SHAPE[1:])
    dropblock = build("dropblock", 100)
    chance = adjusted_gamma(1 - dropblock.keep_prob, BLOCK, *SHAPE[2:])
    seeds = torch.rand(1, *SHAPE[1:]) < adjusted_gamma(GAMMA, BLOCK, *SHAPE[2:])

    def both_passes(function, *given):
        return lambda: torch.autograd.grad(function(h, *given), h, gradient)

    return {
        "mixing": (both_passes(plain_blend, partner, weight), both_passes(blend.blend, partner, weight)),
        "mask": (lambda: pooled_mask(seeds), lambda: block_mask(seeds, BLOCK)),
        "dropblock": (
            both_passes(lambda h: drop(h, ~pooled_mask(torch.rand(SHAPE) < chance))),
            both_passes(lambda h: drop(h, dropblock.draw_mask(h))),
        ),
        "mixing compiled": (both_passes(blend.blend, partner, weight), compiled(both_passes, partner, weight)),
    }


def compiled(both_passes, partner, weight):
    """Both passes of the blending with the compiled kernel, which is put back after every call."""
    kernel, call = torch.compile(blend.blended), both_passes(blend.blend, partner, weight)

    def run():
        before, blend.kernel = blend.kernel, kernel
        try:
            return call()
        finally:
            blend.kernel = before

    return run


class Plain(Case):
    """Our step with ReLUs as in the official code."""

    def step(self):
        with separate_relu():
            super().step()


def steps():
    """{formulation: function} of a step of `none`, PreActResNet18, batch 100, each an optimisation more."""
    recipe = recipes.resolve("cifar100", "preactresnet18", "none")
    contiguous = dataclasses.replace(recipe, channels_last=False)
    cases = {
        "official": Official(recipe, CPU),
        "fused": Plain(contiguous, CPU),
        "relu": Case(contiguous, CPU),
        "channels_last": Case(recipe, CPU),
        "compiled": Case(dataclasses.replace(recipe, compile=True), CPU),
    }
    return {name: case.step for name, case in cases.items()}


def memory(rounds):
    """Seconds of a step of `none` where memory is given back, and where it is kept."""
    recipe = recipes.resolve("cifar100", "preactresnet18", "none")
    found = medians_apart({keep: (our_step, (recipe, CPU, keep)) for keep in (False, True)}, CPU, rounds)
    return found[False], found[True]


def measured(rounds):
    """{optimisation: (seconds before, seconds after)}, medians."""
    before_and_after = {"memory": memory(rounds)}
    train.set_up_backends(CPU, deterministic=False)
    calls = {(name, i): pair[i] for name, pair in operations().items() for i in (0, 1)}
    seconds = medians(calls, CPU, 4 * rounds)
    before_and_after |= {name: (seconds[name, 0], seconds[name, 1]) for name, _ in calls}
    found = medians(steps(), CPU, rounds)
    chain = ("official", "fused", "relu", "channels_last", "compiled")
    return before_and_after | {after: (found[before], found[after]) for before, after in zip(chain, chain[1:])}


def document(rounds):
    """Markdown of everything measured."""
    place = engine.environment(CPU)
    found = measured(rounds)
    lines = [
        "# Optimisations of a training step",
        "",
        f"`python {' '.join(sys.argv)}`",
        "",
        ", ".join(f"{name} {value}" for name, value in place.items()) + f"; medians of {rounds} rounds of steps, "
        f"{4 * rounds} of operations, on float32 [{', '.join(map(str, SHAPE))}], forward and backward",
        "",
        "| before / after | expected ratio | before (ms) | after (ms) | ratio |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, words in WHAT.items():
        before, after = found[name]
        lines.append(f"| {words} | {EXPECTED[name]} | {1e3 * before:.2f} | {1e3 * after:.2f} | {before / after:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments=None):
    """Measure, print and write; the exit status (see train.explain)."""
    found = train.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--rounds", type=int, default=5, help="counted steps of every formulation (default 5)")
    found.add_argument("--out", type=Path, help="a .md file for the table")
    args = found.parse_args(arguments)

    def work():
        if args.out:
            make_folder(args.out.parent)
        text = document(args.rounds)
        print(text)
        if args.out:
            write_whole(args.out, lambda file: file.write(text.encode()))
        return 0

    return train.explain(work)


if __name__ == "__main__":
    sys.exit(main())
