//! The examples of the reference pages: each is run on a real pool, and the answer is the one that
//! the page shows.
//!
//! What differs from run to run (ids, times, figures) is compared by its type, everything else
//! exactly.

use std::collections::BTreeMap;

use pool_protocol::outcome::ErrorCode;
use pool_protocol::task;
use pool_tests::http::{Answer, Api};
use pool_tests::page::{Block, Page};
use pool_tests::pool::{Ctl, supervisor_command};
use pool_tests::wait::{DEADLINE, now, pause};
use pool_tests::{Folder, Pool, Value, json};

/// Where the pages say that the API listens.
const ADDRESS: &str = "127.0.0.1:45678";
/// Numbers that are the same in every run.
const EXACT_NUMBERS: [&str; 7] =
    ["result", "attempts", "limit", "index", "status", "exitCode", "weight"];
/// Texts that are not.
const OTHER_TEXTS: [&str; 5] = ["taskId", "taskIds", "workerId", "date", "evidence"];

/// Fields that only some machines have: layers may be missing, and a busy one may be too slow to
/// end a worker in good order.
const MACHINE: [&str; 2] = ["missingLayers", "verdict"];

/// Where two values differ, if they do in more than what differs from run to run.
fn difference(shown: &Value, real: &Value, key: &str) -> Option<String> {
    let differ = || Some(format!("{key}: the page has {shown}, the pool says {real}"));
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let names = |object: &serde_json::Map<String, Value>| {
                let is_shown = |name: &&String| !MACHINE.contains(&name.as_str());
                let mut names: Vec<String> = object.keys().filter(is_shown).cloned().collect();
                names.sort_unstable();
                names
            };
            if names(shown) != names(real) {
                return differ();
            }
            shown.iter().find_map(|(name, value)| difference(value, real.get(name)?, name))
        }
        (Value::Array(shown), Value::Array(real)) if shown.len() == real.len() => {
            shown.iter().zip(real).find_map(|(shown, real)| difference(shown, real, key))
        }
        (Value::Number(_), Value::Number(_)) if !EXACT_NUMBERS.contains(&key) => None,
        (Value::String(_), Value::String(_)) if OTHER_TEXTS.contains(&key) => None,
        (shown, real) if shown == real => None,
        _ => differ(),
    }
}

/// The pool that a page's first block of JSON configures, with the page's folder of modules.
fn pool_of(page: &Page, folder: &Folder) -> Pool {
    let block = page.blocks_of("json").into_iter().next().expect("a configuration");
    let text = block.text.replace("/srv/tasks", &folder.text());
    let mut config: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", page.name));
    if config["http"]["allow"].is_array() {
        // The port is not known yet.
        config["http"]["allow"] = json!(["127.0.0.1"]);
    }
    let pool = Pool::with_http(config);
    pool.until_idle("js", 1);
    pool
}

fn value(block: &Block) -> Option<Value> {
    serde_json::from_str(&block.text).ok()
}

/// Whether a block is a task; else it may be an outcome.
fn is_task(value: &Value) -> bool {
    value
        .get("type")
        .is_some_and(|kind| task::TaskKind::ALL.iter().any(|known| kind == known.name()))
}

#[test]
fn every_block_of_json_is_json_and_every_task_is_accepted() {
    let mut tasks = 0;
    for name in ["docs/tasks.md", "docs/http-api.md", "docs/migrating.md", "docs/configuration.md"]
    {
        for block in Page::read(name).blocks_of("json") {
            let whole = value(&block).map(|value| vec![value]);
            let lines =
                || block.text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
            let values = whole
                .map_or_else(lines, Ok)
                .unwrap_or_else(|e| panic!("{name}: {e}: {}", block.text));
            for task in values.iter().filter(|value| is_task(value)) {
                task::parse(task.to_string().as_bytes())
                    .unwrap_or_else(|e| panic!("{name}: {task}: {e}"));
                tasks += 1;
            }
        }
    }
    assert!(tasks > 8, "only {tasks} tasks were found");
}

#[test]
fn every_outcome_of_the_page_is_what_its_task_gives() {
    let page = Page::read("docs/tasks.md");
    let folder = Folder::new();
    for block in page.blocks_of("js") {
        folder.write("lib/stats.mjs", &block.text);
    }
    let pool = pool_of(&page, &folder);
    let address = pool.api().address;
    let values: Vec<Value> = page.blocks_of("json").iter().filter_map(value).collect();
    let mut statuses = Vec::new();
    for pair in values.windows(2) {
        let (given, shown) = (&pair[0], &pair[1]);
        let (true, Some(status)) = (is_task(given), shown["status"].as_str()) else { continue };
        let real = pool.run(
            serde_json::from_str(&given.to_string().replace(ADDRESS, &address)).expect("JSON"),
        );
        assert_eq!(difference(shown, &real, ""), None, "{given}");
        statuses.push(status.to_owned());
    }
    assert!(statuses.len() >= 9, "{statuses:?}");
    for status in ["succeeded", "failed", "timed-out", "rejected"] {
        assert!(statuses.iter().any(|known| known == status), "{status}");
    }
    let shown = values
        .iter()
        .find(|value| value["status"] == "cancelled")
        .expect("a cancelled task is shown");
    let id = pool.submit(json!({"type": "execute-code", "code": "1", "delay": 60_000}));
    pool.cancel(&id);
    assert_eq!(difference(shown, &pool.outcome(&id), ""), None);
    for outcome in values.iter().filter(|value| value["error"]["code"].is_string()) {
        let code = ErrorCode::ALL
            .iter()
            .find(|code| outcome["error"]["code"] == code.name())
            .expect("a known code");
        assert_eq!(outcome["status"], code.status().name(), "{outcome}");
    }
}

/// A command line, cut into words as a shell does it with the two kinds of quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut open): (Vec<String>, String, Option<char>, bool) =
        Default::default();
    for c in line.chars() {
        match (c, quote) {
            (c, Some(mark)) if c == mark => quote = None,
            ('\'' | '"', None) => (quote, open) = (Some(c), true),
            (' ', None) if open => {
                words.push(std::mem::take(&mut word));
                open = false;
            }
            (' ', None) => {}
            (c, _) => {
                word.push(c);
                open = true;
            }
        }
    }
    if open {
        words.push(word);
    }
    words
}

/// What a line of `curl` asks for.
#[derive(Default)]
struct Request {
    method: Option<String>,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

impl Request {
    fn read(line: &str, key: &str) -> Self {
        let mut request = Self::default();
        let mut words = words(&line.replace("$KEY", key)).into_iter();
        assert_eq!(words.next().as_deref(), Some("curl"), "{line}");
        while let Some(word) = words.next() {
            let mut next = || words.next().unwrap_or_else(|| panic!("{word} wants a word: {line}"));
            match word.as_str() {
                "-i" => {}
                "-X" => request.method = Some(next()),
                "-d" => request.body = Some(next()),
                "-H" => {
                    let header = next();
                    let (name, value) = header.split_once(": ").expect("a header");
                    request.headers.push((name.to_owned(), value.to_owned()));
                }
                url => {
                    let path =
                        url.strip_prefix("http://").and_then(|rest| rest.strip_prefix(ADDRESS));
                    path.unwrap_or_else(|| panic!("{url}: {line}")).clone_into(&mut request.path);
                }
            }
        }
        request
    }

    fn send(&self, api: &Api) -> Answer {
        let with_body = if self.body.is_some() { "POST" } else { "GET" };
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        api.with(
            self.method.as_deref().unwrap_or(with_body),
            &self.path,
            &headers,
            self.body.as_deref(),
        )
    }
}

/// The answer that a page shows.
struct Shown {
    status: u16,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Shown {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or_else(|| panic!("no body: {text}"));
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let body = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
        Self { status: status.expect("a status line"), headers: headers.collect(), body }
    }

    fn difference(&self, real: &Answer) -> Option<String> {
        let header = |(name, value): &&(String, String)| real.header(name) != Some(value);
        if self.status != real.status {
            return Some(format!("{} instead of {}: {}", real.status, self.status, real.text));
        }
        if let Some((name, _)) = self.headers.iter().find(header) {
            return Some(format!("{name}: {:?}", real.headers));
        }
        difference(&self.body, &real.json(), "")
    }
}

/// The ids in an answer, in their order.
fn ids(answer: &Value) -> Vec<String> {
    let items = answer.as_array().map_or(std::slice::from_ref(answer), Vec::as_slice);
    let of = |item: &Value| {
        let several = item["taskIds"].as_array().cloned().unwrap_or_default();
        [vec![item["taskId"].clone()], several].concat()
    };
    items.iter().flat_map(of).filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

/// Runs every `curl` of a page in its order. Gives each one's section with its status.
fn replay(page: &Page, pool: &Pool) -> Vec<(String, u16)> {
    let (api, mut real_ids) = (pool.api(), BTreeMap::new());
    let mut replayed = Vec::new();
    for block in page.blocks_of("console") {
        let (line, text) = block.text.split_once('\n').expect("a command and its answer");
        let known = |text: &str| {
            let text = text.replace(ADDRESS, &api.address);
            real_ids
                .iter()
                .fold(text, |text, (shown, real): (&String, &String)| text.replace(shown, real))
        };
        let mut request = Request::read(line.strip_prefix("$ ").expect("a prompt"), &api.key);
        request.path = known(&request.path);
        let shown = Shown::read(&known(text));
        let start = now();
        let mut real = request.send(&api);
        // What is asked for may come about a little later; what is done is done once.
        while request.body.is_none()
            && request.method.is_none()
            && shown.difference(&real).is_some()
        {
            assert!(start.elapsed() < DEADLINE, "{line}: {:?}", shown.difference(&real));
            pause(std::time::Duration::from_millis(20));
            real = request.send(&api);
        }
        assert_eq!(shown.difference(&real), None, "{line}");
        real_ids.extend(ids(&shown.body).into_iter().zip(ids(&real.json())));
        replayed.push((block.heading.clone(), shown.status));
    }
    replayed
}

#[test]
fn every_request_of_the_page_gets_the_answer_that_the_page_shows() {
    let page = Page::read("docs/http-api.md");
    let pool = pool_of(&page, &Folder::new());
    let replayed = replay(&page, &pool);
    assert!(replayed.len() >= 20, "{replayed:?}");
    let common = page.table("Statuses that every route can give", 0).names();
    let mut section = String::new();
    for heading in page.headings() {
        if heading.starts_with('`') {
            section.clone_from(&heading);
        }
        for (_, status) in replayed.iter().filter(|(of, _)| *of == heading && !section.is_empty()) {
            let own = page.table(&section, 0).names();
            let is_listed = own.iter().chain(&common).any(|listed| *listed == status.to_string());
            assert!(is_listed, "{section} does not list {status}");
        }
    }
}

#[test]
fn the_originals_routes_answer_as_the_page_about_migrating_shows() {
    let page = Page::read("docs/migrating.md");
    let pool = pool_of(&page, &Folder::new());
    assert_eq!(replay(&page, &pool).len(), 3);
    let task =
        page.blocks_of("json").iter().filter_map(value).find(is_task).expect("the usage example");
    assert_eq!(pool.run(task)["result"], "Hello from worker");
}

#[test]
fn what_task_code_has_not_is_undefined() {
    let table = Page::read("docs/migrating.md").table("What task code had", 0);
    let names =
        table.rows.iter().flat_map(|row| row[0].split('`').skip(1).step_by(2)).collect::<Vec<_>>();
    assert!(names.len() > 20, "{names:?}");
    let pool = Pool::start(json!({}));
    let kinds: Vec<String> = names
        .iter()
        .map(|name| format!("typeof {}", name.split('.').next().expect("a name")))
        .collect();
    for realm in ["fresh", "warm", "frozen"] {
        let task = json!({
            "type": "execute-code",
            "code": format!("[{}]", kinds.join(", ")),
            "realm": realm,
        });
        let real = pool.run(task);
        assert_eq!(real["result"], json!(vec!["undefined"; names.len()]), "{realm}: {kinds:?}");
    }
}

#[test]
fn every_event_has_its_row_and_its_example() {
    let page = Page::read("docs/http-api.md");
    let table = page.table("`GET /api/events`", 1);
    let blocks =
        page.blocks_of("json").into_iter().filter(|block| block.heading == "`GET /api/events`");
    let lines: Vec<Value> = blocks
        .flat_map(|block| block.text.lines().map(serde_json::from_str).collect::<Vec<_>>())
        .map(|line| line.expect("JSON"))
        .collect();
    assert_eq!(
        table.names(),
        lines.iter().map(|event| event["event"].as_str().expect("a name")).collect::<Vec<_>>()
    );
    for (event, row) in lines.iter().zip(&table.rows) {
        let mut listed: Vec<&str> =
            row[1].split('`').skip(1).step_by(2).chain(["seq", "time", "event"]).collect();
        let mut names: Vec<&str> =
            event.as_object().expect("an object").keys().map(String::as_str).collect();
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(names, listed, "{event}");
    }
}

#[test]
fn every_example_of_a_configuration_is_accepted() {
    let (folder, mut checked) = (Folder::new(), 0);
    for page in ["docs/configuration.md", "docs/migrating.md", "docs/tasks.md", "docs/http-api.md"]
        .map(Page::read)
    {
        let is_config = |block: &Block| match block.language.as_str() {
            "toml" => true,
            "json" => {
                value(block).is_some_and(|v| v["daemon"].is_object() || v["pool"].is_object())
            }
            _ => false,
        };
        for block in page.blocks().into_iter().filter(is_config) {
            let text = block.text.replace("/srv/tasks", "/srv");
            let file = folder.write(&format!("config.{}", block.language), text);
            let mut command = supervisor_command(&folder);
            let output: Ctl = command
                .args(["--check-config", "--config"])
                .arg(file)
                .output()
                .expect("it starts")
                .into();
            assert_eq!(output.code, 0, "{}: {}\n{}", page.name, output.stderr, block.text);
            checked += 1;
        }
    }
    assert!(checked >= 5, "only {checked} were found");
}
