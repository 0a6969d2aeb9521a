"""However a process ends, what it filmed is finished: at once, or by whoever opens the folder next."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from rollcam.episode import Episode
from rollcam.recovery import recover
from rollcam.store.files import list_episodes
from tests.killing import frames_of
from tests.process.scripts import PRELUDE, run, run_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")

N = 30

FILM = f"""
def film():
    global recorder
    recorder = rollcam.Recorder(folder, fps=25, context={{"iteration": 1}})
    recorder.begin(seed=5)
    for k in range({N}):
        recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
    recorder.flush()
"""

# What the script does after `film()`, its exit status, and who finishes: itself, or recovery.
ENDINGS = {
    "end of the script": ("", 0, "itself"),
    "sys.exit": ("sys.exit(7)", 7, "itself"),
    "an exception in the loop": ("raise ValueError", 1, "itself"),
    "sys.exit in a thread": (
        "thread = threading.Thread(target=sys.exit); thread.start(); thread.join()", 0, "itself",
    ),
    "collected without close": ("import gc; del recorder; gc.collect(); os._exit(0)", 0, "itself"),
    "SIGINT": ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT, "itself"),
    "SIGTERM": ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM, "recovery"),
    "SIGKILL": ("die()", -signal.SIGKILL, "recovery"),
    "SIGSEGV": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, "recovery"),
    "os._exit": ("os._exit(5)", 5, "recovery"),
    "os.abort": ("os.abort()", -signal.SIGABRT, "recovery"),
    "os.execv": ("os.execv('/bin/true', ['true'])", 0, "recovery"),
}  # fmt: skip


def check(folder: Path, by: str, *, n_films: int = 1) -> list[Episode]:
    found = list_episodes(folder).episodes
    assert len(found) == (n_films if by == "itself" else 0)
    done = recover(folder)
    assert (done.problems, done.left_alone, done.removed) == ([], [], [])
    assert len(done.recovered) == (0 if by == "itself" else n_films)
    films = list_episodes(folder).episodes
    assert len(films) == n_films
    for film in films:
        assert film.status == ("complete" if by == "itself" else "truncated_by_crash")
        assert frames_of(film) == list(range(N))
        assert (film.episode_return, film.seed, film.n_frames) == (N, 5, N)
        assert (film.context_at_start, film.context_at_end) == ({"iteration": 1},) * 2
    for corner in ("partial", "claims"):
        assert list((folder / ".rollcam" / corner).iterdir()) == []
    return films


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_main_process(ending: str, tmp_path: Path) -> None:
    last_line, status, by = ENDINGS[ending]
    run(f"{FILM}\nfilm()\n{last_line}", tmp_path, status=status)
    check(tmp_path, by)


@pytest.mark.parametrize("ending", ["end of the script", "sys.exit in a thread", "SIGINT"])
def test_frames_that_wait_for_an_av1_encoder(ending: str, tmp_path: Path) -> None:
    """Its calls run in a thread of their own, which must outlive what is finished at exit."""
    last_line, status, by = ENDINGS[ending]
    code = FILM.replace("fps=25", "fps=25, codec='av1'").replace("    recorder.flush()", "")
    # On a loaded machine SVT-AV1 itself may stop in the middle (decision 5), but not each time.
    told = []
    for attempt in ("first", "second", "third"):
        done = run(f"{code}\nfilm()\n{last_line}", tmp_path / attempt, status=status)
        check(tmp_path / attempt, by)
        told.append(done.stderr)
        if "stopped" not in done.stderr:
            return
    raise AssertionError(told)


WORKER = """
import multiprocessing

def work():
    film()
    {ending}

if __name__ == "__main__":
    child = multiprocessing.get_context({start!r}).Process(target=work)
    child.start()
    if {is_terminated}:
        wait_until(lambda: (folder / 'done').exists(), 'the child has filmed')
        child.terminate()
    child.join(60)
    print(child.exitcode)
"""
CHILD_ENDINGS = {
    "returns": ("pass", 0, "itself"),
    "raises": ("sys.stderr.close(); raise ValueError", 1, "itself"),
    "sys.exit": ("sys.exit(4)", 4, "itself"),
    "os._exit": ("os._exit(5)", 5, "recovery"),
    "dies": ("die()", -signal.SIGKILL, "recovery"),
    "is terminated": ("(folder / 'done').touch(); signal.pause()", -signal.SIGTERM, "recovery"),
}


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("ending", CHILD_ENDINGS)
def test_a_worker(ending: str, start: str, tmp_path: Path) -> None:
    """`atexit` does not run in these before Python 3.13; `multiprocessing`'s finalizers do."""
    line, status, by = CHILD_ENDINGS[ending]
    folder = tmp_path / "videos"
    code = WORKER.format(ending=line, start=start, is_terminated=ending == "is terminated")
    script = tmp_path / "script.py"
    script.write_text(PRELUDE + FILM + code)
    done = run_file(script, folder)
    assert int(done.stdout) == status
    (folder / "done").unlink(missing_ok=True)
    check(folder, by)


def test_a_whole_group_at_once(tmp_path: Path) -> None:
    """The trainer and its workers, by one signal."""
    code = f"""
        {FILM.replace(chr(10), chr(10) + "        ")}
        os.setpgid(0, 0)
        for _ in range(3):
            if os.fork() == 0:
                film()
                (folder / str(os.getpid())).touch()
                signal.pause()
        film()
        wait_until(
            lambda: len([p for p in folder.iterdir() if p.name.isdigit()]) == 3,
            'all three have begun',
        )
        os.killpg(0, signal.SIGKILL)
    """
    run(code, tmp_path, status=-signal.SIGKILL)
    for path in tmp_path.iterdir():
        if path.is_file():
            path.unlink()
    check(tmp_path, "recovery", n_films=4)


def test_a_recorder_of_the_parent_is_left_alone_by_a_childs_recovery(tmp_path: Path) -> None:
    code = f"""
        {FILM.replace(chr(10), chr(10) + "        ")}
        film()
        pid = os.fork()
        if pid == 0:
            from rollcam.recovery import recover
            done = recover(folder)
            assert (done.recovered, done.left_alone) == ([], []), done
            own = rollcam.Recorder(folder, fps=25, resume=False)
            own.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    """
    run(code, tmp_path)
    check(tmp_path, "itself")
