"""The whole stage, killed while a language model answers, and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from tests.features.tags.llm_server import choose_by_hash, serve

from hidvae.data.prepare import ITEMS_FILE, load_dataset
from hidvae.store.artifacts import StageFolder, read_stage

SETTINGS = (
    "EmbeddingConfig.text_encoder=hashing",
    "TagConfig.fill_missing=llm",
    "LLMConfig.model=m",
    "LLMConfig.concurrency=2",
)


def hidvae(*words: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hidvae", *words]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)


def test_killed_and_run_again_it_is_the_same_artifact(
    demo_folder: StageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, run = tmp_path / "shop", tmp_path / "run"
    shop.mkdir()
    items = pl.read_parquet(demo_folder.path / ITEMS_FILE)
    is_hidden = pl.int_range(pl.len()) % 3 == 0
    items.with_columns(
        pl.when(~is_hidden).then(pl.col("categories")).alias("categories")
    ).write_parquet(shop / "items.parquet")
    load_dataset(demo_folder).events_frame().write_parquet(shop / "interactions.parquet")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("HIDVAE_CACHE", str(tmp_path / "cache"))
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    with serve(lambda request, number: choose_by_hash(request), seconds=0.05) as server:
        settings += ["--set", f"LLMConfig.base_url={server.url}"]
        for command in (["prepare", "--data", str(shop)], ["embed"]):
            assert hidvae(*command, "--output", str(run), *settings).wait() == 0
        tag = ("tag", "--output", str(run), *settings)
        killed = hidvae(*tag)
        waiting_until = time.monotonic() + 60
        while len(server.requests) < 20 and killed.poll() is None:
            assert time.monotonic() < waiting_until
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        assert not (run / "tags").exists()
        asked = len(server.requests)
        assert hidvae(*tag).wait() == 0
        resumed = read_stage(run / "tags", produced_by="hidvae tag")
        assert 0 < len(server.requests) - asked < resumed.metrics["llm"]["requests"]
        (run / "tags").rename(run / "resumed")
        assert hidvae(*tag, HIDVAE_CACHE=str(tmp_path / "another cache")).wait() == 0
    whole = read_stage(run / "tags", produced_by="hidvae tag")
    assert whole.fingerprint == resumed.fingerprint
    assert whole.metrics["levels"] == resumed.metrics["levels"]
    assert whole.metrics["levels"][0]["sources"]["llm"] > 0
