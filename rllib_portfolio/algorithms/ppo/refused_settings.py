"""Rules that refuse the RLlib settings which PPO does not support; see `algorithms/refused_settings.py`."""

from __future__ import annotations

from rllib_portfolio.algorithms.refused_settings import (
    ALL_RULES,
    FUSED_RULES,
    RLLIBS_LEARNER,
    Rule,
    has_our_runner,
    is_default,
    is_fused,
    module_class,
    unless,
)

PPO_RULES: tuple[Rule, ...] = (
    *ALL_RULES,
    *FUSED_RULES,
    Rule(
        "explore",
        "be True in training",
        is_default("explore", True),
        "PPO learns from the log-probabilities of sampled actions.",
    ),
    *unless(
        lambda config: not is_fused(config),
        (
            Rule("use_critic", "be True", is_default("use_critic", True), RLLIBS_LEARNER),
            *unless(
                lambda config: not config.market_baseline,
                (
                    Rule(
                        "market_baseline",
                        "be False with an env runner that is not derived from SeededEnvRunner",
                        has_our_runner,
                        "Its episodes do not hold the asset returns: set training.market_baseline to false.",
                    ),
                    Rule(
                        "market_baseline",
                        "be False with an RLModule without deterministic_weights",
                        lambda config: hasattr(module_class(config), "deterministic_weights"),
                        "Set training.market_baseline to false, or derive the module from PortfolioActorCritic.",
                    ),
                ),
            ),
        ),
    ),
)
