//! Every input of the corpora, in an ordinary test run: seeds, which show what a target is about,
//! and what was once a finding.

use std::path::{Path, PathBuf};

use pool_fuzz::targets::{ALL, Target};

fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("the folder is read").path()).collect();
    files.sort();
    files
}

fn replay(target: &Target) {
    let seeds = inputs("corpus", target.name);
    assert!(seeds.len() >= 3, "{} has seeds", target.name);
    for path in seeds.iter().chain(&inputs("regressions", target.name)) {
        let input = std::fs::read(path).expect("an input is read");
        println!("{}", path.display());
        (target.run)(&input);
        // What a cut connection or a half-written file leaves.
        for end in 0..input.len().min(300) {
            (target.run)(&input[..end]);
        }
    }
}

macro_rules! replays {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() {
            replay(ALL.iter().find(|target| target.name == $name).expect("it is listed"));
        })*

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<_> = ALL.iter().map(|target| target.name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

replays! {
    frames_hold_on_every_known_input: "frame",
    worker_sessions_hold_on_every_known_input: "session",
    orders_hold_on_every_known_input: "worker",
    control_requests_hold_on_every_known_input: "control",
    tasks_hold_on_every_known_input: "task",
    configurations_hold_on_every_known_input: "config",
    urls_hold_on_every_known_input: "url",
    commands_hold_on_every_known_input: "command",
}
