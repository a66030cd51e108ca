"""Train a small language model with Lightning on any number of devices, and resume it.

python train_lightning.py --devices 2 --stop-after 4
python train_lightning.py --devices 2 --resume
"""

import argparse
from pathlib import Path
from pydoc_data.topics import topics

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torchdata.stateful_dataloader import StatefulDataLoader
from transformers import LlamaConfig, LlamaForCausalLM

import tightbatch as tb

EPOCHS = 2
paragraphs = [text for topic in topics.values() for text in topic.split("\n\n")]
rows = [{"input_ids": list(text.encode()[:200])} for text in paragraphs[:150] if len(text) > 1]


class Data(LightningDataModule):
    def train_dataloader(self):
        sampler = tb.LengthBatchSampler(
            tb.lengths(rows, "input_ids"),
            max_tokens=1024,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
        )
        # Lightning counts the batches of one epoch for all, and begins to read before it
        # tells samplers the epoch. With `reload_dataloaders_every_n_epochs=1` it comes here first.
        sampler.even_out(EPOCHS)
        sampler.set_epoch(self.trainer.current_epoch)
        collate_fn = tb.PadCollator(padding_value={"labels": -100})
        # A loader with a state is what Lightning resumes in the middle of an epoch.
        return StatefulDataLoader(rows, batch_sampler=sampler, collate_fn=collate_fn)


class Model(LightningModule):
    def __init__(self):
        super().__init__()
        config = LlamaConfig(
            vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=256,
        )  # fmt: skip
        self.model = LlamaForCausalLM(config).train()

    def training_step(self, batch):
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        # Ranks have other numbers of labels: their mean is over all of them, not a mean of means.
        count = (labels[:, 1:] != -100).sum()
        total = self.trainer.strategy.reduce(count, reduce_op="sum")
        loss = self.model(**batch, labels=labels, num_items_in_batch=total).loss
        self.log("loss", loss, prog_bar=True, reduce_fx="sum", sync_dist=True)
        return loss * self.trainer.world_size  # DDP takes the mean over ranks

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(folder="lightning_out", devices=1, resume=False, stop_after=-1, save_every=4):
    torch.manual_seed(0)
    model = Model()
    trainer = Trainer(
        devices=devices,
        accelerator="auto",
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=EPOCHS,
        max_steps=stop_after,
        use_distributed_sampler=False,  # the sampler knows its rank
        reload_dataloaders_every_n_epochs=1,
        callbacks=ModelCheckpoint(folder, every_n_train_steps=save_every, save_last=True),
        enable_model_summary=False,
        logger=False,
    )
    trainer.fit(model, Data(), ckpt_path=Path(folder, "last.ckpt") if resume else None)
    return model.model


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop-after", type=int, default=-1)
    options = parser.parse_args()
    main("lightning_out", options.devices, options.resume, options.stop_after)
