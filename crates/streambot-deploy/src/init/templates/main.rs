//! Alerts for strong earthquakes: each record of the stream is one earthquake, and the strong ones
//! are logged and counted.

use streambot_runtime::{Error, Json, each, metrics, run};

/// A magnitude from which an earthquake is felt by many and may do damage.
const ALERT_MAGNITUDE: f64 = 4.5;

/// A record's data, in JSON. What the service does not use is left out.
#[derive(Debug, serde::Deserialize)]
struct Quake {
    id: String,
    mag: f64,
    place: String,
}

fn main() -> Result<(), Error> {
    // The closure runs once, before the first batch: build clients here.
    run(async || Ok(each(alert).concurrency(16)))
}

async fn alert(quake: Json<Quake>) -> Result<(), Error> {
    if quake.mag >= ALERT_MAGNITUDE {
        tracing::info!(
            id = quake.id,
            magnitude = quake.mag,
            place = quake.place,
            "alert"
        );
        metrics::count("Alerts", 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use streambot_runtime::testing::{invoke, records};

    use super::*;

    #[tokio::test]
    async fn strong_earthquakes_are_alerts() {
        let event = records([
            r#"{"id":"weak","mag":1.3,"place":"Montana"}"#,
            r#"{"id":"strong","mag":5.3,"place":"Indonesia"}"#,
        ]);
        let answer = invoke(&each(alert), &event).await;
        assert!(answer.succeeded());
        assert_eq!(answer.metric("Alerts"), Some(1.0));
        assert!(answer.logs().contains("Indonesia"));
    }

    #[tokio::test]
    async fn lambda_delivers_again_from_a_record_that_is_no_earthquake() {
        let event = records([r#"{"id":"weak","mag":1.3,"place":"Montana"}"#, "no JSON"]);
        let answer = invoke(&each(alert), &event).await;
        assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
    }

    #[tokio::test]
    async fn the_sample_records_succeed() {
        let event = records(include_str!("../records.ndjson").lines());
        let answer = invoke(&each(alert), &event).await;
        assert!(answer.succeeded(), "{}", answer.logs());
    }
}
