"""Damaged, foreign and hostile files of every kind are read rightly or refused by name; nothing runs or leaks out."""

from __future__ import annotations

import os
import pickle
import warnings

import numpy as np
import pytest
from tests.reliability.hostile import Runs, attack
from tests.reliability.workshop import Workshop

import transpert as tp
from transpert.errors import StoreError


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outer") / "shop"  # what is written outside would be seen beside it
    folder.mkdir()
    return Workshop(folder)


def test_files_are_read_rightly_or_refused_by_name(shop, monkeypatch) -> None:
    monkeypatch.chdir(shop.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = attack(shop, share=0.04, most=1, seed=5)
    assert not found.faults, "\n".join(found.faults)
    assert found.outcomes["refused"] > 15


def test_labels_of_scdl_that_are_a_pickle_are_not_opened(shop, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    labels = shop.scdl() / "var_features" / "labels.npy"
    right = labels.read_bytes()
    with labels.open("wb") as file:
        np.lib.format.write_array(file, np.array([Runs(tmp_path / "ran")], dtype=object), allow_pickle=True)
    for content in (labels.read_bytes(), pickle.dumps(Runs(tmp_path / "ran"))):
        labels.write_bytes(content)
        with pytest.raises(StoreError, match="can run code|no array of numpy"):
            tp.data.from_scdl(shop.scdl(), tmp_path / "out", shop.design)
    labels.write_bytes(right)
    assert os.listdir(tmp_path) == []
