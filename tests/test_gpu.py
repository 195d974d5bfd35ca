"""The same study on a CUDA device: runs, and agrees with the CPU as far as floating point does."""

import pytest
import torch

from jsigr_lib.study.cells import robustness_cells
from jsigr_lib.study.robustness import accuracy_table
from jsigr_lib.study.study import Study

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_smoke_study_agrees_with_the_cpu(tmp_path):
    tables = {}
    for device in ("cpu", "cuda"):
        study = Study("smoke", device=device, runs=tmp_path / device, jobs=1, train_images=256, test_images=100)
        cells = [cell for cell in robustness_cells(study) if cell.row["defence"] in ("standard", "jsigr")]
        tables[device] = accuracy_table(study, cells)
    assert (tables["cpu"].accuracy - tables["cuda"].accuracy).abs().max() <= 0.05
