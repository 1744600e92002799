# SARDet-100K with GFL, a one-stage head, in place of Faster R-CNN. No published figure.
_base_ = "./hivit_base_SARDet.py"

find_unused_parameters = True  # the head begins at stride 8: the backbone's norm at stride 4 learns nothing
model = dict(
    _delete_=True,
    type="GFL",
    data_preprocessor=dict(
        type="DetDataPreprocessor", mean=[0.0] * 3, std=[1.0] * 3, bgr_to_rgb=True, pad_size_divisor=32
    ),
    backbone={{_base_.model.backbone}},
    neck=dict(
        type="FPN",
        in_channels=[128, 256, 512, 512],
        out_channels=256,
        start_level=1,
        add_extra_convs="on_output",
        num_outs=5,
    ),
    bbox_head=dict(
        type="GFLHead",
        num_classes=6,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=dict(
            type="AnchorGenerator", ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=[8, 16, 32, 64, 128]
        ),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25),
        reg_max=16,
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100
    ),
)
