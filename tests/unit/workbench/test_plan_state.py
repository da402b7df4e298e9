"""The plan view as data: sliders against the real plan and the real recipe, advice, cards, who else is on the card, what is drawn."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.support.model_shapes import CONFIGS
from tests.support.own_cache import own_cache
from tuitune.errors import UserError
from tuitune.memory.plan import plan
from tuitune.memory.settings import device
from tuitune.planning import read_recipe
from tuitune.preflight import cards
from tuitune.preflight.cards import GIB, Card, parse_card
from tuitune.preflight.repair import apply_fixes
from tuitune.recipe.schema import load_schema
from tuitune.workbench.gpu_feed import GpuNow
from tuitune.workbench.gpu_reading import GpuReading, GpuSample, OtherProcess
from tuitune.workbench.views.plan import lines, rows
from tuitune.workbench.views.plan.held import Held, held_on
from tuitune.workbench.views.plan.reading import read
from tuitune.workbench.views.plan.sliders import BY_NAME, SLIDERS
from tuitune.workbench.views.plan.state import PlanState, back, choices, edge, most, move, next_card, outcome, rebased, step, values_of
from tuitune.workbench.views.plan.writing import fix_of

DATA = "dataset:\n  train: [{path: t.jsonl}]\n  eval: [{path: e.jsonl}]\n"
LORA = f"""\
# mine
task: sft
model: {{name_or_path: ./model, dtype: bfloat16}}
peft: {{r: 16, target_modules: all-linear}}  # small
{DATA}training:
  max_length: 2048  # why
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 4
  eval_strategy: steps
"""
QLORA = LORA + "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true}\n"
FULL = f"task: sft\nmodel: {{name_or_path: ./model}}\n{DATA}"
OLD_NAMES = LORA + "  gradient_checkpointing: true\n  gradient_checkpointing_kwargs: {use_reentrant: false, every_n_layers: 2}\n"
RECIPES = {
    "lora": LORA,
    "qlora": QLORA,
    "full": FULL,
    "old names": OLD_NAMES,
    "dpo": LORA.replace("sft", "dpo"),
    "one row": LORA.replace("size: 4", "size: 1").replace("steps: 4", "steps: 8"),
    "packed": LORA + "  packing: true\n",
    "wrapped": LORA + "  packing: true\n  packing_strategy: wrapped\n",
    "trl's adapter": LORA + "launch: {adapter_dtype: trl}\n",
    "paged": LORA + "  optim: paged_adamw_8bit\n",
    "16-bit adapter": FULL + "launch: {adapter_dtype: bfloat16}\n",
}


@pytest.fixture(autouse=True)
def box(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Card:
    """This box's card is a 4090; what is kept for an undo is kept in the test's own cache."""
    load_schema()
    own_cache(monkeypatch, tmp_path_factory.mktemp("own"))
    card = replace(parse_card("RTX 4090"), named=False)
    monkeypatch.setattr(cards, "this_box", lambda: card)
    return card


def write(folder: Path, text: str = LORA, model: str = "qwen2.5-1.5b") -> Path:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps(CONFIGS[model]))
    (folder / "r.yaml").write_text(text)
    return folder / "r.yaml"


def state_of(folder: Path, text: str = LORA, model: str = "qwen2.5-1.5b", card: Card | None = None) -> PlanState:
    return PlanState(read(write(folder, text, model), card))


def plain(found: list[Any]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in found)


# Sliders


def test_a_recipe_as_it_is_has_the_plan_that_the_command_line_makes(tmp_path: Path, box: Card) -> None:
    state = state_of(tmp_path)
    planned = read_recipe(tmp_path / "r.yaml", box)
    assert outcome(state).plan == plan(planned.shape, planned.settings, device(box.capability))
    assert outcome(state).values == {}


@pytest.mark.parametrize("slider", SLIDERS, ids=lambda slider: slider.name)
@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_slider_says_is_what_the_recipe_comes_to_once_it_is_written(recipe: str, slider: Any, tmp_path: Path) -> None:
    state = state_of(tmp_path, RECIPES[recipe])
    path = tmp_path / "r.yaml"
    values = values_of(state, slider)
    for value in values[:: 1 + len(values) // 4]:
        path.write_text(RECIPES[recipe])
        moved = move(state, slider.name, value)
        out = outcome(moved)
        if out.values:
            apply_fixes(path, state.basis.text, [fix_of(state.basis.data, out.values)])
        assert read(path, None).start.settings == out.settings, f"{slider.name} {value}"
        assert out.plan == plan(state.basis.start.shape, out.settings, device((8, 9)))


def test_sliders_moved_together_are_written_together(tmp_path: Path) -> None:
    state = state_of(tmp_path, FULL)
    for name, value in (("weights", 1), ("LoRA rank", 64), ("length", 512), ("micro-batch", 2), ("checkpointing", 3)):
        state = move(state, name, value)
    out = outcome(state)
    apply_fixes(tmp_path / "r.yaml", state.basis.text, [fix_of(state.basis.data, out.values)])
    assert read(tmp_path / "r.yaml", None).start.settings == out.settings
    assert (out.settings.rank, out.settings.lora, out.settings.quantised, out.settings.batch) == (64, True, True, 2)


def test_comments_and_order_stay_when_sliders_are_written(tmp_path: Path) -> None:
    state = move(move(state_of(tmp_path), "length", 1024), "LoRA rank", 8)
    apply_fixes(tmp_path / "r.yaml", state.basis.text, [fix_of(state.basis.data, outcome(state).values)])
    assert (tmp_path / "r.yaml").read_text() == LORA.replace("2048  # why", "1024  # why").replace("{r: 16", "{r: 8")


def test_a_micro_batch_keeps_the_rows_of_an_update(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    assert values_of(state, BY_NAME["micro-batch"]) == (1, 2, 4, 8, 16)
    for size in (1, 2, 8, 16):
        settings = outcome(move(state, "micro-batch", size)).settings
        assert settings.batch * settings.accumulation == 16


def test_right_takes_more_memory_left_less_and_the_ends_are_ends(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    for slider in SLIDERS:
        needed = [outcome(move(state, slider.name, value)).plan.needed for value in values_of(state, slider)]
        assert needed == sorted(needed), slider.name
        first, last = edge(state, slider.name, last=False), edge(state, slider.name, last=True)
        assert step(first, slider.name, -1) == first
        assert step(last, slider.name, 1) == last
        assert step(step(first, slider.name, 1), slider.name, -1) == first


def test_a_slider_that_comes_back_to_the_recipe_s_value_is_not_moved(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    there = step(state, "length", -2)
    assert there.moved == {"length": 1024}
    assert step(there, "length", 2) == state
    assert back(there) == state


def test_full_fine_tuning_has_no_rank_until_4_bits_bring_an_adapter(tmp_path: Path) -> None:
    state = state_of(tmp_path, FULL)
    assert step(state, "LoRA rank", 1) == state
    quantised = step(state, "weights", -1)
    ranked = step(quantised, "LoRA rank", 1)
    assert outcome(ranked).settings.rank == 32
    assert step(ranked, "weights", 1) == state, "the rank goes with the adapter"


def test_an_adapter_that_training_goes_on_with_keeps_its_rank(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    adapter = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    text = f"task: sft\nmodel: {{name_or_path: ./model, adapter: ./adapter}}\n{DATA}"
    state = state_of(tmp_path, text)
    assert values_of(state, BY_NAME["LoRA rank"]) == ()
    assert "4, the adapter's own" in plain([row.line for row in rows.rows(state, outcome(state), 76, cards=True)])


def test_a_card_without_bfloat16_gets_16_bit_floats_when_4_bits_are_taken_back(tmp_path: Path) -> None:
    state = step(state_of(tmp_path, QLORA, card=parse_card("T4")), "weights", 1)
    assert outcome(state).values == {"quantization": None, "model.dtype": "float16"}


def test_the_most_that_fits_fits_with_5_percent_to_spare_and_the_next_does_not(tmp_path: Path) -> None:
    state = state_of(tmp_path, QLORA, model="llama3.1-8b")
    assert state.room is not None
    room = state.room * 0.95
    longest = most(state, "length")
    assert longest is not None
    assert outcome(longest).plan.needed <= room
    assert outcome(move(state, "length", longest.moved["length"] + 64)).plan.needed > room
    widest = most(state, "micro-batch")
    assert widest is not None
    assert outcome(widest).plan.needed <= room < outcome(step(widest, "micro-batch", 1)).plan.needed
    assert most(state_of(tmp_path, LORA, model="qwen2.5-32b"), "LoRA rank") is None


# The recipe changes under it


def test_a_recipe_that_is_read_again_keeps_what_still_differs(tmp_path: Path) -> None:
    state = move(move(state_of(tmp_path), "length", 1024), "micro-batch", 2)
    (tmp_path / "r.yaml").write_text(LORA.replace("2048", "1024"))
    assert rebased(state, read(tmp_path / "r.yaml", None)).moved == {"micro-batch": 2}
    (tmp_path / "r.yaml").write_text(LORA.replace("size: 4", "size: 3").replace("steps: 4", "steps: 1"))
    assert rebased(state, read(tmp_path / "r.yaml", None)).moved == {"length": 1024}, "2 does not divide 3 rows an update"


def test_what_cannot_be_planned_is_refused_when_it_is_read(tmp_path: Path) -> None:
    for added, said in (("  torch_compile: true\n", "torch_compile"), ("  optim: adafactor\n", "adafactor"), ("  use_cpu: true\n", "CPU")):
        with pytest.raises(UserError, match=said):
            state_of(tmp_path, LORA + added)


# Advice and cards


def test_advice_that_makes_it_fit_is_written_with_what_it_rests_on_and_with_the_sliders(tmp_path: Path) -> None:
    state = move(state_of(tmp_path, LORA, model="llama3.1-8b", card=parse_card("T4")), "length", 3072)
    out = outcome(state)
    assert not out.each
    last = len(out.advice) - 1
    assert last > 0
    values = rows.advised_values(out, last)
    apply_fixes(tmp_path / "r.yaml", state.basis.text, [fix_of(state.basis.data, values)])
    after = PlanState(read(tmp_path / "r.yaml", parse_card("T4")))
    assert after.basis.start.settings == replace(out.advice[last].change.settings, padded=False), "a batch of one has no padding"
    assert outcome(after).fits
    assert values["training.max_length"] == 3072
    assert "training.optim" not in rows.advised_values(out, 0)


def test_advice_that_makes_it_faster_is_written_alone(tmp_path: Path) -> None:
    out = outcome(state_of(tmp_path, card=parse_card("H200")))
    assert out.each
    assert rows.advised_values(out, 1) == out.advice[1].change.values
    assert rows.advised_values(out, 1) != {**out.advice[0].change.values, **out.advice[1].change.values}


def test_this_box_s_card_is_first_and_each_has_its_margin(tmp_path: Path, box: Card) -> None:
    state = state_of(tmp_path)
    found = outcome(state).cards
    assert [one.card.name for one in found][:3] == ["RTX 4090", "T4", "RTX 3060"]
    assert (found[0].own, found[0].planned, found[0].room) == (True, True, int(23.64 * GIB))
    assert all(one.margin == one.room - one.needed for one in found)
    hopper = next(one for one in found if one.card.name == "H100")
    assert hopper.needed == plan(state.basis.start.shape, state.basis.start.settings, device((9, 0))).needed


def test_the_next_card_goes_round(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    assert next_card(state.basis, state.card).name == "T4"
    assert next_card(state.basis, state.card, -1) == choices(state.basis)[-1]
    assert next_card(state.basis, choices(state.basis)[-1]) == state.card


def test_without_a_gpu_nothing_is_said_to_fit_until_a_card_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "this_box", lambda: cards.CPU)
    state = state_of(tmp_path)
    out = outcome(state)
    assert (out.fits, out.advice, state.room) == (None, [], None)
    assert "this box has no GPU: g plans for a card" in plain(lines.head(state, out, 76))
    assert next_card(state.basis, None).name == "T4"
    assert outcome(state_of(tmp_path, card=parse_card("T4"))).fits


# Who else is on the card


def reading(*others: OtherProcess, used: float, process: float | None = None) -> GpuReading:
    return GpuReading(0, "GPU-1", "RTX 4090", used=used, total=24 * GIB, process=process, others=others)


def now(card: GpuReading, run: str = "") -> GpuNow:
    return GpuNow(GpuSample((card,)), run=run)


@pytest.mark.parametrize(
    ("sample", "held"),
    [
        (GpuNow(), ()),
        (now(reading(used=0.3 * GIB)), ()),
        (now(reading(OtherProcess(7, "ada", "python", 3 * GIB), used=3.2 * GIB)), (Held("others (ada, python)", 3 * GIB),)),
        (now(reading(OtherProcess(7, "?", "hidden", None), used=5 * GIB)), (Held("others (not listed by the driver)", 5 * GIB),)),
        (now(reading(used=9 * GIB, process=9 * GIB), run="demo-1"), (Held("run demo-1", 9 * GIB),)),
        (
            now(reading(*(OtherProcess(pid, "bob", "python", pid * GIB) for pid in range(1, 6)), used=15 * GIB)),
            (*(Held("others (bob, python)", pid * GIB) for pid in (5, 4, 3)), Held("others (2 more)", 3 * GIB)),
        ),
    ],
)
def test_who_holds_how_much_of_the_card(sample: GpuNow, held: tuple[Held, ...]) -> None:
    assert held_on(sample) == held


def test_what_others_hold_counts_against_the_card_of_this_box_alone(tmp_path: Path) -> None:
    taken = (Held("others (ada, python)", 18 * GIB),)
    state = replace(state_of(tmp_path), held=taken)
    alone, beside = outcome(replace(state, held=())), outcome(state)
    assert alone.fits
    assert not beside.fits
    assert beside.advice, "it is advised to fit beside them"
    assert beside.cards[0].room == int(23.64 * GIB) - 18 * GIB
    assert [one.room for one in beside.cards[1:]] == [one.room for one in alone.cards[1:]]
    assert "of which others hold 18.00 GiB" in plain(lines.head(state, beside, 100))
    assert "╳ others (ada, python) 18.00" in plain(lines.legend(state, beside, 76, columns=False))
    elsewhere = replace(state_of(tmp_path, card=parse_card("A100")), held=taken)
    assert outcome(elsewhere).fits
    assert "others" not in plain(lines.legend(elsewhere, outcome(elsewhere), 76, columns=False))


# What is drawn


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("card", ["RTX 3060", "H200"])
def test_the_parts_add_up_and_each_has_a_glyph_of_its_own(recipe: str, card: str, tmp_path: Path) -> None:
    state = state_of(tmp_path, RECIPES[recipe], card=parse_card(card))
    out = outcome(state)
    found = lines.parts(state, out)
    assert sum(part.bytes for part in found) == out.plan.nvml
    assert len({part.glyph for part in found}) == len(found)


def test_paged_states_are_part_of_the_bar_and_give_way(tmp_path: Path) -> None:
    full = FULL + "training: {optim: paged_adamw_8bit}\n"
    state = state_of(tmp_path, full, card=parse_card("H200"))
    out = outcome(state)
    assert out.plan.paged > 0
    assert lines.parts(state, out)[-1].name == "paged optimizer states, which give way"
    assert f"needs {out.plan.needed / GIB:.2f} GiB" in plain(lines.verdict(state, out, 100))


def test_what_fits_by_less_than_a_plan_may_be_off_is_said_so(tmp_path: Path) -> None:
    needed = outcome(state_of(tmp_path)).plan.needed
    tight = Card("tight", needed + 1, (8, 9))
    state = state_of(tmp_path, card=tight)
    out = outcome(state)
    assert (out.fits, out.close, out.each) == (True, True, False)
    assert "~ may just fit on tight" in plain(lines.verdict(state, out, 100))
    assert "to have 5 % to spare, each on top of those before" in plain([row.line for row in rows.rows(state, out, 100, cards=False)])


@pytest.mark.parametrize("width", [40, 58, 74, 90, 138])
@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("card", ["RTX 3060", "H200"])
def test_nothing_of_the_upper_half_is_wider_than_the_view(width: int, columns: bool, card: str, tmp_path: Path) -> None:
    state = state_of(tmp_path, LORA, model="llama3.1-8b", card=parse_card(card))
    out = outcome(state)
    drawn = [*lines.verdict(state, out, width), *lines.drawn_bar(state, out, width), *lines.legend(state, out, width, columns=columns)]
    drawn += [*lines.phases(out, width, whole=columns), *lines.planned_for(state, out, width)]
    assert max(cell_len("".join(text for text, _ in line)) for line in drawn) <= width


def test_the_bar_is_as_long_as_the_card_is_large(tmp_path: Path) -> None:
    state = state_of(tmp_path, LORA, model="llama3.1-8b", card=parse_card("H200"))
    (bar,) = lines.drawn_bar(state, outcome(state), 100)
    free = plain([bar]).count("·") / 100
    assert free == pytest.approx(1 - outcome(state).plan.nvml / (139.8 * GIB), abs=0.03)  # each of seven parts has a cell at least


def test_what_goes_beyond_the_card_is_marked_where_it_ends(tmp_path: Path) -> None:
    state = state_of(tmp_path, LORA, model="llama3.1-8b", card=parse_card("RTX 3060"))
    out = outcome(state)
    bar, ruler = lines.drawn_bar(state, out, 90)
    end = round(90 * 11.63 * GIB / out.plan.nvml)
    assert plain([bar])[end - 1] == "┃"
    assert len(plain([bar])) == 90
    assert plain([ruler])[end - 1] in "┘└"
    assert "the card ends at 11.63 GiB" in plain([ruler])
    assert {role for _, role in bar[[text for text, _ in bar].index("┃") :]} == {"error"}


def test_the_phases_have_the_peak_among_them(tmp_path: Path) -> None:
    out = outcome(state_of(tmp_path))
    whole = plain(lines.phases(out, 200, whole=True))
    assert f"▲ {out.plan.peak} {out.plan.allocated / GIB:.2f}" in whole
    assert all(name in whole for name in out.plan.phases)
    assert plain(lines.phases(out, 200, whole=False)).count("backward") == 1


def test_a_moved_slider_says_what_the_recipe_has_and_what_would_be_written(tmp_path: Path) -> None:
    state = move(state_of(tmp_path), "length", 1024)
    found = {row.key: row for row in rows.rows(state, outcome(state), 76, cards=True)}
    assert plain([found["length"].line]).startswith("● length        1,024 tokens")
    assert plain([found["length"].line]).endswith("recipe: 2,048 tokens")
    assert found["length"].about.startswith("w writes training: {max_length: 1024}.")
    assert "recipe" not in plain([found["weights"].line])


@pytest.mark.parametrize("width", [40, 57, 73, 120])
def test_a_row_says_what_it_has_to_say_in_little_room(width: int, tmp_path: Path) -> None:
    state = move(state_of(tmp_path, LORA, model="llama3.1-8b", card=parse_card("T4")), "length", 1024)
    found = rows.rows(state, outcome(state), width, cards=True)
    advice = [plain([row.line]) for row in found if row.kind == rows.ADVICE]
    assert all(cell_len(line) <= width for line in advice)
    assert any("fits" in line for line in advice)
    assert "1,024 tokens" in plain([found[0].line])[:width]


def test_foreign_text_is_drawn_and_not_obeyed(tmp_path: Path) -> None:
    state = replace(state_of(tmp_path), held=(Held("others (\x1b[2J, x)", GIB),))
    assert "\x1b" not in plain(lines.legend(state, outcome(state), 76, columns=False))


# Names of keys


def test_checkpointing_is_written_under_the_name_that_the_recipe_uses(tmp_path: Path) -> None:
    state = edge(state_of(tmp_path, OLD_NAMES), "checkpointing", last=True)
    apply_fixes(tmp_path / "r.yaml", state.basis.text, [fix_of(state.basis.data, outcome(state).values)])
    assert "gradient_checkpointing: false\n" in (tmp_path / "r.yaml").read_text()
    assert "activation_checkpointing" not in (tmp_path / "r.yaml").read_text()


def test_every_layer_means_every_layer_where_the_recipe_had_every_second() -> None:
    data = {"training": {"activation_checkpointing_kwargs": {"every_n_layers": 2}}}
    changes = fix_of(data, {"training.activation_checkpointing": True}).changes
    assert [(change.path, change.value) for change in changes] == [
        (("training", "activation_checkpointing"), True),
        (("training", "activation_checkpointing_kwargs", "every_n_layers"), 1),
    ]


def test_this_boxs_card_is_planned_as_its_runs_have_measured_it_and_the_others_are_not(
    tmp_path: Path, box: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuitune.memory.calibration import Measured, box_of, keep_measured

    path, own = write(tmp_path), replace(box, driver="580")
    monkeypatch.setattr(cards, "this_box", lambda: own)
    general = outcome(PlanState(read(path, None)))
    keep_measured(box_of(own.name, own.driver), "run", Measured(500 << 20, None))  # type: ignore[arg-type]
    found = outcome(PlanState(read(path, None)))
    assert found.plan.nvml == general.plan.nvml - (264 << 20)
    assert [one.margin for one in found.cards if one.card != own] == [one.margin for one in general.cards if one.card != own]


def test_the_view_says_which_runs_and_which_file_have_corrected_the_plan(
    tmp_path: Path, box: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuitune.memory.calibration import Measured, box_of, calibration_file, keep_measured

    path, own = write(tmp_path), replace(box, driver="580")
    monkeypatch.setattr(cards, "this_box", lambda: own)
    assert lines.calibrated(PlanState(read(path, None)), 200, whole=True) == []
    for run in ("one", "two"):
        keep_measured(box_of(own.name, own.driver), run, Measured(500 << 20, None))  # type: ignore[arg-type]
    state = PlanState(read(path, None))
    whole = "".join(text for line in lines.calibrated(state, 300, whole=True) for text, _ in line)
    assert whole == f"calibrated by 2 runs of this box: {calibration_file()} (delete it to plan without)"
    assert lines.calibrated(state, 40, whole=False) == [(("calibrated by 2 runs of this box", "dim"),)]
    other = PlanState(read(path, parse_card("RTX 4090")))
    assert lines.calibrated(other, 80, whole=True) == [], "another card is planned by the general figures"
