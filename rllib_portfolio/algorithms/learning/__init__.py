"""Parts that learners share: batches, advantages, the fused update and its metrics."""
