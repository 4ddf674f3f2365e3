"""Help texts of argparse, read back."""

from __future__ import annotations

import argparse

import pytest

from pipeline.doctor.help_text import COLUMNS, Flag, read_help


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", COLUMNS)
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--max_seq_len", "--max_decoder_seq_len", type=int, help="Longest (of all)" + " word" * 50)
    add("--k", type=int, default=argparse.SUPPRESS, help="short, on one line")
    add("--strip_plan", action="store_true", help="a switch")
    add("--output_dir", default="a (b)", help="with brackets")
    group = parser.add_argument_group("LoRA arguments", "  described over\n  two lines")
    group.add_argument("--lora_target_modules", nargs="+", choices=["attn_q", "attn_k"], help="m")
    group.add_argument("--gemm_plugin", choices=["auto", "disable"], default="auto", help="p")
    return parser.format_help()


def test_every_option_is_read(text: str) -> None:
    assert read_help(text) == {
        "--max_seq_len": Flag("--max_seq_len", ("--max_decoder_seq_len",), "one", None, "None"),
        "--k": Flag("--k", (), "one", None, None),
        "--strip_plan": Flag("--strip_plan", (), "nothing", None, "False"),
        "--output_dir": Flag("--output_dir", (), "one", None, "a (b)"),
        "--lora_target_modules": Flag(
            "--lora_target_modules", (), "many", ("attn_q", "attn_k"), "None"
        ),
        "--gemm_plugin": Flag("--gemm_plugin", (), "one", ("auto", "disable"), "auto"),
    }


def test_the_spelling_of_python_3_13() -> None:
    text = "options:\n  --max_seq_len, --max_decoder_seq_len N\n        Longest. (default: 7)\n"
    assert read_help(text) == {
        "--max_seq_len": Flag("--max_seq_len", ("--max_decoder_seq_len",), "one", None, "7")
    }


def test_no_options_are_none() -> None:
    assert read_help("usage: x\n\nnothing here\n") == {}
