"""Trainers on random images, for tests of single steps."""

import torch

import recipes
from engine.trainer import Trainer
from scripts.bench.timing import random_images


def random_trainer(recipe, classes=100, files=None, recorder=None):
    """A Trainer of the recipe on random images; recorder(regularizer): what records its steps."""
    images, regularizer = random_images(recipe, classes), recipes.regularizer(recipe, classes)
    torch.manual_seed(0)
    net = recipes.network(recipe, classes)
    recorder = recorder and recorder(regularizer)
    trainer = Trainer(recipe, images, net, regularizer, torch.device("cpu"), files, quiet=True, recorder=recorder)
    trainer.net.train()
    return trainer
