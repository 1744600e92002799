# SAR-AIRcraft-1.0: seven kinds of aircraft.
# Published: 86.1 (the set's own measure, mAP50) with 8 GPUs.
_base_ = [
    "../_base_/faster_rcnn_hivit.py",
    "../_base_/schedule.py",
    "../_base_/sets/SARAircraft.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(drop_path_rate=0.2), roi_head=dict(bbox_head=dict(num_classes=7)))

# The published steps, at 81 and 99, lie behind the last epoch: the rate stays constant, and so it does here
train_cfg = dict(max_epochs=72, val_interval=8)
param_scheduler = [dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500)]
optim_wrapper = dict(accumulative_counts=2)
