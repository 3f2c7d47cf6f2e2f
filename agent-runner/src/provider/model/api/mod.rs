//! What the APIs of models have in common, and each of them: pure.
