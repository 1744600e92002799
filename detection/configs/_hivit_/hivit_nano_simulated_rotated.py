# HiViT-N on the scenes of example/simulate.py with oriented boxes, for a CPU. Images are doubled: an overlap of half of
# a ship that is 5 px wide leaves 1 px.
_base_ = [
    "../_base_/rotated_fcos_hivit_nano.py",
    "../_base_/schedule.py",
    "../_base_/sets/simulated_rotated.py",
    "../_base_/rotated_runtime.py",
]

model = dict(bbox_head=dict(num_classes=2))

train_pipeline = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True, box_type="rbox"),
    dict(type="Resize", scale_factor=2.0, clip_object_border=False),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomQuarterTurn"),
    dict(type="RandomCrop", crop_size=(256, 256), bbox_clip_border=False),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    _base_.load,
    dict(type="Resize", scale_factor=2.0, clip_object_border=False),
    dict(type="LoadAnnotations", with_bbox=True, box_type="rbox"),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
train_cfg = dict(max_epochs=60, val_interval=60)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", begin=0, end=60, T_max=60, by_epoch=True, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(num_layers=6))
auto_scale_lr = dict(base_batch_size=4)
