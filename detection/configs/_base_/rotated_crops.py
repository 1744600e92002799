# Oriented boxes, crops at full resolution for training, whole images for testing. (Resize by 1 copies an image, and is
# what MMDetection's tools look for.)
_base_ = "./rotated_images.py"

train_pipeline = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True, box_type="rbox"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomQuarterTurn"),
    dict(type="RandomCrop", crop_size=(256, 256), bbox_clip_border=False),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    _base_.load,
    dict(type="Resize", scale_factor=1.0, clip_object_border=False),
    dict(type="LoadAnnotations", with_bbox=True, box_type="rbox"),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
