# SSDD: ships.
# Published: 67.5 (COCO mAP) with 8 GPUs.
_base_ = ["../_base_/faster_rcnn_hivit.py", "../_base_/schedule.py", "../_base_/sar_images.py", "../_base_/runtime.py"]

data_root = "data/SSDD/"
classes = ("ship",)
train = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="annotations/train.json",
    data_prefix=dict(img="images/train/"),
)
test = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="annotations/test.json",
    data_prefix=dict(img="images/test/"),
)

model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test["ann_file"])
test_evaluator = val_evaluator
