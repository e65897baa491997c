//! CloudWatch's calls as moto takes them: the SDK speaks RPC v2 in CBOR, and moto knows the
//! service's JSON protocol only. Names and values are the same in both; times are tagged in one and
//! plain numbers in the other.

use anyhow::{Context as _, Result};
use ciborium::Value as Cbor;
use hyper::body::Bytes;
use hyper::{Request, Response};
use serde_json::Value as Json;

/// Where the SDK sends an operation's call.
const PATH: &str = "/service/GraniteServiceVersion20100801/operation/";
/// CBOR's tag of a time in seconds since 1970.
const EPOCH: u64 = 1;

/// Whether this is a call in RPC v2.
pub(super) fn is_rpc(request: &Request<Bytes>) -> bool {
    request.uri().path().starts_with(PATH)
}

/// The same call in JSON.
pub(super) fn request(request: &Request<Bytes>) -> Result<Request<Bytes>> {
    let operation = request.uri().path().trim_start_matches(PATH);
    let body: Cbor = ciborium::from_reader(request.body().as_ref()).context("the call is CBOR")?;
    let mut asked = Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("GraniteServiceVersion20100801.{operation}"));
    for kept in ["host", "authorization", "x-amz-date"] {
        if let Some(value) = request.headers().get(kept) {
            asked = asked.header(kept, value);
        }
    }
    Ok(asked.body(to_json(body).to_string().into())?)
}

/// The answer in CBOR.
pub(super) fn answer(answer: Response<Bytes>) -> Result<Response<Bytes>> {
    let (parts, body) = answer.into_parts();
    let body: Json = if body.is_empty() {
        Json::Object(Default::default())
    } else {
        serde_json::from_slice(&body)?
    };
    let mut bytes = Vec::new();
    ciborium::into_writer(&to_cbor("", body), &mut bytes)?;
    let answer =
        Response::builder().status(parts.status).header("content-type", "application/cbor");
    Ok(answer.header("smithy-protocol", "rpc-v2-cbor").body(bytes.into())?)
}

fn to_json(value: Cbor) -> Json {
    match value {
        Cbor::Integer(number) => i64::try_from(number).map_or(Json::Null, Json::from),
        Cbor::Float(number) => Json::from(number),
        Cbor::Text(text) => Json::from(text),
        Cbor::Bool(is) => Json::from(is),
        Cbor::Tag(_, inner) => to_json(*inner),
        Cbor::Array(values) => values.into_iter().map(to_json).collect(),
        Cbor::Map(entries) => entries
            .into_iter()
            .filter_map(|(key, value)| Some((key.into_text().ok()?, to_json(value))))
            .collect(),
        _ => Json::Null,
    }
}

/// `name` tells what a number is.
fn to_cbor(name: &str, value: Json) -> Cbor {
    match value {
        Json::Number(number) if is_time(name) => {
            Cbor::Tag(EPOCH, Box::new(Cbor::Float(number.as_f64().unwrap_or_default())))
        }
        Json::String(text) if is_time(name) => {
            let time = text.parse::<jiff::Timestamp>().unwrap_or_default();
            Cbor::Tag(EPOCH, Box::new(Cbor::Integer(time.as_second().into())))
        }
        Json::Number(number) => match number.as_i64() {
            Some(number) if !is_measure(name) => Cbor::Integer(number.into()),
            _ => Cbor::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Cbor::Text(text),
        Json::Bool(is) => Cbor::Bool(is),
        Json::Null => Cbor::Null,
        Json::Array(values) => {
            Cbor::Array(values.into_iter().map(|value| to_cbor(name, value)).collect())
        }
        Json::Object(entries) => {
            let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
            Cbor::Map(
                entries
                    .map(|(key, value)| (Cbor::Text(key.clone()), to_cbor(&key, value)))
                    .collect(),
            )
        }
    }
}

fn is_time(name: &str) -> bool {
    name == "Timestamps" || name.ends_with("Timestamp")
}

/// What is a fraction even where it is whole.
fn is_measure(name: &str) -> bool {
    matches!(
        name,
        "Values"
            | "Threshold"
            | "Average"
            | "Sum"
            | "Minimum"
            | "Maximum"
            | "SampleCount"
            | "Value"
    )
}
