"""Trainers."""

from dassl.engine.build import TRAINER_REGISTRY as TRAINER_REGISTRY
from dassl.engine.build import build_trainer as build_trainer
from dassl.engine.trainer import SimpleNet as SimpleNet
from dassl.engine.trainer import SimpleTrainer as SimpleTrainer
from dassl.engine.trainer import TrainerBase as TrainerBase
from dassl.engine.trainer import TrainerX as TrainerX
from dassl.engine.trainer import TrainerXU as TrainerXU
