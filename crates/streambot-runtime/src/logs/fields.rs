//! The fields of an event or a span, each with its value as the line shows it.

use std::error::Error;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};

use super::escape::{TextWriter, json_string};

/// The fields in their order, and the message apart from them.
#[derive(Debug)]
pub(super) struct Fields {
    json: bool,
    pub(super) message: Option<String>,
    pub(super) values: Vec<(&'static str, String)>,
}

impl Fields {
    pub(super) fn new(json: bool) -> Self {
        Self { json, message: None, values: Vec::new() }
    }

    /// The value of a field, as the line shows it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
    }

    /// Takes the fields of another; a later value of a field replaces the earlier one.
    pub(super) fn merge(&mut self, later: Self) {
        self.message = later.message.or(self.message.take());
        for (name, value) in later.values {
            self.put(name, value);
        }
    }

    fn put(&mut self, name: &'static str, value: String) {
        match self.values.iter_mut().find(|(field, _)| *field == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name, value)),
        }
    }

    fn set(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = Some(value),
            // What `tracing-log` adds about the place of a record of `log`.
            "log.target" | "log.module_path" | "log.file" | "log.line" => {}
            name => self.put(name, value),
        }
    }

    fn set_plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.set(field, value.to_string());
    }

    fn set_number(&mut self, field: &Field, value: f64) {
        if self.json && !value.is_finite() {
            self.set(field, format!("\"{value}\""));
        } else {
            self.set(field, format!("{value:?}"));
        }
    }

    fn set_formatted(&mut self, field: &Field, value: impl fmt::Display) {
        let mut text = String::new();
        if self.json {
            json_string(&mut text, value);
        } else {
            // An implementation of `Display` may fail: what it wrote until then is logged.
            let _ = write!(TextWriter(&mut text), "{value}");
        }
        self.set(field, text);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set_number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set_plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set_plain(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.set_plain(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.set_plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set_plain(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.json || field.name() == "message" {
            self.set_formatted(field, value);
        } else {
            self.set_formatted(field, format_args!("{value:?}"));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set_formatted(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_formatted(field, format_args!("{value:?}"));
    }
}
