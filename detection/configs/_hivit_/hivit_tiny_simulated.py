# HiViT-T on the scenes of example/simulate.py, for a CPU: small images, few channels, no activation checkpoints.
_base_ = ["../_base_/faster_rcnn_hivit.py", "../_base_/schedule.py", "../_base_/sar_images.py", "../_base_/runtime.py"]

data_root = "simulated/scenes/"
classes = ("vehicle", "ship")
train = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="annotations/train.json",
    data_prefix=dict(img="images/train/"),
    pipeline=[
        dict(type="LoadSarImage"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="RandomFlip", prob=[0.25, 0.25], direction=["horizontal", "vertical"]),
        dict(type="RandomCrop", crop_size=(256, 256), allow_negative_crop=True),
        dict(type="PackDetInputs"),
    ],
)
test = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="annotations/test.json",
    data_prefix=dict(img="images/test/"),
    pipeline=[
        dict(type="LoadSarImage"),
        dict(type="Resize", scale=(512, 512), keep_ratio=True),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
    ],
)

model = dict(
    data_preprocessor=dict(std=[255.0] * 3),
    backbone=dict(
        img_size=128,
        embed_dim=384,
        depths=[1, 1, 10],
        num_heads=6,
        out_indices=["H", "M", 9, 9],
        global_indices=[2, 5, 9],
        use_checkpoint=False,
        init_cfg=dict(checkpoint="checkpoint-6.pth"),
    ),
    neck=dict(in_channels=[96, 192, 384, 384], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(
            type="Shared2FCBBoxHead",
            in_channels=64,
            fc_out_channels=256,
            num_classes=2,
            norm_cfg=None,
        ),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
train_dataloader = dict(batch_size=4, num_workers=1, dataset=train)
val_dataloader = dict(num_workers=1, dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test["ann_file"])
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=20, val_interval=5)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=20),
    dict(type="MultiStepLR", begin=0, end=20, by_epoch=True, milestones=[14, 18], gamma=0.1),
]
optim_wrapper = dict(paramwise_cfg=dict(num_layers=10))
