//! Values of a template: a literal, or an intrinsic function that CloudFormation works out when it
//! makes the stack. This module knows how each function is written down; whether its target exists
//! is for [`Template::build`] to say.
//!
//! [`Template::build`]: crate::Template::build

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

/// A `T` written down in the template, or an intrinsic function that yields one when the stack is
/// made.
///
/// Everything that takes a `Value<T>` takes a plain `T` too, and an [`Intrinsic`] in its place:
///
/// ```
/// use streambot_infra::{Value, reference};
///
/// let two: Value<u32> = 2.into();
/// let asked_for: Value<u32> = reference("NumberOfShards").into();
/// assert_eq!(serde_json::to_string(&two)?, "2");
/// assert_eq!(serde_json::to_string(&asked_for)?, r#"{"Ref":"NumberOfShards"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value<T> {
    /// Written down as it is.
    Literal(T),
    /// Worked out by CloudFormation.
    Intrinsic(Intrinsic),
}

/// A CloudFormation function such as `Ref` or `Fn::Sub`, whatever the type of what it yields.
///
/// Made by [`reference()`], [`get_att`], [`sub`], [`join`], [`select`], [`split`], [`if_`],
/// [`import_value`] and the pseudo parameters; see the [intrinsic function reference][aws].
///
/// [aws]: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Intrinsic(Json);

/// `Ref`: a parameter's value, or what a resource type answers to `Ref` (its name, mostly).
pub fn reference(logical_id: impl Into<String>) -> Intrinsic {
    Intrinsic(json!({ "Ref": logical_id.into() }))
}

/// `Fn::GetAtt`: an attribute of a resource, such as `Arn`.
pub fn get_att(logical_id: impl Into<String>, attribute: impl Into<String>) -> Intrinsic {
    Intrinsic(json!({ "Fn::GetAtt": [logical_id.into(), attribute.into()] }))
}

/// `Fn::Sub`: text in which `${Name}` and `${Resource.Attribute}` are filled in.
pub fn sub(text: impl Into<String>) -> Intrinsic {
    Intrinsic(json!({ "Fn::Sub": text.into() }))
}

/// `Fn::Sub` with names of its own: each is filled in with the value given for it.
///
/// ```
/// use streambot_infra::{Streambot, sub_with};
///
/// sub_with("${Stream}/consumer/*", [("Stream", Streambot::new().stream().arn())]);
/// ```
pub fn sub_with(
    text: impl Into<String>,
    names: impl IntoIterator<Item = (&'static str, impl Into<Value<String>>)>,
) -> Intrinsic {
    let names: Map<String, Json> =
        names.into_iter().map(|(name, value)| (name.to_owned(), value.into().into())).collect();
    Intrinsic(json!({ "Fn::Sub": [text.into(), names] }))
}

/// `Fn::Join`: the parts as one text, `delimiter` between them.
pub fn join(
    delimiter: impl Into<String>,
    parts: impl IntoIterator<Item = impl Into<Value<String>>>,
) -> Intrinsic {
    let parts: Vec<Value<String>> = parts.into_iter().map(Into::into).collect();
    Intrinsic(json!({ "Fn::Join": [delimiter.into(), parts] }))
}

/// `Fn::Select`: the element at `index`, from 0, of a list such as [`split`] or a parameter of a
/// list type yields.
///
/// ```
/// use streambot_infra::{Value, get_att, select, split};
///
/// let stream_name: Value<String> = select(1, split("/", get_att("Stream", "Arn"))).into();
/// # drop(stream_name);
/// ```
pub fn select(index: u32, list: impl Into<Json>) -> Intrinsic {
    Intrinsic(json!({ "Fn::Select": [index, list.into()] }))
}

/// `Fn::Split`: the parts of a text between its delimiters, as a list.
pub fn split(delimiter: impl Into<String>, text: impl Into<Value<String>>) -> Intrinsic {
    Intrinsic(json!({ "Fn::Split": [delimiter.into(), text.into()] }))
}

/// `Fn::ImportValue`: what another stack of the account and region exports under `name`.
pub fn import_value(name: impl Into<Value<String>>) -> Intrinsic {
    Intrinsic(json!({ "Fn::ImportValue": name.into() }))
}

/// `Fn::If`: `then` where the template's condition holds, `otherwise` where it does not.
///
/// With [`no_value`] as one of the two, the property is there in one case only.
pub fn if_(
    condition: impl Into<String>,
    then: impl Into<Json>,
    otherwise: impl Into<Json>,
) -> Intrinsic {
    Intrinsic(json!({ "Fn::If": [condition.into(), then.into(), otherwise.into()] }))
}

/// `AWS::Partition`: `aws`, `aws-cn` or `aws-us-gov`; the second part of every ARN.
pub fn partition() -> Intrinsic {
    reference("AWS::Partition")
}

/// `AWS::Region`: the region that the stack is made in.
pub fn region() -> Intrinsic {
    reference("AWS::Region")
}

/// `AWS::AccountId`: the twelve digits of the account that the stack is made in.
pub fn account_id() -> Intrinsic {
    reference("AWS::AccountId")
}

/// `AWS::StackName`: the name of the stack itself; in a nested stack, the child's.
pub fn stack_name() -> Intrinsic {
    reference("AWS::StackName")
}

/// `AWS::StackId`: the ARN of the stack itself; in a nested stack, the child's.
pub fn stack_id() -> Intrinsic {
    reference("AWS::StackId")
}

/// `AWS::URLSuffix`: the domain of AWS's addresses, `amazonaws.com` mostly.
pub fn url_suffix() -> Intrinsic {
    reference("AWS::URLSuffix")
}

/// `AWS::NoValue`: the property is left out, as if it had not been written.
pub fn no_value() -> Intrinsic {
    reference("AWS::NoValue")
}

impl From<Intrinsic> for Json {
    fn from(intrinsic: Intrinsic) -> Self {
        intrinsic.0
    }
}

impl<T: Into<Json>> From<Value<T>> for Json {
    fn from(value: Value<T>) -> Self {
        match value {
            Value::Literal(literal) => literal.into(),
            Value::Intrinsic(intrinsic) => intrinsic.into(),
        }
    }
}

impl<T> From<Intrinsic> for Value<T> {
    fn from(intrinsic: Intrinsic) -> Self {
        Self::Intrinsic(intrinsic)
    }
}

impl From<&str> for Value<String> {
    fn from(literal: &str) -> Self {
        Self::Literal(literal.to_owned())
    }
}

/// One blanket `From<T>` would collide with `From<Intrinsic>`, so each literal type is named.
macro_rules! literals {
    ($($literal:ty),*) => {$(
        impl From<$literal> for Value<$literal> {
            fn from(literal: $literal) -> Self {
                Self::Literal(literal)
            }
        }
    )*};
}

literals!(String, bool, u32, u64, i32, i64, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_written_as_cloudformation_reads_them() {
        let written = |intrinsic: Intrinsic| Json::from(intrinsic).to_string();

        assert_eq!(written(reference("Bucket")), r#"{"Ref":"Bucket"}"#);
        assert_eq!(written(get_att("Bucket", "Arn")), r#"{"Fn::GetAtt":["Bucket","Arn"]}"#);
        assert_eq!(written(sub("${Bucket.Arn}/*")), r#"{"Fn::Sub":"${Bucket.Arn}/*"}"#);
        assert_eq!(
            written(join(":", [Value::from("arn"), partition().into()])),
            r#"{"Fn::Join":[":",["arn",{"Ref":"AWS::Partition"}]]}"#
        );
        assert_eq!(
            written(if_("Many", 4, no_value())),
            r#"{"Fn::If":["Many",4,{"Ref":"AWS::NoValue"}]}"#
        );
        assert_eq!(
            written(select(1, split("/", get_att("Stream", "Arn")))),
            r#"{"Fn::Select":[1,{"Fn::Split":["/",{"Fn::GetAtt":["Stream","Arn"]}]}]}"#
        );
        assert_eq!(
            written(import_value(sub("${AWS::StackName}-Topic"))),
            r#"{"Fn::ImportValue":{"Fn::Sub":"${AWS::StackName}-Topic"}}"#
        );
        assert_eq!(written(stack_id()), r#"{"Ref":"AWS::StackId"}"#);
        assert_eq!(written(url_suffix()), r#"{"Ref":"AWS::URLSuffix"}"#);
        assert_eq!(written(region()), r#"{"Ref":"AWS::Region"}"#);
        assert_eq!(written(account_id()), r#"{"Ref":"AWS::AccountId"}"#);
        assert_eq!(written(stack_name()), r#"{"Ref":"AWS::StackName"}"#);
    }

    #[test]
    fn a_typed_place_holds_a_literal_or_a_function() {
        fn json(value: impl Into<Value<u32>>) -> String {
            Json::from(value.into()).to_string()
        }

        assert_eq!(json(2), "2");
        assert_eq!(json(reference("Shards")), r#"{"Ref":"Shards"}"#);
        assert_eq!(
            json(if_("Busy", 8, reference("Shards"))),
            r#"{"Fn::If":["Busy",8,{"Ref":"Shards"}]}"#
        );
    }
}
