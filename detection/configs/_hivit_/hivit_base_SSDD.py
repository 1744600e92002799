# SSDD: ships.
# Published: 67.5 (COCO mAP) with 8 GPUs.
_base_ = ["../_base_/faster_rcnn_hivit.py", "../_base_/schedule.py", "../_base_/sets/SSDD.py", "../_base_/runtime.py"]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
