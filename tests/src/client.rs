//! A client of the control socket that speaks JSON to the test and frames to the supervisor.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;

use pool_protocol::control::ControlRequest;
use pool_protocol::id::TaskId;
use pool_protocol::render::outcome_json;
use pool_protocol::task;
use pool_supervisor::client::{ClientError, Connection, Incoming, Outcome, Reply, SubmitOptions};
use serde_json::Value;

use crate::wait::DEADLINE;

/// One connection.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    accepted: BTreeMap<u64, String>,
    outcomes: BTreeMap<u64, Value>,
}

/// The id is wanted, and the outcome, and the task goes on without us.
pub const SUBMIT: SubmitOptions = SubmitOptions { ack: true, ..SubmitOptions::SUBMIT };
/// The id is wanted, and the outcome, and the task ends with the connection.
pub const RUN: SubmitOptions = SubmitOptions { ack: true, ..SubmitOptions::RUN };

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// As [`Connection::over`].
    pub fn open(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket).map_err(ClientError::Read)?;
        // A test that waits for ever says nothing.
        stream.set_read_timeout(Some(2 * DEADLINE)).map_err(ClientError::Read)?;
        let reading = stream.try_clone().map_err(ClientError::Read)?;
        let connection = Connection::over(stream, reading, "pool-tests")?;
        Ok(Self { connection, accepted: BTreeMap::new(), outcomes: BTreeMap::new() })
    }

    /// The largest body that the supervisor said it takes from this client.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.connection.welcome().body_bytes
    }

    /// Submits a valid task, whose outcome is wanted and which goes on without us; gives the
    /// request's number.
    ///
    /// # Panics
    /// When the task is malformed or the connection is lost.
    pub fn submit(&mut self, task: &Value) -> u64 {
        self.submit_as(task, SUBMIT)
    }

    /// Submits a valid task.
    ///
    /// # Panics
    /// See [`Client::submit`].
    pub fn submit_as(&mut self, task: &Value, options: SubmitOptions) -> u64 {
        let parsed = task::parse(task.to_string().as_bytes()).expect("the task is well-formed");
        self.connection.submit(&parsed, options).expect("the supervisor takes tasks")
    }

    /// The task's id, once it is queued.
    ///
    /// # Panics
    /// When the task is refused or the connection is lost.
    pub fn id(&mut self, request: u64) -> String {
        loop {
            if let Some(id) = self.accepted.get(&request) {
                return id.clone();
            }
            assert!(!self.outcomes.contains_key(&request), "refused: {}", self.outcomes[&request]);
            self.take();
        }
    }

    /// The task's outcome, once it has ended.
    ///
    /// # Panics
    /// When the connection is lost or no outcome comes.
    pub fn outcome(&mut self, request: u64) -> Value {
        loop {
            if let Some(outcome) = self.outcomes.remove(&request) {
                return outcome;
            }
            self.take();
        }
    }

    fn take(&mut self) {
        match self.connection.receive().expect("the supervisor answers") {
            Incoming::Accepted { request, task } => {
                self.accepted.insert(request, TaskId(task).to_string());
            }
            Incoming::Outcome(outcome) => {
                let twice = self.outcomes.insert(outcome.request, shown(&outcome));
                assert_eq!(twice, None, "a task ends once");
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    /// Runs one task to its end.
    ///
    /// # Panics
    /// See [`Client::submit`] and [`Client::outcome`].
    pub fn run(&mut self, task: &Value) -> Value {
        let request = self.submit_as(task, RUN);
        self.outcome(request)
    }

    /// An administrative request whose answer nobody waits for.
    ///
    /// # Panics
    /// When the connection is lost.
    pub fn send(&mut self, request: &ControlRequest<'_>) {
        self.connection.ask(request).expect("the supervisor reads");
    }

    /// An administrative request; the answer is JSON.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    ///
    /// # Panics
    /// When the answer is no JSON.
    pub fn ask(&mut self, request: &ControlRequest<'_>) -> Result<Value, ClientError> {
        match self.connection.control(request)? {
            Reply::Body(body) => Ok(serde_json::from_slice(&body).expect("replies are JSON")),
            Reply::Outcome(outcome) => Ok(shown(&outcome)),
        }
    }

    /// The events after a number, those that are there now.
    ///
    /// # Panics
    /// When the connection is lost.
    pub fn events(&mut self, since: Option<u64>) -> Vec<Value> {
        let number = self
            .connection
            .ask(&ControlRequest::Events { since, follow: false })
            .expect("the supervisor answers");
        let mut replies = 0;
        let mut events = Vec::new();
        loop {
            match self.connection.receive().expect("the supervisor answers") {
                Incoming::Event { request, body } if request == number => {
                    events.push(serde_json::from_slice(&body).expect("events are JSON"));
                }
                Incoming::Reply { request, .. } if request == number => {
                    replies += 1;
                    if replies == 2 {
                        return events;
                    }
                }
                other => panic!("expected events, got {other:?}"),
            }
        }
    }

    /// Follows the events after a number; each call of the result waits for the next one.
    ///
    /// # Panics
    /// When the connection is lost.
    pub fn follow(mut self, since: Option<u64>) -> impl FnMut() -> Value {
        self.connection
            .ask(&ControlRequest::Events { since, follow: true })
            .expect("the supervisor answers");
        move || {
            loop {
                if let Incoming::Event { body, .. } =
                    self.connection.receive().expect("the supervisor answers")
                {
                    return serde_json::from_slice(&body).expect("events are JSON");
                }
            }
        }
    }
}

fn shown(outcome: &Outcome) -> Value {
    let head = outcome.head().expect("the supervisor's own head");
    serde_json::from_str(&outcome_json(&head, &outcome.body)).expect("an outcome is JSON")
}
