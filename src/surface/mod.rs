//! What callers see: extract, ask, answer.
