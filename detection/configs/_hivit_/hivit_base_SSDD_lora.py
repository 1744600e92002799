# SSDD with low-rank changes of HiViT-B's matrices (LoRA) in place of full fine-tuning. No published figure.
_base_ = "./hivit_base_SSDD.py"

model = dict(backbone=dict(tune="lora", lora_rank=8))
