"""Training on dense labels: from a labelled set to a model, its thresholds and a report."""
