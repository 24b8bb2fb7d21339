//! The durable ordered log of accepted changes.
