//! Layers together, in other orders than the stack's.

mod hostile_endpoints;
mod lost_answers;
