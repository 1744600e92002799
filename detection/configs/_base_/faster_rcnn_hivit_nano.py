# Faster R-CNN on HiViT-N, 3 M parameters: what a laptop trains in minutes.
_base_ = "./faster_rcnn_hivit_tiny.py"

model = dict(
    backbone=dict(
        embed_dim=192,
        depths=[1, 1, 6],
        num_heads=3,
        out_indices=["H", "M", 5, 5],
        global_indices=[2, 5],
    ),
    neck=dict(in_channels=[48, 96, 192, 192]),
)
