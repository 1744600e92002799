# RTMDet's head with an angle (MMRotate's) on HiViT-B, one stage; boxes are compared as Gaussian distributions.
_base_ = "./faster_rcnn_hivit.py"
custom_imports = dict(imports=["hivit_det", "hivit_det.rotated"])

find_unused_parameters = True  # the head begins at stride 8: the backbone's norm at stride 4 learns nothing
norm = dict(type="GN", num_groups=32, requires_grad=True)
model = dict(
    _delete_=True,
    type="RTMDet",
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
        norm_cfg=norm,
    ),
    bbox_head=dict(
        type="mmrotate.RotatedRTMDetHead",
        num_classes=1,
        in_channels=256,
        feat_channels=256,
        stacked_convs=2,
        norm_cfg=norm,
        act_cfg=dict(type="SiLU"),
        with_objectness=False,
        scale_angle=False,
        anchor_generator=dict(type="MlvlPointGenerator", offset=0.5, strides=[8, 16, 32, 64, 128]),
        angle_coder=dict(type="DoubleAngle"),
        bbox_coder=dict(type="mmrotate.DistanceAnglePointCoder", angle_version="le90"),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type="GaussianDivergenceLoss", loss_weight=2.0),
        loss_angle=dict(type="L1Loss", loss_weight=0.5),  # a nearly round box alone tells nothing of its angle
    ),
    train_cfg=dict(
        assigner=dict(type="DynamicSoftLabelAssigner", iou_calculator=dict(type="mmrotate.RBboxOverlaps2D"), topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=2000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms_rotated", iou_threshold=0.1), max_per_img=100
    ),
)
