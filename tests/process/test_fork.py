"""In a forked child an inherited recorder does nothing and harms nothing; one of its own works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.films import KINDS, check_tidy, check_whole, episodes, name_of
from tests.process.scripts import PRELUDE, run, run_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")

N = 30
WHOLE = list(range(N))

CHILD = {
    "os._exit": "os._exit(0)",
    "sys.exit": "sys.exit(0)",
    "end of the script": "raise SystemExit",
    "uses it all": """
        assert three.recorder.frame(barcode.draw(99)) is False
        assert three.recorder.capture(three.env.render) is False
        three.by_frame.capture_frame()
        three.wrapped.step(0)
        three.recorder.set_context(iteration=3)
        three.recorder.flush(timeout_s=5)
        three.recorder.begin()
        sys.exit(0)
    """,
    "closes it all": """
        three.recorder.close()
        three.recorder.close()
        three.by_frame.close()
        three.wrapped.close()
        sys.exit(0)
    """,
    "ends it all": """
        episode = three.recorder.end().result(timeout=5)
        assert (episode.status, episode.media) == ("failed", None), episode
        three.wrapped.stop_recording()
        three.wrapped.start_recording("child")
        three.wrapped.reset()
        three.wrapped.step(0)
        three.wrapped.reset()
        three.wrapped.stop_recording()
        sys.exit(0)
    """,
    "drops it all": """
        import gc
        del three
        gc.collect()
        sys.exit(0)
    """,
    "dies": "die()",
}


@pytest.mark.parametrize("moment", ["busy", "idle"])
@pytest.mark.parametrize("what", CHILD)
def test_a_child_harms_nothing(what: str, moment: str, tmp_path: Path) -> None:
    code = f"""
three = Three({N // 2})
if {moment == "idle"}:
    three.recorder.flush()
    three.wrapped._recorder.flush()
pid = os.fork()
if pid == 0:
    signal.alarm(60)  # a child that hangs says so
    {CHILD[what].strip()}
three.go_on({N - N // 2})
status = os.waitpid(pid, 0)[1]
assert status == {9 if what == "dies" else 0}, status
three.close()
"""
    code = "\n".join(line.replace("        ", "    ", 1) for line in code.splitlines())
    done = run(code, tmp_path, python=("-W", "error"))
    assert done.stderr == ""
    for kind in KINDS:
        check_whole(tmp_path / kind, name_of(0), WHOLE)
        check_tidy(tmp_path / kind)
        assert len(episodes(tmp_path / kind)) == 1


@pytest.mark.parametrize("codec", ["vp9", "av1"])
def test_no_encoder_makes_a_child_hang(codec: str, tmp_path: Path) -> None:
    """Freeing an encoder waits for its threads, which a child does not have."""
    code = f"""
        recorder = rollcam.Recorder(folder, fps=25, codec={codec!r})
        recorder.begin()
        for k in range(20):
            recorder.frame(barcode.draw(k, 64, 64))
        recorder.flush()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            import gc
            del recorder
            gc.collect()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        recorder.frame(barcode.draw(20, 64, 64))
        recorder.close()
    """
    run(code, tmp_path)
    check_whole(tmp_path, name_of(0), list(range(21)))


def test_a_child_says_nothing_of_its_parents_troubles(tmp_path: Path) -> None:
    code = """
        def fail(episode):
            raise OSError("mine")
        recorder = rollcam.Recorder(folder, fps=25, on_finished=fail)
        recorder.begin()
        recorder.frame(barcode.draw(0))
        recorder.end().result(timeout=20)
        recorder._engine.flush(20)  # the public one would tell of it
        pid = os.fork()
        if pid == 0:
            recorder.close()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        warnings.simplefilter("error")
        try:
            recorder.close()
        except rollcam.RollcamWarning as warning:
            print(warning)
    """
    done = run(code, tmp_path)
    assert done.stderr == ""
    assert "mine" in done.stdout


def test_a_child_with_an_open_film_of_text_harms_nothing(tmp_path: Path) -> None:
    code = """
        recorder = rollcam.Recorder(folder, fps=25)
        recorder.begin()
        for k in range(20):
            recorder.frame(AnsiEnv.text(k))
        recorder.flush()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            recorder.frame("from the child")
            recorder.end()
            recorder.close()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        recorder.frame(AnsiEnv.text(20))
        recorder.close()
    """
    run(code, tmp_path)
    episode = episodes(tmp_path)[name_of(0)]
    assert (episode.status, episode.n_frames) == ("complete", 21)
    assert "from the child" not in episode.media_path.read_text()
    check_tidy(tmp_path)


WORKER = """
import multiprocessing

def work(folder, index, closes):
    env = rollcam.RecordVideo(CountingEnv(length=1000, fps=25), folder, rollcam.every(1),
                              name_prefix=f"worker-{index}")
    env.reset(seed=index)
    for _ in range(N - 1):
        env.step(0)
    if closes == "closes":
        env.close()
    elif closes == "keeps":
        global kept
        kept = env  # neither closed nor dropped
    elif closes == "raises":
        kept = env
        sys.stderr.close()
        raise RuntimeError
"""


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_film_for_themselves(start: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    main = f"""
if __name__ == "__main__":
    context = multiprocessing.get_context({start!r})
    if {start == "fork"}:
        three = Three(N // 2)  # open while the children are made
    ways = ["closes", "keeps", "drops", "raises"]
    children = [
        context.Process(target=work, args=(folder / "shared", index, way))
        for index, way in enumerate(ways)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0, 1], children
    if {start == "fork"}:
        three.go_on(N - N // 2)
        three.close()
"""
    script.write_text(f"{PRELUDE}\nN = {N}\n{WORKER}\n{main}")
    run_file(script, tmp_path)
    for index in range(4):
        check_whole(tmp_path / "shared", f"worker-{index}-episode-0", WHOLE)
    check_tidy(tmp_path / "shared")
    if start == "fork":
        for kind in KINDS:
            check_whole(tmp_path / kind, name_of(0), WHOLE)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_gymnasiums_async_vector_env_films_in_its_workers(start: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""{PRELUDE}
import functools, gymnasium

def make(index):
    env = CountingEnv(length=6, fps=25)
    return rollcam.RecordVideo(env, folder / "shared", rollcam.every(1), name_prefix=f"env-{{index}}")

if __name__ == "__main__":
    three = Three(3)
    envs = gymnasium.vector.AsyncVectorEnv(
        [functools.partial(make, index) for index in range(2)], context={start!r}, shared_memory=False
    )
    envs.reset(seed=0)
    for _ in range(10):
        envs.step(np.zeros(2, int))
    envs.close()
    three.close()
"""
    )
    run_file(script, tmp_path)
    found = episodes(tmp_path / "shared")
    for index in range(2):
        check_whole(tmp_path / "shared", f"env-{index}-episode-0", list(range(7)))
        assert found[f"env-{index}-episode-1"].status == "complete"
    check_tidy(tmp_path / "shared")


def test_many_forks_amid_a_busy_film(tmp_path: Path) -> None:
    """Whatever a child interrupts, it neither hangs nor spoils the parent's film."""
    code = """
        recorder = rollcam.Recorder(folder / "parent", fps=25)
        recorder.begin()
        frames = [barcode.draw(k, 128, 96) for k in range(200)]
        children = []
        for k, frame in enumerate(frames):
            recorder.frame(frame)
            if k % 10 == 5:
                pid = os.fork()
                if pid == 0:
                    signal.alarm(60)
                    own = rollcam.Recorder(folder / "children", fps=25, name_prefix=f"child-{k}")
                    own.begin()
                    for other in frames[:5]:
                        own.frame(other)
                    own.close()
                    sys.exit(0)
                children.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        assert statuses == [0] * 20, statuses
        recorder.close()
    """
    run(code, tmp_path)
    check_whole(tmp_path / "parent", name_of(0), list(range(200)))
    for k in range(5, 200, 10):
        check_whole(tmp_path / "children", f"child-{k}-episode-0", list(range(5)))
    check_tidy(tmp_path / "children")
