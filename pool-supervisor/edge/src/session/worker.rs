//! What workers may say.

use std::collections::BTreeMap;

use pool_core::event::AttemptEnd;
use pool_protocol::codec;
use pool_protocol::frame::{Frame, Kind};
use pool_protocol::id::TaskId;
use pool_protocol::layer::Layer;
use pool_protocol::limits::MAX_CREDIT;
use pool_protocol::outcome::Cause;
use pool_protocol::version::Mismatch;
use pool_protocol::worker::{
    DoneHead, HeartbeatHead, LastWordsHead, LogHead, LogLevel, ReadyHead, TaskList,
};

/// What a worker may say about what it lacks. It is untrusted: a compromised child would have this
/// process keep it.
const MAX_MISSING_BYTES: usize = 8 * 1024;
/// Of one reason.
pub const MAX_REASON_CHARS: usize = 400;
/// Causes that a process may name for its own end.
pub const MAY_SAY: [Cause; 5] = [
    Cause::JsHeap,
    Cause::ArrayBuffers,
    Cause::EngineFatal,
    Cause::SandboxViolation,
    Cause::CpuLimit,
];
/// Characters of last words that are kept.
pub const MAX_LAST_WORDS: usize = 1024;

/// What a worker said. Bodies stay in the frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkerSays {
    /// Tasks may come.
    Ready {
        /// How long it took, and what confines it by its own word.
        head: ReadyHead,
        /// Why layers are missing, by their names.
        missing: BTreeMap<String, String>,
    },
    /// An attempt ended. The body is its result up to `result_len`, console lines behind.
    Done {
        /// The task.
        task: TaskId,
        /// The attempt it means.
        attempt: u32,
        /// How.
        end: AttemptEnd,
        /// No more than the body's length.
        result_len: u32,
    },
    /// It lives.
    Heartbeat(HeartbeatHead),
    /// A line of the console; the body is the text.
    Log {
        /// Whose.
        task: TaskId,
        /// Which function of `console`.
        level: LogLevel,
    },
    /// It gives back tasks that it had not started, with their attempts; no more than it can hold.
    Returned(Vec<(TaskId, u32)>),
    /// Why its engine is about to end the process.
    LastWords {
        /// One that an engine can name.
        cause: Cause,
        /// At most [`MAX_LAST_WORDS`] characters.
        detail: String,
    },
}

/// One worker's side of the conversation.
///
/// It has no clock: how many heartbeats there may be is the core's to judge, which knows how long
/// it heard nothing.
#[derive(Default, Debug)]
pub struct WorkerSession {
    ready: bool,
}

impl WorkerSession {
    /// Takes in a frame.
    ///
    /// # Errors
    /// How it breaks the protocol. Nothing that follows is to be believed.
    pub fn hear(&mut self, frame: &Frame) -> Result<WorkerSays, String> {
        match frame.kind {
            Kind::Ready if !self.ready => self.ready(frame),
            Kind::LastWords => read_last_words(frame)
                .map(|(cause, detail)| WorkerSays::LastWords { cause, detail }),
            Kind::Done if self.ready => done(frame),
            Kind::Heartbeat if self.ready => {
                let head: HeartbeatHead =
                    codec::decode("heartbeat", &frame.head).map_err(|e| e.to_string())?;
                Ok(WorkerSays::Heartbeat(head))
            }
            Kind::Log if self.ready => {
                let head: LogHead = codec::decode("log", &frame.head).map_err(|e| e.to_string())?;
                Ok(WorkerSays::Log { task: TaskId(frame.id), level: head.level })
            }
            Kind::Returned if self.ready => returned(frame),
            kind => Err(super::misplaced(kind, self.ready)),
        }
    }

    fn ready(&mut self, frame: &Frame) -> Result<WorkerSays, String> {
        Mismatch::check("supervisor", "worker", frame.id).map_err(|e| e.to_string())?;
        let head: ReadyHead = codec::decode("ready", &frame.head).map_err(|e| e.to_string())?;
        let missing = read_missing(&frame.body)?;
        self.ready = true;
        Ok(WorkerSays::Ready { head, missing })
    }
}

fn done(frame: &Frame) -> Result<WorkerSays, String> {
    let head: DoneHead = codec::decode("done", &frame.head).map_err(|e| e.to_string())?;
    if head.result_len as usize > frame.body.len() {
        return Err(format!(
            "a result of {} bytes in a body of {}",
            head.result_len,
            frame.body.len()
        ));
    }
    let end = AttemptEnd {
        code: head.code,
        run_us: head.run_us,
        cpu_us: head.cpu_us,
        busy_us: head.busy_us,
        memory_bytes: head.memory_bytes,
        retry_after_ms: head.retry_after_ms,
        spoiled: head.spoiled,
    };
    Ok(WorkerSays::Done {
        task: TaskId(frame.id),
        attempt: head.attempt,
        end,
        result_len: head.result_len,
    })
}

fn returned(frame: &Frame) -> Result<WorkerSays, String> {
    let list: TaskList = codec::decode("returned", &frame.head).map_err(|e| e.to_string())?;
    if list.tasks.len() > MAX_CREDIT {
        return Err(format!("{} tasks given back, it can hold {MAX_CREDIT}", list.tasks.len()));
    }
    Ok(WorkerSays::Returned(
        list.tasks.iter().map(|(task, attempt)| (TaskId(*task), *attempt)).collect(),
    ))
}

/// What a process says before it ends itself: the cause and its detail.
///
/// # Errors
/// How it breaks the protocol.
pub fn read_last_words(frame: &Frame) -> Result<(Cause, String), String> {
    let head: LastWordsHead<'_> =
        codec::decode("last words", &frame.head).map_err(|e| e.to_string())?;
    // What the supervisor knows better is not the process's to say.
    if !MAY_SAY.contains(&head.cause) {
        return Err(format!("last words that name the cause {}", head.cause));
    }
    Ok((head.cause, head.detail.chars().take(MAX_LAST_WORDS).collect()))
}

/// Reasons by layer, as an untrusted process gives them.
fn read_missing(body: &[u8]) -> Result<BTreeMap<String, String>, String> {
    if body.len() > MAX_MISSING_BYTES {
        return Err(format!(
            "a ready of {} bytes, at most {MAX_MISSING_BYTES} are allowed",
            body.len()
        ));
    }
    let said: BTreeMap<String, String> =
        serde_json::from_slice(body).map_err(|e| format!("a ready with a bad body: {e}"))?;
    if let Some(name) =
        said.keys().find(|name| Layer::ALL.iter().all(|layer| layer.name() != *name))
    {
        return Err(format!("a ready that names the unknown layer {name:?}"));
    }
    let plain = |text: String| -> String {
        text.chars().take(MAX_REASON_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
    };
    Ok(said.into_iter().map(|(name, reason)| (name, plain(reason))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use pool_protocol::frame::{self, FrameLimits, Taken};
    use pool_protocol::layer::LayerSet;
    use pool_protocol::version;

    fn frame(put: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let mut bytes = Vec::new();
        put(&mut bytes);
        match frame::take(&mut BytesMut::from(&bytes[..]), FrameLimits { body_bytes: 1 << 20 }) {
            Ok(Taken::Frame(frame)) => frame,
            other => panic!("written just now: {other:?}"),
        }
    }

    fn ready(version: u32, missing: &str) -> Frame {
        let head = ReadyHead { start_us: 1, layers: LayerSet::NONE };
        frame(|out| frame::put(out, Kind::Ready, u64::from(version), &head, missing.as_bytes()))
    }

    fn beat() -> Frame {
        frame(|out| {
            frame::put(out, Kind::Heartbeat, 0, &HeartbeatHead { rss_bytes: 1, cpu_us: 2 }, &[])
        })
    }

    fn session() -> WorkerSession {
        let mut session = WorkerSession::default();
        assert!(matches!(
            session.hear(&ready(version::CURRENT, "{}")),
            Ok(WorkerSays::Ready { .. })
        ));
        session
    }

    #[test]
    fn a_worker_is_ready_once_and_says_nothing_else_before() {
        let mut session = WorkerSession::default();
        assert!(session.hear(&beat()).unwrap_err().contains("before its hello"));
        assert!(session.hear(&ready(version::CURRENT + 1, "{}")).unwrap_err().contains("version"));
        assert!(session.hear(&ready(version::CURRENT, r#"{"seccomp":"no kernel"}"#)).is_ok());
        assert!(session.hear(&ready(version::CURRENT, "{}")).is_err());
    }

    #[test]
    fn what_a_worker_says_it_lacks_is_bounded() {
        let said = read_missing(br#"{"landlock":"not\nbuilt in","seccomp":""}"#).expect("sound");
        assert_eq!(said["landlock"], "not built in");
        let long = format!(r#"{{"landlock":"{}"}}"#, "x".repeat(5000));
        assert_eq!(
            read_missing(long.as_bytes()).expect("short enough")["landlock"].len(),
            MAX_REASON_CHARS
        );
        let longer = format!(r#"{{"landlock":"{}"}}"#, "x".repeat(9000));
        assert!(read_missing(longer.as_bytes()).unwrap_err().contains("at most 8192"));
        assert!(read_missing(br#"{"armour":"none"}"#).unwrap_err().contains("unknown layer"));
        assert!(read_missing(br#"["landlock"]"#).unwrap_err().contains("bad body"));
        assert!(read_missing(b"").unwrap_err().contains("bad body"));
    }

    #[test]
    fn a_result_lies_within_its_body_and_last_words_name_an_engines_cause() {
        let mut session = session();
        let mut done = DoneHead {
            attempt: 1,
            code: None,
            run_us: 1,
            cpu_us: 1,
            busy_us: 1,
            memory_bytes: 1,
            retry_after_ms: 0,
            result_len: 3,
            spoiled: false,
        };
        let body = *b"12";
        assert!(session.hear(&frame(|out| frame::put(out, Kind::Done, 7, &done, &body))).is_err());
        done.result_len = 2;
        assert!(session.hear(&frame(|out| frame::put(out, Kind::Done, 7, &done, &body))).is_ok());
        for (cause, sound) in
            [(Cause::JsHeap, true), (Cause::EngineFatal, true), (Cause::KilledFromOutside, false)]
        {
            let head = LastWordsHead { cause, detail: "x" };
            let words = frame(|out| frame::put(out, Kind::LastWords, 0, &head, &[]));
            assert_eq!(session.hear(&words).is_ok(), sound, "{cause}");
        }
    }
}
