"""Sizes of the notebooks of related work whose data are not those of the profile."""

from typing import Annotated

from pydantic import Field, field_validator

from jsigr_lib.method import norm_regularisation
from jsigr_lib.study.fields import MOST, Count, Different, Fraction, OneOrMore, Seed, Several, Table, among

QualityObjective = Annotated[
    str, among("objective in tried", [name for name in norm_regularisation.OBJECTIVES if name != "plain"])
]


class Distillation(Table):
    """Sizes of the notebook on policy distillation, whose data are rooms of MiniGrid and no images of a data set; by
    default so small that a run says nothing. The seeds are the profile's and `further_seeds`."""

    further_seeds: Several[Seed] = []
    rooms: int = Field(60, ge=1, le=200_000)  # to learn from
    poses: int = Field(4, ge=1, le=64)  # of the player in each of them
    states: int = Field(120, ge=1, le=MOST)  # the first of these, with stored maps, for the students
    width: int = Field(16, ge=2, le=1024, multiple_of=2)  # of every network
    teacher_epochs: int = Field(2, ge=1, le=1000)
    teacher_rate: float = Field(0.003, gt=0, le=1)  # the peak of its learning rate
    student_epochs: int = Field(1, ge=1, le=1000)
    student_rate: float = Field(0.0005, gt=0, le=1)
    batch_size: int = Field(64, ge=1, le=100_000)
    lambdas: OneOrMore[Annotated[float, Field(gt=0, le=1e6)]] = [0.003, 0.01]  # the weights lambda_s to compare
    jacobian: float = Field(0.3, gt=0, le=1000)  # lambda_j of J-DIGR, in units of its lambda_s
    share: Fraction = 0.2  # of the pixels, those that the selection leaves free
    episodes: int = Field(8, ge=2, le=1_000_000)  # of each evaluation: validation and test
    maps: int = Field(16, ge=2, le=1_000_000)  # test states whose maps are measured
    levels: OneOrMore[Annotated[int, Field(ge=1, le=255)]] = [4]  # budgets, of 255
    within: float = Field(0.02, ge=0, le=1)  # return that a penalty may cost where students are compared


class Quality(Table):
    """Sizes of the notebook about image quality; see `study.quality`."""

    train_sources: int = Field(28, ge=1, le=1000)  # photographs, all of whose variants are learnt from
    validation_sources: int = Field(5, ge=1, le=1000)  # those that choose the strengths
    test_sources: int = Field(10, ge=2, le=1000)  # those that report; intervals draw them
    crops: int = Field(4, ge=1, le=24)  # of a picture, 64 x 64
    epochs: Count = 16  # of the plain network
    further_epochs: Count = 3  # of every objective, from where that one ends
    batch_size: Count = 32
    learning_rate: float = Field(0.003, gt=0, le=10)
    # budgets of the attacks, of 255 levels; PGD and the choice of strengths take the largest
    levels: Annotated[list[Annotated[float, Field(gt=0, le=255)]], Field(min_length=1), Different] = [1.0, 2.0, 4.0]
    pgd_steps: Count = 10
    tried: dict[QualityObjective, OneOrMore[Annotated[float, Field(gt=0, le=1e6)]]] = {
        "nt": [0.0001, 0.0003, 0.001],
        "jacobian": [0.1, 0.3, 1.0],
        "input-gradient": [10.0, 30.0, 100.0],
        "jsigr": [0.1, 0.3, 1.0],
        "attacked": [1.0, 2.0, 4.0],  # levels
    }  # strengths among which the validation pictures choose

    @field_validator("levels")
    @classmethod
    def _ascending(cls, levels: list[float]) -> list[float]:
        return sorted(levels)
