//! A replica: the handle that checks, and the task that follows an upstream.
