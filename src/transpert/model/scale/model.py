"""SCALE: the model class."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Literal, override

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.strategies import Strategy

from transpert._arguments import check_arguments, check_path, named_options
from transpert._compat import SETUP_ARGS_KEY
from transpert._docstrings import fill_docstring
from transpert._schema import DAMAGED, checked
from transpert._seeds import check_seed
from transpert.conditions import Embedding
from transpert.data import SetDataModule
from transpert.errors import ModelFileError, OptionError, ProcessError, TrainingError, warn_user
from transpert.nn import (
    ConditionOptions,
    DecoderOptions,
    EncoderOptions,
    FlowOptions,
    GeneComponents,
    LossOptions,
    NetworkOptions,
    SetOptions,
)
from transpert.transport import (
    Anchor,
    AnchorOptions,
    GroupEffects,
    ReadoutOptions,
    fit_anchor,
)
from transpert.transport.anchor_state import anchor_from_state, anchor_to_state
from transpert.transport.weighing import FittedWeight

from ..cells.open import Data
from ..cells.registration import jsonable
from ..embeddings import (
    EmbeddingLike,
    embedding_arrays,
    embedding_from_arrays,
    resolve_embedding,
    warn_of_unused,
)
from ..evidence import EvidenceLike, aligned_evidence, resolve_evidence
from ..processes import check_accelerator, is_sharded
from ..saving import below
from .components import what_networks_read
from .condition_codes import ConditionTable
from .folds import assign_folds, resolve_level
from .gate import evidence_text
from .gated import GatedModel
from .gene_selection import GeneSelection
from .held_out_anchor import LeftOutGroups, groups_of
from .module import TransportModule
from .options import JoiningOptions, SavedOptions, SavedState, ScaleOptions, TrainingOptions, refuse_former
from .training.data import training_data
from .training.fingerprints import data_fingerprint, options_fingerprint
from .training.plan import TransportTrainingPlan
from .training.products import fast_products
from .training.progress import stages
from .training.run import (
    CheckpointSettings,
    Resume,
    SetTrainRunner,
    TrainerSettings,
    check_precision,
    check_trainer_options,
    default_precision,
    group_names,
    run_training,
)

_KEEP = "keep"  # an option that is not given stays as the preset has it


@fill_docstring
class SCALE(GatedModel):
    """Set-aware conditional flow matching from an anchor, with a count read-out.

    Transports a population of control cells to the population that a perturbation would make of it. A closed-form
    anchor predicts the mean effect; a network is trained by endpoint-supervised conditional flow matching on sets of
    cells; the two mean shifts are averaged with a weight fitted on groups that further networks have not seen (the
    *gate*), and the result is read out as integer counts.

    Parameters
    ----------
    %(registered_any_data)s
    preset
        ``"auto"``: ``"small"`` networks, which read and write 256 components of the cells where there are at least ten
        times as many genes, and are twice as wide where there are 100,000 cells and a GPU, as :meth:`summary` says; or
        ``"tiny"``, ``"small"``, ``"base"``, ``"large"`` (for atlases, on GPUs), or ``"paper"`` (the choices of the
        paper).
    encoder, sets, conditions, flow, losses, decoder, anchor, readout, joining, training
        Options that replace those of the preset; ``anchor=None`` goes without an anchor, and ``joining="always"``
        trains networks also where they could not count beside it.
    n_components
        Principal components in which the networks read and write cells, see :class:`~transpert.model.ScaleOptions`;
        ``None`` for genes.
    embeddings
        A vector for every perturbation: an :class:`~transpert.conditions.Embedding`, a DataFrame, several of either,
        or ``"coexpression"`` to make one of the control cells. Perturbations are then predicted from what they are,
        also those that were not seen, by the anchor and by the network. Learned by default.
    %(evidence)s
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

    @named_options()
    def __init__(
        self,
        adata: Data | None = None,
        registry: dict[str, Any] | None = None,
        *,
        preset: str = "auto",
        encoder: EncoderOptions | None = None,
        sets: SetOptions | None = None,
        conditions: ConditionOptions | None = None,
        flow: FlowOptions | None = None,
        losses: LossOptions | None = None,
        decoder: DecoderOptions | None = None,
        anchor: AnchorOptions | None | Literal["keep"] = _KEEP,  # type: ignore[assignment]
        readout: ReadoutOptions | None = None,
        joining: JoiningOptions | Literal["always"] | None = None,
        training: TrainingOptions | None = None,
        n_components: int | None | Literal["keep"] = _KEEP,  # type: ignore[assignment]
        embeddings: EmbeddingLike = None,
        evidence: EvidenceLike = None,
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry)
        start = ScaleOptions.preset(preset)
        network = NetworkOptions(
            start.network.encoder if encoder is None else encoder,
            start.network.sets if sets is None else sets,
            start.network.conditions if conditions is None else conditions,
            start.network.flow if flow is None else flow,
            start.network.losses if losses is None else losses,
            start.network.decoder if decoder is None else decoder,
        )
        self.options = ScaleOptions(
            network,
            start.anchor if isinstance(anchor, str) and anchor == _KEEP else anchor,  # type: ignore[arg-type]
            start.readout if readout is None else readout,
            start.joining.replaced_by(joining),
            start.training if training is None else training,
            start.n_components if n_components == _KEEP else n_components,  # type: ignore[arg-type]
        )
        if self.options.anchor is None and self.options.joining.kind == "residual":
            remedy = "Leave anchor= out, or join otherwise."
            raise OptionError("there is no anchor whose residual could be learned", where="joining", remedy=remedy)
        if self.source.embedding_key is not None and self.options.joining.kind == "residual":
            remedy = "Leave embedding_key out, or join otherwise."
            raise OptionError("cells in an embedding cannot be moved by the anchor", where="joining", remedy=remedy)
        self.readout_options = self.options.readout
        self._default_readout = self.options.readout.kind
        self.preset, self.seed = preset, check_seed(seed)
        parts = (encoder, sets, conditions, flow, losses, decoder)
        self._network_is_free = preset == "auto" and all(part is None for part in parts)
        self.embedding: Embedding | None = resolve_embedding(embeddings, self._cells, self.source)
        self.evidence = resolve_evidence(evidence)
        self.anchor: Anchor | None = None
        self.gate = 0.0
        self.gate_table: pd.DataFrame | None = None
        self.gate_evidence: FittedWeight | None = None
        self.left_out_level = ""
        self.asked_kind: str | None = None
        self.components: list[GeneComponents] = []
        self.selection: GeneSelection | None = None
        self.without_networks = self.trained_on = ""
        self.chosen_for = "other data"
        self.completed_history: dict[str, pd.DataFrame] = {}
        self._table: ConditionTable | None = None
        if self._cells is not None:
            self._build()
        self.init_params_ = self._get_init_params(locals())

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

        Where no network could count beside the anchor, none is trained, and ``summary()`` says why
        (``joining="always"`` insists).

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
        check_arguments(locals())
        checkpoints = CheckpointSettings(
            None if checkpoint_dir is None else check_path(checkpoint_dir, name="checkpoint_dir"),
            checkpoint_every_n_steps,
            resume,
        )
        check_precision(precision)
        check_accelerator(accelerator)
        check_trainer_options(trainer_kwargs, type(self).train)
        groups, matching = self._training_groups()
        joining, self.asked_kind = self.options.joining, self._what_is_asked()
        self.left_out_level = resolve_level(groups, joining.leave_out, self.asked_kind)
        folds = assign_folds(groups, self.left_out_level, joining.folds, split_kind=self.asked_kind, seed=self.seed)
        shown = trainer_kwargs.get("enable_progress_bar", True)
        with stages(shown) as report:
            report("Reading the cells")
            effects = self._training_effects(groups, matching)
            if self.options.anchor is not None:
                self.anchor = fit_anchor(
                    effects,
                    self.options.anchor,
                    np.asarray(self._dispersion),
                    embedding=self.embedding,
                    evidence=aligned_evidence(self.evidence, self.genes),
                    seed=self.seed,
                    progress=report,
                )
                warn_of_unused(self.anchor, self.embedding)
            members = groups_of(effects, groups)
            of_rows = folds[np.array([own[0] for own in members], dtype=int)]
            left = LeftOutGroups(effects, of_rows, groups, members, self.left_out_level, self.asked_kind)
            anchored = left.predicted_by(self.anchor, stacked=joining.kind == "stack", seed=self.seed)
            self.without_networks = self._why_no_networks(left, anchored)
        if self.without_networks:
            self._set_trained()
            with stages(shown) as report:
                self._fit_gate(left, anchored, report)
            warn_user(
                f"No network was trained, the anchor predicts alone: {self.without_networks}. "
                'To train one all the same, make the model with joining="always".'
            )
            return
        shifts = anchored.of_groups(members, len(groups)) if self.options.joining.kind == "residual" else None
        with fast_products():  # of every cell with the components of every network
            self._set_statistics(effects, groups, folds)
            data = training_data(
                self._networks.as_read(self.cells.source(), groups),
                groups,
                matching,
                self.options.training,
                slice_size=self.cells.slice_size,
                seed=self.seed,
                validates=folds.any,
            )
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
            "data": data_fingerprint(self.cells.source(), groups, self.genes, self.embedding),
        }
        plan = TransportTrainingPlan(
            self.module,
            self.options.training,
            self._conditions_table.encode_groups(groups),
            folds,
            anchor=None if shifts is None else self._networks.selected(shifts),
            names=group_names(groups),
            in_components=bool(self.components),
            seed=self.seed,
            fingerprint=fingerprint,
        )
        try:
            run_training(self, plan, data, settings, checkpoints, fingerprint, training, self.seed)
        except ProcessError:
            raise  # the weights may be in parts, some of which are gone
        except TrainingError:
            self._take_best_weights(plan)
            raise
        self._take_best_weights(plan)
        self.trained_on = f"{plan.trainer.strategy.root_device.type} in precision {settings.precision}"
        self._set_trained()
        self.completed_history = dict(self.history or {})
        with stages(shown) as report:
            self._fit_gate(left, anchored, report)

    def _take_best_weights(self, plan: TransportTrainingPlan) -> None:
        weights = plan.best_weights()
        if is_sharded(self.module) or self.options.training.compile:
            # a module of whole parameters, for populations of any size
            device = next(self.module.parameters()).device
            self._make_module(self.module.networks[0].sizes.n_inputs)
            self.module.to(device)
        self.module.load_state_dict(weights)
        self.module.eval()

    @override
    def _fit(self, effects: GroupEffects) -> None:
        raise OptionError("SCALE is fitted by train()", remedy="Call model.train().")

    @override
    def _options(self) -> dict[str, Any]:
        return {"options": self.options.to_dict(), "preset": self.preset, "seed": self.seed}

    @classmethod
    @override
    def _from_options(cls, adata, registry, options):
        saved = checked(options, SavedOptions, ModelFileError, "options", DAMAGED)
        refuse_former(options["options"].get("network", {}))
        parts = (saved.options, saved.options.network)
        given = {spec.name: getattr(part, spec.name) for part in parts for spec in dataclasses.fields(part)}
        del given["network"]
        return cls(adata, registry, preset=saved.preset, seed=saved.seed, **given)

    @override
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        plain: dict[str, Any] = {
            "gate": self.gate,
            "left_out_level": self.left_out_level,
            "without_networks": self.without_networks,
            "chosen_for": self.chosen_for,
            "trained_on": self.trained_on,
            "gate_evidence": None if self.gate_evidence is None else dataclasses.asdict(self.gate_evidence),
            "conditions": self._conditions_table.to_dict(),
            "n_inputs": self.module.networks[0].sizes.n_inputs,
            "gate_table": None if self.gate_table is None else self.gate_table.to_dict(orient="list"),
            "history": {k: np.asarray(v).ravel().tolist() for k, v in (self.history or {}).items()},
        }
        more, arrays = embedding_arrays(self.embedding)
        plain |= more
        if self.anchor is not None:
            plain["anchor"], anchor_arrays = anchor_to_state(self.anchor)
            arrays |= {f"anchor_{key}": value for key, value in anchor_arrays.items()}
        if self.selection is not None:
            arrays["selected_genes"] = self.selection.positions
        if self.components:
            # of the network that predicts; those of the others served to fit the gate
            state = self.components[-1].state_dict()
            arrays |= {f"components_{key}": value.cpu().numpy() for key, value in state.items()}
        return plain, arrays

    @override
    def _restore(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        saved = checked(plain, SavedState, ModelFileError, "state", DAMAGED)
        self.gate, self.left_out_level = saved.gate, saved.left_out_level
        self.gate_evidence = saved.gate_evidence
        self.without_networks = saved.without_networks
        self.chosen_for, self.trained_on = saved.chosen_for or self.chosen_for, saved.trained_on
        self.gate_table = None if saved.gate_table is None else pd.DataFrame(saved.gate_table)
        self.completed_history = {key: pd.DataFrame({key: values}) for key, values in saved.history.items()}
        self.history_ = dict(self.completed_history)
        self.embedding = embedding_from_arrays(plain, arrays)
        if "anchor" in plain:
            own = {k.removeprefix("anchor_"): v for k, v in arrays.items() if k.startswith("anchor_")}
            self.anchor = anchor_from_state(plain["anchor"], own, self.embedding)
        if self.options.n_components is not None and not self.without_networks:
            found = {name: torch.from_numpy(value) for name, value in below("components_", arrays).items()}
            self.components = [GeneComponents(len(self.genes), self.options.n_components)]
            self.components[0].load_state_dict(found, assign=True)
        if self._n_selected is not None and not self.without_networks:
            self.selection = GeneSelection(arrays["selected_genes"], len(self.genes))
        self._table = ConditionTable.from_dict(plain["conditions"])
        self._make_module(saved.n_inputs)

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
        lines.append(f"  networks read and write {what_networks_read(options.n_components, self._n_selected)}")
        training = options.training
        lines.append(
            f"  chosen for {self.chosen_for}: {training.steps:,} steps of {training.sets_per_batch} sets of "
            f"{training.set_size} cells{self.trained_on and f'; trained on {self.trained_on}'}"
        )
        if self.anchor is not None:
            lines += self.anchor.remarks()
        if self.is_trained_:
            why = f", which was not trained: {self.without_networks}" if self.without_networks else ""
            why = why or evidence_text(self.gate_evidence, self.left_out_level, self.gate)
            lines.append(f"  gate {self.gate:.2f}: the weight of the network{why}")
        return "\n".join(lines)
