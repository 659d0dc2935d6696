//! Retries, fallbacks, downgrades, repairs and resumes of whole runs, against the simulated provider.
