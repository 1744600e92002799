# HiViT-N with GFL, a one-stage head, in place of Faster R-CNN; else as hivit_nano_MSTAR_DET.py.
_base_ = [
    "../_base_/gfl_hivit_nano.py",
    "../_base_/schedule.py",
    "../_base_/sets/MSTAR_DET.py",
    "../_base_/runtime.py",
]

model = dict(bbox_head=dict(num_classes=10))

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
train_cfg = dict(max_epochs=12, val_interval=4)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[9, 11], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=dict(num_layers=6))
auto_scale_lr = dict(base_batch_size=2)
