# Faster R-CNN on HiViT-T, light enough for a CPU: windows of the 128 px that it was pre-trained on, so that images
# whose sides are multiples of 128 need no padding; few channels and proposals; no activation checkpoints; no SyncBN,
# which needs GPUs. Amplitude in [0, 1], as in pre-training.
_base_ = "./faster_rcnn_hivit.py"

model = dict(
    data_preprocessor=dict(std=[255.0] * 3),
    backbone=dict(
        img_size=128,
        embed_dim=384,
        depths=[1, 1, 10],
        num_heads=6,
        out_indices=["H", "M", 9, 9],
        global_indices=[4, 9],
        window_size=8,
        use_checkpoint=False,
        init_cfg=dict(checkpoint="checkpoint-8.pth"),
    ),
    neck=dict(in_channels=[96, 192, 384, 384], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(type="Shared2FCBBoxHead", in_channels=64, fc_out_channels=256, norm_cfg=None),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
