import json
import os
import random
import re
import shlex
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch.distributed as dist

from fpdm import __version__, cli
from fpdm.cli import COMMANDS
from fpdm.configuration import Record
from fpdm.errors import Interrupted
from tests.commands.parsed import values
from tests.trained import train_fpdm_and_dit


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return train_fpdm_and_dit(tmp_path_factory.mktemp("runs"))


HEAVY = {"torch", "torchvision", "diffusers", "accelerate", "matplotlib", "sklearn"}


LINES = [
    *(([name, "--help"], 0) for name in COMMANDS),
    *(([name, "--otu", "x"], 2) for name in COMMANDS),
    (["sampel"], 2),
    (["train", "digits", "--help"], 0),
    (["train", "imagenet-256", "--help"], 0),
    (["train", "digits", "--bach-size", "3"], 2),
    (["train", "digits", "--batch-size", "three", "--out", "x"], 2),
    (["train", "digits", "--batch-size", "0", "--out", "x"], 2),
    (["train", "digits", "--print-recipe"], 0),
    (["--install-completion", "--shell", "bash", "--output", "completion"], 0),
]


def test_help_and_mistakes_import_nothing_heavy(tmp_path: Path) -> None:
    source = f"""
import sys
from fpdm.cli import main

for words, code in {LINES}:
    assert main(words) == code, words
    assert not {HEAVY} & {{*sys.modules}}, (words, {HEAVY} & {{*sys.modules}})
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"], ["--debug", "--help"]], ids=str)
def test_help_imports_no_command(words: list[str]) -> None:
    source = f"import sys\nfrom fpdm.cli import main\nassert main({words}) == 0\n"
    source += f"assert not {{*{HEAVY | {'numpy', 'fpdm.commands.sample'}}}} & {{*sys.modules}}"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    if words == ["--version"]:
        assert done.stdout == f"fpdm {__version__}\n"
    else:
        assert all(f" {name} " in done.stdout and f"\nfpdm {name}" in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_its_examples(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert run(name, "--help") == 0
    captured = capsys.readouterr()
    assert f"Usage: fpdm {name} " in captured.out
    assert captured.out.endswith(f"\n{cli.COMMANDS[name].epilogue()}\n")  # not wrapped, so that it can be copied
    assert "--json" in captured.out
    assert "\x1b" not in captured.out
    assert not captured.err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_example_can_be_read(name: str) -> None:
    examples = cli.COMMANDS[name].examples
    assert len(examples) > 1
    for line in examples.values():
        words = shlex.split(line.replace("\\\n", ""))
        command, *options = words[words.index("fpdm") + 1 :]
        assert command == name
        assert values(name, *options)
        assert all(len(part) <= 80 for part in line.splitlines())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_begins_with_the_options_that_people_need_most(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    main = text[text.index("─ Main options ") :].partition("╰")[0]
    listed = re.findall(r"^│ [ *]*(--(?!no-)[a-z-]+)", main, re.MULTILINE)
    module = sys.modules[cli.application()[name].default_command.__module__]  # type: ignore[union-attr]
    assert listed == [f"--{one.rstrip('_').replace('_', '-')}" for one in module.MAIN_OPTIONS]
    assert len(listed) == 6 or name in ("demo", "describe")  # which have fewer
    groups = re.findall("─ ([A-Z][a-z ]+) ─", text)
    assert groups[:2] == ["Arguments", "Main options"]
    assert groups[-1] == "Other options"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_values(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # whose .bashrc or .zshrc gets a line
    assert run("--install-completion", "--shell", shell, "--output", tmp_path / "completion") == 0
    script = (tmp_path / "completion").read_text()
    assert all(name in script for name in COMMANDS)
    for word in ("budget", "no-reuse", "learning-rate", "anderson", "bf16"):
        assert word in script


def test_completion_is_installed_where_the_shell_looks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("--install-completion", "--shell", "bash") == 0
    assert "--budget" in (tmp_path / ".local/share/bash-completion/completions/fpdm").read_text()
    assert "completions/fpdm" in (tmp_path / ".bashrc").read_text()
    assert "Restart your shell" in capsys.readouterr().out


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(ROOT.glob("results/*/README.md"))], ids=str)
def test_commands_in_the_documents_can_be_read(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("    fpdm "):
            _, name, *words = shlex.split(line, comments=True)
            assert values(name, *words)


@pytest.mark.parametrize("words", [["--help"], ["describe", "--help"], ["train", "digits", "--print-recipe"]])
def test_a_closed_pipe_is_no_error(words: list[str]) -> None:
    """As of `| head`, after it has seen enough."""
    read, write = os.pipe()
    os.close(read)
    command, environment = [sys.executable, "-m", "fpdm", *words], {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("<&- >&- 2>/dev/full", 0, ""),
        (">/dev/full", 3, "fpdm: the standard output cannot be written: No space left on device\n"),
        (">/dev/full 2>&1", 3, ""),
    ],
)
@pytest.mark.parametrize("words", ["describe fpdm-xl/2", "describe --help"])
def test_closed_and_full_streams_stop_nothing(words: str, streams: str, code: int, said: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m fpdm {words} {streams}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_mistake_has_its_code_where_it_cannot_be_told() -> None:
    for streams in ("2>&-", "2>/dev/full", ">&- 2>&-"):
        command = f"{shlex.quote(sys.executable)} -m fpdm describe none {streams}"
        assert subprocess.run(command, shell=True, stdout=subprocess.PIPE, check=False).returncode == 2


@pytest.mark.parametrize("streams", [">&- 2>&-", "2>&-", "2>/dev/full"])
def test_nothing_of_ours_gets_into_the_place_of_a_closed_stream(streams: str, tmp_path: Path) -> None:
    """A file with the number of the error stream would get what bars, loggers and C libraries print."""
    script = tmp_path / "script.py"
    script.write_text(
        "import logging, os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from fpdm.progress_bar import track\n"
        "from fpdm import cli\n"
        "from fpdm.models import description\n"
        "def work(*_):\n"
        f"    with open({str(tmp_path / 'result')!r}, 'w') as file:\n"
        "        for step in track(range(3), 'seen'):\n"
        "            logging.getLogger('x').error('seen')\n"
        "            print('seen', file=sys.stderr, flush=True)\n"
        "        os.system('echo seen >&2')\n"
        "        file.write('done')\n"
        "description.describe = work\n"
        "logging.basicConfig()\n"
        "sys.exit(cli.main(['describe', 'fpdm-xl/2']))\n"
    )
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))} {streams}"
    assert subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert (tmp_path / "result").read_text() == "done"


def test_help_is_the_same_where_python_drops_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    source = f"from fpdm.cli import main\nfor name in {[*COMMANDS]}: main([name, '--help'])"
    environment = {**os.environ, "PYTHONOPTIMIZE": "2", "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False, env=environment)
    for name in COMMANDS:
        run(name, "--help")
    assert (done.stdout, done.stderr) == (capsys.readouterr().out, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "digitz", "--out", "X"], "did you mean digits?"),
        (["train", "digits", "--out", "X", "--stepz", "3"], "unknown argument --stepz; did you mean --steps?"),
        (["train", "digits", "--out", "X", "--steps", "three"], "--steps is 'three'; expected an integer"),
        (["train", "digits", "--out", "X", "--steps", "0"], "steps, seconds and macs are all 0"),
        (["train", "digits", "--out", "X", "--seconds", "nan"], "seconds is nan"),
        (["train", "digits", "--out", "X", "--batch-size", "-4"], "batch_size is -4"),
        (["train", "digits", "--out", "X", "--model", "unet"], "there is no model 'unet'"),
        (["train", "digits"], "--out"),
        (["trian"], "there is no command 'trian'; did you mean train?"),
        (["zzz"], f"there is no command 'zzz'; expected {', '.join(COMMANDS)}; see fpdm --help"),
        (["--stepz", "3"], "there is no command '--stepz'"),
        ([], "a command is missing"),
        (["describe"], "MODEL is missing"),
        (["describe", "fpdm-xl/2", "dit-xl/2"], "unexpected argument 'dit-xl/2'"),
        (["describe", "fpdm-xxl/2"], "there is no model 'fpdm-xxl/2'"),
        (["describe", "fpdm-xl/2", "--iterations", "0"], "iterations is 0"),
        (["sample", "X/none", "--out", "X"], "there is no model"),
        (["train", "fashion-mnist", "--out", "X", "--data-root", "X/none"], "none"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], says: str
) -> None:
    assert run(*[word.replace("X", str(tmp_path / "x"), 1) if word.startswith("X") else word for word in words]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["train", "digits"], ["sample", "none"], ["compare", "none"]])
def test_unwritable_folder_is_known_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(*words, "--out", tmp_path / "file" / "run") == 2
    assert f"{tmp_path / 'file'} is a file; expected a folder" in capsys.readouterr().err


def test_own_errors_have_their_codes(capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path) -> None:
    (state,) = (runs["dit"] / "checkpoints").rglob("state.json")
    content = state.read_text()
    state.write_text(content + " ")
    assert run("sample", runs["dit"], "--out", tmp_path) == 3
    state.write_text(content)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fpdm: the only checkpoint in ")


@pytest.mark.slow
def test_compare(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    few = ("--iterations", 5, "--allocation", "constant", "--num-images", 20, "--choosing-images", 12)
    words = ("compare", runs["fpdm"], runs["dit"], "--budgets", 8, 14, "--grid", "trailing", "phi^2", *few)
    assert run(*words, "--out", out) == 0
    assert "450 test images of digits" in capsys.readouterr().out
    found = json.loads((out / "compare.json").read_text())
    assert [(r["model"], r["budget"], r["steps"], r["iterations"]) for r in found["rows"]] == [
        ("fpdm-digits", 8, 1, 5),
        ("dit-digits", 8, 2, 2),
        ("fpdm-digits", 14, 2, 5),
        ("dit-digits", 14, 3, 2),
    ]
    assert found["command"].startswith("fpdm compare ")
    assert run(*words, "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == found["rows"]


def test_trained_run_has_nothing_left_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fpdm.runs.recipes._SMALL_TRAINING", {"batch_size": 2})
    words = ("train", "digits", "--steps", 2, "--out", tmp_path, "--no-grad-iters", 0, "--grad-iters", 1)
    words = (*words, "--sample-every", 0, "--validate-every", 0, "--tracker", "none")
    assert run(*words) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("trained fpdm-digits: 2 steps in ")
    assert f" s; the run is in {tmp_path}\n" in captured.out
    assert not captured.err
    assert run(*words) == 0
    assert "nothing left to do" in capsys.readouterr().out


def test_what_is_no_mistake_of_the_users_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: BaseException) -> None:
        def describe(*_: object) -> None:
            raise error

        monkeypatch.setattr("fpdm.models.description.describe", describe)

    command = ("describe", "fpdm-xl/2")
    for error, code, says in (
        (TypeError("a\nb"), 3, "fpdm: TypeError: a b (--debug shows where; this is a fault of fpdm's)"),
        (RuntimeError(), 3, "fpdm: RuntimeError: "),
        (MemoryError(), 3, "fpdm: out of memory: use a smaller batch or a smaller model\n"),
        (RuntimeError("CUDA out of memory. Tried"), 3, "fpdm: out of memory: use a smaller batch or a smaller model ("),
        (RuntimeError("can't allocate memory: you tried to allocate 8 bytes"), 3, "fpdm: out of memory"),
        (OSError(28, "No space left on device"), 3, "fpdm: cannot write"),
        (OSError(5, "Input/output error"), 3, "fpdm: the system says: Input/output error\n"),
        (OSError("a library's own"), 3, "fpdm: OSError: a library's own (--debug"),
        (OSError(12, "Cannot allocate memory"), 3, "fpdm: out of memory"),
        (PermissionError(13, "Permission denied", "file"), 2, "fpdm: file: Permission denied"),
        (KeyboardInterrupt(), 130, "fpdm: stopped"),
        (Interrupted("saved", 15), 143, "fpdm: saved"),
    ):
        fail(error)
        assert run(*command) == code
        captured = capsys.readouterr().err
        assert captured.startswith(says)
        assert captured.count("\n") == 1
    fail(TypeError("seen"))
    for words in ((*command, "--debug"), ("--debug", *command)):
        with pytest.raises(TypeError, match="seen"):
            run(*words)


NAME = "a\x1b]0;b\x07\x1b[31m\x9b2J\u202e\udce9"
ESCAPED = r"a\x1b]0;b\x07\x1b[31m\x9b2J\u202e\udce9"


def test_no_name_reaches_the_terminal_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass
    class Described(Record):
        name: str = NAME

        def to_text(self) -> str:
            warnings.warn(f"warned of {NAME}", RuntimeWarning, stacklevel=1)
            return f"first\nin {self.name}"

    monkeypatch.setattr("fpdm.models.description.describe", lambda *_: Described())
    assert run("describe", "fpdm-xl/2") == 0
    assert capsys.readouterr() == (f"first\nin {ESCAPED}\n", f"fpdm: warning: warned of {ESCAPED}\n")
    assert run("describe", "fpdm-xl/2", "--json") == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"name": NAME}
    monkeypatch.undo()
    assert run("describe", NAME[:-1]) == 2
    assert f"there is no model {NAME[:-1]!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--data", "caf\udce9", "--out", "x"),
        ("train", "digits", "--out", "caf\udce9", "--json"),
        ("train", "digits", "--out", "x", "--name", "caf\udce9"),
        ("describe", "--caf\udce9"),
        ("caf\udce9",),
    ],
)
def test_words_in_no_encoding_are_refused(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.err.endswith(" is no text in UTF-8; give the file or folder another name, or a link to it\n")
    assert r"caf\udce9" in captured.err
    assert not captured.out


@pytest.mark.parametrize("length", [255, 5000, 100_000])
def test_messages_stay_short_with_long_names(capsys: pytest.CaptureFixture[str], tmp_path: Path, length: int) -> None:
    name = "x" * (length - 8) + ".endings"
    for words in (
        ("describe", name),
        (name,),
        ("train", "digits", "--out", "o", f"--{name}"),
        ("train", "digits", "--out", "o", "--steps", name),
        ("train", "digits", "--out", "o", "--model", name),
        ("train", "--data", tmp_path / name, "--out", tmp_path / "o"),
        ("sample", tmp_path / name, "--out", tmp_path / "o"),
        ("sample", tmp_path / "run", "--out", tmp_path / "/".join([name] * 3)),
        ("sample", tmp_path / name.replace("x", "x "), "--out", tmp_path / "o"),
    ):
        assert run(*words) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert len(line) <= 201
        assert "Error" not in line


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_by_the_same_command(tmp_path: Path) -> None:
    """kill -9 ten times, every second time inside a save: the weights are those of a run that was left alone."""
    import torch

    from tests.training.small import saved

    def command(out: str) -> list[str]:
        options = ("--steps", "400", "--batch-size", "8", "--checkpoint-every", "4")
        return [sys.executable, "-m", "fpdm", "train", "digits", "--out", str(tmp_path / out), *options]

    environment, folder = {**os.environ, "OMP_NUM_THREADS": "1"}, tmp_path / "killed" / "checkpoints"
    subprocess.run(command("whole"), check=True, env=environment)
    rng, torn = random.Random(0), 0
    for kill in range(10):
        before = {*folder.glob("step-*"), *folder.glob(".writing-*")}
        process = subprocess.Popen(command("killed"), env=environment)
        # Once it has come further than the one before: at any moment, or as soon as a checkpoint is being written.
        for wanted in ("step-*", ".writing-*") if kill % 2 else ("step-*",):
            while not set(folder.glob(wanted)) - before:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.0005)
        time.sleep(0.005 * rng.random() if kill % 2 else 0.3 * rng.random())
        process.kill()
        process.wait()
        torn += bool(set(folder.glob(".writing-*")) - before)
    assert torn
    subprocess.run(command("killed"), check=True, env=environment)
    whole, killed = saved(tmp_path / "whole", 400), saved(tmp_path / "killed", 400)
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_processes_take_leave_of_each_other_unless_one_has_failed(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert cli.main(["tarin"]) == 2
        assert dist.is_initialized()
        assert cli.main(["--version"]) == 0
        assert not dist.is_initialized()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
