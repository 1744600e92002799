# HiViT-N on the scenes of example/simulate.py with oriented boxes, for a CPU.
_base_ = [
    "../_base_/rotated_rtmdet_hivit_nano.py",
    "../_base_/schedule.py",
    "../_base_/sets/simulated_rotated.py",
    "../_base_/rotated_runtime.py",
]

model = dict(bbox_head=dict(num_classes=2))

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
train_cfg = dict(max_epochs=60, val_interval=60)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", begin=0, end=60, T_max=60, by_epoch=True, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(num_layers=6))
auto_scale_lr = dict(base_batch_size=4)
