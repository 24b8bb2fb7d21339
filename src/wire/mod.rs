//! Generated protocol code and its conversions. Nothing generated leaves this module.
