//! What the authority keeps.

use crate::history::{AUTHORITY, Event, History, Point};
use crate::validators::unheard_of;

/// What was acknowledged is in the journal, and in force after every restart.
pub fn durable(history: &History) -> Result<(), String> {
    let (mut furthest, mut recovered) = (Point::default(), false);
    for record in history.of(AUTHORITY) {
        match &record.event {
            Event::Acknowledged(answer) => {
                let kept = history.revised(answer.at);
                if !kept.is_some_and(|revised| revised.requests.contains(&answer.request)) {
                    return Err(format!("request {} is not in {:?}", answer.request, answer.at));
                }
                furthest = furthest.max(answer.at);
            }
            Event::Recovered => recovered = true,
            Event::Observed(seen) if std::mem::take(&mut recovered) => {
                if seen.at < furthest {
                    return Err(format!("recovered to {:?}, but {furthest:?} was acknowledged", seen.at));
                }
                let Some(revised) = history.revised(seen.at) else { return Err(unheard_of(record, seen)) };
                let lost: Vec<_> = revised.revoked.difference(&seen.revoked).collect();
                if !lost.is_empty() {
                    return Err(format!("after the restart at {:?} {lost:?} are not in force", record.at));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What subscribers hold of an earlier epoch and a restored authority lacks is counted, all of it.
pub fn history_lost(history: &History) -> Result<(), String> {
    for record in &history.events {
        if let Event::HistoryLost { counted, told } = record.event
            && counted != told
        {
            return Err(format!("at {:?}: {counted} revisions are counted as lost, {told} were held", record.at));
        }
    }
    Ok(())
}
