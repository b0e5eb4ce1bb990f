//! The tour of `README.md`, typed into two terminals: each command prints what the page says that
//! it prints.
//!
//! Nothing is left out and no output is guessed at: what may differ, and why, is in
//! [`pool_tests::tour::alike`] and [`pool_tests::tour::machine`]. The commands are run as they
//! stand, but for the folder and the port, which belong to this test. With `TOUR=record`
//! (`scripts/record-tour.sh`) outputs that differ are written into the page, and the recording is
//! drawn anew.

use std::net::TcpListener;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use pool_tests::binaries::binaries;
use pool_tests::page::repository;
use pool_tests::tour::alike::Ids;
use pool_tests::tour::machine::{here, nowhere};
use pool_tests::tour::terminal::Terminal;
use pool_tests::tour::{Step, Tour, svg};
use pool_tests::wait::{now, pause};
use pool_tests::{Folder, Value};

/// What the page calls them.
const FOLDER: &str = "/tmp/pool-tour";
const PORT: &str = "45678";

/// Commands that change nothing may be asked again: a worker that was told to end takes a moment
/// for it.
const READ_ONLY: &[&str] = &[
    "poolctl workers",
    "curl -s -H \"X-API-Key: $(cat /tmp/pool-tour/api.key)\" \
     http://127.0.0.1:45678/api/process-pool/stats",
];
const PATIENCE: Duration = Duration::from_secs(15);
/// On a machine with far more work than processors, a worker may get none for 250 ms. The pool then
/// says truly that it had to kill it. Such a run is no judgement of the page, and is repeated; what
/// is worded otherwise than on the page differs in every run.
const RUNS: usize = 3;

fn page() -> PathBuf {
    repository().join("README.md")
}

fn recording() -> PathBuf {
    repository().join("docs/tour.svg")
}

fn tour() -> Tour {
    Tour::read(&std::fs::read_to_string(page()).expect("README.md is there"))
}

/// What the recording shows: from the first task to the one that uses up its memory.
fn recorded(tour: &Tour) -> &[Step] {
    let first = tour.second.iter().position(|step| step.command.starts_with("poolctl run"));
    let last = tour.second.iter().position(|step| step.output.contains("MEMORY_LIMIT"));
    &tour.second[first.expect("the tour runs a task")..=last.expect("the tour shows it")]
}

/// The page's names for things and this run's.
struct Here {
    folder: Folder,
    port: String,
}

impl Here {
    fn new() -> Self {
        let folder = Folder::new();
        // The page's first command puts `target/release` of the working folder into PATH.
        std::fs::create_dir_all(folder.join("clone/target")).expect("folders can be made");
        let programs = binaries().supervisor.parent().expect("a file has a folder");
        std::os::unix::fs::symlink(programs, folder.join("clone/target/release"))
            .expect("a link can be made");
        // Below the ports that the kernel gives to those who ask for any.
        let start = 20_000 + u16::try_from(std::process::id() % 10_000).expect("below 10,000");
        let free = (start..32_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
        Self {
            folder,
            port: free.expect("a port below the kernel's own range is free").to_string(),
        }
    }

    fn ours(&self, text: &str) -> String {
        text.replace(FOLDER, &self.place()).replace(PORT, &self.port)
    }

    fn pages(&self, text: &str) -> String {
        text.replace(&self.place(), FOLDER).replace(&format!(":{}", self.port), &format!(":{PORT}"))
    }

    fn place(&self) -> String {
        self.folder.join("tour").to_str().expect("made of ASCII").to_owned()
    }

    fn terminal(&self, name: &str) -> Terminal {
        let cache = std::env::temp_dir()
            .join(format!("pool-tests-cache-{}", rustix::process::getuid().as_raw()));
        let variables = [
            ("PATH", "/usr/bin:/bin".to_owned()),
            ("HOME", self.folder.text()),
            ("LANG", "C.UTF-8".to_owned()),
            ("STATE_DIRECTORY", self.folder.join("state").display().to_string()),
            ("CACHE_DIRECTORY", cache.display().to_string()),
        ];
        Terminal::open(self.folder.join(name), &self.folder.join("clone"), &variables)
    }
}

/// One run of the tour.
struct Run {
    here: Here,
    first: Terminal,
    second: Terminal,
    pages_ids: Ids,
    our_ids: Ids,
    /// Where the page says something else, and what was printed.
    differences: Vec<(Range<usize>, String, String)>,
}

impl Run {
    fn new() -> Self {
        let here = Here::new();
        let (first, second) = (here.terminal("first"), here.terminal("second"));
        Self {
            here,
            first,
            second,
            pages_ids: Ids::default(),
            our_ids: Ids::default(),
            differences: Vec::new(),
        }
    }

    /// Compares, and asks for another output as long as there is hope that it will be the expected
    /// one.
    fn hold(
        &mut self,
        step: &Step,
        lane: &str,
        again: Option<&mut dyn FnMut(&mut Self) -> String>,
        mut printed: String,
    ) {
        let start = now();
        let mut again = again;
        loop {
            let (mut pages_ids, mut our_ids) = (self.pages_ids.clone(), self.our_ids.clone());
            let text = self.here.pages(&printed);
            let expected = pages_ids.plain(&here(&step.output, lane, &self.status()));
            if expected == our_ids.plain(&text) {
                (self.pages_ids, self.our_ids) = (pages_ids, our_ids);
                return;
            }
            match &mut again {
                Some(again) if start.elapsed() < PATIENCE => {
                    pause(Duration::from_millis(100));
                    printed = again(self);
                }
                _ => {
                    (self.pages_ids, self.our_ids) = (pages_ids, our_ids);
                    let shown = format!(
                        "$ {}\n--- the page, as it reads on this machine:\n{expected}",
                        step.command
                    );
                    self.differences.push((step.lines.clone(), shown, text));
                    return;
                }
            }
        }
    }

    /// In a terminal of its own, so that it is no part of the tour.
    fn status(&self) -> Value {
        let mut command = std::process::Command::new(&binaries().poolctl);
        command
            .args(["status", "--json", "--socket"])
            .arg(format!("{}/pool.sock", self.here.place()));
        let output = command.output().expect("poolctl can be started");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Where a run of the tour differs from the page.
    fn differences(tour: &Tour) -> Vec<(Range<usize>, String, String)> {
        let mut run = Self::new();
        run.type_all(tour);
        std::mem::take(&mut run.differences)
    }

    fn type_all(&mut self, tour: &Tour) {
        let (supervisor, before) =
            tour.first.split_last().expect("the first terminal has commands");
        for step in before {
            let printed = self.first.run(&self.here.ours(&step.command));
            self.hold(step, "js", None, printed);
        }
        assert!(
            !supervisor.output.is_empty(),
            "the page says what the supervisor prints at its start"
        );
        self.first.start(&self.here.ours(&supervisor.command));
        self.hold(supervisor, "js", Some(&mut |run: &mut Self| run.first.shown()), String::new());
        for step in &tour.second {
            let command = self.here.ours(&step.command);
            let lane = if step.command.contains(" run shell ") { "io" } else { "js" };
            let printed = self.second.run(&command);
            let mut again = |run: &mut Self| run.second.run(&command);
            let may_repeat = READ_ONLY.iter().any(|start| step.command.starts_with(start));
            let again: Option<&mut dyn FnMut(&mut Self) -> String> =
                if may_repeat { Some(&mut again) } else { None };
            self.hold(step, lane, again, printed);
        }
        let whole = self.first.wait();
        let lines: Vec<&str> = whole.lines().collect();
        let last =
            lines[lines.len().saturating_sub(tour.end.output.lines().count())..].join("\n") + "\n";
        self.hold(&tour.end, "js", None, last);
    }
}

fn told(differences: &[(Range<usize>, String, String)]) -> String {
    let each = differences.iter().map(|(lines, shown, printed)| {
        format!("README.md, line {}:\n{shown}--- printed:\n{printed}", lines.start)
    });
    each.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_tour_prints_what_the_page_says() {
    let tour = tour();
    let mut differences = Run::differences(&tour);
    if std::env::var("TOUR").is_ok_and(|mode| mode == "record") {
        let outputs =
            differences.into_iter().map(|(lines, _, printed)| (lines, nowhere(&printed))).collect();
        let page_now = tour.page_with(outputs);
        std::fs::write(page(), &page_now).expect("README.md can be written");
        std::fs::write(recording(), svg::draw(recorded(&Tour::read(&page_now))))
            .expect("docs can be written");
        return;
    }
    for _ in 1..RUNS {
        if !differences.is_empty() {
            eprintln!("{}\nthe tour is run again", told(&differences));
            differences = Run::differences(&tour);
        }
    }
    let hint =
        "if the programs are right, scripts/record-tour.sh writes what they print into the page";
    assert!(differences.is_empty(), "{}\n{hint}", told(&differences));
}

#[test]
fn the_tour_shows_what_a_newcomer_meets() {
    let tour = tour();
    let first: String = tour.first.iter().map(|step| step.output.as_str()).collect();
    let second: String = tour.second.iter().map(|step| step.output.as_str()).collect();
    assert!(first.contains("WARN workers lack layers of confinement"), "the log's warning");
    assert!(second.contains("\"missingLayers\":["), "what a receipt says of it");
    assert!(
        tour.second.last().is_some_and(|step| step.command == "poolctl shutdown"),
        "how to stop it"
    );
}

#[test]
fn commands_above_the_tour_are_shown_as_the_tour_shows_them() {
    let tour = tour();
    for step in &tour.shown_before {
        let same = |other: &&Step| (&other.command, &other.output) == (&step.command, &step.output);
        assert!(tour.second.iter().any(|other| same(&other)), "not in the tour: {step:?}");
    }
}

#[test]
fn the_recording_shows_the_tour_of_the_page() {
    let drawn = std::fs::read_to_string(recording()).expect("docs/tour.svg is there");
    assert!(
        drawn == svg::draw(recorded(&tour())),
        "docs/tour.svg is not of this README.md: scripts/record-tour.sh draws it"
    );
    assert!(drawn.len() < 60_000, "{} bytes", drawn.len());
    for loaded in ["<script", "href", "url(", "@import", "<image", "<foreignObject"] {
        assert!(!drawn.contains(loaded), "it loads something: {loaded}");
    }
}
