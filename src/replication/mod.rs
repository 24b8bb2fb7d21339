//! The agreement between the authority and every replica, as two state machines without I/O.
