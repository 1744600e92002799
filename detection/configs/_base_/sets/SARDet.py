# SARDet-100K: six kinds of targets from ten public sets. Sources that annotate some of the classes alone can be told
# by annotated={"<what their file names begin with>": ["ship"], ...} beside metainfo of `train`, together with the heads
# of hivit_det/partial_labels.py; which these are is not published in a form that we have checked.
_base_ = "../sar_images.py"

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

train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + test["ann_file"])
test_evaluator = val_evaluator
