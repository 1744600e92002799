# RSAR: six kinds of targets with oriented boxes, a validation set beside the test set.
_base_ = "../rotated_images.py"

data_root = "data/RSAR/"
classes = ("ship", "aircraft", "car", "tank", "bridge", "harbor")
train = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="annotations/train.json",
    data_prefix=dict(img="train/images/"),
)
val = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="annotations/val.json",
    data_prefix=dict(img="val/images/"),
)
test = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="annotations/test.json",
    data_prefix=dict(img="test/images/"),
)

train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=val)
test_dataloader = dict(dataset=test)
val_evaluator = dict(ann_file=data_root + val["ann_file"])
test_evaluator = dict(ann_file=data_root + test["ann_file"])
