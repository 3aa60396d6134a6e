"""Parts that the learners share: batches, advantages, the fused update and its metrics."""
