# MSTAR_DET with low-rank changes of HiViT-N's matrices (LoRA) in place of full fine-tuning.
_base_ = "./hivit_nano_MSTAR_DET.py"

model = dict(backbone=dict(tune="lora", lora_rank=8))
