"""Fine-tune a small language model with TRL, without padding, and resume it.

torchrun --nproc-per-node 2 train_trl.py
torchrun --nproc-per-node 2 train_trl.py --resume
"""

import argparse
from pydoc_data.topics import topics

import torch
from datasets import Dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

import tightbatch as tb
from tightbatch.huggingface.trl import DataCollatorForLanguageModeling

samples = [
    {"prompt": f"What does Python's manual say of {name}?", "completion": text[:300]}
    for name, topic in topics.items()
    for text in topic.split("\n\n")[:2]
]
bpe = ByteLevelBPETokenizer()
bpe.train_from_iterator(
    topics.values(), 500, special_tokens=["<pad>", "<eos>"], show_progress=False
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>")


def main(folder="trl_out", resume=False, callbacks=None):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    arguments = SFTConfig(
        str(folder),
        padding_free=True,
        completion_only_loss=True,
        max_length=None,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        save_steps=3,
        learning_rate=3e-3,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
    )
    trainer = SFTTrainer(
        LlamaForCausalLM(config),
        arguments,
        train_dataset=Dataset.from_list(samples),
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    # TRL would join a fixed number of rows. These batches are as full as max_tokens allows.
    trainer.data_collator = DataCollatorForLanguageModeling(
        tokenizer.pad_token_id, padding_free=True
    )
    trainer = tb.huggingface.batch_by_length(trainer, max_tokens=1024, padding_free=True)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--resume", action="store_true")
    main(resume=parser.parse_args().resume)
