//! Simulated providers that speak the real wires and keep an invoice.
