# Oriented boxes: as sar_images.py, but read from polygons, turned by quarters, and evaluated as they are.
_base_ = "./sar_images.py"

train_pipeline = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True, box_type="rbox"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomQuarterTurn"),
    _base_.resize,
    dict(type="PackDetInputs"),
]
test_pipeline = [
    _base_.load,
    dict(type="Resize", scale=(1333, 800), keep_ratio=True, clip_object_border=False),
    dict(type="LoadAnnotations", with_bbox=True, box_type="rbox"),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(dataset=dict(type="RotatedCocoByName", pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(type="RotatedCocoByName", pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type="RotatedMetricByName")
test_evaluator = val_evaluator
