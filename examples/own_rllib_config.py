"""RLlib's own PPO, configured by you, in the portfolio environment.

python examples/own_rllib_config.py
"""

import ray
from ray.rllib.algorithms.ppo import PPOConfig

config = (
    PPOConfig()
    .environment(
        "rllib_portfolio:rllib_portfolio/Portfolio-v0",  # every env runner imports the package by itself
        env_config={"data": {"source": "kelly", "num_days": 500}, "cost_bps": 5, "episode_days": 50},
        normalize_actions=False,  # the environment maps actions to weights, once
        clip_actions=True,
    )
    .env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=8,
        rollout_fragment_length=64,
        gym_env_vectorize_mode="vector_entry_point",
    )
    .training(train_batch_size_per_learner=512, minibatch_size=128, num_epochs=4, lr=3e-4)
    .debugging(seed=0)
)

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
algorithm = config.build_algo()
for iteration in range(3):
    result = algorithm.train()
    print(f"iteration {iteration}: mean return of an episode {result['env_runners']['episode_return_mean']:+.4f}")
algorithm.stop()
ray.shutdown()
