"""tests.bench.throughput, its profile and loss_curves: names of variants, classes of kernels, the share of time that a device was busy."""

import pytest

from tests.bench.kernel_times import busy, kind, summed, table
from tests.bench.loss_curves import compare, shares
from tests.bench.throughput import break_even, pinned, summed_up


def test_a_tool_s_name_pins_its_levers_and_leaves_the_others_to_tuitune() -> None:
    assert pinned("tuitune") == {}
    assert pinned("tuitune+liger+compile") == {"use_liger_kernel": True, "torch_compile": "auto"}
    assert pinned("tuitune-liger-ckpt") == {"use_liger_kernel": False, "gradient_checkpointing": False}


@pytest.mark.parametrize("name", ["tuitune+speed", "tuitune liger", "plane"])
def test_a_name_that_is_none_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ValueError, match="liger, compile, ckpt"):
        pinned(name)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_TNN", "gemm"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "gemm"),
        ("void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<…>>>", "attention"),
        ("fmha_cutlassB_bf16_aligned_64x64_k128_sm80(PyTorchMemEffAttention::AttentionBackwardKernel…)", "attention"),
        ("void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, 2>(float*, unsigned char*, …)", "bnb dequant"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::BinaryFunctor<…>>", "elementwise"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<…FusedAdamMathFunctor<…>>", "optimizer"),
        ("_rms_norm_forward_kernel", "liger"),
        ("_triton_rope", "liger"),
        ("_forward_kernel", "head"),
        ("triton_poi_fused_add_mul_3", "compiled"),
        ("Memcpy DtoD (Device -> Device)", "copy"),
        ("aten::addmm", "gemm"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::mul", "elementwise"),
        ("something new", "other"),
    ],
)
def test_a_kernel_is_of_a_class(name: str, label: str) -> None:
    assert kind(name) == label


def test_time_in_which_two_kernels_run_counts_once() -> None:
    assert busy([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.5)]) == 4.0
    assert busy([]) == 0.0


def test_a_profile_sums_kernels_by_name_and_class() -> None:
    found = summed([("aten::mm", 0.0, 2.0, 2.0), ("aten::mm", 2.0, 3.0, 1.0), ("aten::add", 4.0, 5.0, 1.0)], 10.0, 2, "GPU")
    assert found["classes"] == {"gemm": 3.0, "elementwise": 1.0}
    assert found["top"][0] == {"name": "aten::mm", "class": "gemm", "calls": 2, "ms": 3.0}
    assert (found["busy"], found["launches"], found["steps"]) == (0.4, 3, 2)
    assert table(found).startswith("GPU busy 40% of 5 ms a step, 1 launches a step: gemm 75%, elementwise 25%")


def test_compiling_pays_from_as_many_steps_as_win_back_what_it_begins_with() -> None:
    plain = summed_up({"seconds": [1.0] * 8, "tokens": [100] * 8})
    compiled = summed_up({"seconds": [31.0, 1.8, 0.8, 0.8, 0.8, 0.8], "tokens": [100] * 6})
    assert (plain["beginning_s"], compiled["beginning_s"]) == (0.0, 31.2)
    assert break_even({"tuitune": plain, "tuitune+compile": compiled}) == [
        "tuitune+compile pays from 156 steps: 31.2 s to begin, 0.2000 s a step saved"
    ]
    assert break_even({"tuitune": compiled, "tuitune+compile": plain})[0].startswith("tuitune+compile never pays")


def test_levers_of_other_sections_are_none_of_the_training_s() -> None:
    assert pinned("tuitune+measured+bf16+product-first-liger@6") == {"use_liger_kernel": False}


def test_loss_curves_are_compared_by_equal_shares_of_the_tokens() -> None:
    """Shares are weighted by tokens; tools within what seeds differ by pass, and others do not."""
    assert shares([10, 10, 20, 40], [4.0, 2.0, 3.0, 1.0], count=2) == [3.0, 1.0]
    plain = {1: [9.0, 2.0, 1.0], 2: [9.0, 2.2, 1.2]}
    near, far = ({seed: [9.0, *(value + off for value in curve[1:])] for seed, curve in plain.items()} for off in (0.1, 0.5))
    assert compare(plain, near)["within_noise"] is True
    assert compare(plain, far)["within_noise"] is False
    assert compare(plain, far)["ours_above"] == 0.5
