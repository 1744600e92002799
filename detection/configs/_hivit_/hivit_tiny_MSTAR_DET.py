# HiViT-T on 160 images of MSTAR chips in MSTAR clutter, ten kinds of vehicles, for a CPU.
_base_ = [
    "../_base_/faster_rcnn_hivit_tiny.py",
    "../_base_/schedule.py",
    "../_base_/sets/MSTAR_DET.py",
    "../_base_/runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))

train_cfg = dict(max_epochs=24, val_interval=4)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type="MultiStepLR", begin=0, end=24, by_epoch=True, milestones=[18, 22], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=3e-4), paramwise_cfg=dict(num_layers=10))
auto_scale_lr = dict(base_batch_size=2)
