"""Rules that refuse the RLlib settings which analytic policy gradients do not support."""

from __future__ import annotations

from rllib_portfolio.algorithms.refused_settings import ALL_RULES, FUSED_RULES, Rule, is_default, is_fused, module_class
from rllib_portfolio.modules.actor_critic import PortfolioActorCritic
from rllib_portfolio.modules.stacked_actor_critic import StackedActorCritic

APG_RULES: tuple[Rule, ...] = (
    *ALL_RULES,
    *FUSED_RULES,
    Rule("learner_class", "be derived from APGLearner", is_fused, "No other learner differentiates the accounting."),
    Rule(
        "explore",
        "be False",
        is_default("explore", False),
        "Env runners walk under the mean action, which the learner differentiates.",
    ),
    Rule(
        "rl_module_spec",
        "give one of the actor-critic modules",
        lambda config: issubclass(module_class(config), PortfolioActorCritic | StackedActorCritic),
        "The learner calls their networks.",
    ),
    Rule(
        "grad_clip",
        "be None",
        is_default("grad_clip", None),
        "Set max_gradient_norm, which clips the gradient of each network.",
    ),
)
