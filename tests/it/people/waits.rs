//! What a wait for a person holds, how long it lasts, and what goes on meanwhile.
