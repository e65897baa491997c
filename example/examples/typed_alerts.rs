//! Alerts from typed records: the JSON of a record says what kind of event it is, and each kind is
//! a variant of an enum. Strong earthquakes are logged and counted. Data that is no such JSON is
//! skipped, logged and counted.

use serde::Deserialize;
use streambot_runtime::{Error, Json, Undecodable, each, metrics, run};

/// A magnitude from which an earthquake is felt by many and may do damage.
const ALERT_MAGNITUDE: f64 = 4.5;

/// An event of the USGS feed, by its `type`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event {
    Earthquake {
        id: String,
        /// Unknown for a few events.
        mag: Option<f64>,
        place: String,
        /// 1 where a tsunami may follow.
        tsunami: u8,
    },
    Explosion {
        place: String,
    },
    /// A kind this service has no use for; a new one must not stop the stream.
    #[serde(other)]
    Other,
}

fn main() -> Result<(), Error> {
    // Failing on a record that nobody can read would hold up every alert behind it.
    run(async || Ok(each(alert).on_undecodable(Undecodable::Skip)))
}

async fn alert(Json(event): Json<Event>) -> Result<(), Error> {
    match event {
        Event::Earthquake { id, mag: Some(magnitude), place, tsunami }
            if magnitude >= ALERT_MAGNITUDE =>
        {
            tracing::info!(id, magnitude, place, "alert");
            metrics::count("Alerts", 1);
            metrics::count("TsunamiAlerts", tsunami.into());
        }
        Event::Explosion { place } => tracing::info!(place, "explosion"),
        Event::Earthquake { .. } | Event::Other => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use streambot_runtime::testing::{invoke, records};

    use super::*;

    #[tokio::test]
    async fn strong_earthquakes_are_alerts_and_what_is_no_event_is_skipped() {
        let event = records([
            r#"{"type":"earthquake","id":"us1","mag":5.3,"place":"Indonesia","tsunami":1}"#,
            r#"{"type":"earthquake","id":"uw1","mag":0.3,"place":"Washington","tsunami":0}"#,
            r#"{"type":"earthquake","id":"uw2","mag":null,"place":"Washington","tsunami":0}"#,
            r#"{"type":"ice quake"}"#,
            r#"{"type":"earthquake","mag":9.1}"#,
            "no JSON",
            r#"{"type":"explosion","place":"Utah"}"#,
        ]);
        let answer = invoke(&each(alert).on_undecodable(Undecodable::Skip), event).await;
        assert!(answer.succeeded(), "{}", answer.logs());
        let metrics =
            ["Alerts", "TsunamiAlerts", "UndecodableRecords"].map(|name| answer.metric(name));
        assert_eq!(metrics, [Some(1.0), Some(1.0), Some(2.0)]);
        assert!(answer.logs().contains("Utah"), "{}", answer.logs());
    }
}
