"""The pictures of the paper, drawn by matplotlib without a screen."""

import os

os.environ["MPLBACKEND"] = "Agg"  # a notebook's, inherited, keeps matplotlib from being imported outside of it
