# HiViT-N with Faster R-CNN on the scenes of example/simulate.py, for a CPU.
_base_ = [
    "../_base_/faster_rcnn_hivit_nano.py",
    "../_base_/schedule.py",
    "../_base_/sets/simulated.py",
    "../_base_/runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=2)))

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
train_cfg = dict(max_epochs=12, val_interval=12)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=20),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[9, 11], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(num_layers=6))
auto_scale_lr = dict(base_batch_size=2)
