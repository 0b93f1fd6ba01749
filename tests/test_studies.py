"""Studies as data: what a file or a name makes, and every mistake as one sentence before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from offbeat.config import make_config
from offbeat.errors import ConfigError
from offbeat.studies.named import NAMED, make_named
from offbeat.studies.plan import Study, StudySetting, apply_changes, check_study, make_setting, option_kinds
from offbeat.studies.toml import load_study

EXAMPLE = Path(__file__).parents[1] / "examples" / "my_study.toml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_axes_make_every_combination(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        seeds = [3, 5]
        [base]
        setting = "sync-base"
        scale = "cpu"
        minutes = 12
        [axes]
        schedule = ["sequential", "reactive"]
        env.cycle_s = [0.075, 0.1]
        "sac.bootstrap_timeouts" = [false]
        """,
    )
    study = load_study(path)
    assert (study.name, study.seeds) == ("mine", (3, 5))
    assert [setting.name for setting in study.settings] == [
        "sequential-cycle-75ms-no-bootstrap-timeouts", "sequential-cycle-100ms-no-bootstrap-timeouts",
        "reactive-cycle-75ms-no-bootstrap-timeouts", "reactive-cycle-100ms-no-bootstrap-timeouts",
    ]  # fmt: skip
    base = make_config("sync-base", "cpu", minutes=12.0)
    assert study.settings[3].config == replace(
        base,
        schedule="reactive",
        env=replace(base.env, cycle_s=0.1),
        sac=replace(base.sac, bootstrap_timeouts=False),
    )


def test_settings_stand_beside_axes_and_names_decide_defaults(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        name = "presets"
        question = "Which preset learns more?"
        seeds = 2
        compare = [["default", "mine"]]
        [base]
        scale = "cpu"
        [axes]
        preset = ["default", "paper"]
        [[settings]]
        name = "mine"
        sac = { batch_size = 16, hidden = [32, 32] }
        """,
    )
    study = load_study(path)
    configs = {setting.name: setting.config for setting in study.settings}
    assert configs["paper"] == make_config(scale="cpu", preset="paper")
    assert (configs["mine"].sac.batch_size, configs["mine"].sac.hidden) == (16, (32, 32))
    assert (study.question, study.compare) == ("Which preset learns more?", (("default", "mine"),))


def test_the_command_line_takes_the_place_of_what_the_file_says() -> None:
    study = load_study(EXAMPLE, scale="paper", minutes=3.0, seeds=2)
    assert study.seeds == (0, 1)
    assert {(setting.config.scale, setting.config.minutes) for setting in study.settings} == {("paper", 3.0)}
    assert {setting.config.minutes for setting in load_study(EXAMPLE).settings} == {12.0}


def test_the_example_is_written_in_ten_lines() -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 10


def test_seeds_are_outermost() -> None:
    study = make_named("paper", seeds=2)
    runs = study.runs()
    assert [str(run) for run in runs[:2]] == ["async-base seed 0", "async-highres seed 0"]
    assert [run.seed for run in runs] == [0] * 6 + [1] * 6
    assert all(run.config.seed == run.seed for run in runs)
    assert runs[6].directory == Path("async-base/seed-1")


@pytest.mark.parametrize("name", NAMED)
def test_named_studies_can_be_run(name: str) -> None:
    study = make_named(name)
    check_study(study)
    assert {(s.config.scale, s.config.compute.precision) for s in study.settings} == {("cpu", "float32")}
    assert len({setting.config for setting in study.settings}) == len(study.settings)
    check_study(make_named(name, "paper", 72, 25))


def test_why_changes_one_thing_at_a_time() -> None:
    configs = {setting.name: setting.config.to_dict() for setting in make_named("why").settings}
    changed = {
        "sync-reactive": {"schedule"}, "sync-discount": {"discount_per_s"}, "sync-bootstrap": {"bootstrap_timeouts"},
        "sync-all": {"schedule", "discount_per_s", "bootstrap_timeouts"},
        "async-75ms": {"cycle_s"}, "async-75ms-updates": {"cycle_s", "max_updates_per_step"},
        "async-few-updates": {"max_updates_per_step"}, "async-few-samples": {"sample_share"},
        "async-bootstrap": {"bootstrap_timeouts"}, "async-correlated": {"exploration_time_s"},
        "async-several-steps": {"return_span_s"},
        "async-all": {"bootstrap_timeouts", "exploration_time_s", "return_span_s"},
        "async-half-rate": {"learning_rate"}, "sync-half-rate": {"learning_rate"},
    }  # fmt: skip
    assert configs.keys() == changed.keys() | {"async-base", "sync-base"}
    for name, options in changed.items():
        base, mine = configs[f"{name.partition('-')[0]}-base"], configs[name]
        parts = [(base, mine), (base["env"], mine["env"]), (base["sac"], mine["sac"])]
        found = {key for one, other in parts for key in one if key not in ("env", "sac") and one[key] != other[key]}
        assert found == options, name


def test_why_gives_the_asynchronous_loop_as_few_samples_and_updates_as_the_synchronous() -> None:
    configs = {setting.name: setting.config for setting in make_named("why", minutes=72).settings}
    sync, few, share = configs["sync-base"], configs["async-few-updates"], configs["async-few-samples"].sample_share
    steps = few.episodes * few.env.episode_steps
    sync_updates = 57_600 - sync.warmup_steps
    assert few.max_updates_per_step * (steps - few.warmup_steps) == pytest.approx(sync_updates, rel=1e-4)
    assert share * steps == pytest.approx(57_600)


def test_studies_share_runs_where_they_can() -> None:
    why, paper = ({s.name: s.config for s in make_named(name).settings} for name in ("why", "paper"))
    assert all(why[name] == paper[name] for name in ("async-base", "sync-base"))


BASE = 'seeds = 2\n[base]\nscale = "cpu"\n'
MISTAKES: dict[str, tuple[str, str]] = {
    "syntax": ("seeds = = 3", "is not TOML (Invalid value"),
    "unknown key": ("seed = 3", "Unknown key 'seed', the nearest is seeds: use name, question"),
    "no seeds": ("[base]", "has no seeds: give at least one"),
    "empty seeds": ("seeds = []", "has no seeds: give at least one"),
    "no seed": ("seeds = 0", "has no seeds"),
    "seeds of a wrong type": ('seeds = "three"', "seeds is 'three': give a number of seeds or a list"),
    "negative seed": ("seeds = [-1]", "Seed -1 is below 0"),
    "a seed twice": ("seeds = [1, 1]", "Two seeds of the study 'mine' are 1"),
    "unknown axis": (BASE + "[axes]\nenv.cycle = [0.04]", "Unknown option 'env.cycle', the nearest is env.cycle_s"),
    "axis without its part": (BASE + "[axes]\ncycle_s = [0.04]", "Unknown option 'cycle_s', the nearest is env.cycle"),
    "unlike anything": (BASE + "[axes]\nxyz = [1]", "Unknown option 'xyz': `offbeat train --help` lists all"),
    "seed as an axis": (BASE + "[axes]\nseed = [1]", "seed is no option of a setting: give the study's seeds"),
    "empty axis": (BASE + "[axes]\nenv.cycle_s = []", "The axis 'env.cycle_s' is []: give a list of one value"),
    "axis that is no list": (BASE + "[axes]\nenv.cycle_s = 0.04", "The axis 'env.cycle_s' is 0.04: give a list"),
    "axis twice the same": (BASE + "[axes]\nenv.cycle_s = [0.1, 0.1]", "Two settings of the study 'mine' are"),
    "axes of a wrong type": (BASE + "axes = 3", "Unknown option 'axes'"),
    "text for a number": (BASE + 'env.cycle_s = "short"', "env.cycle_s is 'short': give a finite number"),
    "infinite number": (BASE + "minutes = inf", "minutes is inf: give a finite number"),
    "fraction for a count": (BASE + "sac.batch_size = 1.5", "sac.batch_size is 1.5: give a whole number"),
    "number for a switch": (BASE + "dry = 1", "dry is 1: give true or false"),
    "number for a name": (BASE + "preset = 3", "preset is 3: give a name in quotes"),
    "unknown choice": (BASE + 'env.robot = "ur6"', "env.robot is 'ur6': use panda, ur5e"),
    "list too short": (BASE + "sac.betas = [0.9]", "sac.betas is [0.9]: give a list of 2 numbers"),
    "unknown name": (BASE + 'setting = "fast"', "Unknown setting 'fast': use one of async-base"),
    "value out of range": (BASE + "minutes = -3", "minutes is -3.0: give a training time above 0"),
    "unknown profile": (BASE + 'profile = "nope"', "Unknown timing profile 'nope'"),
    "setting without a name": (BASE + "[[settings]]\nminutes = 3", "A setting has no name: give it one"),
    "name that is no text": (BASE + "[[settings]]\nname = 3", "name is 3: give a text in quotes"),
    "name that is no directory": (BASE + '[[settings]]\nname = "A/b"', "A setting is named 'A/b': use small letters"),
    "name of the report": (BASE + '[[settings]]\nname = "report"', "and not 'report'"),
    "settings that are no tables": ("settings = 3", "begin each setting with [[settings]]"),
    "a name twice": (BASE + '[[settings]]\nname = "a"\n[[settings]]\nname = "a"', "Two settings of the study"),
    "comparison of nothing": ('compare = [["a", "b"]]\n' + BASE, "The comparison with 'a' names no setting: use base"),
    "comparison of one": ('compare = ["a"]\n' + BASE, "give pairs of setting names"),
    "cycle too short for a loop": (
        BASE + '[[settings]]\nname = "fast"\nschedule = "reactive"\nenv.cycle_s = 0.04',
        "The setting 'fast' cannot hold its cycle of 40 ms: act, store, sample, update take 5",
    ),
    "cycle too short to act": (BASE + "env.cycle_s = 0.003", "cannot hold its cycle of 3 ms: act, store take"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_a_file_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    said = str(caught.value)
    assert message in said
    assert str(path) in said
    assert said.endswith(".") and "\n" not in said


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read \(No such file or directory\)"):
        load_study(tmp_path / "none.toml")


def test_an_asynchronous_setting_may_have_a_cycle_shorter_than_an_update() -> None:
    check_study(Study("s", "", (StudySetting("a", make_setting({"env.cycle_s": 0.01})),), (0,)))


def test_every_option_of_a_run_can_be_an_axis() -> None:
    config = make_config()
    for name in option_kinds():
        part, _, last = name.rpartition(".")
        value = getattr(getattr(config, part) if part else config, last)
        assert apply_changes(config, {name: value}) == config
