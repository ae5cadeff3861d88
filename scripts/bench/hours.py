"""Hours of a training on this device by every method, from a few timed steps: Table 8."""

import dataclasses

import recipes
from engine.device import set_up_backends
from scripts.bench.timing import Case, medians
from scripts.grid import estimates


def training_hours(dataset, model, methods, device, rounds, timed_batch=None, **overrides):
    """The hours of every method's training, from the median of `rounds` interleaved steps on random images.

    timed_batch: images a timed step (None: the recipe's batch); the hours are those of all images of all epochs at this
    speed. overrides: fields of the recipe. Validation, evaluation and reading the images from disk come on top.
    Returns {method: {"step_ms", "hours", "over_none", "timed_batch"}}; over_none: the step over that of `none`.
    Raises recipes.RecipeError for a recipe that cannot be.
    """
    set_up_backends(device, deterministic=False)
    names = dict.fromkeys(("none", *methods))
    paper = {name: recipes.resolve(dataset, model, name, **recipes.applicable(name, overrides)) for name in names}
    sizes = {name: timed_batch or recipe.batch_size for name, recipe in paper.items()}
    steps = {name: Case(dataclasses.replace(paper[name], batch_size=sizes[name]), device).step for name in names}
    seconds = medians(steps, device, rounds)
    return {
        name: {
            "step_ms": 1e3 * seconds[name],
            "hours": seconds[name] / sizes[name] * estimates.training_images(paper[name]) * paper[name].epochs / 3600,
            "over_none": seconds[name] / seconds["none"],
            "timed_batch": sizes[name],
        }
        for name in methods
    }


def table(recipe, measured):
    """Markdown of what training_hours measured; recipe: that of `none`."""
    size = measured["none"]["timed_batch"]
    lines = [f"| {recipe.dataset}, {recipe.model}, batch {size} | step (ms) | over none | hours a run |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, row in measured.items():
        lines.append(f"| {name} | {row['step_ms']:.1f} | {row['over_none']:.2f} | {row['hours']:,.2f} |")
    lines += [
        "",
        f"hours of {recipe.epochs} epochs of {estimates.training_images(recipe):,} images, training steps alone",
    ]
    if size != recipe.batch_size:
        lines.append(f"scaled by the image from steps of {size}: the recipe's have {recipe.batch_size}")
    return "\n".join(lines)
