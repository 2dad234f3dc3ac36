"""Settings: gin in, JSON out, and one clear line for whatever is wrong."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hidvae.config import (
    FORMER_NAMES,
    PUBLISHED_NAMES,
    SECTIONS,
    SIZES,
    Config,
    DatasetConfig,
    RetrieverConfig,
    RunConfig,
    TokenizerConfig,
    load_config,
)
from hidvae.errors import ConfigError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.gin"))


def write(folder: Path, text: str, name: str = "settings.gin") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def message_of(files: list[Path] | None = None, overrides: list[str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(files or [], overrides or [])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_file_binds_the_fields_and_leaves_the_others_at_their_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, "TokenizerConfig.codebook_size = 64\nRunConfig.seed = 3\n")
    expected = dataclasses.replace(
        Config(),
        tokenizer=TokenizerConfig(codebook_size=64),
        run=dataclasses.replace(Config().run, seed=3),
    )
    assert load_config([file]) == expected


def test_overrides_win_over_later_files_which_win_over_earlier_ones(tmp_path: Path) -> None:
    first = write(tmp_path, "RunConfig.seed = 1\nTokenizerConfig.epochs = 1", "first.gin")
    second = write(tmp_path, "RunConfig.seed = 2\nTokenizerConfig.epochs = 2", "second.gin")
    config = load_config([first, second], ["RunConfig.seed=3"])
    assert (config.run.seed, config.tokenizer.epochs) == (3, 2)


def test_base_gives_what_files_leave_open(tmp_path: Path) -> None:
    base = load_config([], ["TokenizerConfig.epochs=7", "RunConfig.seed=7"])
    config = load_config([write(tmp_path, "RunConfig.seed = 8")], [], base)
    assert (config.run.seed, config.tokenizer.epochs) == (8, 7)


def test_one_load_leaves_nothing_behind_for_the_next() -> None:
    load_config([], ["TokenizerConfig.epochs=7"])
    assert load_config() == Config()


def test_macros_and_included_files_work(tmp_path: Path) -> None:
    write(tmp_path, "LEVELS = 2\nRunConfig.seed = 5", "shared.gin")
    file = write(
        tmp_path,
        f"include '{tmp_path}/shared.gin'\nTokenizerConfig.num_levels = %LEVELS\n",
    )
    config = load_config([file])
    assert (config.tokenizer.num_levels, config.run.seed) == (2, 5)


def test_include_is_looked_up_beside_the_including_file(tmp_path: Path) -> None:
    write(tmp_path, "RunConfig.seed = 5", "shared.gin")
    assert load_config([write(tmp_path, "include 'shared.gin'")]).run.seed == 5


def test_unknown_key_in_an_included_file_names_that_file_and_the_nearest_key(
    tmp_path: Path,
) -> None:
    write(tmp_path, "TokenizerConfig.codebook_sise = 5", "shared.gin")
    message = message_of([write(tmp_path, "include 'shared.gin'")])
    assert "shared.gin, line 1" in message
    assert "did you mean TokenizerConfig.codebook_size?" in message


@pytest.mark.parametrize(
    "line",
    [
        "import {module}",
        "import {module} as other",
        "from {module} import anything",
        "from __gin__ import dynamic_registration",
        "RunConfig.seed = @{module}.anything()",
        "RunConfig.seed = @anything",
        "DatasetConfig.column_names = (@{module}.anything(),)",
        "{module}.anything.x = 1",
        "scope/RunConfig.seed = 1",
    ],
)
@pytest.mark.parametrize("is_included", [False, True])
def test_a_config_file_runs_no_code(
    line: str, is_included: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, line.format(module="planted"), "planted.gin")
    if is_included:
        file = write(tmp_path, "include 'planted.gin'")
    assert "planted.gin" in message_of([file])
    assert not (tmp_path / "ran").exists() and "planted" not in sys.modules


def test_what_an_override_runs_is_refused_as_well() -> None:
    assert "may not call anything" in message_of(overrides=["RunConfig.seed=@print()"])


def test_a_former_name_is_taken_for_the_new_one(caplog: pytest.LogCaptureFixture) -> None:
    assert load_config([], ["FusionConfig.weights=(3.0,)"]).graph.weights == (3.0,)
    assert caplog.messages == ["--set: FusionConfig.weights is now GraphConfig.weights"]
    message = message_of(overrides=["LLMConfig.max_retries=3"])
    assert "is a former name; now it is not a setting any more (5)" in message


def test_a_former_setting_counts_where_its_value_still_has_a_meaning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = ["DatasetConfig.source=amazon", "DatasetConfig.amazon_release=2023"]
    assert load_config([], old).dataset == DatasetConfig(source="amazon-2023")
    assert load_config([], ["DatasetConfig.unknown_items=refuse"]).dataset.strict
    assert load_config([], ["EmbeddingConfig.missing_text=zero"]) == Config()
    assert caplog.messages[-1].startswith("--set: EmbeddingConfig.missing_text is a former name")
    assert "a former name" in message_of(overrides=["EmbeddingConfig.missing_text=other"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("min_events", "did you mean DatasetConfig.min_events?"),
        ("num_levls", "did you mean TokenizerConfig.num_levels?"),
        ("patience", "did you mean RetrieverConfig.patience?"),
        ("short_histories", "DatasetConfig.short_histories is a former name"),
        ("nonsense", "no value has %nonsense; expected SECTION.NAME"),
    ],
)
def test_a_name_without_section_is_no_setting(name: str, expected: str, tmp_path: Path) -> None:
    assert expected in message_of(overrides=[f"{name}=3"])
    message = message_of([write(tmp_path, f"RunConfig.seed = 1\n{name} = 3")])
    assert expected in message and "line 2" in message
    included = write(tmp_path, f"{name} = 3", "included.gin")
    assert f"{included.name}, line 1" in message_of([write(tmp_path, "include 'included.gin'")])


def test_a_macro_may_be_set_and_what_reads_it_replaced(tmp_path: Path) -> None:
    file = write(tmp_path, "SEED = 5\nNAME = 'demo'\nRunConfig.seed = %SEED\n")
    assert "unknown key NAME" in message_of([file])
    file = write(tmp_path, "SEED = 5\nRunConfig.seed = %SEED\n")
    assert load_config([file], ["SEED=6"]).run.seed == 6
    assert load_config([file], ["RunConfig.seed=7"]).run.seed == 7
    assert load_config([], ["CUT=4", "DatasetConfig.dataset_split=%CUT"]).dataset == (
        DatasetConfig(dataset_split="4")
    )


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("dataset_split=100", "100"),
        ("dataset_split='100'", "100"),
        ("dataset_split=1e3", "1e3"),
        ("csv_separator=;", ";"),
        ("csv_separator=,", ","),
        ("csv_separator= ", " "),
        ("csv_separator='", "'"),
        ("csv_separator=@", "@"),
        ("time_format=%d.%m.%Y", "%d.%m.%Y"),
        ("time_format=%Y", "%Y"),
        ("folder=", ""),
        ("folder=a b=c", "a b=c"),
        ("events_where=rating >= 4", ("rating >= 4",)),
        ("events_where=", ()),
        ("column_names=user_id=1", ("user_id=1",)),
        ("column_names=('user_id=1', 'item_id=2')", ("user_id=1", "item_id=2")),
    ],
)
def test_text_on_the_command_line_is_taken_as_it_stands(override: str, value: object) -> None:
    dataset = load_config([], [f"DatasetConfig.{override}"]).dataset
    assert getattr(dataset, override.partition("=")[0]) == value


def test_a_number_is_text_in_a_file_too(tmp_path: Path) -> None:
    file = write(tmp_path, "DatasetConfig.dataset_split = 100\nDatasetConfig.queries = 'SELECT'")
    assert load_config([file]).dataset.dataset_split == "100"
    assert load_config([file]).dataset.queries == ("SELECT",)
    wrong = write(tmp_path, "DatasetConfig.dataset_split = True")
    assert "dataset_split: expected text; found True" in message_of([wrong])


def test_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "include 'second.gin'", "first.gin")
    write(tmp_path, "include 'first.gin'", "second.gin")
    assert "includes itself" in message_of([tmp_path / "first.gin"])


def test_missing_included_file_is_named(tmp_path: Path) -> None:
    assert "absent.gin" in message_of([write(tmp_path, "include 'absent.gin'")])


def test_overrides_may_leave_strings_unquoted_and_take_lists() -> None:
    config = load_config(
        [],
        ["DatasetConfig.source=demo", "TokenizerConfig.hidden_dims=(8, 4)", "RunConfig.seed = 2"],
    )
    assert config.dataset.source == "demo"
    assert config.tokenizer.hidden_dims == (8, 4)
    assert config.run.seed == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("TokenizerConfig.codebok_size=64", "did you mean TokenizerConfig.codebook_size?"),
        ("TokeniserConfig.epochs=64", "did you mean TokenizerConfig.epochs?"),
        ("TokenizerConfig.epochs", "expected name=value"),
        (
            "TokenizerConfig.epochs=many",
            "TokenizerConfig.epochs: expected a whole number; found 'many'",
        ),
        (
            "TokenizerConfig.epochs=1.5",
            "TokenizerConfig.epochs: expected a whole number; found 1.5",
        ),
        (
            "TokenizerConfig.epochs=True",
            "TokenizerConfig.epochs: expected a whole number; found True",
        ),
        ("TokenizerConfig.epochs=0", "TokenizerConfig.epochs: expected at least 1; found 0"),
        ("TokenizerConfig.sim_vq=1", "TokenizerConfig.sim_vq: expected True or False; found 1"),
        ("TokenizerConfig.hidden_dims=8", "TokenizerConfig.hidden_dims: expected a list; found 8"),
        ("TokenizerConfig.codebook_size=1", "expected in [2, 65536]; found 1"),
        ("TokenizerConfig.gradient_mode=rotations", "'rotation'; found 'rotations'"),
        ("TokenizerConfig.learning_rate=-1", "expected above 0; found -1"),
        ("RetrieverConfig.num_heads=5", "expected a divisor of dim = 192; found 5"),
        ("EvaluationConfig.cutoffs=(5, 100)", "at least the largest cut-off (100); found 50"),
        ("RunConfig.seed=%ABSENT", "ABSENT"),
        ("RunConfig.seed=(1", "RunConfig.seed: expected a whole number; found '(1'"),
    ],
)
def test_wrong_setting_is_one_line_with_found_and_expected(override: str, expected: str) -> None:
    assert expected in message_of(overrides=[override])


def test_wrong_key_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path, "# comment\nRunConfig.seed = 1\nRunConfig.sede = 1\n")
    message = message_of([file])
    assert f"{file}, line 3" in message
    assert "did you mean RunConfig.seed?" in message


def test_malformed_file_and_missing_file_are_named(tmp_path: Path) -> None:
    assert "broken.gin" in message_of([write(tmp_path, "RunConfig.seed = = 1", "broken.gin")])
    assert "absent.gin" in message_of([tmp_path / "absent.gin"])


def test_published_name_is_answered_with_the_new_one(tmp_path: Path) -> None:
    message = message_of([write(tmp_path, "train.vae_codebook_size = 256")])
    assert "TokenizerConfig.codebook_size" in message


def test_every_published_name_leads_to_fields_that_exist() -> None:
    known = {
        f"{cls.__name__}.{field.name}"
        for cls in SECTIONS.values()
        for field in dataclasses.fields(cls)
    }
    named = {name for text in PUBLISHED_NAMES.values() for name in text.split(" or ")}
    assert {
        name for name in named if not name.startswith(("--", "not needed", "not offered"))
    } <= known


def test_json_round_trip_keeps_every_setting() -> None:
    config = load_config([], ["TokenizerConfig.hidden_dims=(8,)", "DatasetConfig.source=demo"])
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tokeniser": {}}, "did you mean tokenizer?"),
        ({"tokenizer": {"epoch": 1}}, "did you mean TokenizerConfig.epochs?"),
        ({"tokenizer": {"epochs": "1"}}, "expected a whole number; found '1'"),
    ],
)
def test_json_with_unknown_or_wrong_entries_is_refused(values: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("?", r"\?")):
        Config.from_json(values)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_shipped_config_loads_and_explains_every_line(file: Path) -> None:
    load_config([file])
    for line in file.read_text(encoding="utf-8").splitlines():
        is_binding = "=" in line and not line.startswith(("#", "include"))
        assert not is_binding or "#" in line, f"{file.name}: no comment on: {line}"


def test_the_named_configs_ship() -> None:
    names = {"h_rqvae_amazon", "decoder_amazon", "h_rqvae_kuairand", "decoder_kuairand"}
    assert {"demo", "custom"} | names <= {file.stem for file in CONFIGS}


def test_every_field_has_its_sentence() -> None:
    import ast
    import inspect

    from hidvae import config as module

    tree = ast.parse(inspect.getsource(module))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for cls in SECTIONS.values():
        body = classes[cls.__name__].body
        for statement, after in zip(body, body[1:], strict=False):
            is_field = isinstance(statement, ast.AnnAssign)
            if is_field and "ClassVar" not in ast.unparse(statement):
                is_documented = isinstance(after, ast.Expr) and isinstance(
                    after.value, ast.Constant
                )
                assert is_documented, f"{cls.__name__}: {ast.unparse(statement)}"


def test_configuration_page_is_up_to_date() -> None:
    root = Path(__file__).parent.parent
    shown = subprocess.run(
        [sys.executable, root / "scripts" / "write_configuration_docs.py", "--print"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    page = (root / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == shown, "docs/configuration.md: run `make docs`"


def test_an_item_needs_some_input() -> None:
    with pytest.raises(ConfigError, match="RetrieverConfig.code_input: expected True"):
        RetrieverConfig(code_input=False, content_input=False, item_input=False)


def test_what_is_a_constant_by_now_is_left_out_of_stored_settings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored = load_config([], ["RetrieverConfig.epochs=3"]).to_json()
    stored["graph"]["cold_factor"] = 2.0
    assert Config.from_json(stored) == load_config([], ["RetrieverConfig.epochs=3"])
    assert not caplog.messages
    stored["graph"]["cold_factor"] = 3.0
    stored["bound"] = ["GraphConfig.cold_factor", "RetrieverConfig.epochs"]
    assert Config.from_json(stored) == load_config([], ["RetrieverConfig.epochs=3"])
    assert any("GraphConfig.cold_factor is a former name" in each for each in caplog.messages)


def test_there_are_at_most_100_settings() -> None:
    assert sum(len(dataclasses.fields(cls)) for cls in SECTIONS.values()) <= 100


def test_no_former_name_is_a_setting_and_all_lead_to_one() -> None:
    known = {
        f"{cls.__name__}.{f.name}" for cls in SECTIONS.values() for f in dataclasses.fields(cls)
    }
    assert not known & {*FORMER_NAMES}
    elsewhere = ("not a setting", "HIDVAE_ACCEPT_LICENSE=1 in the environment")
    named = {text for text in FORMER_NAMES.values() if not text.startswith(elsewhere)}
    assert {text.partition(" ")[0].rstrip(",") for text in named} <= known


def test_a_size_gives_defaults_that_bindings_win_over() -> None:
    large = load_config([], ["RunConfig.size=large", "RetrieverConfig.epochs=2"])
    fitted = large.for_catalogue(100, 1000)
    assert (fitted.retriever.architecture, fitted.retriever.epochs) == ("item_decoder", 2)
    small = load_config([], ["RunConfig.size=small"], large).for_catalogue(100, 1000)
    assert (small.retriever.architecture, small.retriever.epochs) == ("item_softmax", 2)
    assert small.tokenizer.epochs == 60


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_made_of_settings_that_hold(size: str) -> None:
    config = load_config([], [f"RunConfig.size={size}"]).for_catalogue(10, 10).to_json()
    sections = {cls.__name__: config[name] for name, cls in SECTIONS.items()}
    for name, value in SIZES[size].items():
        owner, _, key = name.partition(".")
        assert sections[owner][key] == (list(value) if isinstance(value, tuple) else value)
        assert owner != "DatasetConfig", "a size may follow from the dataset"


@pytest.mark.parametrize(
    ("num_items", "num_events", "size"),
    [
        (3, 9, "small"),
        (999, 50_000, "small"),
        (999, 1_000_000, "base"),
        (1_000, 100, "base"),
        (12_101, 198_502, "base"),  # Amazon Beauty
        (18_357, 296_337, "base"),  # Amazon Sports
        (7_583, 1_436_609, "base"),  # KuaiRand-Pure
        (200_000, 1_000, "large"),
        (10_000_000, 10**9, "large"),
    ],
)
def test_auto_goes_by_the_dataset(num_items: int, num_events: int, size: str) -> None:
    by_itself = Config().for_catalogue(num_items, num_events)
    named = load_config([], [f"RunConfig.size={size}"]).for_catalogue(num_items, num_events)
    assert {**by_itself.to_json(), "run": 0, "bound": 0} == {
        **named.to_json(),
        "run": 0,
        "bound": 0,
    }
    codebooks = by_itself.tokenizer
    assert codebooks.codebook_size**codebooks.num_levels >= 2 * num_items
    if size == "base":
        assert by_itself == Config()


def test_what_was_chosen_stays_even_where_it_equals_the_default() -> None:
    chosen = load_config([], ["TokenizerConfig.codebook_size=256"])
    assert chosen.for_catalogue(100, 1000).tokenizer.codebook_size == 256
    assert chosen.for_catalogue(100, 1000).tokenizer.epochs == 60
    stored = Config.from_json(json.loads(json.dumps(chosen.to_json())))
    assert stored == chosen
    later = load_config([], ["RetrieverConfig.epochs=5"], stored).for_catalogue(100, 1000)
    assert (later.tokenizer.codebook_size, later.retriever.epochs) == (256, 5)
    in_python = Config(tokenizer=TokenizerConfig(epochs=7), run=RunConfig(size="small"))
    assert in_python.for_catalogue(10**6, 10).tokenizer.epochs == 7
    assert in_python.for_catalogue(10**6, 10).retriever.dim == 64
    with pytest.raises(ConfigError, match="unknown key RunConfig.sed"):
        Config.from_json({"bound": ["RunConfig.sed"]})


@pytest.mark.parametrize(("num_levels", "codebook_size"), [(1, 65536), (2, 256), (3, 256)])
def test_codebooks_grow_with_the_catalogue(num_levels: int, codebook_size: int) -> None:
    fewer = load_config([], [f"TokenizerConfig.num_levels={num_levels}"])
    assert fewer.for_catalogue(20_000, 100_000).tokenizer.codebook_size == codebook_size


def test_a_macro_of_itself_is_one_line(tmp_path: Path) -> None:
    assert "%A" in message_of([write(tmp_path, "A = %A\nRunConfig.seed = %A\n")])


def test_settings_are_finite() -> None:
    for value in ("1e999", "nan"):
        with pytest.raises(ConfigError, match="RetrieverConfig.learning_rate"):
            load_config([], [f"RetrieverConfig.learning_rate=float('{value}')"])
    with pytest.raises(ConfigError, match="RetrieverConfig.learning_rate"):
        load_config([], ["RetrieverConfig.learning_rate=1e999"])
