# Logs and checkpoints of detectors of oriented boxes.
_base_ = "./runtime.py"
default_hooks = dict(checkpoint=dict(save_best="rotated/bbox_mAP"))
visualizer = dict(type="mmrotate.RotLocalVisualizer")
