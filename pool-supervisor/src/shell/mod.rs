//! The shell: does what the core decided.
//!
//! One thread, one epoll. It owns every descriptor, the only clock, and the bytes of tasks and
//! outcomes; it turns what happens into the core's events and performs the core's actions. It must
//! not decide: an `if` about policy in here is a mistake.

mod answers;
mod bodies;
mod body_limit;
mod buffers;
mod cgroup;
mod clients;
mod clock;
mod confinement;
mod control;
mod delivery;
mod events;
mod launch;
mod link;
mod listener;
mod lock;
mod logging;
mod oom;
mod orphans;
mod outbox;
mod outcomes;
mod owed;
mod peers;
mod perform;
mod probe;
mod pump;
mod reactor;
mod replies;
mod shutdown_flush;
mod signals;
mod snapshot;
mod spawn;
mod start;
mod systemd;
mod tasks;
mod verdict;
mod waits;
mod workers;

pub use start::main;
