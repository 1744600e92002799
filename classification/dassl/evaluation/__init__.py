"""Evaluators."""

from dassl.evaluation.build import EVALUATOR_REGISTRY as EVALUATOR_REGISTRY
from dassl.evaluation.build import build_evaluator as build_evaluator
from dassl.evaluation.evaluator import Classification as Classification
from dassl.evaluation.evaluator import EvaluatorBase as EvaluatorBase
