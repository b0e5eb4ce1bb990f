//! On a folder of plain files, where what is written can be read; and on the kernel's own, where it
//! works.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::skip;

const WORKER: WorkerId = WorkerId { slot: 3, generation: 17 };
const LIMITS: Limits = Limits { memory_bytes: 300 << 20, processes: 64, cpus: Some(1.5) };

/// A folder that looks like a group which the kernel offers these controllers in.
fn fake(controllers: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("cgroup.controllers"), controllers).expect("written");
    folder
}

/// As the kernel does when a group is made in its file system.
fn fill(group: &Path) {
    for name in ["cgroup.procs", "cgroup.kill", "memory.swap.max", "memory.events"] {
        fs::write(group.join(name), "").expect("written");
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_supervisor_goes_into_a_leaf_and_enables_what_is_offered() {
    let folder = fake("cpuset cpu io memory pids\n");
    let groups = Groups::take(folder.path()).expect("ours");
    assert_eq!(text(&folder.path().join("supervisor/cgroup.procs")), "0");
    // Each is written by itself: one that is refused must not take the others along.
    assert_eq!(text(&folder.path().join("cgroup.subtree_control")), "+cpu");
    assert_eq!(
        groups.on,
        LayerSet::of(&[Layer::CgroupMemory, Layer::CgroupPids, Layer::CgroupCpu])
    );
    assert!(groups.missing().is_empty() && groups.check_required(true).is_ok());
}

#[test]
fn a_controller_that_is_not_offered_is_missed_by_name() {
    let folder = fake("cpu pids\n");
    let groups = Groups::take(folder.path()).expect("ours");
    assert_eq!(groups.missing()[0].0, Layer::CgroupMemory);
    let error = groups.check_required(false).expect_err("memory.max is promised").to_string();
    assert!(
        error.contains("cgroup-memory cannot be had") && error.contains("no memory controller"),
        "{error}"
    );
    let folder = fake("memory pids\n");
    let groups = Groups::take(folder.path()).expect("ours");
    assert!(
        groups.check_required(false).is_ok(),
        "cpu.max is promised only to those who set limits.cpus"
    );
    assert!(groups.check_required(true).is_err());
}

#[test]
fn limits_are_written_before_there_is_a_process_and_only_written_ones_are_reported() {
    let folder = fake("memory pids cpu");
    let mut groups = Groups::take(folder.path()).expect("ours");
    let path = folder.path().join("w3.17");
    // The kernel's files are there as soon as the folder is; in a plain one cgroup.procs is not,
    // and the group is no group.
    assert!(matches!(groups.make(WORKER, &LIMITS), Err(GroupError::Make { .. })));
    fs::remove_dir_all(&path).expect("ours");
    for (on, limits, layers) in [
        (groups.on, LIMITS, LayerSet::CGROUP),
        (
            groups.on,
            Limits { cpus: None, ..LIMITS },
            LayerSet::CGROUP.without(LayerSet::of(&[Layer::CgroupCpu])),
        ),
        (LayerSet::NONE, LIMITS, LayerSet::of(&[Layer::Cgroup])),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fill(folder.path());
        let group = Group::fill(folder.path(), on, &limits).expect("all can be written");
        assert_eq!(group.layers(), layers);
        let is = |name: &str, content: &str| {
            assert_eq!(text(&folder.path().join(name)), content, "{name}")
        };
        if on.has(Layer::CgroupMemory) {
            is("memory.max", &(300 << 20).to_string());
            is("memory.swap.max", "0");
            is("memory.oom.group", "1");
            is("pids.max", "64");
        }
        match limits.cpus.filter(|_| on.has(Layer::CgroupCpu)) {
            Some(_) => is("cpu.max", "150000 100000"),
            None => assert!(!folder.path().join("cpu.max").exists()),
        }
    }
}

#[test]
fn what_the_kernel_killed_for_want_of_memory_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    let group =
        Group::fill(folder.path(), LayerSet::of(&[Layer::CgroupMemory]), &LIMITS).expect("written");
    assert_eq!(
        group.memory_events(),
        Some(MemoryEvents { max_bytes: 300 << 20, ..MemoryEvents::default() })
    );
    let events = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n";
    fs::write(folder.path().join("memory.events"), events).expect("written");
    assert_eq!(
        group.memory_events(),
        Some(MemoryEvents { oom: 1, oom_kill: 2, max_bytes: 300 << 20 })
    );
    let without = Group::fill(folder.path(), LayerSet::NONE, &LIMITS).expect("written");
    assert_eq!(without.memory_events(), None, "nothing is said of what is not limited");
}

#[test]
fn two_supervisors_do_not_share_a_tree() {
    let folder = fake("memory pids");
    let first = Groups::take(folder.path()).expect("ours");
    assert!(matches!(Groups::take(folder.path()), Err(GroupError::Occupied { .. })));
    drop(first);
    assert!(Groups::take(folder.path()).is_ok());
}

#[test]
fn only_workers_groups_are_swept() {
    assert!(is_workers("w0.1") && is_workers("w12.345"));
    for other in ["supervisor", "w1", "w.1", "w1.", "wx.1", "init.scope", "w1.2.3"] {
        assert!(!is_workers(other), "{other}");
    }
}

/// A group of this test's own in the kernel's tree.
struct Real(PathBuf);

impl Real {
    /// Nothing where that cannot be had, which is said.
    fn new(name: &str) -> Option<Self> {
        let made = Self::make(name);
        if made.is_none() {
            skip::skipped(skip::CGROUP_V2, "");
        }
        made
    }

    fn make(name: &str) -> Option<Self> {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        let root = roots.into_iter().find(|root| find::is_group(root))?;
        let path = root.join(format!("pool-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        // A group that cannot be entered is of no use.
        let own = path.join("probe");
        let entered = fs::create_dir(&own).is_ok() && own.join("cgroup.kill").exists();
        let _ = fs::remove_dir(&own);
        let this = Self(path);
        entered.then_some(this)
    }

    fn sleeper(&self, below: &str) -> Child {
        let group = self.0.join(below);
        fs::create_dir(&group).expect("ours");
        let script = format!("echo 0 > {}/cgroup.procs; echo in; exec sleep 1000", group.display());
        let mut child = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut said = [0; 3];
        std::io::Read::read_exact(&mut child.stdout.take().expect("piped"), &mut said)
            .expect("it is in its group");
        child
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_group_that_has_still_processes_is_emptied_and_removed() {
    let Some(real) = Real::new("leave") else { return };
    let mut child = real.sleeper("w0.1");
    let on = LayerSet::NONE;
    let lock = File::open(&real.0).expect("ours");
    let mut groups =
        Groups { root: real.0.clone(), _lock: lock, on, missing: Vec::new(), leaving: Vec::new() };
    groups.leave(real.0.join("w0.1"), Time(0));
    assert_eq!(child.wait().expect("ours").signal(), Some(libc::SIGKILL));
    groups.close();
    assert!(groups.leaving.is_empty() && !real.0.join("w0.1").exists());
    assert_eq!(groups.deadline(), None);
}

#[test]
fn the_groups_of_a_killed_supervisor_are_swept_by_the_next_one() {
    let Some(real) = Real::new("sweep") else { return };
    let mut child = real.sleeper("w4.2");
    let stranger = real.0.join("init.scope");
    fs::create_dir(&stranger).expect("ours");
    let lock = File::open(&real.0).expect("ours");
    let mut groups = Groups {
        root: real.0.clone(),
        _lock: lock,
        on: LayerSet::NONE,
        missing: Vec::new(),
        leaving: Vec::new(),
    };
    groups.sweep();
    assert_eq!(child.wait().expect("ours").signal(), Some(libc::SIGKILL));
    groups.close();
    assert!(
        !real.0.join("w4.2").exists() && stranger.exists(),
        "what is no worker's is left alone"
    );
}
