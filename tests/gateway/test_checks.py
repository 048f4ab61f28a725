from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.extproc.config import ConfigError
from tools.gateway.checks import check_directory, check_together, kind_of

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    shutil.copytree(CONFIG, tmp_path, dirs_exist_ok=True)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_files_of_this_repository_are_right():
    """And they fit each other."""
    assert check_together(sorted(CONFIG.glob("*.yaml"))) == []


def test_every_wrong_file_is_told_with_its_place(config_dir):
    """One run shows all that is wrong in separate files."""
    change(config_dir / "routes.yaml", "weight: 90", "weight: many")
    change(config_dir / "bbr.yaml", "models:", "modles:")
    problems = check_together(sorted(config_dir.glob("*.yaml")))
    assert [problem.split(":")[0] for problem in problems] == [
        f"{config_dir}/bbr.yaml",
        f"{config_dir}/routes.yaml",
    ]
    assert "modles" in problems[0]
    assert "$.routes[1].pools[0].weight" in problems[1]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("epp.yaml", "cost-scorer", "cots-scorer", "cots-scorer"),
        (
            "epp.yaml",
            "kind: EndpointPickerConfig",
            "kind: EndpointPickerConfig\nfeatureGates: [flowControl]\nflowControl: {max_wait_seconds: 90}",
            "max_wait_seconds is 90, and .* grants 60",
        ),
        (
            "epp.yaml",
            "kind: EndpointPickerConfig",
            "kind: EndpointPickerConfig\nfeatureGates: [flowControl]\nflowControl: {enableEviction: true}",
            r"enableEviction has no effect, because .*routes.yaml does not .*services.epp.evictable",
        ),
        (
            "epp.yaml",
            "kind: EndpointPickerConfig",
            "kind: EndpointPickerConfig\nrewrites: [{name: r, rules: [{targets: [{modelRewrite: x}]}]}]",
            "rewrites count only without BBR in front",
        ),
        (
            "epp.yaml",
            "kind: EndpointPickerConfig",
            "kind: EndpointPickerConfig\nrewrites: [{name: r, rules: [{targets: [{modelRewrite: ''}]}]}]",
            r"rewrites\[0\].rules\[0\].targets\[0\].modelRewrite",
        ),
        ("safety.yaml", "default:", "defaults:", "defaults"),
        ("routes.yaml", "{pool: deepseek}", "{pool: deepsea}", "the pool 'deepsea' is not in"),
        ("routes.yaml", "base_model: recommender", "base_model: commender", "no base model 'commender' in"),
        (
            "bbr.yaml",
            "- name: recommender",
            "- name: recommender\n  - name: other",
            "no route for .* 'other'",
        ),
        (
            "routes.yaml",
            "pools: [{pool: deepseek}]",
            "pools: [{pool: deepseek}]\n    fallbacks: [{pool: llama, model: lama}]",
            "asks llama for 'lama', which is not in",
        ),
        (
            "routes.yaml",
            "pools: [{pool: llama}]",
            "pools: [{pool: llama}]\n  - model: food-review\n    pools: [{pool: gemma}]",
            "route 'food-review' is never reached: that of its base model 'llama-3.1-8b-instruct'",
        ),
        (
            "routes.yaml",
            "pools: [{pool: deepseek}]",
            "pools: [{pool: deepseek}]\n    mirrors: [{pool: shadow, percent: 1}]",
            "the pool 'shadow' is not in",
        ),
        ("bbr.yaml", "body_bytes: 33554432", "body_bytes: 1024", "body_bytes is 1024, and .* of 33554432"),
    ],
)
def test_what_no_schema_can_say_is_checked_too(config_dir, file, old, new, said):
    """Plugins that do not exist, and names that one file has and another lacks."""
    change(config_dir / file, old, new)
    with pytest.raises(ConfigError, match=said):
        check_directory(config_dir)


def test_a_missing_file_is_named(config_dir):
    """`up` needs all four."""
    (config_dir / "safety.yaml").unlink()
    with pytest.raises(ConfigError, match=r"safety\.yaml: no such file"):
        check_directory(config_dir)


@pytest.mark.parametrize("kind", ["bbr", "safety", "epp", "routes"])
def test_a_file_of_any_name_is_known_by_its_keys(config_dir, kind):
    """An operator's names are not ours."""
    path = config_dir / f"{kind}.yaml"
    other = path.rename(config_dir / f"staging-{kind}-2.yaml")
    assert kind_of(other) == kind


def test_a_file_of_no_kind_is_refused(tmp_path):
    """Rather than called right."""
    path = tmp_path / "notes.yaml"
    path.write_text("a: 1")
    with pytest.raises(ConfigError, match="neither the name nor the keys"):
        kind_of(path)
