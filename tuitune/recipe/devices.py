"""Does a recipe want a GPU? One answer for everybody who asks: the schema, the lease, the trainer and the workbench's question."""

from collections.abc import Mapping

#: The words of `launch.gpus` that mean "no GPU". A YAML number is compared as it is written (`gpus: 0` is "0").
NO_GPU = ("0", "none", "cpu")


def wants_cpu(launch: Mapping[str, object], training: Mapping[str, object]) -> bool:
    """True when the recipe's `launch:` or `training:` section asks for no GPU (`gpus: cpu`, or `use_cpu: true`)."""
    gpus = launch.get("gpus")  # None is `gpus:` with nothing after it, which says nothing
    return (gpus is not None and str(gpus).lower() in NO_GPU) or training.get("use_cpu") is True
