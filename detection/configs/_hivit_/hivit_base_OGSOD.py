# OGSOD: bridges, harbours and oil tanks.
# Published: 52.0 (COCO mAP) with 8 GPUs.
_base_ = ["../_base_/faster_rcnn_hivit.py", "../_base_/schedule.py", "../_base_/sar_images.py", "../_base_/runtime.py"]

data_root = "data/OGSOD/"
classes = ("bridge", "harbor", "tank")
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

model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test["ann_file"])
test_evaluator = val_evaluator
