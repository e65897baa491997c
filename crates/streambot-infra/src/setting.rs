//! One setting of Streambot: left a parameter of the template, or given in code. It decides what
//! else in the template depends on that, and knows no resource.

use serde_json::Value as Json;

use crate::template::{Condition, Resource};
use crate::value::{Value, if_, no_value, reference};

/// A setting that is a parameter of the template until a value is given for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting<T> {
    parameter: String,
    given: Option<Value<T>>,
}

impl<T: Clone> Setting<T> {
    pub(crate) fn parameter(parameter: String) -> Self {
        Self { parameter, given: None }
    }

    pub(crate) fn give(&mut self, value: impl Into<Value<T>>) {
        self.given = Some(value.into());
    }

    /// The parameter's name, while it is one.
    pub(crate) fn as_parameter(&self) -> Option<&str> {
        self.given.is_none().then_some(self.parameter.as_str())
    }

    /// What to write where the setting's value goes.
    pub(crate) fn value(&self) -> Value<T> {
        self.given.clone().unwrap_or_else(|| reference(&self.parameter).into())
    }
}

impl Setting<String> {
    /// When there is a value: for a parameter, the stack finds out by a condition of this name.
    pub(crate) fn present(&self, condition: String) -> Presence {
        match &self.given {
            None => Presence::When(condition, Condition::not_empty(&self.parameter)),
            Some(Value::Literal(text)) if text.is_empty() => Presence::Never,
            Some(_) => Presence::Always,
        }
    }

    /// When there is none: the opposite of [`present`](Self::present).
    pub(crate) fn absent(&self, condition: String) -> Presence {
        match self.present(String::new()) {
            Presence::Always => Presence::Never,
            Presence::Never => Presence::Always,
            Presence::When(..) => Presence::When(condition, Condition::empty(&self.parameter)),
        }
    }
}

impl Setting<u32> {
    /// When there is a number other than 0, which stands for "leave it as it is".
    pub(crate) fn set(&self, condition: String) -> Presence {
        match &self.given {
            None => Presence::When(condition, !Condition::equals(reference(&self.parameter), "0")),
            Some(Value::Literal(0)) => Presence::Never,
            Some(_) => Presence::Always,
        }
    }
}

/// One of a few values that a setting can have.
pub(crate) trait Choice: Clone + PartialEq {
    /// How a parameter writes it.
    fn text(&self) -> &'static str;
}

impl Choice for bool {
    fn text(&self) -> &'static str {
        if *self { "true" } else { "false" }
    }
}

impl<T: Choice> Setting<T> {
    /// When the setting is `choice`: what is not a literal is for the stack to find out, by a
    /// condition of this name.
    pub(crate) fn is(&self, choice: &T, condition: String) -> Presence {
        match &self.given {
            None => Presence::When(
                condition,
                Condition::equals(reference(&self.parameter), choice.text()),
            ),
            Some(Value::Intrinsic(given)) => {
                Presence::When(condition, Condition::equals(given.clone(), choice.text()))
            }
            Some(Value::Literal(given)) if given == choice => Presence::Always,
            Some(Value::Literal(_)) => Presence::Never,
        }
    }

    /// When the setting is anything but `choice`: the opposite of [`is`](Self::is).
    pub(crate) fn is_not(&self, choice: &T, condition: String) -> Presence {
        match self.is(choice, condition) {
            Presence::Always => Presence::Never,
            Presence::Never => Presence::Always,
            Presence::When(name, condition) => Presence::When(name, !condition),
        }
    }
}

/// When a part of the template is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Presence {
    Always,
    Never,
    /// Where the condition of this name holds.
    When(String, Condition),
}

impl Presence {
    /// The condition to add to the template, where one is needed.
    pub(crate) fn condition(&self) -> Option<(String, Condition)> {
        match self {
            Presence::Always | Presence::Never => None,
            Presence::When(name, condition) => Some((name.clone(), condition.clone())),
        }
    }

    /// The one value or the other; both, and `Fn::If`, where only the stack can tell.
    pub(crate) fn choose<T: Into<Json>>(
        &self,
        present: impl Into<Value<T>>,
        absent: impl Into<Value<T>>,
    ) -> Value<T> {
        match self {
            Presence::Always => present.into(),
            Presence::Never => absent.into(),
            Presence::When(condition, _) => if_(condition, present.into(), absent.into()).into(),
        }
    }

    /// One piece of a list or one property, which is left out where it is not wanted.
    pub(crate) fn piece(&self, piece: impl Into<Json>) -> Option<Json> {
        match self {
            Presence::Never => None,
            Presence::Always => Some(piece.into()),
            Presence::When(condition, _) => Some(if_(condition, piece, no_value()).into()),
        }
    }

    /// The resource, tied to the condition where there is one.
    pub(crate) fn resource(&self, resource: Resource) -> Option<Resource> {
        match self {
            Presence::Always => Some(resource),
            Presence::Never => None,
            Presence::When(condition, _) => Some(resource.condition(condition)),
        }
    }
}
