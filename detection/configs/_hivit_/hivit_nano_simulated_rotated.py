# HiViT-N on the scenes of example/simulate.py with oriented boxes, for a CPU.
_base_ = [
    "../_base_/rotated_fcos_hivit_nano.py",
    "../_base_/schedule.py",
    "../_base_/sets/simulated_rotated.py",
    "../_base_/rotated_runtime.py",
]

model = dict(bbox_head=dict(num_classes=2))

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
train_cfg = dict(max_epochs=90, val_interval=30)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=20),
    dict(type="MultiStepLR", begin=0, end=90, by_epoch=True, milestones=[68, 83], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(num_layers=6))
auto_scale_lr = dict(base_batch_size=2)
