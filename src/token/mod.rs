//! Tokens as presented: parsed into the claims that the core looks revocations up by.
