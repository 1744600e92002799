# SAR-AIRcraft-1.0: seven kinds of aircraft.
_base_ = "../sar_images.py"

data_root = "data/SARAircraft/"
classes = ("A220", "A330", "A320/321", "Boeing737", "Boeing787", "ARJ21", "other")
train = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="annotations/train.json",
    data_prefix=dict(img="images/"),
)
test = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file="annotations/val.json",
    data_prefix=dict(img="images/"),
)

train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test["ann_file"])
test_evaluator = val_evaluator
