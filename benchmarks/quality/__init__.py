"""Quality of predictions: SCALE, its ablations, the baselines and the peers on the same splits with the same evaluator."""
