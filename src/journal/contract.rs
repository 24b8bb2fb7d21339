//! What every journal must do, as checks that any store can be put through.
