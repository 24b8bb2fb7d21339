//! The names, their documentation and the counts.

use super::*;

#[test]
fn every_metric_and_no_other_is_documented() {
    let metrics = Metrics::new("0");
    assert!(!metrics.render().contains("members_cut_off"), "nobody has said");
    metrics.set_members_cut_off(0);
    let rendered = metrics.render();
    let exported: Vec<(&str, &str)> = rendered
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .collect();
    let docs = include_str!("../../../docs/metrics.md");
    let documented: Vec<(&str, &str)> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `rescind_"))
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim);
            Some((cells.next()?.trim_end_matches('`'), cells.next()?))
        })
        .collect();
    let named: Vec<(String, &str)> = exported
        .iter()
        .map(|(name, kind)| {
            let suffix = match *kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            (format!("{}{suffix}", name.trim_start_matches("rescind_")), *kind)
        })
        .collect();
    let named: Vec<(&str, &str)> = named.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    assert_eq!(named, documented);
}

#[test]
fn an_explanation_is_one_sentence_with_one_full_stop() {
    let rendered = Metrics::new("0").render();
    let helps: Vec<&str> = rendered.lines().filter(|line| line.starts_with("# HELP ")).collect();
    assert!(helps.len() > 20 && helps.iter().all(|help| help.ends_with('.') && !help.ends_with("..")), "{helps:#?}");
}

#[test]
fn every_cause_has_its_own_count_from_the_start() {
    let metrics = Metrics::new("0");
    for (index, cause) in Cause::ALL.into_iter().enumerate() {
        (0..=index).for_each(|_| metrics.count_unknown(cause));
    }
    metrics.count_revoked();
    let text = metrics.render();
    for line in [
        "rescind_checks_total{verdict=\"unknown\",cause=\"NEVER_SYNCED\"} 1",
        "rescind_checks_total{verdict=\"unknown\",cause=\"BEYOND_HORIZON\"} 8",
        "rescind_checks_total{verdict=\"revoked\",cause=\"\"} 1",
        "rescind_checks_total{verdict=\"not_revoked\",cause=\"\"} 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_write_is_counted_with_its_outcome_and_time() {
    let metrics = Metrics::new("0");
    metrics.count_write(WriteOutcome::Accepted, Duration::from_millis(1));
    let text = metrics.render();
    assert!(text.contains("rescind_write_requests_total{outcome=\"accepted\"} 1"), "{text}");
    assert!(text.contains("rescind_write_seconds_count 1"), "{text}");
}
