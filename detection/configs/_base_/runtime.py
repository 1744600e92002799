# Logs, checkpoints and curves.
_base_ = "mmdet::_base_/default_runtime.py"
default_hooks = dict(checkpoint=dict(type="WholeCheckpointHook", max_keep_ckpts=3, save_best="coco/bbox_mAP"))
visualizer = dict(vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])
