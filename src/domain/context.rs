//! Fits a conversation into its pots; says what was cut, and why.
