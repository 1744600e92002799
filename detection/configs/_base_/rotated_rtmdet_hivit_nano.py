# The same on HiViT-N, for a CPU: from stride 4 on, for targets of a few pixels; few channels; amplitude in [0, 1].
_base_ = "./rotated_rtmdet_hivit.py"

find_unused_parameters = False
norm = dict(num_groups=16)
model = dict(
    data_preprocessor=dict(std=[255.0] * 3),
    backbone=dict(
        img_size=128,
        embed_dim=192,
        depths=[1, 1, 6],
        num_heads=3,
        out_indices=["H", "M", 5, 5],
        global_indices=[2, 5],
        window_size=8,
        use_checkpoint=False,
        init_cfg=dict(checkpoint="checkpoint-8.pth"),
    ),
    neck=dict(
        in_channels=[48, 96, 192, 192],
        out_channels=64,
        start_level=0,
        add_extra_convs=False,
        num_outs=4,
        norm_cfg=norm,
    ),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        norm_cfg=norm,
        anchor_generator=dict(strides=[4, 8, 16, 32]),
    ),
)
