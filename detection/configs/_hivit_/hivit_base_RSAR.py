# RSAR: six kinds of targets with oriented boxes. No published figure of this detector.
_base_ = [
    "../_base_/rotated_rtmdet_hivit.py",
    "../_base_/schedule.py",
    "../_base_/sets/RSAR.py",
    "../_base_/rotated_runtime.py",
]

model = dict(bbox_head=dict(num_classes=6))
