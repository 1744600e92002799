# SSDD, tested with a mean of the weights over the last few thousand steps (EMA). No published figure.
_base_ = "./hivit_base_SSDD.py"

custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.0002, update_buffers=True, priority=49)]
