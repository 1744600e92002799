"""Pre-train a HiViT masked autoencoder on SAR images.

On one GPU, or on the CPU where there is none:
    python main_pretrain.py --data_path DIR --output_dir DIR --batch_size 100
On 8 GPUs:
    torchrun --nproc_per_node 8 main_pretrain.py --data_path DIR --output_dir DIR --batch_size 100 --epochs 800
On two machines, restarted up to three times after a failure:
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nnodes 2 --nproc_per_node 8 --max-restarts 3 \
        --rdzv_backend c10d --rdzv_endpoint HOST:29400 main_pretrain.py --resume auto ...
Under Slurm:
    sbatch --nodes 2 --gpus-per-node 8 --ntasks-per-node 8 slurm_pretrain.sh --data_path DIR --output_dir DIR ...
After a crash, the same command with:
    --resume auto
"""

import sys

try:
    from hivit_mae.run.options import parse_options
    from saratrx.cores import share_cores
    from saratrx.errors import exit_on_input_error, interrupt_ends_at_once

    if __name__ == "__main__":
        with exit_on_input_error():
            options = parse_options()
            share_cores()
            with interrupt_ends_at_once():
                # with PyTorch, which takes seconds: a wrong option has been told by now
                from hivit_mae.pretraining import main

            sys.exit(main(options))
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("hivit_mae"):
        raise
    sys.exit(f"error: {error.name} is not installed: pip install -r requirements_pretrain.txt, from the project's top")
