# SARDet-100K: six kinds of targets from ten public sets.
# Published: 57.3 (COCO mAP) with 8 GPUs.
_base_ = ["../_base_/faster_rcnn_hivit.py", "../_base_/schedule.py", "../_base_/sar_images.py", "../_base_/runtime.py"]

data_root = "data/SARDet/"
classes = ("ship", "aircraft", "car", "tank", "bridge", "harbor")
train = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="Annotations/train.json",
    data_prefix=dict(img="JPEGImages/"),
)
test = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="Annotations/test.json",
    data_prefix=dict(img="JPEGImages/"),
)

model = dict(roi_head=dict(bbox_head=dict(num_classes=6)))
train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test["ann_file"])
test_evaluator = val_evaluator
