# HiViT-N on MSTAR_DET whose images are turned, with oriented boxes, for a CPU.
_base_ = [
    "../_base_/rotated_rtmdet_hivit_nano.py",
    "../_base_/schedule.py",
    "../_base_/sets/MSTAR_DET_rotated.py",
    "../_base_/rotated_runtime.py",
]

model = dict(bbox_head=dict(num_classes=10))
train_pipeline = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True, box_type="rbox"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomQuarterTurn"),
    dict(type="RandomCrop", crop_size=(320, 320), bbox_clip_border=False),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
train_cfg = dict(max_epochs=30, val_interval=10)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=60),
    dict(type="CosineAnnealingLR", begin=0, end=30, T_max=30, by_epoch=True, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(num_layers=6))
auto_scale_lr = dict(base_batch_size=4)
