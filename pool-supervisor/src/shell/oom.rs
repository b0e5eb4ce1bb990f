//! Whether the kernel has killed somebody for want of memory.
//!
//! A worker with `memory.max` has a count of its own. For one without, this is what can be known: a
//! counter of the control group that it shares with the supervisor, or of the whole machine, has
//! risen at about the time it was killed.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::own_group;

/// Where cgroup version 1 has its groups of memory.
const V1: &str = "/sys/fs/cgroup/memory";

/// One counter of kills, as it was a while ago.
#[derive(Debug)]
pub(crate) struct OomWatch {
    path: PathBuf,
    /// What it counts, for a person.
    of: &'static str,
    /// When it was last looked at in passing, and the time before: a death is noticed a little
    /// after it is counted.
    last: u64,
    before: u64,
}

impl OomWatch {
    /// The nearest counter that there is: the nearer it is, the less it says of others.
    pub(crate) fn here() -> Self {
        let own = own_group()
            .map(|group| (group.join("memory.events"), "of the supervisor's control group"));
        let v1 = fs::read_to_string("/proc/self/cgroup").ok().as_deref().and_then(v1_group);
        let v1 =
            v1.map(|group| (group.join("memory.oom_control"), "of the supervisor's control group"));
        let machine = (PathBuf::from("/proc/vmstat"), "of the machine");
        let mut counters = [own.ok(), v1, Some(machine)].into_iter().flatten();
        let found = counters.find(|(path, _)| count(path).is_some());
        let (path, of) = found.unwrap_or((PathBuf::from("/proc/vmstat"), "of the machine"));
        let last = count(&path).unwrap_or(0);
        Self { path, of, last, before: last }
    }

    /// Once a while: what was counted until now is old.
    pub(crate) fn turn_over(&mut self) {
        self.before = self.last;
        self.last = count(&self.path).unwrap_or(self.last);
    }

    /// After a SIGKILL that the supervisor did not send: what shows that it was the kernel's.
    pub(crate) fn look(&self) -> Option<String> {
        let risen = count(&self.path)?.saturating_sub(self.before);
        (risen > 0).then(|| {
            format!(
                "SIGKILL that this supervisor did not send; the oom_kill counter {} rose by \
                 {risen} in the last seconds ({})",
                self.of,
                self.path.display()
            )
        })
    }
}

/// The line `oom_kill N`, which all three files have.
fn count(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// From `/proc/self/cgroup`, for the usual place.
fn v1_group(text: &str) -> Option<PathBuf> {
    let group = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let controllers = fields.nth(1)?;
        controllers.split(',').any(|name| name == "memory").then(|| fields.next())?
    })?;
    Some(Path::new(V1).join(group.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_rose_lately_explains_a_kill_and_an_old_rise_does_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("vmstat");
        let set = |n: u64| {
            fs::write(&path, format!("oom_kill_disable 0\nunder_oom 0\noom_kill {n}\n"))
                .expect("ours")
        };
        set(7);
        let mut watch = OomWatch { path: path.clone(), of: "of the machine", last: 7, before: 7 };
        assert_eq!(watch.look(), None);
        set(8);
        assert!(watch.look().expect("it rose").contains("rose by 1"));
        watch.turn_over();
        assert!(watch.look().is_some(), "it was counted a moment before the death was seen");
        watch.turn_over();
        assert_eq!(watch.look(), None, "by now it was somebody else");
        fs::remove_file(&path).expect("ours");
        watch.turn_over();
        assert_eq!(watch.look(), None);
    }

    #[test]
    fn the_group_of_version_1_is_found() {
        let text = "8:pids:/\n4:cpu,memory:/a/b\n0::/\n";
        assert_eq!(v1_group(text), Some(PathBuf::from("/sys/fs/cgroup/memory/a/b")));
        assert_eq!(v1_group("0::/x\n"), None);
    }
}
