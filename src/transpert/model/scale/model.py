"""SCALE: the model class."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, override

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.strategies import Strategy

from transpert._compat import SETUP_ARGS_KEY
from transpert._schema import DAMAGED, checked
from transpert._seeds import check_seed
from transpert.conditions import Embedding
from transpert.data import SetDataModule, SetSampler
from transpert.errors import AssumptionWarning, ModelFileError, OptionError, ProcessError, TrainingError
from transpert.groups import ControlMatching, Groups, make_groups
from transpert.nn import (
    ConditionOptions,
    DecoderOptions,
    EncoderOptions,
    FlowOptions,
    LossOptions,
    NetworkOptions,
    NetworkSizes,
    SetOptions,
)
from transpert.transport import (
    Anchor,
    AnchorOptions,
    GroupEffects,
    Novelty,
    PooledStatistics,
    ReadoutOptions,
    predict_as_new,
)

from ..base import PerturbationModel
from ..cells.in_memory import Cells
from ..cells.open import Data, StoredCells
from ..cells.registration import jsonable
from ..embeddings import (
    EmbeddingLike,
    check_perturbations,
    embedding_arrays,
    embedding_from_arrays,
    network_table,
    resolve_embedding,
    warn_of_unused,
)
from ..prediction.assemble import SetPrediction
from ..prediction.controls import rows_by_origin
from ..prediction.requests import Request
from ..processes import is_sharded
from ..uncertainty.estimates import UncertaintyEstimates
from .condition_codes import ConditionTable
from .folds import Folds, assign_folds, resolve_level, rows_like_asked, split_kind
from .gate import FittedGate, fit_gate, gate_table, require_trained, was_tried
from .held_out_anchor import LeftOutShifts, groups_of, judged_rows, leave_folds_out
from .module import TransportModule
from .network_prediction import encode_cells, encode_population, transport_population
from .options import JoiningOptions, SavedOptions, SavedState, ScaleOptions, TrainingOptions
from .training.fingerprints import data_fingerprint, options_fingerprint
from .training.plan import TransportTrainingPlan
from .training.progress import Say, stages
from .training.run import (
    CheckpointSettings,
    Resume,
    SetTrainRunner,
    TrainerSettings,
    check_precision,
    checkpoint_to_resume,
    default_precision,
    group_names,
    run_training,
)
from .training.size import fit_to_groups

_VALIDATION_BATCHES = 6
_CONTROLS_OF_THE_GATE = 512  # cells, at most, of which networks are asked where they would take groups they left out
_PREDICTS = -1  # the last of the networks, which was trained on all groups
_KEEP = "keep"  # an option that is not given stays as the preset has it


class SCALE(PerturbationModel):
    """Set-aware conditional flow matching from an anchor, with a count read-out.

    Transports a population of control cells to the population that a perturbation would make of it. A closed-form
    anchor predicts the mean effect; a network is trained by endpoint-supervised conditional flow matching on sets of
    cells; the two mean shifts are averaged with a weight fitted on groups that further networks have not seen (the
    *gate*), and the result is read out as integer counts.

    Parameters
    ----------
    adata
        Data registered with :meth:`setup_anndata`, :meth:`setup_mudata` or :meth:`setup_store`.
    registry
        Registry of a saved model, in place of ``adata``.
    preset
        ``"tiny"``, ``"small"``, ``"base"``, ``"large"`` (for atlases, on GPUs), or ``"paper"`` (the choices of the
        paper).
    encoder, sets, conditions, flow, losses, decoder, anchor, readout, joining, training
        Options that replace those of the preset; ``anchor=None`` goes without an anchor.
    embeddings
        A vector for every perturbation: an :class:`~transpert.conditions.Embedding`, a DataFrame, several of either,
        or ``"coexpression"`` to make one of the control cells. Perturbations are then predicted from what they are,
        also those that were not seen, by the anchor and by the network. Learned by default.
    seed
        Seed of everything random in training.

    Notes
    -----
    Chen et al. (2026), "SCALE", arXiv 2603.17380. What is different here, and why, is in the documentation.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=4, n_perturbations=2, n_genes=30, n_cells=40)
    >>> tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.SCALE(adata, preset="tiny", training=tp.model.TrainingOptions(steps=10, steps_per_epoch=5))
    >>> model.train(enable_progress_bar=False)
    >>> pred = model.predict(perturbations="P0", progress=False)
    >>> pred.layers["counts"].shape == pred.shape
    True
    """

    _module_cls = TransportModule
    _training_plan_cls = TransportTrainingPlan
    _data_splitter_cls = SetDataModule
    _train_runner_cls = SetTrainRunner
    module: TransportModule

    def __init__(
        self,
        adata: Data | None = None,
        registry: dict[str, Any] | None = None,
        *,
        preset: str = "small",
        encoder: EncoderOptions | None = None,
        sets: SetOptions | None = None,
        conditions: ConditionOptions | None = None,
        flow: FlowOptions | None = None,
        losses: LossOptions | None = None,
        decoder: DecoderOptions | None = None,
        anchor: AnchorOptions | None | Literal["keep"] = _KEEP,  # type: ignore[assignment]
        readout: ReadoutOptions | None = None,
        joining: JoiningOptions | None = None,
        training: TrainingOptions | None = None,
        embeddings: EmbeddingLike = None,
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry)
        start = ScaleOptions.preset(preset)
        network = NetworkOptions(
            encoder or start.network.encoder,
            sets or start.network.sets,
            conditions or start.network.conditions,
            flow or start.network.flow,
            losses or start.network.losses,
            decoder or start.network.decoder,
        )
        self.options = ScaleOptions(
            network,
            start.anchor if anchor == _KEEP else anchor,  # type: ignore[arg-type]
            readout or start.readout,
            joining or start.joining,
            training or start.training,
        )
        if self.options.anchor is None and self.options.joining.kind == "residual":
            raise OptionError("there is no anchor whose residual could be learned", where="joining")
        if self.source.embedding_key is not None and self.options.joining.kind == "residual":
            raise OptionError("cells in an embedding cannot be moved by the anchor", where="joining")
        self.readout_options = self.options.readout
        self._default_readout = self.options.readout.kind
        self.preset, self.seed = preset, check_seed(seed)
        self.embedding: Embedding | None = resolve_embedding(embeddings, self._cells, self.source)
        self.anchor: Anchor | None = None
        self.gate = 0.0
        self.gate_table: pd.DataFrame | None = None
        self.gate_evidence: FittedGate | None = None
        self.left_out_level = ""
        self.completed_history: dict[str, pd.DataFrame] = {}
        self._table: ConditionTable | None = None
        if self._cells is not None:
            self._build()
        self.init_params_ = self._get_init_params(locals())

    # --- the network ----------------------------------------------------------------------------------------

    def _build(self) -> None:
        groups, _ = self._training_groups()
        training = fit_to_groups(self.options.training, groups)
        self.options = dataclasses.replace(self.options, training=training)
        self._table = ConditionTable.of(groups, self._perturbation_names())
        self._make_module(len(self.genes) if self.cells.embedding is None else self.cells.embedding.shape[1])

    def _perturbation_names(self) -> tuple[str, ...]:
        if self.embedding is None:
            return self.vocabulary.parts
        self.embedding.require(self.vocabulary.parts, where=f"embeddings, {self.embedding.source}")
        return self.embedding.names

    def _make_module(self, n_inputs: int) -> None:
        table = self._conditions_table
        sizes = NetworkSizes(
            n_inputs,
            len(self.genes),
            len(table.perturbations) + 1,
            tuple(len(values) + 1 for values in table.contexts.values()),
            len(table.batches) + 1,
            () if self.embedding is None else self.embedding.blocks,
            len(table.directions),
        )
        vectors = None if self.embedding is None else network_table(self.embedding, self.vocabulary.parts)
        with torch.random.fork_rng(devices=[]):
            # weights are drawn on the CPU; torch.manual_seed would seed the GPUs too, which are not given back
            torch.default_generator.manual_seed(self.seed)
            self.module = TransportModule(
                sizes, self.options.network, n_networks=self.options.joining.n_networks, table=vectors
            )

    @property
    def _conditions_table(self) -> ConditionTable:
        assert self._table is not None
        return self._table

    # --- training -------------------------------------------------------------------------------------------

    @override
    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        precision: str | int | None = None,
        strategy: str | Strategy = "auto",
        early_stopping: bool = True,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every_n_steps: int | None = None,
        resume: Resume = False,
        **trainer_kwargs: Any,
    ) -> None:
        """Fit the anchor, train the networks, and fit the gate on what the networks have not seen.

        A second call trains further: it starts from the weights there are, with a new optimiser and schedule and the
        same sets of cells, and its epochs are appended to ``history``.

        Parameters
        ----------
        max_epochs
            Epochs of ``training.steps_per_epoch`` steps; as many as make ``training.steps`` by default.
        accelerator, devices
            As in Lightning; a GPU when there is one.
        precision
            ``32``, ``"bf16-mixed"`` or ``"16-mixed"``, as in Lightning; ``"bf16-mixed"`` on a GPU that can, ``32``
            elsewhere.
        strategy
            ``"auto"``; ``"ddp"``: several processes share the sets of a step; ``"fsdp2"``: they share the weights
            too; or a strategy of Lightning. A step has the same sets however many processes there are.
        early_stopping
            Stop when the loss on the left-out groups has not improved for ``training.patience`` epochs. The best
            weights are kept in any case.
        checkpoint_dir
            Folder for checkpoints, the newest two of which are kept. All networks of the ensemble are in each.
        checkpoint_every_n_steps
            Steps of the optimiser between two checkpoints; one after every validation by default.
        resume
            ``"auto"``: go on from the newest checkpoint of ``checkpoint_dir``, or start if there is none; on a CPU
            the result is bit for bit that of a training that was never interrupted. Or the path of a checkpoint.
        **trainer_kwargs
            Anything else that :class:`scvi.train.Trainer` takes.

        Raises
        ------
        transpert.errors.TrainingError
            If the loss is not finite; the best weights so far are restored.
        transpert.errors.ProcessError
            If one of several processes is gone.
        transpert.errors.CheckpointError
            If a checkpoint belongs to a training with other options or data, is damaged, or cannot be written, or if
            a new training would write among the checkpoints of another.
        transpert.errors.OptionError
            If the arguments contradict each other.
        KeyboardInterrupt
            If the user interrupts, or ``SystemExit`` if the machine asks the process to end: a checkpoint of the
            last step is written before.
        """
        if max_epochs is not None and max_epochs < 1:
            raise OptionError(f"max_epochs is {max_epochs}", remedy="Give at least 1, or None for the options' steps.")
        checkpoints = CheckpointSettings(
            None if checkpoint_dir is None else Path(checkpoint_dir), checkpoint_every_n_steps, resume
        )
        check_precision(precision)
        groups, matching = self._training_groups()
        self.left_out_level = resolve_level(groups, self.options.joining.leave_out, self._split_kind())
        n_folds, kind = self.options.joining.folds, self._split_kind()
        folds = assign_folds(groups, self.left_out_level, n_folds, split_kind=kind, seed=self.seed)
        shown = trainer_kwargs.get("enable_progress_bar", True)
        with stages(shown) as say:
            say("Reading the cells")
            effects = self._training_effects(groups, matching)
            if self.options.anchor is not None:
                self.anchor = self._fit_anchor(effects, self.options.anchor, say)
                warn_of_unused(self.anchor, self.embedding)
            members = groups_of(effects, groups)
            first = np.array([own[0] for own in members], dtype=int)
            anchored = self._left_out_anchor(effects, folds[first], say)
        shifts = anchored.of_groups(members, len(groups)) if self.options.joining.kind == "residual" else None
        self._set_statistics(effects.statistics, groups)
        data = self._data_module(groups, matching, folds)
        training = self.options.training
        assert training.steps is not None and training.steps_per_epoch is not None  # fitted to the groups
        settings = TrainerSettings(
            max(training.steps // training.steps_per_epoch, 1) if max_epochs is None else max_epochs,
            accelerator,
            devices,
            default_precision(accelerator) if precision is None else precision,
            strategy,
            early_stopping and folds.any,
            trainer_kwargs,
        )
        fingerprint = {
            "options": options_fingerprint(self.options),
            "seed": self.seed,
            "max_epochs": settings.max_epochs,
            "precision": str(settings.precision),
            "early_stopping": settings.early_stopping,
            "epochs of earlier trainings": len(self.completed_history.get("train_loss", ())),
            "setup": jsonable(self.registry_[SETUP_ARGS_KEY]),
            "data": data_fingerprint(data.source, groups, self.genes, self.embedding),
        }
        plan = TransportTrainingPlan(
            self.module,
            self.options.training,
            self._conditions_table.encode_groups(groups),
            folds,
            anchor=shifts,
            names=group_names(groups),
            seed=self.seed,
            fingerprint=fingerprint,
        )
        resumed = checkpoint_to_resume(checkpoints, fingerprint)
        self.module.train()
        try:
            run_training(self, plan, data, settings, checkpoints, resumed, self.options.training, self.seed)
        except ProcessError:
            raise  # the weights may be in parts, some of which are gone
        except TrainingError:
            self._take_best_weights(plan)
            raise
        self._take_best_weights(plan)
        self._set_trained()
        self.completed_history = dict(self.history or {})
        with stages(shown) as say:
            self._fit_gate(effects, groups, first, folds[first], anchored, say)

    def _take_best_weights(self, plan: TransportTrainingPlan) -> None:
        weights = plan.best_weights()
        if is_sharded(self.module) or self.options.training.compile:
            # a module of whole parameters, for populations of any size
            device = next(self.module.parameters()).device
            self._make_module(self.module.networks[0].sizes.n_inputs)
            self.module.to(device)
        self.module.load_state_dict(weights)
        self.module.eval()

    def _data_module(self, groups: Groups, matching: ControlMatching, folds: Folds) -> SetDataModule:
        cells, options = self.cells, self.options.training
        source = cells.source()
        assert options.steps_per_epoch is not None  # fitted to the groups
        shared: dict[str, Any] = {
            "set_size": self._set_size,
            "sets_per_batch": options.sets_per_batch,
            "seed": self.seed,
            "slice_size": options.slice_size or min(cells.slice_size, self._set_size),
        }
        batches = options.steps_per_epoch * options.accumulate
        train = SetSampler(groups, matching, batches_per_epoch=batches, weighting=options.weighting, **shared)
        validation = None
        if folds.any:
            with warnings.catch_warnings():  # small groups have been reported by the other sampler
                warnings.simplefilter("ignore", AssumptionWarning)
                validation = SetSampler(groups, matching, batches_per_epoch=_VALIDATION_BATCHES, **shared)
        return SetDataModule(source, train, validation, on_device=options.on_device)

    def _set_statistics(self, statistics: PooledStatistics, groups: Groups) -> None:
        """Give the networks mean and standard deviation of the training cells."""
        mean, spread = (torch.as_tensor(value, dtype=torch.float32) for value in statistics.mean_and_spread())
        genes = inputs = (mean, spread)
        if self.cells.embedding is not None:
            used = self.cells.embedding[groups.codes >= 0]
            inputs = (torch.as_tensor(used.mean(axis=0)), torch.as_tensor(used.std(axis=0)))
        for network in self.module.networks:
            network.set_statistics(inputs, genes)

    def _split_kind(self) -> str | None:
        return split_kind(self.adata, self.design.split_key)

    # --- the gate -------------------------------------------------------------------------------------------

    def _fit_anchor(self, effects: GroupEffects, options: AnchorOptions, say: Say) -> Anchor:
        dispersion = np.asarray(self._dispersion)
        return Anchor.fit(effects, options, dispersion, embedding=self.embedding, seed=self.seed, progress=say)

    def _left_out_anchor(self, effects: GroupEffects, folds: Folds, say: Say) -> LeftOutShifts:
        """What the anchor predicts for rows of the effects without the rows that their fold leaves out."""
        options = self.options.anchor
        rows = np.arange(len(effects))
        if self.options.joining.kind == "stack":  # in the other case networks start from what is predicted here
            rows = judged_rows(effects.conditions, folds, self._split_kind(), seed=self.seed)
        if self.anchor is None or options is None:
            return LeftOutShifts(rows, np.zeros((len(rows), len(self.genes))), np.ones(len(rows), dtype=bool))

        def fit(some: GroupEffects) -> Anchor:
            return self._fit_anchor(some, options, lambda text: say(f"Without a part of the groups: {text.lower()}"))

        return leave_folds_out(self.anchor, effects, folds, fit, rows)

    def _fit_gate(
        self,
        effects: GroupEffects,
        groups: Groups,
        first: np.ndarray,
        folds: Folds,
        anchored: LeftOutShifts,
        say: Say,
    ) -> None:
        """Weigh both by what they say about groups not seen; ``first`` is the first group of a row of the effects."""
        fold = folds.judged
        anchored = anchored.only(fold[anchored.rows] >= 0) if folds.any else anchored
        joining, rows, shifts = self.options.joining, anchored.rows, anchored.shifts
        asked = effects[rows]
        unseen = None
        if joining.folds > 1 and folds.any:
            unseen = self._left_out_networks(asked, groups, first[rows], fold[rows], shifts, say)
        if joining.gate is not None:
            self.gate = joining.gate
        elif self.options.anchor is None or unseen is None:
            self.gate = 1.0 if self.options.anchor is None else 0.0
        else:
            like_asked = rows_like_asked(effects.conditions, fold, self._split_kind())
            rows_asked = like_asked[rows] & anchored.comparable
            self.gate_evidence = fit_gate(asked, shifts, unseen, rows_asked, self.left_out_level)
            self.gate = self.gate_evidence.weight
            self.gate_table = gate_table(asked, shifts, unseen, self.gate)
        say("Learning how sure predictions are from left-out groups")
        predictor = self._left_out_predictor(effects, anchored, unseen)
        self.uncertainty = UncertaintyEstimates.fit(effects, predictor, among=rows)

    def _left_out_networks(
        self,
        effects: GroupEffects,
        groups: Groups,
        first: np.ndarray,
        fold: np.ndarray,
        anchored: np.ndarray,
        say: Say,
    ) -> np.ndarray:
        """Mean shifts, ``(P, G)``, that each row gets from the network that has not seen it."""
        shifts = np.zeros_like(anchored)
        where = zip(effects.contexts, map(groups.context_values, first.tolist()), effects.conditions, strict=True)
        requests = [Request(*asked, "") for asked in where]
        gathered = rows_by_origin(self.cells, self.design, requests)
        for number, (origin, rows) in enumerate(gathered.items(), 1):
            say(f"Comparing networks and anchor on left-out groups: controls {number} of {len(gathered)}")
            # read and encoded once for all that was done to them
            control = self._controls(self.cells, origin, _CONTROLS_OF_THE_GATE, self.seed)
            for row in rows:
                start, own = anchored[row] if self.options.joining.kind == "residual" else None, int(fold[row])
                found = self._network_shift(control, requests[row], start, number=own, seed=self.seed, each_cell=False)
                shifts[row] = found[0]
        return shifts

    def _left_out_predictor(
        self, effects: GroupEffects, anchored: LeftOutShifts, unseen: np.ndarray | None
    ) -> Callable[[Novelty, np.ndarray], np.ndarray | None]:
        """What the model says about groups in which something is new: networks as far as they have left it out."""
        gate, anchor = self.gate, self.anchor
        joined = anchored.shifts if gate == 0 else None
        if unseen is not None:
            joined = (1 - gate) * anchored.shifts + gate * unseen

        def predict(novelty: Novelty, rows: np.ndarray) -> np.ndarray | None:
            if novelty == self.left_out_level and joined is not None:
                return joined[np.searchsorted(anchored.rows, rows)]
            # in other situations the network was not tried; the anchor errs at least as much as both together
            return None if anchor is None else predict_as_new(anchor, effects, novelty, rows)

        return predict

    # --- prediction -----------------------------------------------------------------------------------------

    @override
    def _other_cells(self, adata: Data, max_missing: float | None = None) -> Cells | StoredCells:
        cells = super()._other_cells(adata, max_missing)
        embedding = getattr(cells, "embedding", None)
        known = self.module.networks[_PREDICTS].sizes.n_inputs
        if embedding is not None and embedding.shape[1] != known:
            raise OptionError(
                f"the embedding of the cells has {embedding.shape[1]} dimensions, the model was trained on {known}",
                where=f"obsm[{self.source.embedding_key!r}]",
                remedy="Embed these cells with the same model as the training cells.",
            )
        return cells

    @override
    def _check_requests(self, requests: Sequence[Request]) -> None:
        check_perturbations(requests, self.vocabulary, self.embedding)
        if self.anchor is None or self.options.joining.gate is not None:  # one gate holds for every request
            for request in requests:
                require_trained(request, self.gate, self.embedding, self.uncertainty)

    @override
    def _predict_set(self, control: Cells, request: Request, *, seed: int, each_cell: bool = True) -> SetPrediction:
        statistics = control.as_one_group()
        before = statistics.mean_log[0]
        if request.condition.is_control:
            return SetPrediction(before)
        shift = np.zeros_like(before)
        if self.anchor is not None:
            shift = self.anchor.predict(request.condition, request.context, statistics).mean_log - before
        gate = self._gate_of(request)
        if gate == 0:
            return SetPrediction(np.maximum(before + shift, 0), latent=self._latent_of(control))
        start = shift if self.options.joining.kind == "residual" else None
        network, pattern, latent = self._network_shift(control, request, start, seed=seed, each_cell=each_cell)
        joined = (1 - gate) * shift + gate * network
        # a network that counts little also has little to say about which cells move most
        blended = None if pattern is None else (1 - gate) * joined + gate * pattern
        return SetPrediction(np.maximum(before + joined, 0), blended, latent)

    def _gate_of(self, request: Request) -> float:
        """The weight of the networks for a request: none where the gate that was fitted says nothing about it."""
        if self.anchor is None or self.options.joining.gate is not None:
            return self.gate
        return self.gate if was_tried(self.anchor, request, self.embedding, self.left_out_level) else 0.0

    def _network_shift(
        self,
        control: Cells,
        request: Request,
        start: np.ndarray | None,
        *,
        number: int = _PREDICTS,
        seed: int,
        each_cell: bool = True,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Mean shift ``(G,)``, shift of every cell ``(N, G)`` and latent endpoints ``(N, d)``, by one network."""
        self.module.eval()
        device = next(self.module.parameters()).device
        condition = self._conditions_table.encode([request.condition], [request.context_values], [None]).to(device)
        mean, shift, latent = transport_population(
            self.module.networks[number],
            self._encoded(control, number, start),
            condition,
            set_size=self._set_size,
            seed=seed,
            each_cell=each_cell,
        )
        return (mean if start is None else mean + start), shift, latent

    def _encoded(self, cells: Cells, number: int, start: np.ndarray | None = None) -> torch.Tensor:
        """What a network makes of every cell, kept with the cells where the anchor does not move them first."""
        network = self.module.networks[number]
        if start is not None:
            return encode_cells(network, np.maximum(cells.log1p() + start.astype(np.float32), 0))
        states = cells.log1p() if cells.embedding is None else cells.embedding
        return cells.keep(f"encoded by {number}", lambda: encode_cells(network, states))

    @override
    def _latent_of(self, cells: Cells) -> np.ndarray | None:
        self.module.eval()
        network, encoded = self.module.networks[_PREDICTS], self._encoded(cells, _PREDICTS)
        return encode_population(network, encoded, set_size=self._set_size, seed=self.seed)

    @property
    def _set_size(self) -> int:
        assert self.options.training.set_size is not None  # fitted to the groups where the options leave it open
        return self.options.training.set_size

    def get_latent_representation(self, adata: Data | None = None) -> np.ndarray:
        """Return the latent state of every cell.

        Parameters
        ----------
        adata
            Other data with the same columns, with or without control cells; the data of the model by default.

        Returns
        -------
        ``(n_obs, d)`` float32. Cells are encoded in random sets of their own group, so that the state knows the
        population it belongs to.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model is not trained.
        """
        self._check_trained()
        cells = self.cells if adata is None else self._other_cells(adata)
        design = dataclasses.replace(self.design, split_key=None)  # other cells have no split, and may be all perturbed
        codes = make_groups(cells.obs, design, need_controls=False).codes
        latent = np.zeros((len(cells), self.options.network.encoder.width), dtype=np.float32)
        for positions in pd.Series(codes).groupby(codes).indices.values():
            latent[positions] = self._latent_of(cells[np.asarray(positions)])
        return latent

    # --- files and words ------------------------------------------------------------------------------------

    @override
    def _fit(self, effects: GroupEffects) -> None:
        raise OptionError("SCALE is fitted by train()")

    @override
    def _options(self) -> dict[str, Any]:
        return {"options": self.options.to_dict(), "preset": self.preset, "seed": self.seed}

    @classmethod
    @override
    def _from_options(cls, adata, registry, options):
        saved = checked(options, SavedOptions, ModelFileError, "options", DAMAGED)
        chosen, network = saved.options, saved.options.network
        return cls(
            adata,
            registry,
            preset=saved.preset,
            encoder=network.encoder,
            sets=network.sets,
            conditions=network.conditions,
            flow=network.flow,
            losses=network.losses,
            decoder=network.decoder,
            anchor=chosen.anchor,
            readout=chosen.readout,
            joining=chosen.joining,
            training=chosen.training,
            seed=saved.seed,
        )

    @override
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        plain: dict[str, Any] = {
            "gate": self.gate,
            "left_out_level": self.left_out_level,
            "gate_evidence": None if self.gate_evidence is None else dataclasses.asdict(self.gate_evidence),
            "conditions": self._conditions_table.to_dict(),
            "n_inputs": self.module.networks[0].sizes.n_inputs,
            "gate_table": None if self.gate_table is None else self.gate_table.to_dict(orient="list"),
            "history": {k: np.asarray(v).ravel().tolist() for k, v in (self.history or {}).items()},
        }
        more, arrays = embedding_arrays(self.embedding)
        plain |= more
        if self.anchor is not None:
            plain["anchor"], anchor_arrays = self.anchor.to_state()
            arrays |= {f"anchor_{key}": value for key, value in anchor_arrays.items()}
        return plain, arrays

    @override
    def _restore(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        saved = checked(plain, SavedState, ModelFileError, "state", DAMAGED)
        self.gate, self.left_out_level = saved.gate, saved.left_out_level
        evidence = plain.get("gate_evidence")
        self.gate_evidence = (
            None if evidence is None else checked(evidence, FittedGate, ModelFileError, "gate_evidence", DAMAGED)
        )
        self.gate_table = None if saved.gate_table is None else pd.DataFrame(saved.gate_table)
        self.completed_history = {key: pd.DataFrame({key: values}) for key, values in saved.history.items()}
        self.history_ = dict(self.completed_history)
        self.embedding = embedding_from_arrays(plain, arrays)
        if "anchor" in plain:
            own = {k.removeprefix("anchor_"): v for k, v in arrays.items() if k.startswith("anchor_")}
            self.anchor = Anchor.from_state(plain["anchor"], own, self.embedding)
        self._table = ConditionTable.from_dict(plain["conditions"])
        self._make_module(saved.n_inputs)

    @property
    def n_parameters(self) -> int:
        """Parameters of one of the networks that are trained side by side."""
        return sum(p.numel() for p in self.module.networks[0].parameters())

    @override
    def summary(self) -> str:
        options = self.options
        anchor = "none" if options.anchor is None else options.anchor.kind
        lines = [
            super().summary(),
            f"  preset {self.preset}: {self.n_parameters:,} parameters x {options.joining.n_networks} networks",
            f"  encoder {options.network.encoder.kind}, width {options.network.encoder.width}; "
            f"pooling {options.network.sets.pooling}; conditioning {options.network.conditions.conditioning}; "
            f"coupling {options.network.flow.coupling}",
            f"  anchor {anchor}; joining {options.joining.kind}; read-out {options.readout.kind}",
        ]
        if self.anchor is not None:
            lines += [f"  off: {reason}" for reason in self.anchor.missing()]
        if self.is_trained_:
            lines.append(f"  gate {self.gate:.2f}: the weight of the network{self._what_speaks_for_the_gate()}")
        return "\n".join(lines)

    def _what_speaks_for_the_gate(self) -> str:
        """Say on how many independent units the gate rests, and what it gains on them."""
        found = self.gate_evidence
        if found is None:
            return ""
        unit = {"context": "contexts", "perturbation": "perturbations"}.get(self.left_out_level, "pairs")
        text = f", from {found.n_units} {unit} left out"
        return (
            f"{text}; gain {found.gain:.3f}, at least {found.gain_lower:.3f} with 90 % confidence"
            if self.gate
            else text
        )
