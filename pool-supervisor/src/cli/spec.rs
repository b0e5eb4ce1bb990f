//! From the arguments of `run` to a task.
//!
//! The task is written as the JSON object that a user would have written and read by the one reader
//! there is, so that a task means the same on every way in.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use pool_protocol::json;
use pool_protocol::task::{self, InvalidTask, Task, TaskKind};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::args::{Deadline, GivenTask, Http, JsOptions, Realm, RunOptions, Shell};
use super::error::CliError;
use super::input;

/// The fields of a task, as the contract names them.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    max_attempts: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<&'a Deadline>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    limits: Limits,
    #[serde(flatten)]
    own: BTreeMap<&'static str, Value>,
    /// Raw: a number keeps the digits that the user typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Vec<Box<RawValue>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Box<RawValue>>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
}

/// What is asked for, and whether the whole outcome is wanted.
pub(super) fn task(given: &GivenTask) -> Result<(Task, bool), CliError> {
    let (common, spec) = match given {
        GivenTask::Code { source, context, js, common } => {
            let mut spec = script(TaskKind::Code, "code", source, js)?;
            spec.context = context.as_deref().map(read_context).transpose()?;
            (common, spec)
        }
        GivenTask::Function { source, args, js, common } => {
            let mut spec = script(TaskKind::Function, "fn", source, js)?;
            spec.args = arguments(args)?;
            (common, spec)
        }
        GivenTask::Module { path, args, method, js, common } => {
            let mut spec = of_kind(TaskKind::Module);
            spec.args = arguments(args)?;
            spec.own.insert("modulePath", json!(path));
            put(&mut spec, "method", method.as_ref());
            js_options(&mut spec, js);
            (common, spec)
        }
        GivenTask::Http(http) => (&http.common, http_request(http)?),
        GivenTask::Shell(shell) => (&shell.common, shell_command(shell)?),
    };
    Ok((finish(spec, common)?, common.json))
}

fn finish<'a>(mut spec: Spec<'a>, common: &'a RunOptions) -> Result<Task, InvalidTask> {
    spec.project_id = common.project.as_deref();
    spec.priority = common.priority;
    spec.timeout = common.timeout;
    spec.max_attempts = common.attempts;
    spec.delay = common.delay;
    spec.deadline = common.deadline.as_ref();
    spec.idempotency_key = common.idempotency_key.as_deref();
    spec.tag = common.tag.as_deref();
    spec.limits = Limits { cpu_ms: common.cpu, memory_bytes: common.memory };
    task::parse(&serde_json::to_vec(&spec).expect("strings, numbers and raw JSON serialise"))
}

fn of_kind(kind: TaskKind) -> Spec<'static> {
    Spec { kind: kind.name(), ..Spec::default() }
}

fn put<T: Serialize>(spec: &mut Spec<'_>, field: &'static str, value: Option<T>) {
    if let Some(value) = value {
        spec.own.insert(field, json!(value));
    }
}

fn script(
    kind: TaskKind,
    field: &'static str,
    source: &str,
    js: &JsOptions,
) -> Result<Spec<'static>, CliError> {
    let mut spec = of_kind(kind);
    let source = match source {
        "-" => input::text("the source in", Path::new("-"))?,
        source => source.to_owned(),
    };
    spec.own.insert(field, json!(source));
    js_options(&mut spec, js);
    Ok(spec)
}

fn js_options(spec: &mut Spec<'_>, js: &JsOptions) {
    put(
        spec,
        "realm",
        js.realm.map(|realm| match realm {
            Realm::Fresh => "fresh",
            Realm::Warm => "warm",
            Realm::Frozen => "frozen",
        }),
    );
    put(spec, "logs", js.logs.then_some(true));
}

/// A word of the command line as an argument of a function: JSON if it is JSON, else a string. JSON
/// that the pool does not take is not taken for a string.
fn argument((place, text): (usize, &String)) -> Result<Box<RawValue>, InvalidTask> {
    match json::read(text.as_bytes(), json::MAX_DEPTH) {
        Ok(sound) => Ok(sound.value.raw().to_owned()),
        Err(unsound) if unsound.is_syntax => {
            Ok(serde_json::value::to_raw_value(text).expect("strings serialise"))
        }
        Err(unsound) => Err(unsound.inside(&format!("args[{place}]")).into()),
    }
}

fn arguments(words: &[String]) -> Result<Option<Vec<Box<RawValue>>>, InvalidTask> {
    words.iter().enumerate().map(argument).collect::<Result<_, _>>().map(Some)
}

fn read_context(path: &Path) -> Result<Box<RawValue>, CliError> {
    let text = input::bytes("the context in", path)?;
    let unfit = |problem: String| CliError::Content {
        what: "the context in",
        name: input::name(path),
        problem,
    };
    match json::read(&text, json::MAX_DEPTH + 1) {
        Ok(sound) if sound.value.is_object() => Ok(sound.value.raw().to_owned()),
        Ok(sound) => Err(unfit(sound.value.not_a("a JSON object, whose keys become globals"))),
        Err(unsound) if unsound.is_syntax => Err(unfit(format!("it {}", unsound.problem))),
        Err(unsound) => Err(InvalidTask::from(unsound.inside("context")).into()),
    }
}

fn http_request(http: &Http) -> Result<Spec<'static>, CliError> {
    let mut spec = of_kind(TaskKind::Http);
    let map = |pairs: &[(String, String)]| {
        (!pairs.is_empty()).then(|| pairs.iter().cloned().collect::<BTreeMap<_, _>>())
    };
    let body = http.data.as_deref().map(body).transpose()?;
    let method = http.method.as_deref().or(body.is_some().then_some("POST"));
    put(&mut spec, "url", Some(&http.url));
    put(&mut spec, "method", method);
    put(&mut spec, "headers", map(&http.headers));
    put(&mut spec, "query", map(&http.query));
    put(&mut spec, "body", body);
    put(&mut spec, "maxRedirects", http.max_redirects);
    put(&mut spec, "maxResponseBytes", http.max_response);
    let which =
        |text: &String| text.parse::<u16>().map_or_else(|_| json!(text), |code| json!(code));
    let accepted: Vec<Value> = http.accept_status.iter().map(which).collect();
    put(&mut spec, "acceptStatus", (!accepted.is_empty()).then_some(accepted));
    Ok(spec)
}

/// A text as it is; a file as text if it is text, else in base 64, which the worker undoes.
fn body(data: &str) -> Result<Value, CliError> {
    let Some(path) = data.strip_prefix('@') else { return Ok(json!(data)) };
    Ok(match String::from_utf8(input::bytes("the data in", Path::new(path))?) {
        Ok(text) => json!(text),
        Err(error) => {
            json!({ "base64": base64::engine::general_purpose::STANDARD.encode(error.as_bytes()) })
        }
    })
}

fn shell_command(shell: &Shell) -> Result<Spec<'static>, CliError> {
    let mut spec = of_kind(TaskKind::Shell);
    let (program, words) = shell.words.split_first().expect("clap asks for one word at least");
    let env =
        (!shell.env.is_empty()).then(|| shell.env.iter().cloned().collect::<BTreeMap<_, _>>());
    let stdin = shell
        .stdin
        .as_deref()
        .map(|path| input::text("the program's input in", path))
        .transpose()?;
    let accept = (!shell.accept_exit.is_empty()).then_some(&shell.accept_exit);
    spec.own.insert("program", json!(program));
    spec.own.insert("args", json!(words));
    put(&mut spec, "cwd", shell.cwd.as_ref());
    put(&mut spec, "env", env);
    put(&mut spec, "stdin", stdin);
    put(&mut spec, "maxOutputBytes", shell.max_output);
    put(&mut spec, "acceptExit", accept);
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::super::args::{Args, Command};
    use super::*;
    use clap::Parser;
    use pool_protocol::task::Body;

    fn parsed(line: &[&str]) -> Task {
        let args = Args::try_parse_from(["poolctl", "run"].iter().chain(line)).expect("valid");
        let Command::Run(run) = args.command else { panic!("{line:?}") };
        task(&run.task).expect("a task").0
    }

    fn data(task: &Task) -> String {
        let body = Body::split(&task.body, task.code_len).expect("whole");
        String::from_utf8(body.data.to_vec()).expect("JSON")
    }

    #[test]
    fn an_argument_is_json_if_it_is_json_and_else_a_string() {
        let task = parsed(&[
            "function", "f", "40", "-2", "[1,2,3]", "word", "true", "\"40\"", "1.50", "", "{a:1}",
        ]);
        assert_eq!(data(&task), r#"[40,-2,[1,2,3],"word",true,"40",1.50,"","{a:1}"]"#);
    }

    #[test]
    fn an_argument_that_is_json_and_is_not_taken_is_no_string() {
        let deep = format!("{}1{}", "[".repeat(1001), "]".repeat(1001));
        for (word, said) in [
            (r#"{"a":1,"a":2}"#, "field `args[1].a` is given twice"),
            ("1e999", "field `args[1]` must be a number that a double can hold"),
            (&deep, "is nested in more than 1000 levels"),
        ] {
            let refused =
                arguments(&["1".to_owned(), word.to_owned()]).expect_err(word).to_string();
            assert!(refused.contains(said), "{refused}");
        }
        assert_eq!(
            data(&parsed(&["function", "f", "\u{feff}[1]", r#"["\ud83d"]"#])),
            r#"[[1],["\ud83d"]]"#
        );
    }

    #[test]
    fn run_tries_once_unless_told() {
        assert_eq!(parsed(&["code", "1"]).max_attempts, Some(1));
        assert_eq!(parsed(&["code", "1", "--attempts", "4"]).max_attempts, Some(4));
    }

    #[test]
    fn every_option_reaches_its_field() {
        let task = parsed(&[
            "code",
            "1+1",
            "--project",
            "p",
            "--priority",
            "7",
            "--timeout",
            "30s",
            "--delay",
            "1s",
            "--deadline",
            "5m",
            "--idempotency-key",
            "k",
            "--tag",
            "t",
            "--cpu",
            "2s",
            "--memory",
            "64MiB",
            "--realm",
            "warm",
            "--logs",
        ]);
        assert_eq!((task.project.as_str(), task.priority, task.timeout_ms), ("p", 7, Some(30_000)));
        assert_eq!((task.delay_ms, task.deadline), (1000, Some(task::Deadline::In(300_000))));
        assert_eq!((task.idempotency_key.as_deref(), task.tag.as_deref()), (Some("k"), Some("t")));
        assert_eq!((task.cpu_ms, task.memory_bytes), (Some(2000), Some(64 << 20)));
        assert_eq!((task.realm, task.logs), (Some(task::Realm::Warm), true));
    }

    #[test]
    fn data_makes_a_post_and_headers_are_kept() {
        let task =
            parsed(&["http", "http://x/", "-H", "A: b:c", "--data", "hello", "--query", "q=1=2"]);
        assert_eq!(
            data(&task),
            r#"{"url":"http://x/","method":"POST","headers":{"A":"b:c"},"query":{"q":"1=2"},"body":"hello"}"#
        );
        assert_eq!(data(&parsed(&["http", "http://x/"])), r#"{"url":"http://x/"}"#);
    }

    #[test]
    fn a_program_keeps_its_words() {
        let task = parsed(&[
            "shell",
            "--env",
            "A=b",
            "--accept-exit",
            "1,-1",
            "--",
            "/usr/bin/wc",
            "-l",
            "a b",
        ]);
        assert_eq!(
            data(&task),
            r#"{"program":"/usr/bin/wc","args":["-l","a b"],"env":{"A":"b"},"acceptExit":[1,-1]}"#
        );
    }
}
