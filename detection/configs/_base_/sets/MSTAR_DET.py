# MSTAR chips in MSTAR clutter: ten kinds of vehicles, 160 training images and 60 others.
_base_ = "../sar_crops.py"

data_root = "data/MSTAR_DET/"
classes = ("2S1", "BMP2", "BRDM2", "BTR60", "BTR70", "D7", "T62", "T72", "ZIL131", "ZSU234")
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
