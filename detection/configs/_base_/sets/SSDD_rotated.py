# SSDD with oriented boxes (RBox_SSDD of the official release): ships.
_base_ = "../rotated_images.py"

data_root = "data/SSDD_rotated/"
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

train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test["ann_file"])
test_evaluator = val_evaluator
