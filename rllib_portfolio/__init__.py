"""Portfolio allocation with Ray RLlib: an exact market simulator, fast training, out-of-sample back-tests.

Importing the package registers `rllib_portfolio/Portfolio-v0` with Gymnasium; it loads neither ray nor torch.
"""

from typing import TYPE_CHECKING, Any

from rllib_portfolio.env.registration import ENV_ID

if TYPE_CHECKING:
    from rllib_portfolio.policies.saved_policy import load_policy

__all__ = ["ENV_ID", "load_policy"]


def __getattr__(name: str) -> Any:
    if name == "load_policy":
        from rllib_portfolio.policies.saved_policy import load_policy

        return load_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
