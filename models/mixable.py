"""Any network of any library, as it is, with the inputs of some of its submodules open to a method.

    net = mixable(torchvision.models.mobilenet_v3_small(num_classes=100), layers=["features.2", "features.4"])
    logits = net(x)       # the network's own forward pass
    logits = net(x, mix)  # mix(k, h) may replace the image, k = 0, and the named submodules' inputs, k = 1, 2, ...

suggest(net, image_size) lists the submodules and proposes some. A submodule that activation checkpointing
runs again in the backward pass is refused, since that run would not be mixed; a submodule around it is fine.
"""

import contextlib
import difflib
import traceback
from functools import partial

import torch
from torch import nn

from .staged import OpenNet, evaluation_mode

BLOCKS = ((32, 7), (16, 5), (8, 3), (1, 1))  # least side of a map, and its block: as WRN-28-10's in the official code
MOST_LAYERS = 3  # beside the image, as the paper's
LEAST_SIDE = 4  # a smaller map has no room for blocks


def mixable(net, layers):
    """net, called as net(x) or net(x, mix). It keeps its weights, its outputs and the keys of its state dict.

    net: an nn.Module that maps images [B, 3, H, W] to logits [B, num_classes]; layers: names of submodules, as in
    net.named_modules(), each of which runs once in a pass and takes one tensor [B, C, H, W].

    Raises ValueError for a name that does not exist, or that stands twice; what else a layer must be is seen, and
    raised, by `shapes` and by every mixed pass.
    """
    return Mixable(net, layers)


class Mixable(OpenNet):
    """See mixable."""

    def __init__(self, net, layers):
        super().__init__()
        self.net = net
        self.layers = (layers,) if isinstance(layers, str) else tuple(layers)
        names = dict(net.named_modules(remove_duplicate=False))
        for name in self.layers:
            if not name or name not in names:
                near = difflib.get_close_matches(name, names) or [child for child, _ in net.named_children()]
                raise ValueError(f"{type(net).__name__} has no submodule {name!r}, but {', '.join(near)}, ...")
            if self.layers.count(name) > 1:
                raise ValueError(f"layers has {name} twice")
        self.register_state_dict_post_hook(_remove_prefix)
        self.register_load_state_dict_pre_hook(_add_prefix)

    def forward(self, x, mix=None):
        """Logits [B, num_classes] of images x [B, 3, H, W]; mix(k, h) -> h may replace the input of every stage.

        Raises ValueError where a layer does not run exactly once, takes something else than one [B, C, H, W], or is
        to be run again in the backward pass by torch.utils.checkpoint.
        """
        if mix is None:
            return self.net(x)
        reached = set()

        def replace(k, name, module, args, kwargs):
            if name in reached:
                raise ValueError(f"{name} runs more than once in a pass: name a submodule around it")
            if _is_checkpointed():
                raise ValueError(f"activation checkpointing runs {name} again, unmixed: name a submodule around it")
            if not _is_map(args, kwargs):
                raise ValueError(f"the input of {name} is {_in_words(args, kwargs)}, not one tensor [B, C, H, W]")
            reached.add(name)
            return (mix(k, args[0]),), {}

        with contextlib.ExitStack() as hooks:
            for k, name in enumerate(self.layers, start=1):
                layer = self.net.get_submodule(name)
                hooks.enter_context(layer.register_forward_pre_hook(partial(replace, k, name), with_kwargs=True))
            logits = self.net(mix(0, x))
        if missing := [name for name in self.layers if name not in reached]:
            raise ValueError(f"{missing[0]} does not run in a pass, or is compiled within another: it cannot be mixed")
        return logits

    def parts(self):
        """The modules that can be compiled each for itself: the outermost that have no layer inside."""

        def below(module, prefix):
            for name, child in module.named_children():
                has_layers = any(layer.startswith(f"{prefix}{name}.") for layer in self.layers)
                if has_layers or type(child).forward is nn.Module.forward:  # a list of modules has none
                    yield from below(child, f"{prefix}{name}.")
                else:
                    yield child

        return list(below(self.net, ""))

    def place(self, k):
        """Where stage k >= 1 begins."""
        return self.layers[k - 1]

    def shapes(self, image_size):
        """See OpenNet. Raises ValueError where forward does, or a layer's input is [B, H, W, C], as in Swin."""
        with images_refused(self.net, image_size):
            shapes = super().shapes(image_size)
        for name, shape in zip(self.layers, shapes[1:], strict=True):
            if shape[1] != shape[2]:
                raise ValueError(f"the input of {name} is [B, {', '.join(map(str, shape))}], not a square [B, C, H, W]")
        return shapes


@contextlib.contextmanager
def images_refused(net, image_size):
    """Raise ValueError, in one line, where net refuses images [B, 3, image_size, image_size]."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        images = f"[B, 3, {image_size}, {image_size}]"
        raise ValueError(f"{type(net).__name__} cannot take images {images} ({reason})") from error


def _remove_prefix(mixable, state_dict, prefix, local_metadata):
    _rename(state_dict, f"{prefix}net.", prefix)


def _add_prefix(mixable, state_dict, prefix, *rest):
    _rename(state_dict, prefix, f"{prefix}net.")


def _rename(state_dict, old, new):
    for key in [key for key in state_dict if key.startswith(old)]:
        state_dict[new + key.removeprefix(old)] = state_dict.pop(key)


def _is_checkpointed():
    """Whether a hook runs within torch.utils.checkpoint, which repeats a part of the pass when the hooks are gone."""
    if torch.compiler.is_compiling():
        return False
    for frame, _ in traceback.walk_stack(None):
        if frame.f_code is Mixable.forward.__code__:
            return False  # what is around the whole pass repeats the hooks too
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
    return False


def _is_map(args, kwargs):
    return not kwargs and len(args) == 1 and isinstance(args[0], torch.Tensor) and args[0].ndim == 4


def _in_words(args, kwargs):
    kinds = [list(a.shape) if isinstance(a, torch.Tensor) else type(a).__name__ for a in (*args, *kwargs.values())]
    return " and ".join(map(str, kinds)) or "nothing"


def fitting_block(side):
    """The side of PatchUp's blocks that suits a square map of this side: 7 from 32 features on, then 5, 3 and 1."""
    return next(block for least, block in BLOCKS if side >= least)


def suggest(net, image_size):
    """Print net's submodules that can be layers, with their inputs' shapes; propose, and return, layers and block_size.

    Proposed are the ends of the first three stages, as in the paper's networks: the submodules that reduce the map.
    image_size: side of the square images in pixels. layers: a list of names; block_size: a tuple with a block for each.
    """
    with images_refused(net, image_size):
        calls = calls_of(net, image_size)
    layers, block_size = proposal(calls)
    print(f"{type(net).__name__}: submodules and their inputs, channels x height x width, at {image_size} pixels")
    shown = set()  # inputs: only the outermost of the submodules that share one
    for name, (h, _) in calls.items():
        if name in layers or (id(h) not in shown and list(net.get_submodule(name).children())):
            print(f"{'*' if name in layers else ' '} {name:40} {' x '.join(map(str, h.shape[1:]))}")
        shown.add(id(h))
    print(f"layers={layers}, block_size={block_size}" if layers else "none of them reduces a map: nothing to propose")
    return layers, block_size


def proposal(calls):
    """The layers and block_size that suggest proposes; calls: see calls_of."""
    steps = {}  # submodules that reduce a map, and the side of their input
    for name, (h, out) in calls.items():
        if h.shape[1] > 3 and _is_map((out,), {}) and 1 < out.shape[2] < h.shape[2] >= LEAST_SIDE:
            steps[name] = h.shape[2]
    layers = {}  # by side, the outermost that reduces the map once
    for name, side in steps.items():
        if all(steps[inner] == side for inner in steps if inner.startswith(f"{name}.")):
            layers.setdefault(side, name)
    sides = list(layers)[:MOST_LAYERS]
    return [layers[side] for side in sides], tuple(map(fitting_block, sides))


@torch.no_grad()
def calls_of(net, image_size):
    """{name: (input, output)} of the submodules that run once and take one square [B, C, H, W], in order."""
    calls, handles = {}, []

    def before(name, module, args, kwargs):
        usable = name not in calls and _is_map(args, kwargs) and args[0].shape[2] == args[0].shape[3]
        calls[name] = (args[0], None) if usable else None

    def after(name, module, args, out):
        calls[name] = calls[name] and (calls[name][0], out)

    for name, module in net.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(partial(before, name), with_kwargs=True))
            handles.append(module.register_forward_hook(partial(after, name)))
    try:
        with evaluation_mode(net):
            net(next(net.parameters()).new_zeros(1, 3, image_size, image_size))
    finally:
        for handle in handles:
            handle.remove()
    return {name: call for name, call in calls.items() if call}
