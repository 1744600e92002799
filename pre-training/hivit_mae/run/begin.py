"""The beginning of a run: the model, its optimizer, and how it is called."""

from typing import cast

import torch
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from hivit_mae.cluster.distributed import Processes
from hivit_mae.models.models_hivit_mae import HiViTMaskedAutoencoder, build_model
from hivit_mae.run.options import ModelOptions
from hivit_mae.run.precision import compiled
from hivit_mae.run.training_state import Progress, TrainingState, target_of
from saratrx.checkpoint import encoder_weights, load_checkpoint, load_encoder
from saratrx.reporting import get_logger

log = get_logger(__name__)

NEW_IN_PRETRAINING = ("decoder_", "mask_token", "norm.", "sarfeature")  # may be missing in --init_weights


def new_state(
    model_options: ModelOptions, seed: int, *, lr: float, weight_decay: float, amp: str, device: torch.device
) -> TrainingState:
    """Make the model with random weights, its optimizer and scaler."""
    model = build_model(model_options, seed).to(device)
    parameter_groups = param_groups_weight_decay(model, weight_decay)
    optimizer = torch.optim.AdamW(parameter_groups, lr=lr, betas=(0.9, 0.95), fused=True)
    return TrainingState(model, optimizer, GradScaler(device.type, enabled=amp == "fp16"), Progress())


def begin(state: TrainingState, model_options: ModelOptions, seed: int, start_epoch: int) -> None:
    """Bring the state to the beginning of a run: weights of the seed or of --init_weights, a new optimizer."""
    state.model.load_state_dict(build_model(model_options, seed).state_dict())
    if model_options.init_weights:
        load_weights(state.model, model_options.init_weights, model_options.target)
    state.optimizer.state.clear()
    state.progress.__dict__.update(vars(Progress(epoch=start_epoch)))


def load_weights(model: HiViTMaskedAutoencoder, path: str, target: str) -> None:
    """Load the weights of --init_weights; what predicted another target begins anew.

    Raises:
        CheckpointError: if the file does not fit.

    """
    content, prediction = load_checkpoint(path), model.decoder_pred
    learnt = target_of(content)
    is_new = learnt != target and "decoder_pred.weight" in encoder_weights(content["model"])
    if is_new:  # its shape alone does not tell one target from another
        model.add_module("decoder_pred", None)
    try:
        load_encoder(model, path, missing_ok=NEW_IN_PRETRAINING)
    finally:
        model.decoder_pred = prediction
    if is_new:
        log.info(f"decoder_pred is new: {path} was trained for the target {learnt}, and this run is for {target}")


def wrap(
    model: nn.Module,
    processes: Processes,
    *,
    is_compiled: bool,
    compile_mode: str = "default",
    is_accumulating: bool = False,
    grad_reduce: str = "float32",
    bucket_mb: float = 25,
) -> nn.Module:
    """Give the model as it is called in training: compiled, and averaging its gradients over the processes."""
    network = cast(nn.Module, compiled(model, compile_mode)) if is_compiled else model
    if processes.world_size == 1:
        return network
    network = DistributedDataParallel(
        network,
        device_ids=None if processes.device.type == "cpu" else [processes.device],
        broadcast_buffers=False,  # they are constant
        static_graph=not is_accumulating,  # PyTorch fails where the first batch is accumulated without averaging
        gradient_as_bucket_view=True,
        bucket_cap_mb=bucket_mb,
    )
    if grad_reduce == "bf16":
        network.register_comm_hook(None, bf16_compress_hook)
    return network
