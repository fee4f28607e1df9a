"""Lets the torchvision of PyPI, which is built for CUDA on Linux, be imported beside a CPU build of torch.

torchvision describes two of its compiled operators to torch while it is imported. Where its library cannot be loaded
they do not exist, and the import ends in ``operator torchvision::nms does not exist``. They are declared here just
before; to call them is an error still, and nothing here does. ``setup.sh`` copies this file into the environment, with
a ``.pth`` file beside it that imports it whenever Python starts.
"""

import importlib.abc
import sys


class _DeclareOperators(importlib.abc.MetaPathFinder):
    """Acts when the module is imported that needs them, behind the one that loads the library."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision._meta_registrations":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, operator):
                    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                    torch.library.define(f"torchvision::{operator}", signature)
        return None


sys.meta_path.insert(0, _DeclareOperators())
