#!/usr/bin/env bash
# Table 4: PreActResNet34 on affine deformations of CIFAR-100: launches what is missing, renders ours beside the paper's:
#   bash scripts/table4.sh [--methods NAME ...] [--seeds N] [--geometry modern] [--limit N] [--dry-run] [--help]
exec bash "$(dirname "${BASH_SOURCE[0]}")/python.sh" -m scripts.tables table4 "$@"
