#!/usr/bin/env bash
# Any methods on any data set and network, trained and compared like a table of the paper:
#   bash scripts/compare.sh --methods none patchup_hard mine --dataset cifar100 --model preactresnet18 [--seeds N]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables compare "$@"
