# MSTAR_DET with each image turned by an angle: what benchmarks/turned_set.py makes of its two parts.
_base_ = "../rotated_crops.py"

data_root = "data/MSTAR_DET_rotated/"
classes = ("2S1", "BMP2", "BRDM2", "BTR60", "BTR70", "D7", "T62", "T72", "ZIL131", "ZSU234")
train = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="train/boxes.json",
    data_prefix=dict(img="train/images/"),
)
test = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="test/boxes.json",
    data_prefix=dict(img="test/images/"),
)

train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test["ann_file"])
test_evaluator = val_evaluator
