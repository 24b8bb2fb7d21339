//! The composition root: builds a node out of the rooms and shuts it down.
