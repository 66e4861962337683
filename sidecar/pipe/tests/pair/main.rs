//! Two sessions against each other on a virtual clock, and one session
//! against frames made by hand. Nothing here sleeps or opens a socket.

mod app;
mod bad_input;
mod cut;
mod drain;
mod flow;
mod harness;
mod hostile;
mod link;
mod raw;
mod schedules;
mod silence;
mod slow;
mod strays;
