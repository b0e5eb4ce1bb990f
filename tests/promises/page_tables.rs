//! The reference pages list what the code knows, all of it and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use pool_protocol::outcome::{Blame, Cause, ErrorCode, Status};
use pool_protocol::policy::RetryPolicy;
use pool_protocol::task::{self, FIELDS, TaskKind};
use pool_supervisor::http::ROUTES;
use pool_tests::page::{self, Page};
use pool_tests::tasks::{code, with};
use pool_tests::{Pool, Value, json, until};

const PAGES: [&str; 5] = [
    "docs/tasks.md",
    "docs/http-api.md",
    "docs/configuration.md",
    "docs/migrating.md",
    "docs/hostile.md",
];

fn set(names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    names.into_iter().collect()
}

#[test]
fn every_row_of_a_table_has_as_many_cells_as_the_table_has_titles() {
    for table in PAGES.iter().flat_map(|page| Page::read(page).tables()) {
        for row in &table.rows {
            assert_eq!(row.len(), table.titles.len(), "{}: {row:?}", table.heading);
        }
    }
}

#[test]
fn every_error_code_has_its_row() {
    let table = Page::read("docs/tasks.md").table("Error codes", 0);
    let known = ErrorCode::ALL.iter().map(|code| {
        let retried = match code {
            ErrorCode::WorkerCrashed => "by [verdict](#verdicts)",
            code if code.retried_by_default() => "yes",
            _ => "no",
        };
        [code.name().to_owned(), code.status().name().to_owned(), retried.to_owned()]
    });
    let rows = table
        .rows
        .iter()
        .map(|row| [&row[0], &row[1], &row[3]].map(|cell| cell.trim_matches('`').to_owned()));
    assert_eq!(rows.collect::<Vec<_>>(), known.collect::<Vec<_>>());
}

#[test]
fn every_verdict_has_its_row() {
    let table = Page::read("docs/tasks.md").table("Verdicts", 0);
    assert_eq!(table.names(), Cause::ALL.iter().map(|cause| cause.name()).collect::<Vec<_>>());
    for (cause, row) in Cause::ALL.iter().zip(&table.rows) {
        let retried = match cause.blame() {
            Blame::Task => "no",
            Blame::Unclear => "once",
            Blame::Outside => "up to `maxAttempts`",
        };
        assert!(row[3].starts_with(retried), "{cause}: {row:?}");
    }
}

#[test]
fn every_status_has_its_row() {
    let known: BTreeSet<String> =
        ErrorCode::ALL.iter().map(|code| code.status()).map(|s| s.name().into()).collect();
    let known: BTreeSet<String> =
        known.into_iter().chain([Status::Succeeded.name().into()]).collect();
    assert_eq!(set(Page::read("docs/tasks.md").table("Outcomes", 1).names()), known);
}

/// A value that each field of a type's own takes.
fn sample(field: &str) -> Value {
    match field {
        "code" | "fn" | "modulePath" | "method" | "program" | "command" | "cwd" | "stdin"
        | "url" | "body" => {
            json!("x")
        }
        "realm" => json!("fresh"),
        "acceptStatus" => json!("any"),
        "logs" => json!(true),
        "args" | "acceptExit" => json!([]),
        "context" | "headers" | "query" | "env" => json!({}),
        "maxRedirects" | "maxResponseBytes" | "maxOutputBytes" => json!(1),
        other => panic!("no value for {other}"),
    }
}

fn is_foreign(kind: TaskKind, field: &str) -> bool {
    let task = json!({"type": kind.name(), field: sample(field)});
    let refused = task::parse(task.to_string().as_bytes()).err();
    refused.is_some_and(|e| e.field == field && e.problem.starts_with("does not belong"))
}

#[test]
fn every_field_of_a_task_has_its_row_under_its_types() {
    let page = Page::read("docs/tasks.md");
    let common = page.table("Fields of every task", 0).names();
    let mut listed = set(common.clone());
    for kind in TaskKind::ALL {
        let own = set(page.table(&format!("`{}`", kind.name()), 0).names());
        let taken = FIELDS.iter().filter(|field| !common.iter().any(|name| name == *field));
        let taken =
            set(taken.filter(|field| !is_foreign(*kind, field)).map(|field| (*field).to_owned()));
        assert_eq!(own, taken, "{}", kind.name());
        listed.extend(own);
    }
    assert_eq!(listed, set(FIELDS.iter().map(|field| (*field).to_owned())));
}

#[test]
fn every_message_of_the_table_is_what_the_parser_says() {
    let table = Page::read("docs/tasks.md").table("Fields of every task", 1);
    assert!(table.rows.len() > 20);
    for row in &table.rows {
        let given = row[0].trim_matches('`');
        let task = match given.starts_with('{') {
            true => given.to_owned(),
            false => format!(r#"{{"type": "execute-code", "code": "1", {given}}}"#),
        };
        let said = task::parse(task.as_bytes()).expect_err(&task).to_string();
        assert_eq!(said, row[1], "{task}");
    }
}

#[test]
fn every_receipts_and_retrys_field_has_its_row() {
    let page = Page::read("docs/tasks.md");
    let pool = Pool::start(json!({"isolation": "off"}));
    let outcome = pool.run(code("1"));
    let figures = set(outcome["receipt"].as_object().expect("figures").keys().cloned());
    // Absent where the worker has all layers.
    let figures: BTreeSet<String> =
        figures.into_iter().chain(["missingLayers".to_owned()]).collect();
    assert_eq!(set(page.table("Receipts", 0).names()), figures);
    let retry = page.table("Attempts and retries", 1);
    for row in &retry.rows {
        let retry = format!(
            "{{\"type\":\"execute-code\",\"code\":\"1\",\"retry\":{{\"{}\":{}}}}}",
            row[0].trim_matches('`'),
            row[2]
        );
        let task = task::parse(retry.as_bytes()).unwrap_or_else(|e| panic!("{retry}: {e}"));
        assert_eq!(task.retry, Some(RetryPolicy::default()), "the default is {row:?}");
    }
    assert_eq!(retry.rows.len(), 4);
}

#[test]
fn every_route_has_its_section_and_its_row() {
    let page = Page::read("docs/http-api.md");
    let known = ROUTES
        .iter()
        .map(|(method, path)| format!("{} {}", method.to_uppercase(), path.replace("{*", "{")));
    let known: Vec<String> = known.collect();
    let sections: Vec<String> = page
        .headings()
        .iter()
        .filter_map(|h| Some(h.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .collect();
    assert_eq!(sections, known);
    let listed = page.table("HTTP API", 0).names();
    let listed = listed
        .iter()
        .map(|cell| cell.trim_start_matches("[`").split('`').next().expect("a piece").to_owned());
    assert_eq!(listed.collect::<Vec<_>>(), known);
    for section in &sections {
        let statuses = page.table(&format!("`{section}`"), 0);
        assert_eq!(statuses.titles, ["status", "when"], "{section}");
    }
}

#[test]
fn every_metric_has_its_row_with_type_and_labels() {
    let pool = Pool::with_http(json!({}));
    until("it is ready", || pool.api().with("GET", "/readyz", &[], None).status == 200);
    pool.run(with(code("throw 1"), json!({"maxAttempts": 1})));
    let text = pool.api().with("GET", "/metrics", &[], None).text;
    let told = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(|line| {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        let samples = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let labels: Vec<(&str, &str)> = samples.filter_map(|rest| rest.split_once("=\"")).collect();
        let label = labels.first().map_or(String::new(), |(label, _)| (*label).to_owned());
        let values: Vec<String> = labels
            .iter()
            .filter_map(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()))
            .collect();
        (name.to_owned(), kind.to_owned(), label, values)
    });
    let told: Vec<_> = told.collect();
    let table = Page::read("docs/http-api.md").table("`GET /metrics`", 1);
    assert_eq!(table.names(), told.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>());
    for (row, (name, kind, label, values)) in table.rows.iter().zip(&told) {
        let words: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        assert_eq!(row[1], *kind, "{name}");
        assert_eq!(words.first().copied().unwrap_or_default(), label, "{name}");
        if row[2].contains("each of the") {
            let all = if label == "code" { ErrorCode::ALL.len() } else { Cause::ALL.len() };
            assert_eq!(values.len(), all, "{name}");
        } else {
            assert_eq!(words.get(1..).unwrap_or_default(), values, "{name}");
        }
    }
}

/// Numbers of the tests `hostile_NN_…` in this folder and those below it.
fn numbered_tests(folder: &Path, numbers: &mut BTreeSet<u32>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            numbered_tests(&path, numbers);
        } else if is_source {
            let text = std::fs::read_to_string(&path).expect("a source");
            let tests = text.split("fn hostile_").skip(1);
            numbers.extend(tests.filter_map(|rest| rest.split_once('_')?.0.parse::<u32>().ok()));
        }
    }
}

#[test]
fn every_row_of_what_is_survived_has_a_test_and_every_numbered_test_a_row() {
    let tables = Page::read("docs/hostile.md").tables();
    let rows: Vec<u32> = tables
        .iter()
        .flat_map(|table| &table.rows)
        .map(|row| row[0].parse().expect("a number"))
        .collect();
    let listed: BTreeSet<u32> = rows.iter().copied().collect();
    assert_eq!(listed.len(), rows.len(), "no number stands twice");
    let mut tested = BTreeSet::new();
    for package in ["protocol", "pool-supervisor", "pool-worker-bin", "tests"] {
        numbered_tests(&page::repository().join(package), &mut tested);
    }
    assert_eq!(listed, tested);
}
