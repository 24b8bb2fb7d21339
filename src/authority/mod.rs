//! The sole writer: the one commit path, and what it publishes.
