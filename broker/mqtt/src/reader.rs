//! Hot path. A cursor over the body of one packet: every read is checked against its end.
