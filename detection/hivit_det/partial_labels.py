"""Heads for merged sets, whose sources annotate some of the classes alone: what is not annotated is not background.

The data set says which classes each image annotates (`annotated` of `CocoByName`). Of an image whose source leaves out
a class, targets of that class stand there without a box. So
- no score of that class is learnt from where the image has no box (`PartialLabelsRoIHead`, with a softmax over the
  classes), or from anywhere in it (the one-stage heads, with a sigmoid for each class);
- of the RPN, which knows no classes, no place is learnt to be empty that it takes for a target itself, at a score above
  one half (`PartialLabelsRPNHead`). It has learnt these targets from the other sources, and the places that it is sure
  of are still learnt. At the start, all scores are about one half, so that half of the negatives count.

Faster R-CNN needs the first and the last, as in

    model = dict(rpn_head=dict(type="PartialLabelsRPNHead"), roi_head=dict(type="PartialLabelsRoIHead"))
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import FCOSHead, GFLHead, RPNHead
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi

from saratrx.errors import InputError

HIDDEN = -1e4  # a logit whose softmax, sigmoid and gradient are 0; float16 holds it
IS_TARGET = 0.5  # objectness in [0, 1]


def missing_classes(metas: Sequence[dict[str, Any]], device: torch.device) -> torch.Tensor:
    """Tell which classes each image of a batch does not annotate: bool [B, C].

    Raises:
        InputError: if an image does not say what it annotates.

    """
    if not all("annotated" in meta for meta in metas):
        raise InputError(
            "a head for partial labels got an image that does not say which classes it annotates: give the training "
            'set, dict(type="CocoByName"), its annotated={SOURCE: [CLASS, ...]}, without transforms that mix images'
        )
    return ~torch.tensor([meta["annotated"] for meta in metas], dtype=torch.bool, device=device)


@MODELS.register_module()
class PartialLabelsRPNHead(RPNHead):
    """An RPN that does not learn from doubtful negatives of images in which a class is not annotated."""

    is_partial: torch.Tensor  # [B], of the batch whose loss is being computed

    def loss_by_feat(
        self,
        cls_scores: list[torch.Tensor],
        bbox_preds: list[torch.Tensor],
        batch_gt_instances: list[Any],
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: list[Any] | None = None,
    ) -> dict[str, Any]:
        """Losses of a batch."""
        self.is_partial = missing_classes(batch_img_metas, cls_scores[0].device).any(dim=1)
        return super().loss_by_feat(
            cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )

    def loss_by_feat_single(
        self,
        cls_score: torch.Tensor,
        bbox_pred: torch.Tensor,
        anchors: torch.Tensor,
        labels: torch.Tensor,
        label_weights: torch.Tensor,
        *others: Any,
        **named: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses of a level: `cls_score` [B, A, H, W]; `labels`, 0 for a target, 1 for none, and weights [B, HWA]."""
        scores = cls_score.detach().permute(0, 2, 3, 1).flatten(1).sigmoid()
        is_doubtful = self.is_partial[:, None] & (labels == self.num_classes) & (scores > IS_TARGET)
        weights = label_weights.masked_fill(is_doubtful, 0)
        return super().loss_by_feat_single(cls_score, bbox_pred, anchors, labels, weights, *others, **named)


@MODELS.register_module()
class PartialLabelsRoIHead(StandardRoIHead):
    """A second stage whose negatives say nothing of the classes that their image does not annotate.

    Their logits are taken out of the softmax; of proposals on a box all stay, as a ship is no aircraft.
    """

    missing: torch.Tensor  # [B, C], of the batch whose loss is being computed

    def loss(self, x: tuple[torch.Tensor, ...], rpn_results_list: list[Any], batch_data_samples: list[Any]) -> Any:
        """Losses of a batch."""
        self.missing = missing_classes([sample.metainfo for sample in batch_data_samples], x[0].device)
        return super().loss(x, rpn_results_list, batch_data_samples)

    def bbox_loss(self, x: tuple[torch.Tensor, ...], sampling_results: list[Any]) -> dict[str, Any]:
        """Losses of the classes and the boxes."""
        rois = bbox2roi([each.priors for each in sampling_results])
        found = self._bbox_forward(x, rois)
        hidden = []
        for missing, each in zip(self.missing, sampling_results, strict=True):
            mask = missing.new_zeros(len(each.priors), found["cls_score"].shape[1])
            mask[len(each.pos_priors) :, : len(missing)] = missing  # positives come first, background is the last class
            hidden.append(mask)
        losses = self.bbox_head.loss_and_target(
            cls_score=found["cls_score"].masked_fill(torch.cat(hidden), HIDDEN),
            bbox_pred=found["bbox_pred"],
            rois=rois,
            sampling_results=sampling_results,
            rcnn_train_cfg=self.train_cfg,
        )
        return found | {"loss_bbox": losses["loss_bbox"]}


class PartialLabels:
    """Makes a one-stage head with a sigmoid for each class leave out the classes that an image does not annotate."""

    def loss_by_feat(self, cls_scores: list[torch.Tensor], *others: Any) -> dict[str, Any]:
        """Losses of a batch; `cls_scores` are [B, C, H, W] of each level, the metas last but one."""
        missing = missing_classes(others[-2], cls_scores[0].device)[..., None, None]
        hidden = [scores.masked_fill(missing, HIDDEN) for scores in cls_scores]
        return super().loss_by_feat(hidden, *others)  # type: ignore[misc]  # of the head beside it


@MODELS.register_module()
class PartialLabelsGFLHead(PartialLabels, GFLHead):
    """GFL, for partial labels."""


@MODELS.register_module()
class PartialLabelsFCOSHead(PartialLabels, FCOSHead):
    """FCOS, for partial labels."""
