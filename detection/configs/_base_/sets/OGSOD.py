# OGSOD: bridges, harbours and oil tanks.
_base_ = "../sar_images.py"

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

train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test["ann_file"])
test_evaluator = val_evaluator
