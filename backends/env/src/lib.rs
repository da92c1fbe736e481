//! Placeholder until this change fills it.
