"""Quality of predictions: SCALE, its ablations, the baselines and the peers, same splits, same evaluator."""
