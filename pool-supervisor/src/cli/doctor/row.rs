//! One attack and what it showed; the table and the sum of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{Cell, Color};
use pool_protocol::lane::Lane;
use pool_protocol::layer::Level;
use serde::Serialize;

use super::super::table::{Column, table, text as table_text};

/// What an attack showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Finding {
    /// It was stopped.
    Bites,
    /// The layer is not there, and does not claim to be. Whether something else stopped the attack
    /// is another row's matter.
    Missing,
    /// The layer or limit is there by its own word, and the attack went through.
    Leaks,
    /// Nothing: it could not be made, or ended without an answer.
    NotTried,
}

impl Finding {
    const fn name(self) -> &'static str {
        match self {
            Self::Bites => "bites",
            Self::Missing => "missing",
            Self::Leaks => "leaks",
            Self::NotTried => "not tried",
        }
    }

    fn cell(self) -> Cell {
        let colour = match self {
            Self::Bites => Color::Green,
            Self::Missing | Self::NotTried => Color::Yellow,
            Self::Leaks => Color::Red,
        };
        Cell::new(self.name()).fg(colour)
    }
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// `js` or `io`.
    pub(super) lane: &'static str,
    /// A layer's name, or a limit's.
    pub(super) layer: String,
    /// What the attack does.
    pub(super) tried: String,
    /// What answered.
    pub(super) stopped_by: String,
    /// What that shows.
    pub(super) verdict: Finding,
    /// Whether anything but `bites` breaks a promise.
    pub(super) promised: bool,
}

impl Row {
    /// A limit of tasks: always promised.
    pub(super) fn limit(
        lane: Lane,
        limit: &str,
        tried: &str,
        (verdict, stopped_by): (Finding, String),
    ) -> Self {
        let (lane, tried) = (lane.name(), tried.to_owned());
        Self { lane, layer: limit.to_owned(), tried, stopped_by, verdict, promised: true }
    }

    /// A limit that this pool's configuration leaves nothing to try on, or switches off.
    pub(super) fn excused(lane: Lane, limit: &str, tried: &str, why: impl Into<String>) -> Self {
        Self { promised: false, ..Self::limit(lane, limit, tried, (Finding::NotTried, why.into())) }
    }

    const fn breaks_a_promise(&self) -> bool {
        self.promised && !matches!(self.verdict, Finding::Bites)
    }
}

/// The sum of all rows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    level: &'static str,
    /// Everything that is promised bites.
    pub(super) passed: bool,
    bites: usize,
    missing: usize,
    leaks: usize,
    not_tried: usize,
    /// Layers that are not there, by lane.
    missing_layers: BTreeMap<&'static str, Vec<String>>,
    /// Promises that are not kept.
    broken: Vec<String>,
}

impl Summary {
    pub(super) fn of(level: Level, rows: &[Row]) -> Self {
        let count = |finding| rows.iter().filter(|row| row.verdict == finding).count();
        let mut missing_layers: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.verdict == Finding::Missing) {
            let layers = missing_layers.entry(row.lane).or_default();
            if !layers.contains(&row.layer) {
                layers.push(row.layer.clone());
            }
        }
        let broken = rows.iter().filter(|row| row.breaks_a_promise());
        let broken: Vec<String> = broken
            .map(|row| {
                format!(
                    "{} {} ({}): {}: {}",
                    row.lane,
                    row.layer,
                    row.verdict.name(),
                    row.tried,
                    row.stopped_by
                )
            })
            .collect();
        Self {
            level: level.name(),
            passed: broken.is_empty(),
            bites: count(Finding::Bites),
            missing: count(Finding::Missing),
            leaks: count(Finding::Leaks),
            not_tried: count(Finding::NotTried),
            missing_layers,
            broken,
        }
    }
}

/// `{"rows": […], "summary": {…}}`
pub(super) fn json(rows: &[Row], summary: &Summary) -> String {
    #[derive(Serialize)]
    struct Both<'a> {
        rows: &'a [Row],
        summary: &'a Summary,
    }
    serde_json::to_string(&Both { rows, summary }).expect("texts and numbers serialise")
}

/// The table and what follows from it.
pub(super) fn text(rows: &[Row], summary: &Summary) -> String {
    use Column::Left;
    let mut table =
        table(&[Left("LANE"), Left("LAYER"), Left("TRIED"), Left("STOPPED BY"), Left("VERDICT")]);
    for row in rows {
        table.add_row([
            Cell::new(row.lane),
            Cell::new(&row.layer),
            Cell::new(&row.tried),
            Cell::new(&row.stopped_by),
            row.verdict.cell(),
        ]);
    }
    let mut text = table_text(&table);
    let Summary { level, bites, missing, leaks, not_tried, .. } = summary;
    let _to_memory = writeln!(
        text,
        "\nisolation {level}: {bites} attacks stopped, {missing} on layers that are missing, \
         {leaks} not stopped, {not_tried} not tried"
    );
    for (lane, layers) in &summary.missing_layers {
        let _to_memory = writeln!(text, "missing in lane {lane}: {}", layers.join(", "));
    }
    for promise in &summary.broken {
        let _to_memory = writeln!(text, "BROKEN PROMISE: {promise}");
    }
    if summary.passed {
        text.push_str("all that is promised bites\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdict: Finding, promised: bool) -> Row {
        Row {
            lane: "js",
            layer: "landlock".into(),
            tried: "open".into(),
            stopped_by: "EACCES".into(),
            verdict,
            promised,
        }
    }

    #[test]
    fn only_a_promise_that_does_not_bite_fails() {
        for (verdict, promised, passes) in [
            (Finding::Bites, true, true),
            (Finding::Missing, false, true),
            (Finding::NotTried, false, true),
            (Finding::Missing, true, false),
            (Finding::NotTried, true, false),
            (Finding::Leaks, true, false),
        ] {
            let rows = [row(Finding::Bites, true), row(verdict, promised)];
            let summary = Summary::of(Level::Strict, &rows);
            assert_eq!(summary.passed, passes, "{verdict:?}, promised: {promised}");
            assert_eq!(text(&rows, &summary).contains("BROKEN PROMISE"), !passes);
        }
    }

    #[test]
    fn the_json_has_the_names_that_are_documented() {
        let rows = [row(Finding::NotTried, false)];
        let shown: serde_json::Value =
            serde_json::from_str(&json(&rows, &Summary::of(Level::Off, &rows)))
                .expect("it is JSON");
        assert_eq!(shown["rows"][0]["verdict"], "not-tried");
        assert_eq!(shown["rows"][0]["stoppedBy"], "EACCES");
        assert_eq!(shown["summary"]["notTried"], 1);
        assert_eq!(shown["summary"]["passed"], true);
    }
}
