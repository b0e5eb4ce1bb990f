//! Memory of the pool's processes. Shared pages count in proportion to who shares them, so that the
//! sum over processes is what the machine gives.

use pool_supervisor::client::{ClientError, Connection};
use serde::Serialize;

use crate::usage::workers;

/// Proportional set sizes in bytes; absent where the kernel does not let this user see them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Of the supervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervisor_pss: Option<u64>,
    /// Of each living worker.
    pub workers_pss: Vec<u64>,
}

impl Memory {
    /// What it is now.
    ///
    /// # Errors
    /// When the supervisor does not say who its workers are.
    pub fn now(connection: &mut Connection) -> Result<Self, ClientError> {
        let workers_pss =
            workers(connection)?.iter().filter_map(|worker| pss_of(worker.pid)).collect();
        Ok(Self { supervisor_pss: pss_of(connection.welcome().pid), workers_pss })
    }

    /// The line a person reads.
    #[must_use]
    pub fn line(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let supervisor = self
            .supervisor_pss
            .map_or_else(|| "unknown".to_owned(), |pss| format!("{:.1} MiB", mib(pss)));
        let workers = self.workers_pss.len().max(1) as f64;
        let each = mib(self.workers_pss.iter().sum()) / workers;
        format!(
            "memory: supervisor {supervisor}, {} workers of {each:.1} MiB",
            self.workers_pss.len()
        )
    }
}

/// Proportional set size of a process in bytes; nothing if it is gone or not ours to see.
#[must_use]
pub fn pss_of(pid: u32) -> Option<u64> {
    from_rollup(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn from_rollup(rollup: &str) -> Option<u64> {
    let value = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_size_is_found_among_its_neighbours() {
        let rollup = "55d0-7ffc ---p 00000000 00:00 0   [rollup]\nRss:   9000 \
            kB\nPss:                1234 kB\nPss_Dirty: 12 kB\n";
        assert_eq!(from_rollup(rollup), Some(1234 * 1024));
        assert_eq!(from_rollup("Rss: 1 kB\nPss_Anon: 7 kB\n"), None);
        assert!(pss_of(std::process::id()).is_some_and(|bytes| bytes > 0));
    }
}
