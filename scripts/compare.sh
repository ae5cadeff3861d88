#!/usr/bin/env bash
# Any methods on any data set and network, trained and compared like a table of the paper:
#   bash scripts/compare.sh --methods none patchup_hard mine --dataset cifar100 --model preactresnet18 [--seeds N]
#   ... --evaluate affine fgsm corruption activations [--limit N]      # and evaluated, each with a table and picture
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables compare "$@"
