//! One setting of Streambot: left a parameter of the template, or given in code. It decides what else in the template
//! depends on that, and knows no resource.

use serde_json::Value as Json;

use crate::template::{Condition, Resource};
use crate::value::{Value, if_, reference};

/// A setting that is a parameter of the template until a value is given for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting<T> {
    parameter: &'static str,
    given: Option<Value<T>>,
}

impl<T: Clone> Setting<T> {
    pub(crate) fn parameter(parameter: &'static str) -> Self {
        Self { parameter, given: None }
    }

    pub(crate) fn give(&mut self, value: impl Into<Value<T>>) {
        self.given = Some(value.into());
    }

    /// The parameter's name, while it is one.
    pub(crate) fn as_parameter(&self) -> Option<&'static str> {
        self.given.is_none().then_some(self.parameter)
    }

    /// What to write where the setting's value goes.
    pub(crate) fn value(&self) -> Value<T> {
        self.given.clone().unwrap_or_else(|| reference(self.parameter).into())
    }
}

impl Setting<String> {
    /// When there is a value: for a parameter, the stack finds out by a condition of this name.
    pub(crate) fn present(&self, condition: &'static str) -> Presence {
        match &self.given {
            None => Presence::When(condition, Condition::not_empty(self.parameter)),
            Some(Value::Literal(text)) if text.is_empty() => Presence::Never,
            Some(_) => Presence::Always,
        }
    }

    /// When there is none: the opposite of [`present`](Self::present).
    pub(crate) fn absent(&self, condition: &'static str) -> Presence {
        match self.present(condition) {
            Presence::Always => Presence::Never,
            Presence::Never => Presence::Always,
            Presence::When(..) => Presence::When(condition, Condition::empty(self.parameter)),
        }
    }
}

/// When a part of the template is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Presence {
    Always,
    Never,
    /// Where the condition of this name holds.
    When(&'static str, Condition),
}

impl Presence {
    /// The condition to add to the template, where one is needed.
    pub(crate) fn condition(&self) -> Option<(&'static str, Condition)> {
        match self {
            Presence::Always | Presence::Never => None,
            Presence::When(name, condition) => Some((name, condition.clone())),
        }
    }

    /// The one value or the other; both, and `Fn::If`, where only the stack can tell.
    pub(crate) fn choose<T: Into<Json>>(&self, present: impl Into<Value<T>>, absent: impl Into<Value<T>>) -> Value<T> {
        match self {
            Presence::Always => present.into(),
            Presence::Never => absent.into(),
            Presence::When(condition, _) => if_(*condition, present.into(), absent.into()).into(),
        }
    }

    /// The resource, tied to the condition where there is one.
    pub(crate) fn resource(&self, resource: Resource) -> Option<Resource> {
        match self {
            Presence::Always => Some(resource),
            Presence::Never => None,
            Presence::When(condition, _) => Some(resource.condition(*condition)),
        }
    }
}
