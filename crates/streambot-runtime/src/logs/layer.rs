//! The layer that writes one line for each event, as text or as JSON.
//!
//! A JSON line has Lambda's own names first: `timestamp`, `level`, `message`, `target`, `requestId`
//! and `xrayTraceId`. The fields of the event follow, then those of the spans around it, from the
//! inner to the outer. Each name occurs once: an event's field wins over a span's, and an inner
//! span's over an outer span's. A field that has one of Lambda's own names is written as
//! `fields.<name>`, such as `fields.level`.
//!
//! A text line has the same parts, and the spans are before the target:
//! `invocation{requestId="…"}: span{key=value}: target: message key=value`.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::SystemTime;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Span, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::LookupSpan;

use super::escape::{TextWriter, json_string};
use super::fields::Fields;
use super::timestamp::rfc3339;
use crate::context::Context;
use crate::scope;

/// The target of events that end the process; their level is `FATAL`.
pub(crate) const FATAL: &str = "streambot_runtime::fatal";

/// Names that only Streambot writes in a JSON line.
const RESERVED: [&str; 8] =
    ["timestamp", "level", "message", "target", "requestId", "xrayTraceId", "span", "_aws"];

/// The span of an invocation. At level `ERROR`, so that no filter that lets a line pass removes it.
pub(crate) fn invocation_span(context: &Context) -> Span {
    tracing::error_span!(
        "invocation",
        requestId = context.request_id(),
        xrayTraceId = context.xray_trace_id()
    )
}

/// Writes a line for each event to `sink`.
#[derive(Debug)]
pub(super) struct Lines<F> {
    pub(super) json: bool,
    pub(super) sink: F,
}

/// What a line says about the invocation and the spans of an event.
#[derive(Debug, Default)]
struct Origin {
    /// Both are escaped as the line's format needs it.
    request_id: Option<String>,
    xray_trace_id: Option<String>,
    /// The user's spans, from the inner to the outer.
    spans: Vec<(&'static str, Vec<(&'static str, String)>)>,
}

impl<F, S> Layer<S> for Lines<F>
where
    F: Fn(&str) + 'static,
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let mut fields = Fields::new(self.json);
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: LayerContext<'_, S>) {
        // The values are formatted first: their code may use the span, too.
        let mut added = Fields::new(self.json);
        values.record(&mut added);
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            fields.merge(added);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        let mut fields = Fields::new(self.json);
        event.record(&mut fields);
        let origin = self.origin(event, &context);
        let of_log = event.normalized_metadata();
        let metadata = of_log.as_ref().unwrap_or_else(|| event.metadata());
        let mut line = String::with_capacity(256);
        if self.json {
            write_json(&mut line, metadata, &fields, &origin);
        } else {
            write_text(&mut line, metadata, &fields, &origin);
        }
        line.push('\n');
        (self.sink)(&line);
    }
}

impl<F> Lines<F> {
    fn origin<S>(&self, event: &Event<'_>, context: &LayerContext<'_, S>) -> Origin
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut origin = Origin::default();
        for span in context.event_scope(event).into_iter().flatten() {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<Fields>() else { continue };
            if !is_of_lambda(span.metadata()) {
                let message = fields.message.iter().map(|message| ("message", message.clone()));
                origin
                    .spans
                    .push((span.name(), message.chain(fields.values.iter().cloned()).collect()));
            } else if origin.request_id.is_none() {
                origin.request_id = fields.get("requestId").map(str::to_owned);
                origin.xray_trace_id = fields.get("xrayTraceId").map(str::to_owned);
            }
        }
        // An event of a spawned task or of another thread is in no span.
        if origin.request_id.is_none()
            && let Some(scope) = scope::current()
        {
            origin.request_id = Some(self.quoted(scope.request_id()));
            origin.xray_trace_id = scope.xray_trace_id().map(|id| self.quoted(id));
        }
        origin
    }

    fn quoted(&self, id: &str) -> String {
        let mut text = String::with_capacity(id.len() + 2);
        if self.json {
            json_string(&mut text, id);
        } else {
            let _ = write!(TextWriter(&mut text), "{id:?}");
        }
        text
    }
}

/// Whether a span is the invocation's, of Streambot or of `lambda_runtime` around it.
fn is_of_lambda(span: &Metadata<'_>) -> bool {
    matches!(span.name(), "invocation" | "Lambda runtime invoke")
        && ["streambot_runtime", "lambda_runtime"]
            .iter()
            .any(|name| span.target().starts_with(name))
}

fn level(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        Level::ERROR if metadata.target() == FATAL => "FATAL",
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

fn write_json(line: &mut String, metadata: &Metadata<'_>, fields: &Fields, origin: &Origin) {
    line.push_str("{\"timestamp\":\"");
    line.push_str(&rfc3339(SystemTime::now()));
    line.push_str("\",\"level\":\"");
    line.push_str(level(metadata));
    line.push_str("\",\"message\":");
    line.push_str(fields.message.as_deref().unwrap_or("\"\""));
    line.push_str(",\"target\":");
    json_string(line, metadata.target());
    for (key, id) in [("requestId", &origin.request_id), ("xrayTraceId", &origin.xray_trace_id)] {
        if let Some(id) = id {
            let _ = write!(line, ",\"{key}\":{id}");
        }
    }
    if let Some((span, _)) = origin.spans.first() {
        line.push_str(",\"span\":");
        json_string(line, span);
    }
    let of_spans = origin.spans.iter().flat_map(|(_, values)| values);
    let mut written: Vec<Cow<'static, str>> = Vec::new();
    for (name, value) in fields.values.iter().chain(of_spans) {
        let reserved = RESERVED.contains(name);
        let key =
            if reserved { Cow::Owned(format!("fields.{name}")) } else { Cow::Borrowed(*name) };
        // Events have few fields, so that a search is quicker than a set.
        if !written.contains(&key) {
            line.push(',');
            json_string(line, &key);
            line.push(':');
            line.push_str(value);
            written.push(key);
        }
    }
    line.push('}');
}

fn write_text(line: &mut String, metadata: &Metadata<'_>, fields: &Fields, origin: &Origin) {
    line.push_str(&rfc3339(SystemTime::now()));
    let _ = write!(line, " {:>5} ", level(metadata));
    if let Some(id) = &origin.request_id {
        let _ = write!(line, "invocation{{requestId={id}}}: ");
    }
    for (name, values) in origin.spans.iter().rev() {
        let _ = write!(TextWriter(line), "{name}");
        if !values.is_empty() {
            line.push('{');
            write_values(line, values);
            line.push('}');
        }
        line.push_str(": ");
    }
    let _ = write!(TextWriter(line), "{}: ", metadata.target());
    if let Some(message) = &fields.message {
        line.push_str(message);
        if !fields.values.is_empty() {
            line.push(' ');
        }
    }
    write_values(line, &fields.values);
}

fn write_values(line: &mut String, values: &[(&'static str, String)]) {
    for (index, (name, value)) in values.iter().enumerate() {
        let separator = if index == 0 { "" } else { " " };
        let _ = write!(TextWriter(line), "{separator}{name}=");
        line.push_str(value);
    }
}

#[cfg(test)]
mod tests;
