"""The plan of `fix`: printed, written as TOML, edited by a person, carried out."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_guard.fixing.plan import plan_text

if TYPE_CHECKING:
    from conftest import Cli, Write

# Two blocks for the first pass, one for the second: the width of y is not a multiple of 8.
NET = """g (float[1,16,4,6] x, float[1,8,24,24] i) => (float[1,12,4,6] y, float[1,8,24,24] o)
<float[1,1,1,5] e, int64[4] row = {1,1,1,16}, int64[4] map = {1,16,1,1}, float[8,8,19,3] w, float[12,16,1,1] v> {
    p = GlobalAveragePool(x)  r = Reshape(p, row)  c = Conv<pads = [0,2,0,2]>(r, e)  s = Sigmoid(c)  m = Reshape(s, map)
    z = Mul(x, m)  y = Conv(z, v)  o = Conv<pads = [9,1,9,1]>(i, w) }"""
GIVEN = NET.replace(" i) =>", " i, float[8,8,19,3] w) =>").replace(" float[8,8,19,3] w, float[12", " float[12")
"""The long kernel is an input, so that no form is carried out there."""
GATE = """g (float[1,512,6,6] x) => (float[1,512,6,6] y) <int64[1] a = {1}, float[1,2,7,7] w> {
    m = ReduceMean(x, a)  p = ReduceMax(x, a)  t = Concat<axis = 1>(m, p)  c = Conv<pads = [3,3,3,3]>(t, w)
    g = Sigmoid(c)  y = Mul(x, g) }"""


def steps(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["step"]
    return found


def planned(cli: Cli, folder: Path, *options: str) -> str:
    done = cli("fix", "net.onnx", "--plan", "plan.toml", *options)
    assert done.code in (0, 1), done
    return (folder / "plan.toml").read_text(encoding="utf-8")


def applied(cli: Cli, *options: str) -> tuple[list[str], dict[str, str]]:
    """Substitutions that were carried out, and reasons of those that were not by their place."""
    done = cli("fix", "net.onnx", "-o", "out.onnx", "--apply", "plan.toml", "--format", "json", *options)
    assert done.code in (0, 1), done
    (model,) = json.loads(done.out)["models"]
    return [a["substitution"] for a in model["applied"]], {r["node"]: r["reason"] for r in model["refused"]}


def without(text: str, substitution: str) -> str:
    """The plan with this step deleted, comments and all."""
    blocks = text.split("\n\n")
    return "\n\n".join(b for b in blocks if f'substitution = "{substitution}"' not in b) + "\n"


def test_what_is_planned_is_what_fix_does(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(NET)
    first = planned(cli, tmp_path)
    assert planned(cli, tmp_path) == first
    assert [(s["substitution"], s["at"], s["pass"]) for s in steps(tmp_path / "plan.toml")] == [
        ("eca-to-se", "c", 1), ("large-kernel-to-phases", "o", 1), ("channels-to-aligned", "y", 2),
    ]  # fmt: skip
    assert not (tmp_path / "out.onnx").exists()
    assert cli("fix", "net.onnx", "-o", "out.onnx").code == 0
    whole = (tmp_path / "out.onnx").read_bytes()
    (tmp_path / "out.onnx").unlink()
    assert applied(cli) == (["eca-to-se", "large-kernel-to-phases", "channels-to-aligned"], {})
    assert (tmp_path / "out.onnx").read_bytes() == whole


def test_a_plan_takes_the_variant_that_fix_took(cli: Cli, write: Write, tmp_path: Path) -> None:
    """Some of its splits cost as much as others in the end, when forms follow in their places."""
    write("g (float[1,8,4,3] x) => (float[1,8,4,3] y) <float[8,8,11,11] w> { y = Conv<pads = [5,5,5,5]>(x, w) }")
    device = ("--profile", "ti-tidl:AM68A")
    planned(cli, tmp_path, *device)
    assert cli("fix", "net.onnx", "-o", "out.onnx", *device).code == 0
    whole = (tmp_path / "out.onnx").read_bytes()
    assert applied(cli, *device) == (["large-kernel-to-phases"], {})
    assert (tmp_path / "out.onnx").read_bytes() == whole


def test_dry_run_tells_all_of_it(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(GIVEN)
    model = onnx.load(tmp_path / "net.onnx")
    trace = 'File "/repo/net.py", line 29, in forward\n    return self.gate(x)'
    for node in model.graph.node:
        if node.output[0] == "c":
            node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
    onnx.save(model, tmp_path / "net.onnx")
    done = cli("fix", "net.onnx", "--dry-run")
    assert "  pass 1\n    eca-to-se: equal: largest error " in done.out
    assert "      exact; silences NPU102, NPU401\n      at Conv 'c', " in done.out
    assert "net.py:29 in forward" in done.out
    # 16 channels from 5 taps each; 1x1 convolution: 16 x 16. Bytes: 4 x 16 of float32 and 2 x 16.
    assert "      4 -> 2 nodes, 80 -> 256 MACs, 256 -> 128 bytes of activations\n      replaces r, c, s, m\n" in done.out
    assert "  pass 2\n    channels-to-aligned" in done.out
    assert re.search(r"Almost matched\n.*large-kernel-to-phases +o: .*not constant", done.out)
    assert [f.name for f in tmp_path.iterdir()] == ["net.onnx"]

    (told,) = json.loads(cli("fix", "net.onnx", "--dry-run", "--format", "json").out)["models"]
    eca = told["applied"][0]
    assert (eca["substitution"], eca["exactness"], eca["rules"], eca["pass"]) == ("eca-to-se", "exact", ["NPU102", "NPU401"], 1)
    assert (eca["at"], eca["node"], eca["source"]["line"]) == ("c", "c", 29)
    assert eca["before"] == {"nodes": 4, "macs": 80, "activation_bytes": 256, "params": 5}
    assert eca["after"] == {"nodes": 2, "macs": 256, "activation_bytes": 128, "params": 256}
    assert {"verification", "nodes_before", "nodes_after"} <= set(eca)
    assert [r["node"] for r in told["refused"]] == ["o"]


def test_a_step_is_left_out(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(NET)
    text = planned(cli, tmp_path)
    plan_file = tmp_path / "plan.toml"
    plan_file.write_text(text.replace('apply = true\nsubstitution = "large', 'apply = false\nsubstitution = "large'))
    assert applied(cli) == (["eca-to-se", "channels-to-aligned"], {})
    assert cli("verify", "net.onnx", "out.onnx").code == 0
    plan_file.write_text(without(text, "large-kernel-to-phases"))
    assert applied(cli) == (["eca-to-se", "channels-to-aligned"], {})
    plan_file.write_text(re.sub(r"\n\[\[step\]\][\s\S]*", "", text))
    assert applied(cli) == ([], {})


def test_steps_change_places(cli: Cli, write: Write, tmp_path: Path) -> None:
    """What was planned for the second pass is done first, where it matches then, and the rest goes on."""
    write(NET)
    head, *blocks = planned(cli, tmp_path).split("\n[[step]]")
    (tmp_path / "plan.toml").write_text("\n[[step]]".join([head, blocks[2], *blocks[:2]]) + "\n")
    assert applied(cli) == (["channels-to-aligned", "eca-to-se", "large-kernel-to-phases"], {})
    assert cli("verify", "net.onnx", "out.onnx").code == 0


def test_steps_that_do_not_match_any_more(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(NET)
    text = planned(cli, tmp_path)
    extra = """
[[step]]
substitution = "eca-to-se"
at = "nowhere"

[[step]]
substitution = "eca-to-se"
at = "c"

[[step]]
substitution = "large-kernel-to-phases"
at = "z"

[[step]]
substitution = "wide-reduce-max-to-groups"
at = "y"
"""
    (tmp_path / "plan.toml").write_text(text + extra)
    done, refused = applied(cli)
    assert done == ["eca-to-se", "large-kernel-to-phases", "channels-to-aligned"]
    assert refused["nowhere"] == "no operator makes 'nowhere' any more"
    assert refused["c"] == "no operator makes 'c' any more"
    assert "does not match at Mul 'z'" in refused["z"]
    assert "does not match at Slice" in refused["y"], "which cuts the widened map to size"
    assert cli("verify", "net.onnx", "out.onnx").code == 0


def test_another_substitution_for_the_block(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(GATE)
    text = planned(cli, tmp_path, "--allow", "approximate")
    (step,) = steps(tmp_path / "plan.toml")
    assert step["substitution"] == "wide-reduce-max-to-groups", "exact ones come first"
    assert re.search("# fits here or at a part of it as well: .*spatial-gate-removal", text)
    (tmp_path / "plan.toml").write_text(text.replace('"wide-reduce-max-to-groups"', '"spatial-gate-removal"'))
    done, refused = applied(cli)
    assert not done
    assert refused == {"p": "it is approximate; --allow approximate permits it"}
    assert applied(cli, "--allow", "approximate")[0] == ["spatial-gate-removal"]
    # It may be named at any operator of the block, also where it has its own name for the place.
    other = (tmp_path / "plan.toml").read_text().replace('at = "p"', 'at = "g"')
    (tmp_path / "plan.toml").write_text(other)
    assert applied(cli, "--allow", "approximate")[0] == ["spatial-gate-removal"]


PLAN = """
[[step]]
apply = true
substitution = "eca-to-se"
at = "c"
"""


def test_a_step_that_fails_twice_does_not_end_the_plan(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write(GIVEN)
    twice = PLAN.replace('"eca-to-se"', '"large-kernel-to-phases"').replace('at = "c"', 'at = "o"') * 2
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "plan.toml").write_text(plan_text("net.onnx", digest, "aimotive-aiware", [], []) + twice + PLAN)
    done, refused = applied(cli)
    assert done == ["eca-to-se"]
    assert "not constant" in refused["o"]


WRONG = {
    "another model": (lambda t: re.sub('sha256 = "....', 'sha256 = "0000', t), "the plan is for 'net.onnx' with SHA-256 0000"),
    "another device": (lambda t: t.replace("aimotive-aiware", "other"), "the plan is for the profile 'other'"),
    "unknown key": (lambda t: t.replace("sha256 =", "sha265 ="), "unknown key 'sha265'; did you mean 'sha256'?"),
    "unknown key of a step": (lambda t: t.replace("\napply", "\naply"), "step 1: unknown key 'aply'; did you mean 'apply'?"),
    "unknown table": (lambda t: t.replace("[[step]]", "[[steps]]"), "unknown key 'steps'; did you mean 'step'?"),
    "unknown substitution": (lambda t: t.replace("eca-to", "eka-to"), "no substitution 'eka-to-se'; did you mean 'eca-to-se'?"),
    "type": (lambda t: t.replace("\napply = true", '\napply = "yes"'), "step 1: apply is 'yes'; it must be true or false"),
    "no place": (lambda t: t.replace('at = "c"', ""), "step 1: 'at' is missing"),
    "step is no table": (lambda t: t.replace("[[step]]", "[step]"), "step: is a table; it must be a list"),
    "version": (lambda t: t.replace("version = 1", "version = 2"), "version is 2; it must be 1"),
    "not TOML": (lambda t: t + "]]", "not valid TOML"),
    "empty": (lambda _: "", "'version' is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_plans(cli: Cli, write: Write, tmp_path: Path, case: str) -> None:
    change, reason = WRONG[case]
    digest = hashlib.sha256(write(NET).read_bytes()).hexdigest()
    (tmp_path / "plan.toml").write_text(change(plan_text("net.onnx", digest, "aimotive-aiware", [], []) + PLAN))
    done = cli("fix", "net.onnx", "-o", "out.onnx", "--apply", "plan.toml")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
    assert reason in done.err
    assert not (tmp_path / "out.onnx").exists()


def test_bad_files(cli: Cli, write: Write, tmp_path: Path) -> None:
    before = write(NET).read_bytes()
    for name, reason in (("missing.toml", "no such file"), ("net.onnx", "cannot be read"), (".", "cannot be read")):
        done = cli("fix", "net.onnx", "-o", "out.onnx", "--apply", name)
        assert (done.code, done.err.count("\n")) == (2, 1), done
        assert reason in done.err
    assert cli("fix", "net.onnx", "--plan", "net.onnx").code == 2
    assert cli("fix", "net.onnx", "-o", "one", "--plan", "./one").code == 2
    assert (tmp_path / "net.onnx").read_bytes() == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["net.onnx"]


HOSTILE = [
    'a"\n[[step]]\nat = "x',
    "b\\u0041\\",
    "'''\"\"\"",
    "\x00\x1b[31m\x7f\x85",
    "\u202e\u2028\ufeff",
    "𝔸é 名",
    "# no comment\r",
]


def test_hostile_names_stay_data(cli: Cli, write: Write, tmp_path: Path) -> None:
    """Whatever a name holds, the plan is TOML that has the same steps, and they are found again."""
    write("""g (float[1,8,24,24] x) => (float[1,8,24,24] y) <float[8,8,19,3] w> { y = Conv<pads = [9,1,9,1]>(x, w) }""")
    model = onnx.load(tmp_path / "net.onnx")
    template, names = model.graph.node[0], ["x", *HOSTILE, "y"]
    del model.graph.node[:]
    for before, after in itertools.pairwise(names):
        node = model.graph.node.add()
        node.CopyFrom(template)
        node.name, node.input[0], node.output[0] = f"node {after}", before, after
    onnx.save(model, tmp_path / "net.onnx")
    text = planned(cli, tmp_path)
    assert [s["at"] for s in steps(tmp_path / "plan.toml")] == names[1:]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028\ufeff]", text)
    done, refused = applied(cli)
    assert (done, refused) == (["large-kernel-to-phases"] * (len(names) - 1), {})


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_is_a_string_of_toml(text: str) -> None:
    written = plan_text(text, "0", "p", [], [])
    assert tomllib.loads(written)["model"] == text
