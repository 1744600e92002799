# GFL, a one-stage head, on HiViT-N: in few steps it learns more than Faster R-CNN. It begins at stride 4, for targets
# of a few pixels; few channels, for a CPU; windows of the 128 px of pre-training. Amplitude in [0, 1], as there.
custom_imports = dict(imports=["hivit_det"])

norm = dict(type="GN", num_groups=16, requires_grad=True)
model = dict(
    type="GFL",
    data_preprocessor=dict(
        type="DetDataPreprocessor", mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True, pad_size_divisor=32
    ),
    backbone=dict(
        type="HiViT",
        img_size=128,
        embed_dim=192,
        depths=[1, 1, 6],
        num_heads=3,
        out_indices=["H", "M", 5, 5],
        global_indices=[2, 5],
        window_size=8,
        init_cfg=dict(type="Pretrained", checkpoint="checkpoint-8.pth"),
    ),
    neck=dict(type="FPN", in_channels=[48, 96, 192, 192], out_channels=64, num_outs=4, norm_cfg=norm),
    bbox_head=dict(
        type="GFLHead",
        num_classes=1,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        norm_cfg=norm,
        anchor_generator=dict(
            type="AnchorGenerator", ratios=[1.0], octave_base_scale=4, scales_per_octave=1, strides=[4, 8, 16, 32]
        ),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25),
        reg_max=16,
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.3), max_per_img=100
    ),
)
