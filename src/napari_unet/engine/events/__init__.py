"""What a job reports while it runs: frozen events, in the past tense.

A job is a generator of these. The command line, a notebook, a test and the docks all drive the
same generators and differ only in what they do with the events.
"""

from __future__ import annotations

from napari_unet.engine.events.clicks import (
    AdaptingStepMade,
    ClicksAdapted,
    ObjectOutlined,
    ObjectsProposed,
)
from napari_unet.engine.events.evaluation import (
    EvaluationFinished,
    ImageEvaluated,
    ThresholdTried,
)
from napari_unet.engine.events.general import (
    ExportAdvanced,
    FileSaved,
    Noticed,
    PieceDone,
)
from napari_unet.engine.events.learning import (
    LearningPlanned,
    ModelMeasured,
    RoundChecked,
    RoundUndone,
    ScoreMeasured,
    StepCompleted,
    TrainingFinished,
    ValidationImagePredicted,
    ValidationMeasured,
)
from napari_unet.engine.events.prediction import (
    InstancesFound,
    PlaneFinished,
    PlanePredicted,
    PredictionFinished,
    RegionsSuggested,
    TilePredicted,
    WeightsComputed,
)
from napari_unet.engine.images.events import BatchEvent

__all__ = [
    "AdaptingStepMade",
    "BatchEvent",
    "ClicksAdapted",
    "EvaluationFinished",
    "ExportAdvanced",
    "FileSaved",
    "ImageEvaluated",
    "InstancesFound",
    "JobEvent",
    "LearningPlanned",
    "ModelMeasured",
    "Noticed",
    "ObjectOutlined",
    "ObjectsProposed",
    "PieceDone",
    "PlaneFinished",
    "PlanePredicted",
    "PredictionFinished",
    "RegionsSuggested",
    "RoundChecked",
    "RoundUndone",
    "ScoreMeasured",
    "StepCompleted",
    "ThresholdTried",
    "TilePredicted",
    "TrainingFinished",
    "ValidationImagePredicted",
    "ValidationMeasured",
    "WeightsComputed",
]

JobEvent = (
    TilePredicted
    | Noticed
    | LearningPlanned
    | StepCompleted
    | ObjectOutlined
    | ObjectsProposed
    | AdaptingStepMade
    | ClicksAdapted
    | ScoreMeasured
    | ValidationMeasured
    | ValidationImagePredicted
    | ModelMeasured
    | TrainingFinished
    | PredictionFinished
    | WeightsComputed
    | PlaneFinished
    | PlanePredicted
    | InstancesFound
    | ThresholdTried
    | ImageEvaluated
    | EvaluationFinished
    | ExportAdvanced
    | FileSaved
    | PieceDone
    | RegionsSuggested
    | RoundChecked
    | RoundUndone
    | BatchEvent
)
