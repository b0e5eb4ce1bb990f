//! Tasks over HTTP: submitted, waited for, asked about, cancelled.
//!
//! A task that was accepted goes on whatever becomes of the request: the caller has its id, or can
//! submit again with an idempotency key. So tasks are sent as ones to keep, and a wait that ends
//! early only stops listening.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use pool_protocol::codec;
use pool_protocol::control::{AcceptedHead, ControlRequest};
use pool_protocol::frame::{Frame, Kind};
use pool_protocol::id::TaskId;
use pool_protocol::json::looks_like_array;
use pool_protocol::outcome::{ErrorCode, Status};
use pool_protocol::task::{self, InvalidTask, Task};
use pool_protocol::units::parse_duration_ms;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::body::Whole;
use super::link::{Call, NoAnswer, REPLY_TIME};
use super::reply::{Refusal, answer, holding, json, json_text, outcome_of, refused};
use super::routes::Gateway;

/// Tasks in one request.
const BATCH: usize = 10_000;
/// Bytes of outcomes in the reply to one array. When there are more, the tasks that are left are
/// named by their ids.
const REPLY_BYTES: usize = 32 << 20;
/// The same for all replies that are being made or written.
pub(super) const ALL_REPLIES_KIB: usize = 64 << 10;
/// Outcomes of one array that are asked for at once: each may be as large as `limits.resultBytes`.
const ASKED_AT_ONCE: usize = 4;
/// The longest `wait`: a connection that hangs for longer is better polled.
const LONGEST_WAIT_MS: u64 = 3_600_000;

type Answer = Result<Response, Refusal>;
type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// `POST /api/tasks`: one task or an array of them.
pub(super) async fn submit(
    State(gateway): State<Gateway>,
    parameters: Parameters,
    request: Request,
) -> Answer {
    let wait = read_wait(parameters)?;
    let deadline = wait.map(|wait| Instant::now() + wait);
    let body = gateway.bodies.read(request).await?;
    if looks_like_array(&body.bytes) {
        return submit_batch(&gateway, body, deadline).await;
    }
    let task = read_task(&gateway, &body.bytes, "")?;
    drop(body);
    let mut calls = gateway.link.submit(std::slice::from_ref(&task)).await?;
    let tag = task.tag.as_deref();
    let call = calls.first_mut().expect("one task, one call");
    let mut answer = accepted(call, tag).await?;
    if let (Submitted::Accepted(task), Some(deadline)) = (&answer, deadline) {
        let mut call = gateway.link.wait(*task).await?;
        answer = finished(*task, &mut call, deadline, tag).await?;
    }
    Ok(match answer {
        Submitted::Accepted(task) => {
            json(StatusCode::ACCEPTED, &TaskIdReply { task_id: task.to_string() })
        }
        Submitted::Ended(_, outcome) => json_text(StatusCode::OK, outcome),
        Submitted::Rejected { refusal, .. } => refusal.into_response(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskIdReply {
    task_id: String,
}

/// What became of a task so far.
enum Submitted {
    Accepted(TaskId),
    Ended(TaskId, String),
    Rejected {
        refusal: Refusal,
        /// The same as an outcome.
        outcome: String,
    },
}

/// The first answer: an id, or a refusal.
async fn accepted(call: &mut Call, tag: Option<&str>) -> Result<Submitted, Refusal> {
    let answer = timeout_at(Instant::now() + REPLY_TIME, call.next()).await;
    submitted(&answer.unwrap_or(Err(NoAnswer::Late))?, tag)
}

/// The outcome, if it comes in time. What was not waited for to the end was not received: the
/// supervisor has that word.
async fn finished(
    task: TaskId,
    call: &mut Call,
    deadline: Instant,
    tag: Option<&str>,
) -> Result<Submitted, Refusal> {
    let frame = until(call, deadline).await?;
    match frame.kind {
        Kind::Outcome => submitted(&frame, tag),
        // It was taken back, or cannot be had: the task has been accepted all the same.
        _ => Ok(Submitted::Accepted(task)),
    }
}

/// What a wait comes to, or the word that it was taken back when its time was over.
async fn until(call: &mut Call, deadline: Instant) -> Result<Frame, NoAnswer> {
    match timeout_at(deadline, call.only()).await {
        Ok(frame) => frame,
        Err(_) => call.take_back().await,
    }
}

fn submitted(frame: &Frame, tag: Option<&str>) -> Result<Submitted, Refusal> {
    match frame.kind {
        Kind::Accepted => {
            let head: AcceptedHead =
                codec::decode("accepted", &frame.head).map_err(Refusal::misunderstood)?;
            Ok(Submitted::Accepted(TaskId(head.task)))
        }
        Kind::Outcome => {
            let ending = outcome_of(frame, tag)?;
            Ok(match (ending.code, ending.task) {
                (Some(code), task) if code.status() == Status::Rejected => {
                    let refusal = Refusal::of_task(code, message_of(&frame.body))
                        .with_tag(tag.map(str::to_owned));
                    Submitted::Rejected {
                        refusal: Refusal { task, ..refusal },
                        outcome: ending.json,
                    }
                }
                (_, Some(task)) => Submitted::Ended(task, ending.json),
                (_, None) => return Err(Refusal::misunderstood("an outcome of no task")),
            })
        }
        _ => Err(refused(frame)),
    }
}

/// The sentence in an error object.
fn message_of(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Error {
        message: String,
    }
    serde_json::from_slice(body).map_or_else(|_| "refused".to_owned(), |error: Error| error.message)
}

fn read_wait(parameters: Parameters) -> Result<Option<Duration>, Refusal> {
    let Query(parameters) =
        parameters.map_err(|e| Refusal::bad_request(format!("the query is malformed: {e}")))?;
    let mut wait = None;
    for (name, value) in parameters {
        if name != "wait" {
            return Err(Refusal::bad_request(format!(
                "parameter `{name}` is not known; did you mean `wait`?"
            )));
        }
        let ms = parse_duration_ms(&value)
            .map_err(|e| Refusal::bad_request(format!("parameter `wait`: {e}")))?;
        if ms > LONGEST_WAIT_MS {
            return Err(Refusal::bad_request(format!(
                "parameter `wait` must be at most 1h, not {value:?}"
            )));
        }
        if wait.replace(Duration::from_millis(ms)).is_some() {
            return Err(Refusal::bad_request("parameter `wait` is given twice"));
        }
    }
    Ok(wait)
}

fn read_task(gateway: &Gateway, json: &[u8], place: &str) -> Result<Task, Refusal> {
    let task = task::parse(json)
        .map_err(|invalid| invalid_task(&invalid, place).with_tag(task::tag_of(json)))?;
    gateway.bodies.check_task(&task)?;
    Ok(task)
}

fn invalid_task(invalid: &InvalidTask, place: &str) -> Refusal {
    Refusal::of_task(ErrorCode::InvalidTask, format!("{place}{invalid}"))
}

/// All are read before any is sent: one that is malformed refuses the batch and changes nothing.
/// What the pool refuses itself (a full queue) it refuses one by one.
fn read_batch(gateway: &Gateway, body: &[u8]) -> Result<Vec<Task>, Refusal> {
    let place_of = |item: usize| format!("task [{item}]: ");
    let split = task::split_array(body, BATCH).map_err(|wrong| {
        let place = wrong.place.map_or_else(String::new, place_of);
        invalid_task(&wrong.invalid, &place)
    })?;
    let tasks = split.ok_or_else(|| Refusal::bad_request("the body is no array"))?;
    if tasks.count == 0 || tasks.count > BATCH {
        return Err(Refusal::bad_request(format!(
            "an array must hold 1 to {BATCH} tasks, not {}",
            tasks.count
        )));
    }
    let read = |(at, item): (usize, &str)| read_task(gateway, item.as_bytes(), &place_of(at));
    tasks.first.into_iter().enumerate().map(read).collect()
}

/// The answer to a batch without `wait`: ids in the order of the tasks, null for one that was
/// refused.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchReply {
    task_ids: Vec<Option<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<RejectedItem>,
}

#[derive(Serialize)]
struct RejectedItem {
    index: usize,
    error: String,
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

async fn submit_batch(gateway: &Gateway, body: Whole, deadline: Option<Instant>) -> Answer {
    let tasks = read_batch(gateway, &body.bytes)?;
    drop(body);
    let mut calls = gateway.link.submit(&tasks).await?;
    let tags: Vec<Option<String>> = tasks.into_iter().map(|task| task.tag).collect();
    let mut answers = Vec::with_capacity(calls.len());
    for (call, tag) in calls.iter_mut().zip(&tags) {
        answers.push(accepted(call, tag.as_deref()).await?);
    }
    drop(calls);
    // Nothing was accepted: the batch as a whole is refused, for the reason of the first.
    if answers.iter().all(|answer| matches!(answer, Submitted::Rejected { .. }))
        && let Some(Submitted::Rejected { refusal, .. }) = answers.first()
    {
        return Err(refusal.clone());
    }
    match deadline {
        None => Ok(json(StatusCode::ACCEPTED, &batch_ids(answers))),
        Some(deadline) => batch_outcomes(gateway, answers, &tags, deadline).await,
    }
}

fn batch_ids(answers: Vec<Submitted>) -> BatchReply {
    let mut reply =
        BatchReply { task_ids: Vec::with_capacity(answers.len()), rejected: Vec::new() };
    for (index, answer) in answers.into_iter().enumerate() {
        reply.task_ids.push(match answer {
            Submitted::Accepted(task) | Submitted::Ended(task, _) => Some(task.to_string()),
            Submitted::Rejected { refusal: Refusal { error, code, tag, .. }, .. } => {
                reply.rejected.push(RejectedItem { index, error, code, tag });
                None
            }
        });
    }
    reply
}

/// An array in the order of the tasks: outcomes, and `{taskId}` for those that have not ended or do
/// not fit; 200 when all are there.
async fn batch_outcomes(
    gateway: &Gateway,
    answers: Vec<Submitted>,
    tags: &[Option<String>],
    deadline: Instant,
) -> Answer {
    let mut reply = Gathering::new(gateway);
    let mut asked = VecDeque::new();
    let mut to_ask = answers.iter().map(|answer| match answer {
        Submitted::Accepted(task) => Some(*task),
        Submitted::Ended(..) | Submitted::Rejected { .. } => None,
    });
    for (answer, tag) in answers.iter().zip(tags) {
        // Never past the bound: an outcome that has come counts as received, so it has to be passed
        // on.
        while asked.len() < ASKED_AT_ONCE
            && let Some(next) = to_ask.next()
        {
            let fits = reply.fits();
            asked.push_back(match next {
                Some(task) if fits => Some(gateway.link.wait(task).await?),
                Some(_) | None => None,
            });
        }
        let call = asked.pop_front().expect("each is asked for before its turn");
        match (answer, call) {
            (Submitted::Accepted(task), Some(mut call)) => {
                reply.put(&finished(*task, &mut call, deadline, tag.as_deref()).await?);
            }
            (known, _) => reply.put(known),
        }
    }
    Ok(reply.finish())
}

/// The reply to an array of tasks while it grows.
struct Gathering {
    status: StatusCode,
    text: String,
    /// Its part of what all such replies may hold.
    room: Option<OwnedSemaphorePermit>,
    all: Arc<Semaphore>,
    /// The others have taken the rest.
    full: bool,
}

impl Gathering {
    fn new(gateway: &Gateway) -> Self {
        let all = Arc::clone(&gateway.gathered);
        let room = Arc::clone(&all).try_acquire_many_owned(1).ok();
        Self { status: StatusCode::OK, text: String::from("["), full: room.is_none(), room, all }
    }

    /// Whether there is room for another outcome.
    fn fits(&self) -> bool {
        !self.full && self.text.len() < REPLY_BYTES
    }

    fn put(&mut self, answer: &Submitted) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        match answer {
            Submitted::Accepted(task) => {
                self.status = StatusCode::ACCEPTED;
                self.text.push_str(&format!("{{\"taskId\":\"{task}\"}}"));
            }
            Submitted::Ended(_, outcome) | Submitted::Rejected { outcome, .. } => {
                self.text.push_str(outcome);
                self.take_room();
            }
        }
    }

    fn take_room(&mut self) {
        let Some(room) = &mut self.room else { return };
        let held = room.num_permits();
        let wanted =
            u32::try_from((self.text.len() / 1024).saturating_sub(held)).unwrap_or(u32::MAX);
        match Arc::clone(&self.all).try_acquire_many_owned(wanted) {
            Ok(more) => room.merge(more),
            Err(_) => self.full = true,
        }
    }

    fn finish(mut self) -> Response {
        self.text.push(']');
        holding(json_text(self.status, self.text), self.room)
    }
}

fn task_id(path: Result<Path<String>, PathRejection>) -> Result<u64, Refusal> {
    let Path(text) = path.map_err(|_| Refusal::bad_request("the task id is not UTF-8"))?;
    let id: TaskId = text.parse().map_err(|e| Refusal::bad_request(format!("{text:?} is {e}")))?;
    Ok(id.0)
}

/// `GET /api/tasks/{id}`: with `wait` the outcome as soon as there is one, else what there is now.
pub(super) async fn show(
    State(gateway): State<Gateway>,
    parameters: Parameters,
    path: Result<Path<String>, PathRejection>,
) -> Answer {
    let task = task_id(path)?;
    if let Some(wait) = read_wait(parameters)? {
        let deadline = Instant::now() + wait;
        let mut call = gateway.link.wait(TaskId(task)).await?;
        let frame = until(&mut call, deadline).await?;
        // A reply says that the wait was taken back.
        if frame.kind != Kind::Reply {
            return answer(frame);
        }
    }
    answer(gateway.link.ask(&ControlRequest::Task { task }).await?)
}

/// `DELETE /api/tasks/{id}`
pub(super) async fn cancel(
    State(gateway): State<Gateway>,
    path: Result<Path<String>, PathRejection>,
) -> Answer {
    answer(gateway.link.ask(&ControlRequest::Cancel { task: task_id(path)? }).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(query: &str) -> Result<Option<u64>, String> {
        let uri = format!("/api/tasks?{query}").parse().expect("a URI");
        let waited = read_wait(Query::try_from_uri(&uri));
        waited.map(|wait| wait.map(|w| w.as_millis() as u64)).map_err(|refusal| refusal.error)
    }

    #[test]
    fn wait_is_a_time_of_at_most_an_hour_and_the_only_parameter() {
        assert_eq!(wait(""), Ok(None));
        assert_eq!(wait("wait=30s"), Ok(Some(30_000)));
        assert_eq!(wait("wait=250"), Ok(Some(250)));
        assert_eq!(wait("wait=1h"), Ok(Some(3_600_000)));
        for (query, said) in [
            ("wait=", "`wait`"),
            ("wait=soon", "`wait`"),
            ("wait=-1", "`wait`"),
            ("wait=2h", "at most 1h"),
            ("wait=1s&wait=1s", "given twice"),
            ("wiat=1s", "`wiat` is not known"),
        ] {
            assert!(wait(query).unwrap_err().contains(said), "{query}");
        }
    }
}
