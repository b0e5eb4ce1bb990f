//! Tables and figures as people read them.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::output;

/// A column's heading and the side its values lean to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// A table without lines, as wide as its words: it can be cut by `awk` and compared by `diff`.
pub(super) fn table(columns: &[Column]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if output::colours() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(columns.iter().map(|column| match column {
        Column::Left(name) => Cell::new(name).add_attribute(Attribute::Bold),
        Column::Right(name) => {
            Cell::new(name).add_attribute(Attribute::Bold).set_alignment(CellAlignment::Right)
        }
    }));
    for (index, column) in columns.iter().enumerate() {
        let drawn = table.column_mut(index).expect("the header made it");
        drawn.set_padding((0, 2));
        if matches!(column, Column::Right(_)) {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A table's text, without blanks at the line ends.
pub(super) fn text(table: &Table) -> String {
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// What a task, a client or a process has said.
pub(super) fn word(text: &str) -> Cell {
    Cell::new(output::foreign(text))
}

/// A state, coloured by how much it should worry the reader.
pub(super) fn state(name: &str) -> Cell {
    let colour = match name {
        "idle" | "running" | "succeeded" => Color::Green,
        "busy" | "spawning" | "queued" | "delayed" => Color::Cyan,
        "stopping" | "draining" | "retrying" | "cancelled" => Color::Yellow,
        "degraded" | "failed" | "timed-out" | "rejected" => Color::Red,
        _ => return Cell::new(name),
    };
    Cell::new(name).fg(colour)
}

/// Bytes with the unit that suits them: `72.4 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Seconds in the two largest units: `3m12s`, `2d4h`; below a minute with a digit: `4.2s`.
pub(super) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes, rest) =
        (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{:.1}s", seconds.max(0.0)),
        (0, 0, minutes) => format!("{minutes}m{rest:02}s"),
        (0, hours, minutes) => format!("{hours}h{minutes:02}m"),
        (days, hours, _) => format!("{days}d{hours:02}h"),
    }
}

/// Milliseconds as they suit: `0.42 ms`, `13 ms`, `4.2s`.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => span(ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_carry_the_unit_that_suits_them() {
        assert_eq!([0, 1023, 1024, 72 << 20].map(size), ["0 B", "1023 B", "1.0 KiB", "72.0 MiB"]);
        assert_eq!(
            [0.0, 59.94, 61.0, 3700.0, 200_000.0].map(span),
            ["0.0s", "59.9s", "1m01s", "1h01m", "2d07h"]
        );
        assert_eq!([0.4211, 13.2, 4200.0].map(millis), ["0.42 ms", "13 ms", "4.2s"]);
    }

    #[test]
    fn a_table_in_a_pipe_is_plain_text() {
        let mut table = table(&[Column::Left("WORKER"), Column::Right("TASKS")]);
        table.add_row([Cell::new("w0.1"), Cell::new("12")]);
        table.add_row([state("degraded"), Cell::new("3")]);
        assert_eq!(text(&table), "WORKER    TASKS\nw0.1         12\ndegraded      3\n");
    }
}
