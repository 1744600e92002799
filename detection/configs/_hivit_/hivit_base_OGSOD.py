# OGSOD: bridges, harbours and oil tanks.
# Published: 52.0 (COCO mAP) with 8 GPUs.
_base_ = ["../_base_/faster_rcnn_hivit.py", "../_base_/schedule.py", "../_base_/sets/OGSOD.py", "../_base_/runtime.py"]

model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
