# 36 epochs of AdamW with layer-wise decay of the rate, as published (2 images a GPU on 8 GPUs).
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=36, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="HiViTLayerDecayOptimizerConstructor",
    paramwise_cfg=dict(num_layers=20, layer_decay_rate=0.9),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)  # --auto-scale-lr takes the rate to be for so many images
