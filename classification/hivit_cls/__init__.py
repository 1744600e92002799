"""Classification with few labels: encoder, feature bank, data sets, trainers, results."""
