//! What may differ from one machine to the next: the layers of confinement that it lacks, and how
//! many users it knows.
//!
//! The page shows one machine's. Another machine's are put in their place before the texts are
//! compared: from what `poolctl status --json` answers there, and from its own `/etc/passwd`. So
//! the wording is held on every machine, and the list of layers must be the same in the log, in a
//! receipt and in the status.

use pool_protocol::layer::Layer;
use regex::Regex;
use serde_json::Value;

/// Control groups that a page is recorded in say something about the machine that nobody needs to
/// know.
const GROUP: &str = r"/sys/fs/cgroup/[^ ]*";

/// The page's text as it reads on the machine whose status this is. `lane` is the lane of the task
/// that the text is about.
#[must_use]
pub fn here(page: &str, lane: &str, status: &Value) -> String {
    let warning = Regex::new(r#"WARN workers lack layers of confinement: .* lane="(js|io)""#)
        .expect("written here");
    let text =
        warning.replace_all(page, |found: &regex::Captures<'_>| said_at_start(&found[1], status));
    let receipt = Regex::new(r#","missingLayers":\[[^\]]*\]"#).expect("written here");
    let names: Vec<&str> = missing(lane, status).into_iter().map(|(name, _)| name).collect();
    let named = if names.is_empty() {
        String::new()
    } else {
        format!(",\"missingLayers\":{}", serde_json::to_string(&names).expect("strings"))
    };
    let text = receipt.replace_all(&text, named.as_str());
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default().matches('\n').count();
    Regex::new(r"\b\d+ /etc/passwd")
        .expect("written here")
        .replace_all(&text, format!("{users} /etc/passwd"))
        .into_owned()
}

/// The page is recorded on some machine; which one is nobody's business.
#[must_use]
pub fn nowhere(output: &str) -> String {
    Regex::new(GROUP).expect("written here").replace_all(output, "/sys/fs/cgroup/…/").into_owned()
}

fn said_at_start(lane: &str, status: &Value) -> String {
    let missing = missing(lane, status);
    if missing.is_empty() {
        return format!("INFO workers are confined by every layer there is lane=\"{lane}\"");
    }
    let each: Vec<String> = missing.iter().map(|(name, why)| format!("{name} ({why})")).collect();
    format!("WARN workers lack layers of confinement: {} lane=\"{lane}\"", each.join(", "))
}

/// Layers with the reason for each, in the order in which the pool names layers.
fn missing<'a>(lane: &str, status: &'a Value) -> Vec<(&'static str, &'a str)> {
    let named = &status["isolation"]["lanes"][lane]["missing"];
    Layer::ALL
        .iter()
        .filter_map(|layer| Some((layer.name(), named[layer.name()].as_str()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PAGE: &str = "WARN workers lack layers of confinement: cgroup (no) \
        lane=\"js\"\n{\"x\":1,\"missingLayers\":[\"cgroup\"]}\n";

    #[test]
    fn another_machines_layers_are_put_in_place_of_the_pages() {
        let status = json!({
            "isolation": {"lanes": {"js": {"missing": {"seccomp": "old", "landlock": "off"}}}},
        });
        let expected = "WARN workers lack layers of confinement: landlock (off), seccomp (old) \
            lane=\"js\"\n\
            {\"x\":1,\"missingLayers\":[\"landlock\",\"seccomp\"]}\n";
        assert_eq!(here(PAGE, "js", &status), expected);
    }

    #[test]
    fn a_machine_that_lacks_nothing_says_so() {
        let status = json!({"isolation": {"lanes": {"js": {"missing": {}}}}});
        let expected = "INFO workers are confined by every layer there is lane=\"js\"\n{\"x\":1}\n";
        assert_eq!(here(PAGE, "js", &status), expected);
    }

    #[test]
    fn a_recording_does_not_say_where_it_was_made() {
        let output =
            "cgroup (none was delegated: /sys/fs/cgroup/a.slice/b.scope/ is not its own to write)";
        assert_eq!(
            nowhere(output),
            "cgroup (none was delegated: /sys/fs/cgroup/…/ is not its own to write)"
        );
    }
}
