//! What is run: tasks so small that the pool's own cost shows, and a few that cost something
//! themselves.

use anyhow::{Context, ensure};
use clap::ValueEnum;
use pool_protocol::outcome::Receipt;
use pool_protocol::task::{self, Task};
use pool_supervisor::client::Outcome;
use serde_json::{Value, json};

/// What shell tasks start.
pub const PROGRAM: &str = "/usr/bin/true";
/// Digits of every task's own number where it has one: tasks of one load have bodies of one length.
const DIGITS: usize = 16;
/// What a burning task takes, on average.
const BURN_MS: u64 = 5;

/// A kind of load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// `({a,b})=>a+b` in a warm realm: the least a task can be
    Warm,
    /// `1+1` as a script in a realm of its own
    Fresh,
    /// `1+1` as a script in the frozen realm
    Frozen,
    /// `1+1` as a script in a warm realm
    CodeWarm,
    /// A script that is new each time, in the frozen realm
    FrozenNew,
    /// A script that is new each time, in a warm realm
    WarmNew,
    /// `n=>n+1` of a number that is new each time, in a warm realm
    Count,
    /// A text that goes in and comes back, of --size bytes, in a warm realm
    Echo,
    /// A loop of 5 ms
    Burn,
    /// The program /usr/bin/true
    Shell,
}

/// What the result must be.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Expected {
    /// This JSON.
    Json(Vec<u8>),
    /// The task's own number and one.
    Next,
    /// The number of milliseconds, and a receipt that shows them.
    Burnt,
    /// A program's report of its success.
    Exit,
}

/// A task, and what it must result in.
#[derive(Clone, Debug)]
pub struct Sample {
    task: Task,
    /// Where the body holds the task's own number.
    number_at: Option<usize>,
    /// The projects whose the tasks are, in turn; without any, the task's own.
    projects: Vec<String>,
    expected: Expected,
}

impl Workload {
    /// The task of this load; `size` is the bytes of an echo's text.
    ///
    /// # Errors
    /// When this release has no such task.
    pub fn sample(self, size: usize) -> anyhow::Result<Sample> {
        let code = |realm: &str, code: &str| {
            json!({
                "type": "execute-code",
                "realm": realm,
                "code": code,
            })
        };
        let call = |source: &str, args: Value| {
            json!({
                "type": "execute-function",
                "fn": source,
                "args": args,
            })
        };
        let own = "0".repeat(DIGITS);
        let two = || Expected::Json(b"2".to_vec());
        let (task, expected) = match self {
            Self::Warm => {
                (call("({a,b})=>a+b", json!([{ "a": 40, "b": 2 }])), Expected::Json(b"42".to_vec()))
            }
            Self::Fresh => (code("fresh", "1+1"), two()),
            Self::Frozen => (code("frozen", "1+1"), two()),
            Self::CodeWarm => (code("warm", "1+1"), two()),
            Self::FrozenNew => (code("frozen", &format!("1+{own}")), Expected::Next),
            Self::WarmNew => (code("warm", &format!("1+{own}")), Expected::Next),
            Self::Count => (call("n=>+n+1", json!([own])), Expected::Next),
            Self::Echo => {
                let text = "x".repeat(size);
                let result = json!(text).to_string();
                (call("(text)=>text", json!([text])), Expected::Json(result.into_bytes()))
            }
            // The realm's only clock counts whole milliseconds, so that a loop ends up to one too
            // early: every second one gets one more.
            Self::Burn => {
                let source =
                    "(ms,n)=>{const until=Date.now()+ms+n%2;while(Date.now()<until);return ms}";
                (call(source, json!([BURN_MS, own])), Expected::Burnt)
            }
            Self::Shell => (json!({ "type": "shell-command", "program": PROGRAM }), Expected::Exit),
        };
        let task = task::parse(task.to_string().as_bytes())
            .with_context(|| format!("failed to write a {self:?} task"))?;
        let number_at = task.body.windows(DIGITS).position(|digits| digits == own.as_bytes());
        Ok(Sample { task, number_at, projects: Vec::new(), expected })
    }

    /// The programs that the pool must allow.
    #[must_use]
    pub fn programs(self) -> &'static [&'static str] {
        if self == Self::Shell { &[PROGRAM] } else { &[] }
    }
}

impl Sample {
    /// The task, whose body is that of the number it was given last.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Tasks of so many projects in turn, instead of one's.
    #[must_use]
    pub fn of_projects(mut self, count: u32) -> Self {
        self.projects = if count > 1 {
            (0..count).map(|number| format!("project-{number}")).collect()
        } else {
            Vec::new()
        };
        self
    }

    /// Makes it the task of this number.
    ///
    /// # Panics
    /// When the number has not 16 digits: a leading zero makes another number of it in JavaScript.
    pub fn number(&mut self, number: u64) {
        if !self.projects.is_empty() {
            let whose = (number % self.projects.len() as u64) as usize;
            self.task.project.clone_from(&self.projects[whose]);
        }
        let Some(at) = self.number_at else { return };
        assert_eq!(number.ilog10() as usize + 1, DIGITS, "numbers of tasks have {DIGITS} digits");
        let mut rest = number;
        for digit in self.task.body[at..at + DIGITS].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }

    /// Bytes of a result, about where it is not known before.
    #[must_use]
    pub fn result_bytes(&self) -> usize {
        match &self.expected {
            Expected::Json(result) => result.len(),
            Expected::Next | Expected::Burnt => DIGITS,
            Expected::Exit => 128,
        }
    }

    /// Bytes of a task's body and of its result.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.task.body.len() + self.result_bytes()
    }

    /// Checks an outcome of the task of this number.
    ///
    /// # Errors
    /// When it is another than it must be; shows it.
    pub fn check(&self, number: u64, outcome: &Outcome) -> anyhow::Result<()> {
        let head = outcome.head()?;
        let result = outcome.body.get(..head.result_len as usize).unwrap_or_default();
        let right = head.code.is_none() && self.expected.is(number, result, &head.receipt);
        ensure!(
            right,
            "failed to run a task: its outcome is {}",
            pool_protocol::render::outcome_json(&head, &outcome.body)
        );
        Ok(())
    }
}

impl Expected {
    fn is(&self, number: u64, result: &[u8], receipt: &Receipt) -> bool {
        match self {
            Self::Json(json) => result == json,
            Self::Next => {
                std::str::from_utf8(result).is_ok_and(|text| text.parse() == Ok(number + 1))
            }
            Self::Burnt => {
                let least_us = (BURN_MS - 1) * 1000;
                result == BURN_MS.to_string().as_bytes()
                    && receipt.run_us >= least_us
                    && receipt.cpu_us > 0
            }
            Self::Exit => {
                serde_json::from_slice::<Value>(result).is_ok_and(|report| report["exitCode"] == 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(run_us: u64) -> Receipt {
        Receipt { queued_us: 1, run_us, cpu_us: run_us, memory_bytes: 1 }
    }

    #[test]
    fn a_number_stands_in_the_body_as_it_is() {
        let mut sample = Workload::WarmNew.sample(0).expect("a task");
        sample.number(1_795_540_000_000_017);
        assert_eq!(sample.task().body, b"1+1795540000000017");
    }

    #[test]
    fn each_task_of_a_numbered_load_has_its_own_body_of_the_same_length() {
        for workload in [Workload::WarmNew, Workload::Count, Workload::Burn] {
            let mut sample = workload.sample(0).expect("a task");
            sample.number(1_795_540_000_000_001);
            let first = sample.task().body.clone();
            sample.number(1_795_540_000_000_002);
            assert_eq!(first.len(), sample.task().body.len());
            assert_ne!(first, sample.task().body, "{workload:?}");
        }
        let mut same = Workload::Warm.sample(0).expect("a task");
        let before = same.task().body.clone();
        same.number(1_795_540_000_000_001);
        assert_eq!(before, same.task().body);
    }

    #[test]
    fn only_the_tasks_own_result_is_right() {
        assert!(
            Expected::Next.is(41, b"42", &receipt(1)) && !Expected::Next.is(42, b"42", &receipt(1))
        );
        assert!(
            Expected::Burnt.is(0, b"5", &receipt(4500))
                && !Expected::Burnt.is(0, b"5", &receipt(900))
        );
        assert!(Expected::Exit.is(0, br#"{"exitCode":0}"#, &receipt(1)));
        assert!(
            !Expected::Exit.is(0, br#"{"exitCode":1}"#, &receipt(1))
                && !Expected::Exit.is(0, b"{}", &receipt(1))
        );
    }
}
