"""The run dashboard by keys: what is on screen at which size, and what each key changes."""

import re
from pathlib import Path

import pytest

from tests.pilot.run.host import Host, dashboard, screen_text, screen_words, until
from tests.support import journals
from tuitune.bus.journal import Journal
from tuitune.workbench.views.run.charts import ChartBox


async def test_the_whole_history_of_a_run_is_on_screen(tmp_path: Path) -> None:
    """State, step, epoch and time; loss with eval loss, rate, gradient, speed and memory charts, the names of the memory gaps."""
    async with dashboard(journals.write_run(tmp_path, gpus=1), (140, 44)) as (pilot, _):
        text = screen_text(pilot.app)
        for piece in (
            "✓ done",
            "step 60/60",
            "epoch 3.00",
            "eval loss",
            "grad norm",
            "tok/s",
            "lr",
            "device 21.0",
            "reserved 9.5",
            "allocated 6.1",
        ):
            assert piece in text
        for piece in ("█ 6.1 GiB allocated", "▓ 3.4 GiB cached", "context+libraries", "10.8 GiB others"):
            assert piece in text
        assert "◆" in text, "a checkpoint is marked"
        assert "◇" in text, "an evaluation is marked"


async def test_two_gpus_have_a_row_each_their_sum_and_the_slowest_named(tmp_path: Path) -> None:
    run = journals.write_run(tmp_path, gpus=2, final=None)
    sample = journals.gpu_record(journals.START + 60, 2)
    sample["devices"][1] |= {"sm_clock": 1410, "reasons": ["thermal"]}
    journals.append(run, "hub", [{"v": 1, "n": 10_000, **sample}])
    async with dashboard(run, (200, 50)) as (pilot, _):
        await until(pilot, lambda: "slowest: GPU 1 at 1,410 MHz" in screen_text(pilot.app), "the slowest card")
        text = screen_text(pilot.app)
        assert "2 GPUs 42.0/280 GiB used" in text
        for card in (0, 1):
            assert re.search(rf" {card} +21\.0/140 GiB  util  97%   61°C   540 W", text)


async def test_the_memory_table_has_the_plan_and_alone_with_its_chart_every_phase(tmp_path: Path) -> None:
    run = journals.write_run(tmp_path, gpus=1)
    records = [*journals.trainer_records(gpus=1)]
    (run / "journal" / "trainer-1.jsonl").unlink()
    journals.append(run, "trainer-1", journals.numbered([records[0], journals.proof_record(planned=8.0), *records[1:]]))
    async with dashboard(run, (140, 44)) as (pilot, _):
        text = screen_text(pilot.app)
        for piece in ("plan 8.0 GiB proof +15.0 %", "! 15 % above the plan", "peak 8.8 GiB +10.0 %", "█ 6.1 GiB allocated"):
            assert piece in text
        assert "optimizer step" not in text
        await pilot.press(*["tab"] * 4, "m")  # the memory chart, the last one, alone
        await until(pilot, lambda: "proof of the longest batch  planned → measured" in screen_text(pilot.app))
        text = screen_text(pilot.app)
        assert re.search(r"optimizer step +3.5 GiB → +3.5 GiB", text)


async def test_at_76_by_20_the_loss_and_two_small_charts_are_on_screen(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path), (76, 20)) as (pilot, view):
        shown = [box.slot for box in view.query(ChartBox) if box.display]
        assert shown == ["loss", "grad_norm", "memory"]
        assert "RAM GiB" in screen_text(pilot.app), "a run on the CPU shows the box's memory"


async def test_in_a_small_place_tab_goes_through_all_charts(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path), (50, 16)) as (pilot, view):
        seen = []
        for _ in range(5):
            seen.append([box.slot for box in view.query(ChartBox) if box.display])
            await pilot.press("tab")
        assert seen == [["loss"], ["learning_rate"], ["grad_norm"], ["tokens_per_second"], ["memory"]]


async def test_arrows_read_the_value_of_a_step_out_in_all_charts(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path)) as (pilot, view):
        await pilot.press("left", "left")
        found = re.search(r"loss at step (\d+)  ━ ([\d.]+)", screen_text(pilot.app))
        assert found is not None
        step, value = int(found[1]), found[2]
        assert step < 60
        assert float(value) == pytest.approx(view.run_state.metrics["loss"].at(step), abs=1e-3)
        assert f"lr at step {step}" in screen_text(pilot.app)
        await pilot.press("0")
        assert "at step" not in screen_text(pilot.app)


async def test_plus_and_minus_zoom_and_zero_shows_everything(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path)) as (pilot, view):
        window = view.charts.active.window
        await pilot.press("plus")
        assert window.bounds(view.charts.active.figure) == (30.0, 60.0)
        assert "zoomed" in screen_text(pilot.app)
        await pilot.press("plus", "minus", "minus")
        assert window.span is None
        await pilot.press("plus", "0")
        assert window.bounds(view.charts.active.figure) == (0.0, 60.0)


async def test_l_s_and_m_change_only_the_active_chart(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path)) as (pilot, view):
        await pilot.press("l", "s", "s")
        assert "log · medium smoothing" in screen_text(pilot.app)
        assert [box.slot for box in view.query(ChartBox) if box.log_values] == ["loss"]
        await pilot.press("tab", "m")
        assert [box.slot for box in view.query(ChartBox) if box.display] == ["learning_rate"]
        await pilot.press("escape")
        assert len([box for box in view.query(ChartBox) if box.display]) > 1


async def test_o_shows_another_metric_of_the_trainer(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path)) as (pilot, view):
        await pilot.press("o")
        assert isinstance(pilot.app, Host)
        assert "one thing only" in pilot.app.told[-1]
        await pilot.press("tab", "o")
        assert view.charts.active.metric != "learning_rate"
        assert view.charts.active.metric in view.run_state.metrics


async def test_new_records_appear_while_one_looks(tmp_path: Path) -> None:
    run = journals.write_run(tmp_path, steps=20, max_steps=60, final=None)
    async with dashboard(run) as (pilot, _):
        assert "step 20/60" in screen_text(pilot.app)
        journal = Journal(run / "journal" / "trainer-1.jsonl")
        journal.emit("metrics", step=21, max_steps=60, loss=0.1234, step_ms=500.0)
        await until(pilot, lambda: "step 21/60" in screen_text(pilot.app), "the new step")
        assert "0.1234" in screen_text(pilot.app)
        journal.close()


async def test_the_log_follows_its_end_until_one_scrolls_up(tmp_path: Path) -> None:
    run = journals.write_run(tmp_path, final=None)
    journal = Journal(run / "journal" / "hub.jsonl")
    for number in range(100):
        journal.emit("log", rank=0, stream="out", text=f"line {number}")
    async with dashboard(run, (80, 20)) as (pilot, view):
        await pilot.press("t")
        await until(pilot, lambda: "line 99" in screen_text(pilot.app), "the log's end")
        await pilot.press("pageup")
        await until(pilot, lambda: "line 99" not in screen_text(pilot.app), "the page above it")
        top = screen_text(pilot.app)
        seen = view.run_state.log_seen
        journal.emit("log", rank=0, stream="out", text="one more \x1b[2J\x07")
        await until(pilot, lambda: view.run_state.log_seen > seen, "the new line")
        await pilot.pause()
        assert re.findall(r"line \d+", screen_text(pilot.app)) == re.findall(r"line \d+", top), "what is read does not move"
        await pilot.press("end")
        await until(pilot, lambda: "one more ␇" in screen_text(pilot.app), "the end, with the bell made visible")
        await pilot.press("t")
        assert "loss" in screen_text(pilot.app)
    journal.close()


async def test_the_effective_config_says_where_each_value_came_from(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path)) as (pilot, _):
        await pilot.press("c")
        await until(pilot, lambda: "training.learning_rate" in screen_text(pilot.app))
        text = screen_text(pilot.app)
        assert "line 8" in text
        assert "no NVIDIA GPU on this box" in text


async def test_a_crash_is_told_in_plain_words_with_its_remedy(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path, final="crash"), (76, 20)) as (pilot, _):
        assert "✗ The GPU ran out of memory at step 60: halve per_device_train_batch_size." in screen_text(pilot.app)
        await pilot.press("e")
        await until(pilot, lambda: "torch.OutOfMemoryError" in screen_text(pilot.app), "the traceback")


async def test_a_run_whose_processes_are_gone_is_lost_and_says_what_is_left(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path, final=None)) as (pilot, _):
        await until(pilot, lambda: "The run is lost" in screen_text(pilot.app))
        assert "last checkpoint is at step 50" in screen_text(pilot.app).replace("\n", " ")


async def test_a_command_to_an_ended_run_says_that_nobody_listens(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path)) as (pilot, _):
        await pilot.press("k")
        assert isinstance(pilot.app, Host)
        await until(pilot, lambda: pilot.app.told)
        assert pilot.app.told == ["The run is done; there is no trainer to ask."]


async def test_a_broken_or_empty_run_directory_opens_and_says_what_is_known(tmp_path: Path) -> None:
    run = tmp_path / "x-20261120-101500"
    (run / "journal").mkdir(parents=True)
    (run / "journal" / "hub.jsonl").write_bytes(b'\xff\xfe{"ev":\nnull\n[1]\n{"ev":"state","t":1.0,"s":"loading"}\n')
    async with dashboard(run, (76, 20)) as (pilot, _):
        assert "loading" in screen_text(pilot.app)
        assert "no step yet" in screen_text(pilot.app)
        assert "no loss yet" in screen_text(pilot.app)


@pytest.mark.parametrize("size", [(20, 5), (30, 8), (54, 24), (76, 20), (116, 36), (200, 60)])
async def test_every_size_is_drawn_and_can_be_changed_while_it_runs(tmp_path: Path, size: tuple[int, int]) -> None:
    async with dashboard(journals.write_run(tmp_path, gpus=2), (100, 36)) as (pilot, _):
        await pilot.resize_terminal(*size)
        await pilot.press("tab", "left", "plus", "t", "t", "m")
        assert screen_text(pilot.app)


async def test_another_theme_recolours_charts_and_header(tmp_path: Path) -> None:
    async with dashboard(journals.write_run(tmp_path)) as (pilot, view):
        box = view.charts.boxes["loss"]
        before = box.render_line(0)
        pilot.app.theme = "tuitune-light"
        await pilot.pause()
        assert [segment.style for segment in box.render_line(0)] != [segment.style for segment in before]
        assert box.render_line(0).text == before.text


async def test_why_a_run_is_slow_stands_in_one_line_above_its_charts_and_w_says_what_to_change(tmp_path: Path) -> None:
    """A living run on a GPU at 76 × 20: what can be changed while it trains is a command for the bar."""
    run = journals.write_run(tmp_path, gpus=1, waits=True, final=None, caps=journals.LIVE_CAPS)
    async with dashboard(journals.living(run), (76, 20)) as (pilot, view):
        assert "slow: padding 28 %, data 20 %, evaluation 2 % · MFU 5 %  (w)" in screen_text(pilot.app)
        assert [box.slot for box in view.query(ChartBox) if box.display] == ["loss", "grad_norm", "memory"]
        await pilot.press("w")
        await until(pilot, lambda: "Why slow" in screen_text(pilot.app), "the page")
        words = screen_words(pilot.app)
        for piece in (
            "22 % 28 % of the computed tokens are padding → padding_free: auto joins the rows of a micro-batch: the same update",
            "20 % steps wait 20 % of their time for the next rows → dataloader_num_workers 0 → 2",
            "The steps are bound by the GPU's arithmetic",
            "of 989 TFLOP/s (dense 16 bit, data sheet), from 4·P a token, P = 1.31·10⁹",
        ):
            assert piece in words
        await pilot.press("w")
        await until(pilot, lambda: "Why slow" not in screen_text(pilot.app), "the charts again")


async def test_a_run_that_does_not_tell_where_its_time_goes_has_no_such_line(tmp_path: Path) -> None:
    """Of an older trainer; its evaluations are states, but they took no time to speak of."""
    run = journals.write_run(tmp_path, steps=10, final=None)
    async with dashboard(run) as (pilot, _):
        assert "slow:" not in screen_text(pilot.app)
        await pilot.press("w")
        await until(pilot, lambda: "No step is measured yet." in screen_text(pilot.app), "the page")
