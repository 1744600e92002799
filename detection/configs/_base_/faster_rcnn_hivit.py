# Faster R-CNN with FPN on HiViT-B, as published.
_base_ = "mmdet::_base_/models/faster-rcnn_r50_fpn.py"
custom_imports = dict(imports=["hivit_det"])

model = dict(
    # The published detectors see values from 0 to 255. std=[255.0] * 3 gives amplitude in [0, 1], as in pre-training.
    data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3, pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type="HiViT",
        img_size=224,
        embed_dim=512,
        depths=[2, 2, 20],
        num_heads=8,
        out_indices=["H", "M", 19, 19],
        global_indices=[4, 9, 14, 19],
        window_size=14,
        use_checkpoint=True,
        init_cfg=dict(type="Pretrained", checkpoint="checkpoint-800.pth"),
    ),
    neck=dict(in_channels=[128, 256, 512, 512]),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(use_torchvision=True)),
        bbox_head=dict(
            type="Shared4Conv1FCBBoxHead",
            conv_out_channels=256,
            norm_cfg=dict(type="SyncBN", requires_grad=True),
            reg_decoded_bbox=True,
            loss_bbox=dict(_delete_=True, type="GIoULoss", loss_weight=10.0),
        ),
    ),
)
