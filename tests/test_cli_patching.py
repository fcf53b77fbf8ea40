"""`discover patch` and `discover path` as a user sees them, against the functions they call."""

from __future__ import annotations

import csv
import functools
import json

import numpy as np
import pytest

from discover import (
    IterNode,
    Node,
    act_patch,
    attribution_patch,
    clean_inputs,
    corrupted_inputs,
    denoising,
    direct_paths,
    kl_divergence,
    load_model,
    logit_difference,
    measure,
    noising,
    path_patch,
    role_positions,
    task_prompts,
)

BEHAVIOUR = "--model tiny-ioi --task ioi --prompts 4 --corruption flipped".split()
PATCH, PATH = ["patch", *BEHAVIOUR], ["path", *BEHAVIOUR]
LOGITS = Node("resid_post", 3)


@functools.cache
def subject():
    model = load_model("tiny-ioi")
    prompts = task_prompts(model, "ioi", 4, corruption="flipped")
    return model, prompts, clean_inputs(prompts), corrupted_inputs(prompts)


@pytest.fixture
def asked(discover):
    """The JSON object of a command that must succeed."""

    def call(*words):
        code, out, err = discover(*words, "--json")
        assert code == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    return call


def same(told, array):
    """Whether a component of the JSON is an array, cell by cell."""
    assert told["axes"] == list(array.axes)
    assert told["labels"] == {axis: list(labels) for axis, labels in array.labels.items()}
    values = np.array(told["values"], dtype=float)
    np.testing.assert_allclose(values, array.values, atol=2e-5)
    return True


def test_patch_gives_what_act_patch_gives_from_the_corrupted_run(asked):
    model, prompts, clean, corrupted = subject()
    nodes, metric = IterNode(["pattern", "z"]), denoising(model, prompts)
    found = asked(*PATCH, "--nodes", "pattern,z")
    expected = act_patch(model, corrupted, nodes, metric, new_input=clean)
    assert list(found["nodes"]) == ["pattern", "z"]
    assert all(same(found["nodes"][name], expected[name]) for name in expected)
    assert [found[key] for key in ("model", "task", "prompts", "metric", "direction")] == [
        "tiny-ioi", "ioi", 4, "denoising", "denoising",
    ]  # fmt: skip
    assert found["unit"] == "share of the clean-corrupted logit difference"
    assert found["scale"] == "0 = as the corrupted run, 1 = as the clean run"
    assert (found["clean"], found["corrupted"]) == pytest.approx((1, 0), abs=1e-6)
    assert found["value"] is None
    assert found["logit_diff"]["corrupted"] < 0 < found["logit_diff"]["clean"]
    best = expected.top(10)
    assert [row["node"] for row in found["top"]] == [item.text for item in best]
    assert [row["value"] for row in found["top"]] == pytest.approx(
        [item.value for item in best], abs=2e-5
    )


def test_noising_goes_the_other_way(asked):
    model, prompts, clean, corrupted = subject()
    found = asked(*PATCH, *"--nodes z --direction noising --by layer,head --top 3".split())
    expected = act_patch(model, clean, IterNode("z"), noising(model, prompts), new_input=corrupted)
    assert same(found["nodes"]["z"], expected["z"])
    assert (found["metric"], len(found["top"])) == ("noising", 3)
    assert (found["clean"], found["corrupted"]) == pytest.approx((0, -1), abs=1e-6)


@pytest.mark.parametrize(
    ("words", "axes", "nodes"),
    [
        ("--nodes z --by layer", ["layer"], IterNode("z", whole=True)),
        ("--nodes z --by pos,layer", ["layer", "pos"], IterNode("z", "each", whole=True)),
        ("--nodes k --by layer,pos,head --layers 2", ["layer", "pos", "head"],
         IterNode("k", "each", [2])),
        ("--nodes resid_pre", ["layer"], IterNode("resid_pre")),
        ("--nodes post", ["layer"], IterNode("post", whole=True)),
        ("--nodes post --by layer,neuron --layers 1,3", ["layer", "neuron"],
         IterNode("post", None, [1, 3])),
        ("--nodes mlp_out --layers 0,2-3 --position -1", ["layer"],
         IterNode("mlp_out", -1, [0, 2, 3])),
    ],
)  # fmt: skip
def test_by_layers_and_position_choose_the_axes(asked, words, axes, nodes):
    model, prompts, clean, corrupted = subject()
    (name,) = nodes.node_names
    told = asked(*PATCH, *words.split())["nodes"][name]
    assert told["axes"] == axes
    metric = denoising(model, prompts)
    assert same(told, act_patch(model, corrupted, nodes, metric, new_input=clean)[name])


def test_components_with_and_without_heads_go_together(asked):
    found = asked(*PATCH, "--nodes", "mlp_out,z,post")["nodes"]
    assert {name: part["axes"] for name, part in found.items()} == {
        "mlp_out": ["layer"],
        "z": ["layer", "head"],
        "post": ["layer"],
    }
    assert list(found) == ["mlp_out", "z", "post"]


def test_a_role_is_that_position_of_each_prompt(asked):
    model, prompts, clean, corrupted = subject()
    at = role_positions(prompts, "S2")
    assert len(set(at)) > 1
    found = asked(*PATCH, *"--nodes z --position S2".split())["nodes"]["z"]
    metric = denoising(model, prompts)
    nodes = IterNode("z", seq_pos=at)
    assert same(found, act_patch(model, corrupted, nodes, metric, new_input=clean)["z"])
    end = asked(*PATCH, *"--nodes a3.h3 --position end".split())["value"]
    node = Node("z", 3, head=3, seq_pos=-1)
    assert end == pytest.approx(act_patch(model, corrupted, node, metric, new_input=clean))


def test_exact_nodes_are_patched_together(asked):
    model, prompts, clean, corrupted = subject()
    found = asked(*PATCH, "--nodes", "a2.h1,a3.h3,m3")
    nodes = [Node("z", 2, head=1), Node("z", 3, head=3), Node("mlp_out", 3)]
    metric = denoising(model, prompts)
    assert found["value"] == pytest.approx(
        act_patch(model, corrupted, nodes, metric, new_input=clean), abs=1e-6
    )
    assert found["patched"] == ["a2.h1", "a3.h3", "m3"]
    assert (found["nodes"], found["top"]) == ({}, [])
    for whole in ("embed", "logits"):
        assert asked(*PATCH, "--nodes", whole)["value"] == pytest.approx(1, abs=1e-5)
        noised = asked(*PATCH, "--nodes", whole, "--direction", "noising")
        assert noised["value"] == pytest.approx(-1, abs=1e-5)


@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize("name", ["logit_diff", "kl"])
def test_other_metrics_rank_by_the_change_from_the_unpatched_run(asked, name, direction):
    model, prompts, clean, corrupted = subject()
    metric = {"logit_diff": logit_difference, "kl": kl_divergence}[name](model, prompts)
    words = f"--nodes z --metric {name} --direction {direction}".split()
    found = asked(*PATCH, *words)
    orig, new = (clean, corrupted) if direction == "noising" else (corrupted, clean)
    expected = act_patch(model, orig, IterNode("z"), metric, new_input=new)["z"]
    assert same(found["nodes"]["z"], expected)
    assert found["logit_diff"] is None
    base = found["clean" if direction == "noising" else "corrupted"]
    unpatched = clean if direction == "noising" else corrupted
    assert base == pytest.approx(float(measure(model, unpatched, metric)), abs=1e-5)
    order = np.argsort(-np.abs(expected.values.ravel() - base), kind="stable")
    assert found["top"][0]["value"] == pytest.approx(expected.values.flat[order[0]], abs=2e-5)
    for row in found["top"]:
        assert row["change"] == pytest.approx(row["value"] - base)


def test_an_estimate_is_the_attribution_and_is_checked(asked, discover):
    model, prompts, clean, corrupted = subject()
    found = asked(*PATCH, *"--nodes z,resid_pre --estimate --check".split())
    expected = attribution_patch(model, corrupted, clean, IterNode("z"), denoising(model, prompts))
    assert same(found["nodes"]["z"], expected["z"])
    assert found["estimated"] is True
    exact = asked(*PATCH, "--nodes", "z")["nodes"]["z"]["values"]
    error = np.abs(np.array(exact) - expected["z"].values).mean()
    assert found["agreement"]["z"]["mean_absolute_error"] == pytest.approx(error, abs=2e-5)
    assert set(found["agreement"]) == {"z", "resid_pre"}
    out = discover(*PATCH, *"--nodes z --estimate --check".split())[1]
    assert "estimates of each node's change" in out
    assert "z, estimate against exact patches. Over 16 cells" in out


def test_path_gives_what_path_patch_gives_from_the_clean_run(asked):
    model, prompts, clean, corrupted = subject()
    metric = noising(model, prompts)
    found = asked(*PATH, *"--from z --to logits".split())
    expected = path_patch(model, clean, corrupted, IterNode("z"), LOGITS, metric)
    assert same(found["nodes"]["z"], expected["z"])
    assert (found["from"], found["to"]) == (["z"], ["logits"])
    assert (found["metric"], found["direction"]) == ("noising", "noising")
    skip = asked(*PATH, *"--from z --to logits --skip-only".split())["nodes"]["z"]
    alone = path_patch(
        model, clean, corrupted, IterNode("z"), LOGITS, metric, direct_includes_mlps=False
    )
    assert same(skip, alone["z"])
    assert not np.allclose(alone["z"].values, expected["z"].values, atol=1e-3)


def test_path_iterates_over_receivers_and_leaves_out_what_cannot_be(asked):
    model, prompts, clean, corrupted = subject()
    found = asked(*PATH, *"--from a1.h1,m1 --to q,mlp_in --position end".split())
    senders = [Node("z", 1, head=1), Node("mlp_out", 1)]
    for name, whole in (("q", False), ("mlp_in", True)):
        expected = path_patch(
            model, clean, corrupted, senders, IterNode(name, whole=whole),
            noising(model, prompts), seq_pos=role_positions(prompts, "end"),
        )  # fmt: skip
        assert same(found["nodes"][name], expected[name])
    assert found["nodes"]["q"]["values"][1] == [None] * 4
    assert found["nodes"]["q"]["values"][3][3] is not None
    one = asked(*PATH, *"--from a2.h2 --to a3.h3.q".split())
    assert one["value"] == pytest.approx(
        path_patch(
            model, clean, corrupted, Node("z", 2, head=2), Node("q", 3, head=3),
            noising(model, prompts),
        ),
        abs=1e-6,
    )  # fmt: skip


def test_all_pairs_are_the_direct_paths(asked, discover):
    model, prompts, clean, corrupted = subject()
    expected = direct_paths(model, clean, corrupted, noising(model, prompts), component="v")
    assert same(asked(*PATH, "--all-pairs", "v")["nodes"]["v"], expected)
    code, out, err = discover(*PATH, *"--all-pairs q --layernorm frozen --top 1".split())
    assert code == 0
    assert "warning: the norms of tiny-ioi" in err
    assert "UserWarning" not in err
    with pytest.warns(UserWarning, match="norms"):
        frozen = direct_paths(model, clean, corrupted, noising(model, prompts), layernorm="frozen")
    best = frozen.top(1)[0]
    assert out.splitlines()[-1].split("  ") == [f"q {best.text}", f"{best.value:+.4f}"]


def test_a_person_reads_a_table_a_ranking_and_where_the_files_are(discover, tmp_path):
    words = "--nodes z,q --plot heads.svg --csv heads.csv --top 2".split()
    code, out, err = discover(*PATCH, *words)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "denoising of z, q: tiny-ioi, 4 prompts of ioi, seed 0"
    assert "0 = as the corrupted run, 1 = as the clean run" in lines[1]
    assert lines[2].startswith("clean     +1.0000  (logit difference +")
    assert lines[-3].split() == ["node", "value"]
    rows = list(csv.DictReader((tmp_path / "heads.csv").open()))
    assert len(rows) == 32
    best = max(rows, key=lambda row: abs(float(row["value"])))
    name = f"{best['name']} a{best['layer']}.h{best['head']}"
    assert lines[-2].split("  ") == [name, f"{float(best['value']):+.4f}"]
    assert "\x1b" not in out
    assert "wrote heads.csv\nwrote heads.svg\n" in err
    assert "results[" not in err
    assert "tiny-ioi, ioi: denoising of z, q" in (tmp_path / "heads.svg").read_text()


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figures(discover, tmp_path, form, start):
    assert discover(*PATH, "--from", "mlp_out", "--to", "logits", "--plot", f"a.{form}")[0] == 0
    assert (tmp_path / f"a.{form}").read_bytes().startswith(start)


def test_the_change_is_told_where_unpatched_is_not_0(discover):
    out = discover(*PATCH, *"--nodes z --metric logit_diff --direction noising".split())[1]
    header, best = (line.split() for line in (out.splitlines()[-11], out.splitlines()[-10]))
    assert header == ["node", "value", "change"]
    clean = next(float(line.split()[1]) for line in out.splitlines() if line.startswith("clean"))
    assert float(best[2]) - float(best[3]) == pytest.approx(clean, abs=2e-4)


def test_what_is_too_large_for_a_terminal_is_not_printed(discover, monkeypatch):
    code, out, _ = discover(*PATCH, *"--nodes post --by layer,neuron --layers 3 --top 1".split())
    assert code == 0
    assert "post: 256 values; --csv and --plot show all" in out
    assert len(out.splitlines()) < 12
    tables = discover(*PATCH, *"--nodes z,mlp_out".split())[1]
    monkeypatch.setattr("discover.report.TABLE", 15)
    small = discover(*PATCH, *"--nodes z,mlp_out".split())[1]
    assert "z: 16 values; --csv and --plot show all" in small
    assert "mlp_out: 4 values" not in small
    assert "values; --csv" not in tables


MISTAKES = {
    "--nodes zz": "--nodes: unknown node 'zz'",
    "--nodes a9.h1": "tiny-ioi has 4 layers",
    "--nodes a1.h9.q": "4 heads in a layer, counted from 0, not 9",
    "--nodes z,m3": "'z' names no layer",
    "--nodes z --position S9": "no role 'S9'; its roles: IO, S1",
    "--nodes z --position 99": "position 99 is outside prompt 1",
    "--nodes resid_pre --by layer,head": "resid_pre has no heads; leave head out",
    "--nodes z --by layer,neuron": "z has no neurons; leave neuron out",
    "--nodes z --by head": "write layer",
    "--nodes z --by layer,foo": "unknown axis 'foo'",
    "--nodes z --by layer,pos --position end": "leave --position out",
    "--nodes z --layers 9": "tiny-ioi has 4 layers",
    "--nodes z --layers 3-1": "'3-1' is no layer",
    "--nodes z --plot no/a.png": "there is no directory no",
    "--nodes z --plot a.gif": "cannot draw a.gif",
    "--nodes z --csv .": "it is a directory",
    "--nodes a1.h1 --plot a.png": "--plot has no effect here",
    "--nodes a1.h1 --top 3": "--top has no effect here",
    "--nodes a1.h1 --layers 1": "--layers has no effect here",
    "--nodes a1.h1 --estimate": "--estimate is for all nodes of components",
    "--nodes z --check": "give both",
    "--nodes z --estimate --metric kl --direction noising": "its gradient is 0",
    "--nodes z --ablation zero": "No such option",
    "--nodes z --device nowhere": "device 'nowhere' cannot be used",
    "--from z --to q": "both stand for all nodes",
    "--from z": "give --from and --to",
    "--from q --to logits": "q cannot be a sender",
    "--from a3.h1 --to a1.h1.q": "there is no path from z of layer 3, head 1",
    "--from a1.h1 --to a3.h3.q --by layer": "--by has no effect here",
    "--from z --to logits --layernorm exact": "--layernorm belongs to --all-pairs",
    "--all-pairs q --from z": "--from has no effect with --all-pairs",
    "--all-pairs q --skip-only": "--skip-only has no effect with --all-pairs",
    "--all-pairs q --position end": "--position has no effect with --all-pairs",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_every_mistake_is_one_clear_error(discover, words):
    command = PATCH if words.startswith("--nodes") else PATH
    code, out, err = discover(*command, *words.split(), "--json")
    assert (code, out) == (2, "")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert err.splitlines()[-1] == errors[0]
    assert MISTAKES[words] in errors[0]


def test_a_directory_that_cannot_be_written_is_told_before_anything_is_computed(
    discover, tmp_path, monkeypatch
):
    # Root may write anywhere, so the answer of the system is put in its place.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    code, _, err = discover(*PATCH, "--nodes", "z", "--csv", "a.csv")
    assert (code, err) == (2, "error: cannot write a.csv: permission denied\n")


def test_a_coarse_dtype_is_told(discover, asked):
    assert "caution" in discover(*PATCH, *"--nodes z --dtype bfloat16".split())[1]
    assert "caution" not in discover(*PATCH, *"--nodes z".split())[1]
    assert asked(*PATCH, *"--nodes z --dtype float64".split())["dtype"] == "float64"


def test_a_normalised_metric_of_runs_that_are_alike_comes_with_a_warning(discover, tmp_path):
    pair = {
        "clean": "Then Mary and John went to the store. John gave a drink to",
        "corrupted": "Then Mary and John went to the store. Mary gave a drink to",
        "correct": [" Mary"],
        "incorrect": [" John"],
    }
    alike = {**pair, "corrupted": "Then Mary and John went to the school. John gave a drink to"}
    words = "patch --model tiny-ioi --nodes z --top 1 --prompts-file".split()
    for name, one in (("apart", pair), ("alike", alike)):
        (tmp_path / name).write_text(json.dumps(one))
    assert "warning" not in discover(*words, "apart")[2]
    code, _, err = discover(*words, "alike", "--direction", "noising")
    assert code == 0
    assert "warning: the logit differences of the clean and the corrupted run are only" in err
    assert "warning" not in discover(*words, "alike", "--metric", "logit_diff")[2]
