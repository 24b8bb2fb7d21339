//! A relay: the same bytes again, an unbroken history, and silence while in doubt.
