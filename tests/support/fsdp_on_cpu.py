"""accelerate's FSDP2 on the CPU, which it has and does not offer: with gloo it ignores the plugin without a word (run-control.md 2.2).

`allow` lets it make the same choice that it makes on GPUs; all that follows (wrapping, sharding, gathering, saving) is accelerate's and
torch's own code. For tests and the CPU half of tests/bench/multi_gpu.py.
"""

from functools import wraps
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


def allow() -> None:
    """From now on an FSDP plugin counts in a process group on the CPU as well."""
    made = AcceleratorState.__init__

    @wraps(made)
    def with_plugin(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        made(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)
            self.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = self.distributed_type  # as accelerate does; every later look starts from it

    AcceleratorState.__init__ = with_plugin
