"""What `init` writes, `action.yml` and the pre-commit hook: parsed, and their commands run as the CI systems run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.project.config import Config, read_config
from npu_guard.project.init import HOOK, expect_pattern, snippet

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "sample_net.onnx"
FILES = ("npu-guard.toml", ".pre-commit-config.yaml", ".github/workflows/npu-guard.yml", ".gitlab-ci.npu-guard.yml")
HOSTILE = ("two words.onnx", "semi;touch owned;.onnx", "$(touch owned).onnx", "it's `id` \"q\".onnx", "--output=x.onnx",
           "a\nb.onnx", "[x]*.onnx", "::error::x.onnx", "${{ github.token }}.onnx")  # fmt: skip
OTHER = b"\x28\x00"
"""Makes another file of a model and the same model: a model version of 0."""
Cli = Callable[..., Any]


class Step(NamedTuple):
    """How a step ended."""

    code: int
    out: str


def load(path: Path) -> Any:
    """YAML, with `on` as the key that GitHub reads."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    if isinstance(data, dict) and True in data:
        data["on"] = data.pop(True)
    return data


@pytest.fixture
def project(tmp_path: Path, program: Cli) -> Path:
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    shutil.copy(SAMPLE, folder / "models" / "net.onnx")
    assert program(folder, "init").code == 0
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    """npu-guard on the path, as the install step leaves it, and the files of a GitHub runner."""
    (folder / ".runner").mkdir(exist_ok=True)
    runner = {"GITHUB_OUTPUT": ".runner/output", "GITHUB_STEP_SUMMARY": ".runner/summary", "RUNNER_TEMP": ".runner"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path, "HOME": str(folder), **{k: str(folder / v) for k, v in runner.items()}, **more}


def execute(script: str, folder: Path, shell: str = "bash", **env: str) -> Step:
    """A script as a runner runs it: from a file, bash with -e and pipefail."""
    file = folder.parent / f"step.{shell}"
    file.write_text(script, encoding="utf-8")
    commands = {"bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"], "python": [sys.executable]}
    if shell == "bash":
        subprocess.run(["bash", "-n", file], check=True)
    done = subprocess.run(
        [*commands[shell], str(file)], cwd=folder, env=environment(folder, **env), capture_output=True, text=True, check=False
    )
    return Step(done.returncode, done.stdout + done.stderr)


def installs(script: str) -> bool:
    return "pip install" in script


def workflow_steps(project: Path) -> Iterator[tuple[str, dict[str, str]]]:
    job = load(project / ".github/workflows/npu-guard.yml")["jobs"]["check"]
    for step in job["steps"]:
        if "run" in step and not installs(step["run"]):
            shell = step.get("shell", job["defaults"]["run"]["shell"])
            yield step["name"], {"script": step["run"], "shell": shell, **job["env"]}


def run_workflow(project: Path, **env: str) -> dict[str, Step]:
    """All steps, whether one before has failed or not: they are marked with always()."""
    return {name: execute(folder=project, **(values | env)) for name, values in workflow_steps(project)}


def action_steps() -> Any:
    return load(ROOT / "action.yml")["runs"]["steps"]


def run_action(folder: Path, **inputs: str) -> tuple[Step, dict[str, str]]:
    """The check of the action, then its filter; and the action's outputs."""
    action = load(ROOT / "action.yml")
    given = {name: entry["default"] for name, entry in action["inputs"].items()} | inputs
    check, sieve = (step for step in action["runs"]["steps"] if not installs(step["run"]))
    env = {key: given[re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", value)[1]] for key, value in check["env"].items()}  # type: ignore[index]
    done = execute(check["run"], folder, **env)
    output = folder / ".runner" / "output"
    outputs = dict(line.split("=", 1) for line in output.read_text().splitlines()) if output.exists() else {}
    if "sarif" in outputs:
        assert execute(sieve["run"], folder, sieve["shell"], SARIF=outputs["sarif"]).code == 0
    return done, outputs


def results(path: Path) -> list[Any]:
    return list(json.loads(path.read_text(encoding="utf-8"))["runs"][0]["results"])


# Writing


def test_writes_everything_and_says_what_next(tmp_path: Path, program: Cli) -> None:
    shutil.copy(SAMPLE, tmp_path / "net.onnx")
    done = program(tmp_path, "init")
    assert (done.code, done.err) == (0, "")
    assert [line for line in done.out.splitlines() if line.startswith("wrote")] == [f"wrote {name}" for name in FILES]
    assert "npu-guard check 'net.onnx'" in done.out
    again = program(tmp_path, "init")
    assert (again.code, again.err) == (0, "")
    assert "wrote" not in again.out


def test_no_model_yet_is_said(tmp_path: Path, program: Cli) -> None:
    assert "No file matches" in program(tmp_path, "init").out


def test_settings_can_be_read_and_name_the_profile(tmp_path: Path, program: Cli) -> None:
    assert program(tmp_path, "init").code == 0
    rules = [(rule.code, rule.name) for rule in registry.rules()]
    assert read_config(tmp_path / "npu-guard.toml", rules) == Config()
    text = (tmp_path / "npu-guard.toml").read_text(encoding="utf-8")
    examples = re.sub(r"^# (?=\[|[\w-]+ = )", "", text, flags=re.MULTILINE)
    (tmp_path / "npu-guard.toml").write_text(examples, encoding="utf-8")
    read = read_config(tmp_path / "npu-guard.toml", rules)
    assert (len(read.suppress), read.ignore, len(read.severity)) == (1, ("NPU104",), 1), "the examples are valid, too"


def test_profile_of_ones_own(tmp_path: Path, program: Cli) -> None:
    name = 'my "device" \N{MUSHROOM}.toml'
    (tmp_path / name).write_text(
        'extends = "aimotive-aiware"\nname = "mine"\ntitle = "Mine"\nsource = "test"\n', encoding="utf-8"
    )
    done = program(tmp_path, "init", "--profile", name)
    assert done.code == 0, done.err
    assert tomllib.loads((tmp_path / "npu-guard.toml").read_text(encoding="utf-8"))["profile"] == name
    assert program(tmp_path, "init", "--profile", "aimotive-aiwar").code == 2


def test_existing_files_stay_unless_forced(tmp_path: Path, program: Cli) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("repos: []\n", encoding="utf-8")
    done = program(tmp_path, "init")
    assert done.code == 2
    assert [line.split(": ")[1].split(" exists")[0] for line in done.err.splitlines()[:4]] == list(FILES)
    assert {(tmp_path / name).read_text(encoding="utf-8") for name in FILES} == {"repos: []\n"}
    assert "id: npu-guard-check" in done.out, "the entry is printed"
    forced = program(tmp_path, "init", "--force")
    assert forced.code == 0
    kept = [name for name in FILES if (tmp_path / name).read_text(encoding="utf-8") == "repos: []\n"]
    assert kept == [".pre-commit-config.yaml"], "others' hooks are in there"


def test_printed_hook_fits_below_repos(tmp_path: Path, program: Cli) -> None:
    (tmp_path / ".pre-commit-config.yaml").write_text("repos:\n  - repo: local\n    hooks: []\n", encoding="utf-8")
    assert program(tmp_path, "init").code == 0
    both = yaml.safe_load((tmp_path / ".pre-commit-config.yaml").read_text(encoding="utf-8") + snippet())
    assert [hook["id"] for hook in both["repos"][1]["hooks"]] == ["npu-guard-check"]


def test_settings_in_pyproject_are_not_hidden(tmp_path: Path, program: Cli) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.npu-guard]\n", encoding="utf-8")
    done = program(tmp_path, "init", "--force")
    assert done.code == 0
    assert "pyproject.toml" in done.err
    assert not (tmp_path / "npu-guard.toml").exists()


def test_what_cannot_be_written_is_named_and_the_rest_written(tmp_path: Path, program: Cli) -> None:
    (tmp_path / ".github").write_text("", encoding="utf-8")
    (tmp_path / ".gitlab-ci.npu-guard.yml").mkdir()
    done = program(tmp_path, "init", "--force")
    assert done.code == 2
    assert ".github/workflows/npu-guard.yml: cannot be written" in done.err
    assert ".gitlab-ci.npu-guard.yml: exists and is no file" in done.err
    assert str(tmp_path) not in done.err
    assert (tmp_path / "npu-guard.toml").exists()


@pytest.mark.parametrize("pattern", ["", " ", "a\nb", "${{ x }}", "$HOME/*.onnx", "/abs/*.onnx", "../*.onnx", "m\\*.onnx", "~/x"])
def test_patterns_that_mean_something_else_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="--model"):
        expect_pattern(pattern)


@pytest.mark.parametrize("pattern", ["nets/*.onnx", "it's: #1 [a-z]*.onnx", "- x.onnx", "!x", "\N{MUSHROOM}/**/*.onnx"])
def test_pattern_arrives_in_ci_as_given(pattern: str, tmp_path: Path, program: Cli) -> None:
    assert program(tmp_path, "init", "--model", pattern).code == 0
    assert load(tmp_path / FILES[2])["jobs"]["check"]["env"]["MODELS"] == pattern
    assert load(tmp_path / FILES[3])["npu-guard"]["variables"]["MODELS"] == pattern


def test_models_in_git_lfs_are_fetched(tmp_path: Path, program: Cli) -> None:
    (tmp_path / ".gitattributes").write_text("# filter=lfs\n*.onnx filter=lfs diff=lfs\n", encoding="utf-8")
    assert program(tmp_path, "init").code == 0
    steps = load(tmp_path / FILES[2])["jobs"]["check"]["steps"]
    assert [s["with"]["lfs"] for s in steps if "checkout" in s.get("uses", "")] == [True, True]


# Reading


def test_workflow_asks_for_little_and_pins_majors(project: Path) -> None:
    workflow = load(project / FILES[2])
    assert set(workflow["on"]) == {"pull_request", "push"}, "never pull_request_target, which has the repository's rights"
    assert workflow["permissions"] == {}
    job = workflow["jobs"]["check"]
    rights = {"contents": "read", "security-events": "write", "pull-requests": "write", "actions": "read"}
    assert job["permissions"] == rights
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w/-]+@v\d+", use) for use in used)
    assert {use.split("@")[0] for use in used} == {
        "actions/checkout", "actions/setup-python", "github/codeql-action/upload-sarif", "actions/github-script"
    }  # fmt: skip
    assert all(not s["with"]["persist-credentials"] for s in job["steps"] if "checkout" in s.get("uses", ""))
    names = [step.get("name") for step in job["steps"]]
    after = job["steps"][names.index("Check") + 1 :]
    assert all("always()" in step["if"] for step in after), "results are published where the check fails"


def test_nothing_is_pasted_into_scripts(project: Path) -> None:
    """An expression in a script is text of the script before the shell sees it."""
    steps = load(project / FILES[2])["jobs"]["check"]["steps"] + action_steps()
    scripts = [step["run"] for step in steps if "run" in step] + [
        s["with"]["script"] for s in steps if "script" in s.get("with", {})
    ]
    assert len(scripts) >= 8
    assert not [script for script in scripts if "${{" in script or "eval " in script]


def test_shell_variables_are_quoted(project: Path) -> None:
    """Except where a pattern is to be expanded, `name=($VARIABLE)`, and in an assignment, which the shell does not split."""
    job = load(project / FILES[3])["npu-guard"]
    steps = load(project / FILES[2])["jobs"]["check"]["steps"] + action_steps()
    scripts = [*job["script"], *(s["run"] for s in steps if "run" in s and s.get("shell") != "python")]
    for script in scripts:
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', re.sub(r"\$'[^']*'|=\(\$[A-Z]+\)|code=\$\?|page=\$\(|page=\$\{\S+", "", script))
        assert "$" not in bare, bare


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_comment_script(project: Path) -> None:
    """The script runs against a stand-in for GitHub: one comment is made, then updated, and never grows too long."""
    steps = load(project / FILES[2])["jobs"]["check"]["steps"]
    script = next(step["with"]["script"] for step in steps if "script" in step.get("with", {}))
    driver = f"""
    const calls = [], comments = [{{id: 1, user: {{type: 'User'}}, body: '<!-- npu-guard --> not ours'}}]
    const context = {{repo: {{owner: 'o', repo: 'r'}}, issue: {{number: 7}}}}
    const issues = {{
      listComments: null,
      createComment: async c => {{ calls.push(c); comments.push({{id: 2, user: {{type: 'Bot'}}, body: c.body}}) }},
      updateComment: async c => calls.push(c),
      deleteComment: async c => {{ calls.push(c); comments.shift() }},
    }}
    const github = {{paginate: async () => comments, rest: {{issues}}}}
    const step = async () => {{ {script} }}
    step().then(step).then(() => console.log(JSON.stringify(calls)))
    """
    (project / "npu-guard.md").write_text("<!-- npu-guard -->\n## FAIL", encoding="utf-8")
    for size, shown in ((100, True), (65_536, False)):
        (project / "npu-guard-diff.md").write_text("x" * size, encoding="utf-8")
        done = subprocess.run(["node", "-e", driver], cwd=project, capture_output=True, text=True, check=True)
        first, second = json.loads(done.stdout)
        assert (first["issue_number"], second["comment_id"], first["body"] == second["body"]) == (7, 2, True)
        assert ("x" * 100 in first["body"], len(first["body"]) <= 65_536) == (shown, True)
    (project / "npu-guard.md").unlink()
    driver = driver.replace("comments = [", "comments = [{id: 2, user: {type: 'Bot'}, body: '<!-- npu-guard -->'}, ")
    for relevant, deleted in (("true", []), ("false", [2])):
        env = {**os.environ, "RELEVANT": relevant}
        done = subprocess.run(["node", "-e", driver], cwd=project, capture_output=True, text=True, check=True, env=env)
        assert [call["comment_id"] for call in json.loads(done.stdout)] == deleted


def test_hook_for_pre_commit(tmp_path: Path, program: Cli) -> None:
    hook = load(ROOT / ".pre-commit-hooks.yaml")[0]
    assert (hook["id"], hook["language"], hook["entry"]) == (HOOK, "python", "npu-guard check")
    assert re.search(hook["files"], "models/a.onnx")
    assert not re.search(hook["files"], "a.onnx.data")
    shutil.copy(SAMPLE, tmp_path / HOSTILE[4])
    done = program(tmp_path, *hook["entry"].split()[1:], *hook["args"], HOSTILE[4])
    assert (done.code, "NPU201" in done.out) == (1, True)
    assert [file.name for file in tmp_path.iterdir()] == [HOSTILE[4]]


def test_hooks_in_pre_commit_itself(project: Path) -> None:
    """Both hooks and what `init` writes, as pre-commit reads and runs them; from this environment, so nothing is fetched."""
    pre_commit = Path(sys.executable).with_name("pre-commit")
    for kind, file in (("manifest", ROOT / ".pre-commit-hooks.yaml"), ("config", project / FILES[1])):
        subprocess.run([pre_commit, f"validate-{kind}", file], check=True)
    models, code = load(ROOT / ".pre-commit-hooks.yaml")
    here = [{**models, "language": "system"}, {**code, "args": ["net.py:Net"]}]
    (project / FILES[1]).write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": here}]}), encoding="utf-8")
    (project / "net.py").write_text("Nett = 3\n", encoding="utf-8")
    for arguments in (("init", "-q"), ("add", ".")):
        subprocess.run(["git", *arguments], cwd=project, check=True)
    env = environment(project, PRE_COMMIT_HOME=str(project / ".cache"))
    done = subprocess.run([pre_commit, "run", "--all-files"], cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "NPU201" in done.stdout, done
    assert "net has no 'Net'; did you mean 'Nett'?" in done.stdout, done


# Running


def test_workflow_on_a_pull_request(project: Path) -> None:
    shutil.copy(SAMPLE, project / "models" / "new.onnx")
    base = project / ".npu-guard-base" / "models"
    base.mkdir(parents=True)
    (base / "net.onnx").write_bytes(SAMPLE.read_bytes() + OTHER)
    steps = run_workflow(project, GITHUB_BASE_REF="releases/1.0")
    assert {name: step.code for name, step in steps.items()} == {
        "Changed": 0, "Check": 1, "Compare with the base branch": 0, "Summary": 0, "Leave accepted findings out": 0
    }, steps  # fmt: skip
    assert "::error " in steps["Check"].out
    assert {r["analysisTarget"]["uri"] for r in results(project / "npu-guard.sarif")} == {"models/net.onnx", "models/new.onnx"}
    page = (project / "npu-guard.md").read_text(encoding="utf-8")
    diff = (project / "npu-guard-diff.md").read_text(encoding="utf-8")
    assert page.startswith("<!-- npu-guard -->")
    assert "0 new" in diff, steps
    assert "new.onnx" not in diff, "the base branch has no such model"
    assert "**Compared with** `releases/1.0:models/net.onnx`" in diff
    assert "npu-guard-base" not in diff, "where the base branch was checked out is nothing to a reader"
    assert (project / ".runner/summary").read_text(encoding="utf-8") == page + diff


def test_a_pull_request_without_models_is_left_alone(project: Path, program: Cli) -> None:
    step = next(values for name, values in workflow_steps(project) if name == "Changed")
    own = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")

    def git(*arguments: str) -> None:
        subprocess.run(["git", *own, *arguments], cwd=project, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "base")

    def relevant(changed: str, event: str = "pull_request", **env: str) -> str:
        file = project / changed
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{changed} {event} {env}", encoding="utf-8")
        git("add", "-f", changed)
        git("commit", "-q", "-m", "change")
        (project / ".runner/output").unlink(missing_ok=True)
        done = execute(folder=project, **(step | env), GITHUB_EVENT_NAME=event)
        assert done.code == 0, done
        return (project / ".runner/output").read_text(encoding="utf-8")

    for name, counts in {
        "README.md": False, "net.py": False, "deep/er/net.onnx": True, "a.onnx": True, "a.onnx.data": True, "d.toml": True,
        ".github/workflows/npu-guard.yml": True, ".github/workflows/other.yml": False, "npu-guard-baseline.json": True,
        "$(touch owned).md": False,
    }.items():  # fmt: skip
        assert relevant(name) == f"relevant={str(counts).lower()}\n", name
    assert relevant("README.md", "push") == "relevant=true\n"
    assert relevant("net.py", MODELS="**/*.onnx\npackage.module:Net") == "relevant=true\n"
    assert not (project / "owned").exists()
    job = load(project / FILES[3])["npu-guard"]
    assert "**/*.onnx" in job["rules"][0]["changes"]
    assert "**/*.py" not in job["rules"][0]["changes"]


def test_what_is_suppressed_does_not_reach_code_scanning(project: Path, program: Cli) -> None:
    with (project / "npu-guard.toml").open("a", encoding="utf-8") as file:
        file.write('\n[[suppress]]\nrule = "NPU201"\nreason = "known"\n')
    run_workflow(project)
    left = {r["ruleId"] for r in results(project / "npu-guard.sarif")}
    assert left
    assert "NPU201" not in left
    assert "NPU201" in json.dumps(
        json.loads(program(project, "check", "models/net.onnx", "--format", "sarif").out)["runs"][0]["results"]
    )


def test_baseline_is_used_where_there_is_one(project: Path, program: Cli) -> None:
    program(project, "check", "models/net.onnx", "--write-baseline", "npu-guard-baseline.json")
    assert run_workflow(project)["Check"].code == 0
    assert results(project / "npu-guard.sarif") == []


def test_pattern_without_a_match_fails(project: Path) -> None:
    """A check of nothing is no pass."""
    step = run_workflow(project, MODELS="nets/**/*.onnx")["Check"]
    assert step.code == 3
    assert "nets/**/*.onnx" in step.out


def test_hostile_names_stay_names(project: Path) -> None:
    base = project / ".npu-guard-base"
    base.mkdir()
    for name in HOSTILE:
        shutil.copy(SAMPLE, project / name)
        (base / name).write_bytes(SAMPLE.read_bytes() + OTHER)
    before = {file.name for file in project.iterdir()}
    steps = run_workflow(project)
    assert [step.code for step in steps.values()] == [0, 1, 0, 0, 0], steps
    gitlab = load(project / FILES[3])["npu-guard"]
    for script in gitlab["script"]:
        assert execute(script, project, **gitlab["variables"]).code == 1
    made = {file.name for file in project.iterdir()} - before - {".runner"}
    assert made == {"npu-guard.sarif", "npu-guard.md", "npu-guard-diff.md", "npu-guard.codequality.json", "npu-guard.junit.xml"}
    assert len(json.loads((project / "npu-guard.sarif").read_text(encoding="utf-8"))["runs"][0]["artifacts"]) == len(HOSTILE) + 1
    assert (project / "npu-guard-diff.md").read_text(encoding="utf-8").count("**Compared with**") == len(HOSTILE), steps


def test_gitlab_job(project: Path) -> None:
    job = load(project / FILES[3])["npu-guard"]
    assert all(installs(line) for line in job["before_script"])
    for script in job["script"]:
        assert execute(script, project, **job["variables"]).code == 1
    kinds = job["artifacts"]["reports"]
    assert job["artifacts"]["when"] == "always"
    assert json.loads((project / kinds["codequality"]).read_text(encoding="utf-8"))
    assert "<testsuites" in (project / kinds["junit"]).read_text(encoding="utf-8")
    assert all((project / name).is_file() for name in job["artifacts"]["paths"])


def test_action_has_what_github_needs() -> None:
    action = load(ROOT / "action.yml")
    assert {"name", "description", "inputs", "outputs", "runs"} <= set(action)
    assert list(action["inputs"]) == ["models", "profile", "fail-on", "version", "args"]
    assert all(isinstance(entry["default"], str) and entry["description"] for entry in action["inputs"].values())
    assert action["runs"]["using"] == "composite"
    assert all("shell" in step for step in action["runs"]["steps"] if "run" in step)
    given = [value for step in action["runs"]["steps"] for value in step.get("env", {}).values()]
    assert {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]} <= set(given), "every input is used"


def test_action_checks_and_gives_the_sarif_file(project: Path) -> None:
    done, outputs = run_action(project)
    assert done.code == 1, done.out
    assert results(Path(outputs["sarif"]))
    assert Path(outputs["markdown"]).read_text(encoding="utf-8") == (project / ".runner/summary").read_text(encoding="utf-8")
    done, _ = run_action(project, **{"fail-on": "never", "profile": "aimotive-aiware", "args": "--ignore\nNPU2,NPU4"})
    assert done.code == 0, done.out


def test_action_with_hostile_inputs(project: Path) -> None:
    for value in ("$(touch owned)", "`touch owned`", "; touch owned", "' touch owned", "x\ntouch owned"):
        for name in ("models", "profile", "fail-on", "args"):
            (project / ".runner" / "output").unlink(missing_ok=True)
            done, outputs = run_action(project, **{name: value})
            assert done.code in (2, 3), (name, value, done)
            assert outputs == {} or name in ("models", "args"), "arguments may name models"
    assert not (project / "owned").exists()


def test_action_installs_itself_or_a_version(project: Path) -> None:
    (step,) = (s for s in action_steps() if installs(s["run"]))
    script = 'python() { printf "%s\\n" "$@"; }\n' + step["run"]
    for version, package in (("", "/the action"), ("1.2; touch owned", "npu-guard==1.2; touch owned")):
        done = execute(script, project, VERSION=version, GITHUB_ACTION_PATH="/the action")
        assert (done.code, done.out.splitlines()[-1]) == (0, package)
    assert not (project / "owned").exists()
