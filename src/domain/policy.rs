//! Model policy: who is approved, in what order, and where to go when money is short.
