//! What is run: tasks so small that the pool's own cost shows.

use clap::ValueEnum;
use pool_protocol::task::{self, Task};
use serde_json::json;

/// A kind of load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// `({a,b})=>a+b` in a warm realm: the least a task can be
    Warm,
    /// `1+1` as a script in a realm of its own
    Fresh,
    /// A text that goes in and comes back, of --size bytes, in a warm realm
    Echo,
}

/// A task, and the result that it must have.
#[derive(Debug)]
pub struct Sample {
    /// What is submitted.
    pub task: Task,
    /// The result's JSON.
    pub result: Vec<u8>,
}

impl Workload {
    /// The task of this load; `size` is the bytes of an echo's text.
    #[must_use]
    pub fn sample(self, size: usize) -> Sample {
        let text = "x".repeat(size);
        let (task, result) = match self {
            Self::Warm => {
                let args = json!([{ "a": 40, "b": 2 }]);
                (json!({ "type": "execute-function", "fn": "({a,b})=>a+b", "args": args }), "42".to_owned())
            }
            Self::Fresh => (json!({ "type": "execute-code", "code": "1+1" }), "2".to_owned()),
            Self::Echo => {
                let result = json!(text).to_string();
                (json!({ "type": "execute-function", "fn": "(text)=>text", "args": [text] }), result)
            }
        };
        let task = task::parse(task.to_string().as_bytes()).expect("the task is written here");
        Sample { task, result: result.into_bytes() }
    }
}
