"""PPO in one file in the manner of CleanRL's `ppo_continuous_action.py`, written for this comparison.

As there: torch storage, a forward pass of actor and critic at each step, `torch.distributions.Normal`, a Python loop
for the advantages, Adam with eps 1e-5, advantages normalised per minibatch. Otherwise than there: our vector
environment instead of Gymnasium's `SyncVectorEnv`, the network that all sides share, no observation or reward wrappers,
actions clipped before the step, steps that only reset masked out of the loss, truncated episodes bootstrapped.
"""
# ruff: noqa: D102 - the methods are documented by `contenders.Contender`

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.distributions.normal import Normal

from benchmarks.throughput.network import ActorCritic
from benchmarks.throughput.setting import Setting
from benchmarks.throughput.stopwatch import Watched
from rllib_portfolio.env import PortfolioVectorEnv


class Agent(ActorCritic):
    """The shared network with CleanRL's two methods."""

    def get_value(self, x: Tensor) -> Tensor:
        """[B, D] -> [B]."""
        return self.value(self.embed(x))

    def get_action_and_value(self, x: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Action, its log-probability, entropy and value."""
        hidden = self.embed(x)
        action_mean = self.mean(hidden)
        action_std = torch.exp(self.action_log_std().expand_as(action_mean))
        probs = Normal(action_mean, action_std)
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action).sum(1), probs.entropy().sum(1), self.value(hidden)


class CleanRLStyle:
    """The script's storage and its loop, one iteration at a time."""

    def __init__(self, args: Setting, market_path: Path) -> None:
        torch.manual_seed(args.seed)
        self.args = args
        self.rng = np.random.default_rng(args.seed)
        self.envs = PortfolioVectorEnv(args.num_envs, data=str(market_path))
        self.agent = Agent(args)
        self.optimizer = optim.Adam(self.agent.parameters(), lr=args.learning_rate, eps=1e-5)

        # ALGO Logic: Storage setup
        shape = (args.rollout_steps, args.num_envs)
        self.obs = torch.zeros((*shape, *self.envs.single_observation_space.shape))
        self.actions = torch.zeros((*shape, *self.envs.single_action_space.shape))
        self.logprobs = torch.zeros(shape)
        self.rewards = torch.zeros(shape)
        self.dones = torch.zeros(shape)
        self.values = torch.zeros(shape)
        self.next_obs = torch.tensor(self.envs.reset(seed=args.seed)[0])
        self.next_done = torch.zeros(args.num_envs)

    def sample(self) -> int:
        for step in range(self.args.rollout_steps):
            self.obs[step] = self.next_obs
            self.dones[step] = self.next_done

            # ALGO LOGIC: action logic
            with torch.no_grad():
                action, logprob, _, value = self.agent.get_action_and_value(self.next_obs)
                self.values[step] = value
            self.actions[step] = action
            self.logprobs[step] = logprob

            clipped = np.clip(action.numpy(), self.envs.single_action_space.low, self.envs.single_action_space.high)
            next_obs, reward, terminations, truncations, _ = self.envs.step(clipped)
            self.rewards[step] = torch.tensor(reward)
            self.next_obs = torch.tensor(next_obs)
            self.next_done = torch.tensor(np.logical_or(terminations, truncations), dtype=torch.float32)
        return int((self.dones == 0).sum())

    def advantages(self) -> Tensor:
        """Generalised advantages; the step after an episode's end only resets, so its value is the last one's."""
        with torch.no_grad():
            next_value = self.agent.get_value(self.next_obs)
            advantages = torch.zeros_like(self.rewards)
            lastgaelam = torch.zeros(self.args.num_envs)
            for t in reversed(range(self.args.rollout_steps)):
                is_last = t == self.args.rollout_steps - 1
                nextdone = self.next_done if is_last else self.dones[t + 1]
                nextvalues = next_value if is_last else self.values[t + 1]
                delta = self.rewards[t] + self.args.gamma * nextvalues - self.values[t]
                lastgaelam = delta + self.args.gamma * self.args.gae_lambda * (1.0 - nextdone) * lastgaelam
                advantages[t] = lastgaelam
        return advantages

    def train(self) -> int:
        num_steps = self.sample()
        advantages = self.advantages()
        self.update(advantages)
        return num_steps

    def update(self, advantages: Tensor) -> None:
        """All epochs of minibatches."""
        args = self.args
        # flatten the batch
        is_step = self.dones.reshape(-1) == 0
        b_obs = self.obs.flatten(0, 1)[is_step]
        b_logprobs = self.logprobs.reshape(-1)[is_step]
        b_actions = self.actions.flatten(0, 1)[is_step]
        b_advantages = advantages.reshape(-1)[is_step]
        b_returns = (advantages + self.values).reshape(-1)[is_step]

        # Optimizing the policy and value network
        b_inds = np.arange(len(b_obs))
        for _ in range(args.num_epochs):
            self.rng.shuffle(b_inds)
            for mb_inds in np.array_split(b_inds, round(len(b_inds) / args.minibatch_size)):
                _, newlogprob, entropy, newvalue = self.agent.get_action_and_value(b_obs[mb_inds], b_actions[mb_inds])
                ratio = (newlogprob - b_logprobs[mb_inds]).exp()
                mb_advantages = b_advantages[mb_inds]
                mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)

                # Policy loss
                pg_loss1 = -mb_advantages * ratio
                pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - args.clip, 1 + args.clip)
                pg_loss = torch.max(pg_loss1, pg_loss2).mean()

                # Value and entropy loss
                v_loss = ((newvalue - b_returns[mb_inds]) ** 2).mean()
                loss = pg_loss - args.entropy_coefficient * entropy.mean() + v_loss * args.value_coefficient

                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.agent.parameters(), args.max_gradient_norm)
                self.optimizer.step()

    def watched(self) -> Sequence[Watched]:
        return []  # a script has few functions to put a clock on

    def close(self) -> None:
        self.envs.close()
