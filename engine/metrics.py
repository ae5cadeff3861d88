"""Logits of a loader's images and the metrics of them."""

import itertools

import torch
import torch.nn.functional as F

from engine import distributed
from engine.device import autocast

EVALUATION_BATCH = 250
CALIBRATION_BINS = 15


@torch.no_grad()
def logits_of(net, loader, device, amp="off", channels_last=False, epoch=0, check=lambda: None):
    """Logits float32 [N, C] and labels [N] of all images of a loader, in evaluation mode, on the device.

    Ranks share the images and all get the whole, rank by rank. epoch matters to augmented validation images alone.
    check() is called before every batch, equally often on every rank, and may raise.
    """
    was_training = net.training
    net.eval()
    logits, labels = [], []
    size, rank, world = EVALUATION_BATCH * distributed.size(), distributed.rank(), distributed.size()
    batches = loader.batches(size, device, epoch=epoch, rank=rank, world=world)
    for _ in range(loader.steps(size)):
        check()
        for x, y in itertools.islice(batches, 1):  # none where the last batch has fewer images than ranks
            with autocast(amp, device):
                logits.append(net(x.to(memory_format=torch.channels_last) if channels_last else x).float())
            labels.append(y)
    net.train(was_training)
    return distributed.gathered(torch.cat(logits)), distributed.gathered(torch.cat(labels))


def outcomes(logits, labels):
    """What became of each image, from logits [B, C] and labels [B]: a dict of tensors [B].

    predicted: the class, int64; nll: in nats, float64; confidence: the predicted class's softmax, float64 in [0, 1];
    brier: squared distance of the softmax and the one-hot label, summed over classes, float64 in [0, 2].
    """
    if logits.device.type == "mps":  # it has no float64
        logits, labels = logits.cpu(), labels.cpu()
    log_p = F.log_softmax(logits.double(), dim=1)
    p = log_p.exp()
    confidence, predicted = p.max(dim=1)
    return {
        "predicted": predicted,
        "nll": F.nll_loss(log_p, labels, reduction="none"),
        "confidence": confidence,
        "brier": p.square().sum(dim=1) - 2 * p.gather(1, labels[:, None])[:, 0] + 1,
    }


def calibration_error(confidence, right):
    """ECE, the expected calibration error with 15 bins of equal width, in [0, 1] (Guo et al., 2017).

    confidence float64 [N] in [0, 1]; right [N], whether the prediction was.
    """
    bins = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    gaps = torch.zeros(CALIBRATION_BINS, dtype=torch.float64, device=confidence.device)
    gaps.index_add_(0, bins, confidence - right.double())
    return gaps.abs().sum() / len(confidence)


def metrics(logits, labels):
    """Top-1 error in percent, NLL in nats, ECE and Brier score of logits [N, C] for labels [N]: means of outcomes.

    And top5_error in percent, with more than 5 classes.
    """
    per_image = outcomes(logits, labels)
    right = per_image["predicted"] == labels.to(per_image["predicted"].device)
    values = {
        "error": 100 * (1 - right.double().mean()),
        "nll": per_image["nll"].mean(),
        "ece": calibration_error(per_image["confidence"], right),
        "brier": per_image["brier"].mean(),
    }
    if logits.shape[1] > 5:
        among_5 = (logits.topk(5, dim=1).indices == labels[:, None]).any(dim=1).to(right.device)
        values["top5_error"] = 100 * (1 - among_5.double().mean())
    return dict(zip(values, torch.stack(list(values.values())).tolist()))
