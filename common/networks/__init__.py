"""Networks of the collection; they import torch and MONAI only."""

from __future__ import annotations

from common.networks.cfnet import CFNet
from common.networks.clip_unet import ClipUNet
from common.networks.deeplabv3 import DeepLabV3
from common.networks.deeplabv3plus import DeepLabV3Plus2D, DualDeepLab
from common.networks.frame_classifier import FrameClassifier
from common.networks.frame_segmenter import make_frame_segmenter
from common.networks.funet import FUnet
from common.networks.hybrid_net3d import HybridNet3D
from common.networks.mobilenet_v3 import MobileNetV3Large
from common.networks.padded import Padded
from common.networks.per_frame import PerFrame
from common.networks.pnsnet import PNSNet
from common.networks.safnet import SAFNet
from common.networks.segformer import SegFormer
from common.networks.sshsnet import SSHSNet
from common.networks.two_stage import TwoStage
from common.networks.unet_family import UNetFamily

__all__ = [
    "CFNet",
    "ClipUNet",
    "DeepLabV3",
    "DeepLabV3Plus2D",
    "DualDeepLab",
    "FUnet",
    "FrameClassifier",
    "HybridNet3D",
    "MobileNetV3Large",
    "PNSNet",
    "Padded",
    "PerFrame",
    "SAFNet",
    "SSHSNet",
    "SegFormer",
    "TwoStage",
    "UNetFamily",
    "make_frame_segmenter",
]
