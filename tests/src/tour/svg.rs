//! The recording: a terminal in which the tour's first commands are typed and answered, as one SVG
//! file.
//!
//! It is drawn from the page's own steps, which a test holds against what the programs print.
//! Everything is visible without animation, too: a reader who wants no motion, and a viewer that
//! has none, see the last picture. No font and no script is loaded, and the colours are the
//! terminal's own, so that it reads the same on a light and on a dark page.

use std::fmt::Write;

use super::Step;

/// Of the terminal; what is longer goes on in the next line, with a whole word where there is one.
const COLUMNS: usize = 100;
const CHARACTER: f64 = 7.8;
const LINE: usize = 19;
const MARGIN: usize = 16;
const TITLE: usize = 34;

const HEAD: &str = "\
<style>
text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans \
Mono\",monospace;fill:#c9d1d9;white-space:pre}
.p{fill:#7ee787}.c{fill:#fff}.e{fill:#ff7b72}
g{animation:show .01s both}
@keyframes show{from{opacity:0}to{opacity:1}}
@keyframes type{from{clip-path:inset(0 100% 0 0)}to{clip-path:inset(0 0 0 0)}}
@media(prefers-reduced-motion:reduce){g{animation:none!important}}
</style>
";

/// The file for these steps.
#[must_use]
pub fn draw(steps: &[Step]) -> String {
    let mut body = String::new();
    let (mut row, mut clock) = (0, 0.6);
    for step in steps {
        let typed = wrapped(&format!("$ {}", step.command));
        for (at, line) in typed.iter().enumerate() {
            let seconds = length(line) as f64 * 0.018;
            let timing =
                format!("animation:type {seconds:.2}s steps({}) {clock:.2}s both", length(line));
            let inner = match line.strip_prefix("$ ").filter(|_| at == 0) {
                Some(command) => {
                    format!(
                        "<tspan class=\"p\">$</tspan> <tspan class=\"c\">{}</tspan>",
                        escaped(command)
                    )
                }
                None => format!("<tspan class=\"c\">{}</tspan>", escaped(line)),
            };
            place(&mut body, row, &timing, line, &inner);
            row += 1;
            clock += seconds;
        }
        clock += 0.4;
        let printed = wrapped(&step.output);
        for line in &printed {
            place(&mut body, row, &format!("animation-delay:{clock:.2}s"), line, &answer(line));
            row += 1;
        }
        clock += 0.8 + printed.len() as f64 * 0.3;
    }
    framed(row, &body)
}

fn framed(rows: usize, body: &str) -> String {
    let width = (COLUMNS as f64 * CHARACTER).round() as usize + 2 * MARGIN;
    let height = TITLE + rows * LINE + MARGIN;
    let mut file = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"A terminal in which poolctl runs tasks; the text is that of the \
         tour in README.md\">\n{HEAD}"
    );
    let (right, below) = (width - 1, height - 1);
    let _ = writeln!(
        file,
        "<rect x=\".5\" y=\".5\" width=\"{right}\" height=\"{below}\" rx=\"8\" fill=\"#0d1117\" \
         stroke=\"#484f58\"/>"
    );
    for (at, colour) in ["#ff5f57", "#febc2e", "#28c840"].iter().enumerate() {
        let _ = writeln!(
            file,
            "<circle cx=\"{}\" cy=\"17\" r=\"5.5\" fill=\"{colour}\"/>",
            MARGIN + 6 + at * 18
        );
    }
    file + body + "</svg>\n"
}

/// One line of the terminal. Its length is given, so that it is as long in every font.
fn place(body: &mut String, row: usize, timing: &str, line: &str, inner: &str) {
    if line.is_empty() {
        return;
    }
    let (y, long) = (TITLE + row * LINE + LINE - 6, length(line) as f64 * CHARACTER);
    let _ = writeln!(
        body,
        "<g style=\"{timing}\"><text x=\"{MARGIN}\" y=\"{y}\" textLength=\"{long:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\" \
         xml:space=\"preserve\">{inner}</text></g>"
    );
}

/// An error's code stands out.
fn answer(line: &str) -> String {
    let code = line.strip_prefix("poolctl: ").and_then(|rest| rest.split_once(':'));
    match code {
        Some((code, rest)) => {
            format!("poolctl: <tspan class=\"e\">{}</tspan>:{}", escaped(code), escaped(rest))
        }
        None => escaped(line),
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut rest = line;
        while length(rest) > COLUMNS {
            let (end, _) = rest.char_indices().nth(COLUMNS).expect("it is longer");
            let cut = rest[..end].rfind(' ').filter(|at| *at > end / 2).map_or(end, |at| at + 1);
            lines.push(rest[..cut].to_owned());
            rest = &rest[cut..];
        }
        lines.push(rest.to_owned());
    }
    lines
}

fn length(line: &str) -> usize {
    line.chars().count()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_once_and_escaped() {
        let output = "1 < 2 & 3\npoolctl: TIMEOUT: late\n".to_owned();
        let step = Step { command: "x > y".to_owned(), output, lines: 0..0 };
        let drawn = draw(&[step]);
        assert_eq!(drawn.matches("<text").count(), 3, "{drawn}");
        for part in ["x &gt; y", "1 &lt; 2 &amp; 3", "<tspan class=\"e\">TIMEOUT</tspan>: late"] {
            assert!(drawn.contains(part), "{part} in {drawn}");
        }
    }

    #[test]
    fn a_long_line_goes_on_below() {
        let long = "x".repeat(2 * COLUMNS + 1);
        assert_eq!(
            wrapped(&long).iter().map(|l| length(l)).collect::<Vec<_>>(),
            [COLUMNS, COLUMNS, 1]
        );
        let words = "word ".repeat(30);
        assert_eq!(wrapped(&words), ["word ".repeat(20), "word ".repeat(10)]);
    }
}
