//! Each wire from end to end: the runtime, a real socket, the simulated provider, and two books that must agree.

mod anthropic;
mod anthropic_body;
