"""Complete checkpoints of Lightning go in and out, and a training goes on from them bit by bit."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import casckpt
from tests.integration.trainings import generators, set_generators
from tests.leafwise import assert_same_leaves

EPOCHS, RESUMED_AT = 4, 2

# Lightning and what it imports warn of each other; the warnings of casckpt stay errors.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error::casckpt.OpaqueWarning"),
]


def data(seed: int):
    torch.manual_seed(0)
    x = torch.randn(24, 4)
    torch.manual_seed(seed)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), 4, shuffle=True)


def network():
    """A module that draws from every generator there is. Made here, as importing Lightning takes seconds."""
    import lightning

    class Network(lightning.LightningModule):
        def __init__(self, width=8, lr=0.1, betas=(0.9, 0.99)):
            super().__init__()
            self.save_hyperparameters()
            self.net = torch.nn.Sequential(
                torch.nn.Linear(4, width), torch.nn.BatchNorm1d(width), torch.nn.Dropout(0.3), torch.nn.Linear(width, 1)
            )

        def training_step(self, batch, _index):
            x, y = batch
            loss = (self.net(x + 0.1 * np.random.standard_normal()) - y + 0.1 * random.random()).square().mean()
            self.log("loss", loss, on_epoch=True)
            return loss

        def validation_step(self, batch, _index):
            self.log("val", (self.net(batch[0]) - batch[1]).square().mean())

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, betas=self.hparams.betas)
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)]

    return Network()


def trainer(folder: Path, seed: int):
    import lightning
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    class Generators(lightning.Callback):
        """Lightning keeps no generators. They are set when it loads this: later it has drawn an order of the data."""

        def state_dict(self):
            return generators()

        def load_state_dict(self, state):
            set_generators(state)

    lightning.seed_everything(seed, verbose=False)
    checkpoints = ModelCheckpoint(folder, "{epoch}", monitor="val", save_top_k=-1, save_last=True)
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[checkpoints, EarlyStopping("val", patience=50), Generators()],
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder of a training that nobody stopped: its checkpoints, and `end.ckpt` by `save_checkpoint`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("undisturbed")
    run, model = trainer(folder, 1), network()
    run.fit(model, data(1), data(2))
    run.save_checkpoint(folder / "end.ckpt")
    torch.set_num_threads(before)
    return folder


def load(path: Path):
    return torch.load(path, weights_only=False)


def assert_same_training(wanted, found):
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops", "epoch", "global_step"):
        assert_same_leaves(wanted[part], found[part])


def test_a_complete_checkpoint_comes_back_as_it_was_without_a_pickle(undisturbed):
    checkpoint = load(undisturbed / "end.ckpt")
    parts = {"state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops", "hyper_parameters"}
    assert parts <= set(checkpoint)
    with casckpt.memory() as store:
        store.commit(checkpoint)
        assert not [leaf for leaf in store.leaves() if "pickle" in leaf.kind]
        assert_same_leaves(checkpoint, store.checkout(strict=True))


def test_a_training_goes_on_bit_by_bit_from_a_checkpoint_that_was_checked_out(undisturbed, tmp_path):
    with casckpt.memory() as store:
        checkpoint = load(undisturbed / f"epoch={RESUMED_AT - 1}.ckpt")
        store.commit(checkpoint, run="lit", step=checkpoint["global_step"], epoch=checkpoint["epoch"])
        torch.save(store.checkout("lit"), tmp_path / "resume.ckpt")
    wanted = load(undisturbed / "end.ckpt")
    undisturbed.rename(tmp_path / "aside")  # Lightning forgets which checkpoints were best if they lie elsewhere now
    run, model = trainer(undisturbed, 5), network()
    run.fit(model, data(3), data(4), ckpt_path=tmp_path / "resume.ckpt", weights_only=False)
    run.save_checkpoint(tmp_path / "end.ckpt")
    shutil.rmtree(undisturbed)
    (tmp_path / "aside").rename(undisturbed)
    assert_same_training(wanted, load(tmp_path / "end.ckpt"))


def test_checkpoint_files_come_back_byte_for_byte(undisturbed, tmp_path):
    names = ["end.ckpt", "last.ckpt", "epoch=1.ckpt"]
    with casckpt.init(tmp_path / "store") as store:
        store.commit_path(*(undisturbed / name for name in names))
        store.checkout_path("main", tmp_path / "out")
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (undisturbed / name).read_bytes()
