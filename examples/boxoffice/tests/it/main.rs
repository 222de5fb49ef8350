//! Boxoffice through its own doors.

mod tickets;
