# HiViT-N on the scenes of example/simulate.py, for a CPU. Part of the quickstart, which makes 60 of them: 300 steps.
_base_ = [
    "../_base_/gfl_hivit_nano.py",
    "../_base_/schedule.py",
    "../_base_/sets/simulated.py",
    "../_base_/runtime.py",
]

model = dict(bbox_head=dict(num_classes=2))
train_pipeline = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomFlip", prob=0.5, direction="vertical"),
    dict(type="RandomCrop", crop_size=(256, 256), allow_negative_crop=False),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
train_cfg = dict(max_epochs=20, val_interval=20)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", begin=0, end=20, T_max=20, by_epoch=True, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(num_layers=6))
auto_scale_lr = dict(base_batch_size=4)
