# FCOS with an angle (MMRotate's) on HiViT-B, one stage; boxes are compared as Gaussian distributions (KLD).
_base_ = "./faster_rcnn_hivit.py"
custom_imports = dict(imports=["hivit_det", "hivit_det.rotated"])

find_unused_parameters = True  # the head begins at stride 8: the backbone's norm at stride 4 learns nothing
model = dict(
    _delete_=True,
    type="FCOS",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[0.0] * 3,
        std=[1.0] * 3,
        bgr_to_rgb=True,
        pad_size_divisor=32,
        boxtype2tensor=False,
    ),
    backbone={{_base_.model.backbone}},
    neck=dict(
        type="FPN",
        in_channels=[128, 256, 512, 512],
        out_channels=256,
        start_level=1,
        add_extra_convs="on_output",
        num_outs=5,
        relu_before_extra_convs=True,
    ),
    bbox_head=dict(
        type="mmrotate.RotatedFCOSHead",
        num_classes=1,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        regress_ranges=((-1, 64), (64, 128), (128, 256), (256, 512), (512, 1e8)),
        center_sampling=True,
        center_sample_radius=1.5,
        norm_on_bbox=False,  # sides as exponentials, which are never 0
        centerness_on_reg=True,
        angle_version="le90",
        scale_angle=False,
        angle_coder=dict(
            type="mmrotate.PSCCoder", angle_version="le90", dual_freq=False, num_step=3
        ),  # as three phases
        bbox_coder=dict(type="mmrotate.DistanceAnglePointCoder", angle_version="le90"),
        init_cfg=dict(
            type="Normal",
            layer="Conv2d",
            std=0.01,
            override=[
                dict(type="Normal", name="conv_cls", std=0.01, bias_prob=0.01),
                dict(type="Normal", name="conv_reg", std=0.01, bias=2.5),  # 12 px; at 0 a box would begin with 1 px
            ],
        ),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GaussianDivergenceLoss", loss_weight=1.0),
        loss_angle=dict(type="L1Loss", loss_weight=0.5),  # a nearly round box alone tells nothing of its angle
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    test_cfg=dict(
        nms_pre=2000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms_rotated", iou_threshold=0.1), max_per_img=100
    ),
)
