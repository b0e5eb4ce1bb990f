//! The task parser: JSON as users write it.
//!
//! What is accepted is compared with the same text read as plain JSON: the same fields, with the
//! same values, none besides. It must travel: its head passes the supervisor's check, survives the
//! wire, and its body comes apart as what the worker reads.

use pool_protocol::codec;
use pool_protocol::limits;
use pool_protocol::task::{
    Body, HttpData, InvalidTask, ModuleData, OnDisconnect, ShellData, Task, TaskHead, TaskKind,
    parse,
};
use serde_json::Value;

use crate::allocation::peak_during;

/// A field's text is held by the reader, the task, its body and an error about it.
const GROWTH: usize = 32;
const FIRST_BLOCK: usize = 64 * 1024;

/// One task.
pub fn run(input: &[u8]) {
    let (parsed, peak) = peak_during(|| parse(input));
    assert!(
        peak <= GROWTH * input.len() + FIRST_BLOCK,
        "{peak} bytes are held for a task of {}",
        input.len()
    );
    match parsed {
        Err(InvalidTask { field, problem }) => {
            assert!(!problem.is_empty(), "an error about {field:?} says something");
        }
        Ok(task) => {
            // A plain reader refuses some of what is handed on unread: many levels, and halves of
            // surrogate pairs.
            let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
            if let Ok(plain) = serde_json::from_slice(input) {
                is_what_was_written(&task, &plain);
            }
            travels(&task);
        }
    }
}

/// A whole number, however it is written.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as u64)
    })
}

fn is_what_was_written(task: &Task, plain: &Value) {
    let fields = plain.as_object().expect("a task is an object");
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let number = |name: &str| fields.get(name).and_then(whole);
    assert_eq!(text("type"), Some(task.kind.name()));
    assert_eq!(text("projectId").unwrap_or("default"), task.project);
    assert_eq!(number("priority").unwrap_or(0), u64::from(task.priority));
    assert_eq!(number("timeout"), task.timeout_ms);
    assert_eq!(number("maxAttempts"), task.max_attempts.map(u64::from));
    assert_eq!(number("delay").unwrap_or(0), task.delay_ms);
    assert_eq!(text("tag"), task.tag.as_deref());
    assert_eq!(text("idempotencyKey"), task.idempotency_key.as_deref());
    let own = |name: &str| fields.get("limits").and_then(|l| l.get(name)).and_then(whole);
    assert_eq!((own("cpuMs"), own("memoryBytes")), (task.cpu_ms, task.memory_bytes));

    let body =
        Body::split(&task.body, task.code_len).expect("a body that was put together comes apart");
    let code = match task.kind {
        TaskKind::Code => text("code"),
        TaskKind::Function => text("fn").or(text("code")),
        TaskKind::Module => text("modulePath"),
        TaskKind::Http | TaskKind::Shell => Some(""),
    };
    assert_eq!(code, Some(body.code), "the code is the one that was written");
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    match task.kind {
        TaskKind::Code => is_raw(given("context"), body.data, Value::is_object),
        TaskKind::Function => is_raw(given("args"), body.data, Value::is_array),
        TaskKind::Module => {
            let data: ModuleData<'_> =
                serde_json::from_slice(body.data).expect("the worker reads it");
            assert_eq!(data.method.as_deref(), text("method"));
            is_raw(
                given("args"),
                data.args.map_or(b"", |raw| raw.get().as_bytes()),
                Value::is_array,
            );
        }
        TaskKind::Http => {
            let data: HttpData<'_> =
                serde_json::from_slice(body.data).expect("the worker reads it");
            assert_eq!((Some(&*data.url), data.method.as_deref()), (text("url"), text("method")));
            is_raw(given("body"), data.body.map_or(b"", |raw| raw.get().as_bytes()), |_| true);
        }
        TaskKind::Shell => {
            let data: ShellData = serde_json::from_slice(body.data).expect("the worker reads it");
            assert_eq!(
                (data.program.as_deref(), data.command.as_deref()),
                (text("program"), text("command"))
            );
            assert!(
                data.program.is_some() != data.command.is_some(),
                "one of the two names what runs"
            );
            let args = data.args.map(|args| args.into_iter().map(Value::String).collect());
            assert_eq!(args.map(Value::Array).as_ref(), given("args"));
        }
    }
}

/// JSON that is handed on as it was written.
fn is_raw(written: Option<&Value>, data: &[u8], is_sound: impl Fn(&Value) -> bool) {
    let Some(written) = written else {
        return assert!(data.is_empty(), "what was not written is not there");
    };
    let read: Value = serde_json::from_slice(data).expect("what is handed on is JSON");
    assert!(is_sound(&read), "of the shape that the worker expects: {read}");
    assert_eq!(&read, written);
}

fn travels(task: &Task) {
    let head = task.head(0, OnDisconnect::Keep, true, true);
    head.check(task.body.len()).expect("what the client accepts the supervisor accepts");
    assert!(head.priority <= limits::MAX_PRIORITY);
    let mut bytes = Vec::new();
    codec::encode_into(&head, &mut bytes);
    let back: TaskHead<'_> =
        codec::decode("submit", &bytes).expect("a head that was encoded decodes");
    assert_eq!(back, head);
}
