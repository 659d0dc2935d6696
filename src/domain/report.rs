//! Folds for people: a run's document, its trace, cost by dimension.
