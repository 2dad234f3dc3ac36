"""The command line: results on stdout, log lines on stderr, one line per error, exit codes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hidvae.apps.cli import DEMO, app, run_app
from hidvae.config import load_config
from hidvae.evaluation.evaluate_run import rankers_of
from hidvae.run.stages import STAGES

COMMANDS = (  # of the README
    "prepare embed tag tokenize train evaluate run recommend explain add-items remove-items".split()
)
Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hidvae(capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Run ``hidvae WORDS``; exit code, stdout, stderr."""

    def invoke(*words: str | Path) -> tuple[int, str, str]:
        code = run_app(app, "hidvae", [str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return invoke


def assert_one_line_error(result: tuple[int, str, str], expected: str) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    errors = [line for line in err.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(errors) == 1, err
    assert errors[0].startswith("hidvae: error: ")
    assert expected in errors[0]
    assert "Traceback" not in err


def settings(values: list[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def write_tables(folder: Path, items: str, interactions: str) -> Path:
    folder.mkdir()
    (folder / "items.csv").write_text(items, encoding="utf-8")
    (folder / "interactions.csv").write_text(interactions, encoding="utf-8")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(hidvae: Invoke, command: str) -> None:
    code, out, err = hidvae(command, "--help")
    assert (code, err) == (0, "")
    assert f"Example:\n    hidvae {command} --" in out


def test_help_lists_the_commands() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "hidvae", "--help"], capture_output=True, text=True, check=True
    )
    assert all(f"  {command}" in shown.stdout for command in COMMANDS)


CLEAN = (
    "item_id,title\n1,Red cup\n2,Blue cup\n",
    "user_id,item_id,timestamp\nu,1,10\nu,2,11\nu,1,12\nv,2,10\nv,1,11\nv,2,12\n",
)
"""Items and interactions without a fault."""
TORCH = ("torch", "lightning_fabric", "sentence_transformers")
_IMPORTED = """
import sys
from hidvae.apps.cli import app, run_app
code = run_app(app, "hidvae", sys.argv[2:])
found = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
sys.exit(f"exit code {code}, imported {found}" if code or found else 0)
"""


@pytest.mark.parametrize(
    ("unwanted", "command"),
    [
        ((*TORCH, "polars", "pydantic"), ["--help"]),
        ((*TORCH, "polars"), ["recommend", "--help"]),
        ((*TORCH, "scipy", "requests", "jinja2"), ["prepare", "--check", "--data", "DATA"]),
        ((*TORCH, "scipy", "requests", "jinja2"), ["prepare", "--data", "DATA", "--output", "RUN"]),
        ((*TORCH, "scipy", "requests", "jinja2"), ["inspect", "DATA"]),
        (("lightning_fabric", "sentence_transformers", "torch._dynamo"), ["recommend"]),
    ],
    ids=" ".join,
)
def test_commands_import_only_what_they_need(
    unwanted: tuple[str, ...], command: list[str], tiny_run: Path, tmp_path: Path
) -> None:
    data = write_tables(tmp_path / "data", *CLEAN)
    if command == ["recommend"]:
        (history,) = history_of(tiny_run, 1)
        command = ["recommend", "--model", str(tiny_run), "--history", history]
    places = {"DATA": str(data), "RUN": str(tmp_path / "run")}
    words = [places.get(word, word) for word in command]
    made = subprocess.run(
        [sys.executable, "-c", _IMPORTED, ",".join(unwanted), *words],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr


def test_no_words_print_the_help() -> None:
    shown = subprocess.run([sys.executable, "-m", "hidvae"], capture_output=True, text=True)
    assert shown.returncode == 0
    assert shown.stdout.startswith("Usage: hidvae")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "Did you mean 'train'"),
        (["run", "--outptu", "x"], "No such option"),
        (["run"], "Missing option '--output'"),
        (["recommend", "--model", "x", "--history", "1", "--top-k", "0"], "--top-k"),
        (["recommend", "--model", "x", "--history", "1", "--top-k", "ten"], "--top-k"),
    ],
)
def test_wrong_command_line_is_one_line(hidvae: Invoke, words: list[str], expected: str) -> None:
    assert_one_line_error(hidvae(*words), expected)


def test_unknown_setting_names_the_nearest(hidvae: Invoke, tmp_path: Path) -> None:
    result = hidvae("run", "--output", tmp_path / "r", "--set", "TokenizerConfig.codebook=1")
    assert_one_line_error(result, "did you mean TokenizerConfig.codebook_size?")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("items", "interactions", "expected"),
    [
        ("item_id,title\n1,a\n1,b\n", "user_id,item_id,position\nu,1,0\n", "2 items"),
        ("name,title\n1,a\n", "user_id,item_id,position\nu,1,0\n", "item_id"),
        ("item_id,title\n1,a\n2,b\n", "user_id,item_id,position\nu,9,0\n", "9"),
        ("item_id,title\n1,a\n2,b\n", "user_id,item_id,position\nu,1,0\n", "at least 2 users"),
        ("item_id,title\n1,a\n2,b\n", "user_id,position\nu,0\n", "item_id"),
    ],
)
def test_bad_tables_are_one_line_and_write_nothing(
    hidvae: Invoke, tmp_path: Path, items: str, interactions: str, expected: str
) -> None:
    data = write_tables(tmp_path / "data", items, interactions)
    result = hidvae("run", "--data", data, "--output", tmp_path / "run")
    assert_one_line_error(result, expected)
    assert not list((tmp_path / "run").glob("*"))


def test_missing_folder_is_one_line(hidvae: Invoke, tmp_path: Path) -> None:
    result = hidvae("prepare", "--data", tmp_path / "absent", "--output", tmp_path / "run")
    assert_one_line_error(result, "absent")


def test_too_few_semantic_ids_for_the_catalogue_is_one_line(
    hidvae: Invoke, tiny_settings: list[str], tmp_path: Path
) -> None:
    few = [
        "TokenizerConfig.codebook_size=8",
        "TokenizerConfig.num_levels=2",
    ]
    words = settings([*tiny_settings, *few])
    assert_one_line_error(hidvae("run", "--output", tmp_path / "run", *words), "8^2 = 64")


def test_stage_before_its_inputs_says_what_to_run(hidvae: Invoke, tmp_path: Path) -> None:
    assert_one_line_error(hidvae("train", "--output", tmp_path / "run"), "hidvae prepare")
    assert not (tmp_path / "run").exists()


def test_model_that_is_not_there_says_what_to_run(hidvae: Invoke, tmp_path: Path) -> None:
    result = hidvae("recommend", "--model", tmp_path / "absent", "--history", "a")
    assert_one_line_error(result, "run `hidvae")


def test_output_that_is_a_file_is_one_line(hidvae: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = hidvae("run", "--output", tmp_path / "file", "--set", "DatasetConfig.source=demo")
    assert_one_line_error(result, "file")


def test_debug_adds_the_traceback_wherever_it_stands(hidvae: Invoke, tmp_path: Path) -> None:
    for words in (["--debug", "train"], ["train", "--debug"]):
        code, _, err = hidvae(*words, "--output", tmp_path / "run")
        assert code == 2
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("hidvae: error: ")


def test_interruption_is_one_line_and_130(
    hidvae: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hidvae.run.run import Run

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "make", interrupted)
    code, out, err = hidvae("run", "--output", tmp_path / "run")
    assert (code, out) == (130, "")
    assert err.strip().splitlines() == ["hidvae: stopped; run the same command again to continue"]


def test_error_of_ours_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hidvae.run.run import Run

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Run, "make", broken)
    with pytest.raises(ZeroDivisionError):
        run_app(app, "hidvae", ["run", "--output", str(tmp_path / "run")])


def test_evaluate_with_baselines_prints_one_table_and_the_differences(
    hidvae: Invoke, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hidvae.evaluation.baselines import by_name as build

    run = shutil.copytree(tiny_run, tmp_path / "run")
    monkeypatch.setattr(build, "BASELINES", ("content_graph", "popularity"))
    code, out, _ = hidvae("evaluate", "--output", run, "--baselines")
    assert code == 0
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["evaluation"][
        "baselines"
    ] == ["all"]
    table, differences = out.split("hidvae minus …", 1)
    columns = "recall@5 recall@10 ndcg@5 ndcg@10 coverage novelty diversity".split()
    assert next(line for line in table.splitlines() if "recall@5" in line).split() == columns
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    rules = {"test_excluding_history": "history excluded", "test": "history included"}
    lines = table[table.index("history excluded") :].splitlines()
    for key, rule in rules.items():
        assert lines.pop(0).strip() == rule
        for name, scored in rankers_of(metrics).items():
            shown = [*columns[:4], "coverage@10", "novelty@10", "diversity@10"]
            expected = [f"{scored[key][metric]:.4f}" for metric in shown]
            line = lines.pop(0).strip()
            assert line.startswith(name)
            assert line.removeprefix(name).split() == expected
    for key in rules:
        for name, found in metrics["comparisons"]["hidvae"].items():
            low, high = found[key]["ndcg@10"]["ci"]
            interval = f"{found[key]['ndcg@10']['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
            assert re.search(
                rf"^  {re.escape(name)} .* {re.escape(interval)}$", differences, re.MULTILINE
            )
    assert max(len(line) for line in out.splitlines()) <= 100


def history_of(run: Path, length: int = 4) -> list[str]:
    from hidvae.data.prepare import load_dataset
    from hidvae.store.artifacts import read_stage

    dataset = load_dataset(read_stage(run / "dataset", produced_by="hidvae prepare"))
    return dataset.events_frame()["item_id"].to_list()[:length]


def test_recommend_prints_json(hidvae: Invoke, tiny_run: Path) -> None:
    history = history_of(tiny_run)
    code, out, _ = hidvae(
        "recommend", "--model", tiny_run, "--history", ",".join(history), "--top-k", 5, "--json"
    )
    assert code == 0
    recommended = json.loads(out)
    assert len(recommended) == 5
    promised = {"item_id", "title", "score", "log_prob", "tag_path", "tag_confidences", "because"}
    promised |= {"score_parts", "reason"}
    for item in recommended:
        assert promised <= set(item)
        assert item["item_id"] not in history
        assert len(item["tag_path"]) == len(item["tag_confidences"])
        assert all(0 <= confidence <= 1 for confidence in item["tag_confidences"])
        assert {cause["item_id"] for cause in item["because"]} <= set(history)
        assert sum(item["score_parts"].values()) == pytest.approx(item["score"], abs=1e-4)
    assert all(item["because"] for item in recommended)
    scores = [item["score"] for item in recommended]
    assert scores == sorted(scores, reverse=True)


def test_include_history_lets_history_items_in(hidvae: Invoke, tiny_run: Path) -> None:
    history = history_of(tiny_run)
    words = ["recommend", "--model", tiny_run, "--history", ",".join(history), "--json"]
    _, everything, _ = hidvae(*words, "--top-k", 120, "--include-history")
    _, rest, _ = hidvae(*words, "--top-k", 120)
    all_ids = {item["item_id"] for item in json.loads(everything)}
    assert set(history) <= all_ids
    assert {item["item_id"] for item in json.loads(rest)} == all_ids - set(history)


def test_orders_reach_the_list(hidvae: Invoke, tiny_run: Path) -> None:
    words = ["recommend", "--model", tiny_run, "--history", ",".join(history_of(tiny_run))]
    words += ["--json", "--top-k", 100]
    listed = [item["item_id"] for item in json.loads(hidvae(*words)[1])]
    for department in ("Kitchen", "Garden"):
        _, under, _ = hidvae(*words, "--under", department)
        _, others, _ = hidvae(*words, "--not-under", department)
        names = [{item["item_id"] for item in json.loads(out)} for out in (under, others)]
        assert names[0] and names[1] and not names[0] & names[1]
    _, out, _ = hidvae(*words, "--without", ",".join(listed[:2]), "--most-per-tag", 3)
    found = [item["item_id"] for item in json.loads(out)]
    assert len(found) == 6  # three of each department
    assert not set(listed[:2]) & set(found)
    assert_one_line_error(hidvae(*words, "--under", "Kitchn"), "Kitchen")


def test_recommend_prints_lines_that_fit_a_terminal(hidvae: Invoke, tiny_run: Path) -> None:
    words = ["--history", ",".join(history_of(tiny_run)), "--top-k", 3]
    code, out, _ = hidvae("recommend", "--model", tiny_run, *words)
    assert code == 0
    assert [line[2:4] for line in out.splitlines() if line[2:4] in ("1.", "2.", "3.")]
    assert max(len(line) for line in out.splitlines()) <= 100
    assert "\x1b" not in out


def test_unknown_item_of_a_history_is_one_line(hidvae: Invoke, tiny_run: Path) -> None:
    result = hidvae("recommend", "--model", tiny_run, "--history", "absent_item")
    assert_one_line_error(result, "absent_item")


def test_ids_with_commas_can_be_named(hidvae: Invoke, tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    table, first = tmp_path / "new.csv", history_of(tiny_run, 1)[0]
    table.write_text(
        'item_id,title\n"sku1, large",Cup\n"7"" tablet, red",Tablet\n"a,b",Pot\na,Lid\n', "utf-8"
    )
    code, _, err = hidvae("add-items", "--model", run, "--items", table)
    assert code == 0, err
    words = ["recommend", "--model", run, "--json", "--top-k", 200]

    def listed(*more: str | Path) -> set[str]:
        code, out, err = hidvae(*words, *more)
        assert code == 0, err
        return {item["item_id"] for item in json.loads(out)}

    everything = listed("--history", first, "--include-history")
    assert {"sku1, large", '7" tablet, red', "a,b", "a"} <= everything
    tablet = '"7"" tablet, red"'
    file = tmp_path / "ids.txt"
    file.write_bytes(b'\xef\xbb\xbfsku1, large\r\n\r\n7" tablet, red\r\n')
    for named in (
        ["--history", f'"sku1, large",{tablet}'],
        ["--history", "sku1, large", "--history", tablet],
        ["--history-file", file],
    ):
        assert everything - listed(*named) == {"sku1, large", '7" tablet, red'}
    assert everything - listed("--history", '"a,b"') == {"a,b"}
    without = listed("--history", first, "--without", '"a,b", a', "--without", "sku1, large")
    assert everything - without == {first, "a,b", "a", "sku1, large"}
    code, out, err = hidvae(
        "explain", "--model", run, "--history-file", file, "--item", "a,b", "--json"
    )
    assert code == 0 and json.loads(out)["item_id"] == "a,b", err
    assert_one_line_error(hidvae(*words, "--history", 'a,"sku1, large'), "double quotes around")
    assert_one_line_error(hidvae(*words, "--history", "a,c"), "found 1 unknown, first 'c'")
    assert_one_line_error(hidvae(*words), "expected --history ITEM,ITEM,... or --history-file")
    assert_one_line_error(hidvae(*words, "--history-file", tmp_path / "no"), "No such file")
    file.write_bytes(b"caf\xe9")
    assert_one_line_error(hidvae(*words, "--history-file", file), "expected text in UTF-8")
    assert_one_line_error(hidvae("remove-items", "--model", run), "--items-file FILE")
    file.write_text('sku1, large\n7" tablet, red\n', "utf-8")
    code, out, _ = hidvae("remove-items", "--model", run, "--items-file", file, "--items", '"a,b"')
    assert (code, out) == (0, "removed 3 items; catalogue version 2\n")


def test_empty_history_is_one_line(hidvae: Invoke, tiny_run: Path) -> None:
    assert_one_line_error(hidvae("recommend", "--model", tiny_run, "--history", ","), "history")


def test_explain_tells_why_one_item(hidvae: Invoke, tiny_run: Path) -> None:
    words = ["--model", tiny_run, "--history", ",".join(history_of(tiny_run))]
    _, listed, _ = hidvae("recommend", *words, "--top-k", 1, "--json")
    best = json.loads(listed)[0]
    code, out, _ = hidvae("explain", *words, "--item", best["item_id"], "--json")
    assert code == 0
    explained = json.loads(out)
    assert explained["item_id"] == best["item_id"]
    assert explained["tag_path"] == best["tag_path"]
    assert explained["log_prob"] == pytest.approx(best["log_prob"], abs=1e-4)
    assert_one_line_error(hidvae("explain", *words, "--item", "absent_item"), "absent_item")


def test_run_ends_with_metrics_ids_and_recommendations(
    hidvae: Invoke, tiny_run: Path, tiny_settings: list[str]
) -> None:
    code, out, err = hidvae("run", "--output", tiny_run, *settings(tiny_settings))
    assert code == 0
    assert err.count("skipped") == len(STAGES)
    assert re.search(r"^\d\d:\d\d:\d\d prepare skipped", err, re.MULTILINE)
    for shown in ("recall@10", "popularity", "<a_", "Recommendations for 3 users", " > "):
        assert shown in out, shown
    assert max(len(line) for line in out.splitlines()) <= 100
    assert out.endswith(f"Report: {tiny_run / 'report.html'}\n")
    assert (tiny_run / "report.html").is_file()


def test_the_demo_needs_no_files_and_says_what_to_try(
    hidvae: Invoke, tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = hidvae("demo", *settings(tiny_settings))
    assert code == 0, err
    assert "Recommendations for 3 users" in out and Path("runs/demo/report.html").is_file()
    tried = [shlex.split(line)[1:] for line in out.splitlines() if line.startswith("  hidvae ")]
    assert [words[0] for words in tried] == ["recommend", "explain", "inspect", "serve", "run"]
    for words in tried[:3]:
        assert hidvae(*words)[0] == 0, words


def test_the_demo_is_that_of_the_checkout() -> None:
    file = Path(__file__).parents[2] / "configs" / "demo.gin"
    here, there = (load_config(*given).to_json() for given in (([], DEMO), ([file],)))
    assert {*here.pop("bound")} <= {*there.pop("bound")} and here == there


def test_the_first_of_several_processes_shows_the_run_without_the_others(
    hidvae: Invoke, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others end after the stages; waiting for one of them would take forever."""
    launched = {"TORCHELASTIC_RUN_ID": "a", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    code, out, err = hidvae("run", "--output", tiny_run)
    assert code == 0, err
    assert "Recommendations for 3 users" in out


def test_report_says_where_the_page_is(hidvae: Invoke, tiny_run: Path, tmp_path: Path) -> None:
    code, out, _ = hidvae("report", tiny_run, "--output", tmp_path / "page.html")
    assert (code, out.split()[1]) == (0, f"{tmp_path / 'page.html'},")
    assert "<h2" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [[], ["--live", "--port", "0"]])
def test_report_of_no_run_is_one_line(hidvae: Invoke, tmp_path: Path, words: list[str]) -> None:
    assert_one_line_error(hidvae("report", tmp_path / "absent", *words), "is no run")


def test_a_run_goes_on_with_its_own_settings(hidvae: Invoke, tiny_run: Path) -> None:
    code, _, err = hidvae("run", "--output", tiny_run)
    assert code == 0
    assert err.count("skipped") == len(STAGES)


def test_items_are_added_updated_and_removed(
    hidvae: Invoke, tiny_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    table = tmp_path / "new.csv"
    table.write_text(
        'item_id,title,categories\nnew,"Red kettle, large",Kitchen > Kettles\n', encoding="utf-8"
    )
    code, out, err = hidvae("add-items", "--model", run, "--items", table)
    assert code == 0, err
    assert "new  Red kettle, large" in out and "catalogue version 1, 121 items" in out
    again = hidvae("add-items", "--model", run, "--items", table)
    assert_one_line_error(again, "update it instead")
    code, out, err = hidvae("add-items", "--model", run, "--items", table, "--update")
    assert code == 0 and "catalogue version 2, 121 items" in out, err
    code, out, err = hidvae("recommend", "--model", run, "--history", "new", "--json")
    assert code == 0 and json.loads(out), err
    code, out, err = hidvae("remove-items", "--model", run, "--items", "new")
    assert (code, out) == (0, "removed 1 items; catalogue version 3\n"), err
    assert_one_line_error(
        hidvae("remove-items", "--model", run, "--items", "nwe"), "did you mean 'new'?"
    )
