//! A CloudFormation template as data: parameters, conditions, resources and outputs, kept in the
//! order they were added. It knows the form of a template and no resource type, Streambot's own
//! included.

use std::fmt;
use std::ops::Not;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value as Json, json};

use crate::validation::{self, TemplateError};
use crate::value::{Value, reference};

/// A template in the making. [`build`](Template::build) turns it into a [`Document`], or says what
/// is wrong with it.
///
/// Nothing is checked while parts are added, so they may come in any order:
///
/// ```
/// use streambot_infra::{Output, Resource, Template, get_att};
///
/// let mut template = Template::new();
/// template
///     .description("A queue, and where to find it")
///     .output("QueueArn", Output::new(get_att("Queue", "Arn")))
///     .resource("Queue", Resource::new("AWS::SQS::Queue").property("VisibilityTimeout", 60));
/// println!("{}", template.build()?);
/// # Ok::<(), streambot_infra::TemplateError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    pub(crate) description: Option<String>,
    metadata: Map<String, Json>,
    pub(crate) parameters: Vec<(String, Parameter)>,
    pub(crate) conditions: Vec<(String, Condition)>,
    pub(crate) resources: Vec<(String, Resource)>,
    pub(crate) outputs: Vec<(String, Output)>,
}

impl Template {
    /// A template with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what the stack is for, as the console shows it: up to 1,024 bytes.
    pub fn description(&mut self, description: impl Into<String>) -> &mut Self {
        self.description = Some(description.into());
        self
    }

    /// Sets a piece of metadata of the whole, such as `AWS::CloudFormation::Interface`.
    pub fn metadata(&mut self, name: impl Into<String>, value: impl Into<Json>) -> &mut Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Adds a parameter, to be referred to by `name`.
    pub fn parameter(&mut self, name: impl Into<String>, parameter: Parameter) -> &mut Self {
        self.parameters.push((name.into(), parameter));
        self
    }

    /// Adds a condition, for resources, outputs and [`if_`](crate::if_) to name.
    pub fn condition(&mut self, name: impl Into<String>, condition: Condition) -> &mut Self {
        self.conditions.push((name.into(), condition));
        self
    }

    /// Adds a resource under its logical id.
    pub fn resource(&mut self, logical_id: impl Into<String>, resource: Resource) -> &mut Self {
        let logical_id = logical_id.into();
        let resource = resource.placed_at(&logical_id);
        self.resources.push((logical_id, resource));
        self
    }

    /// Adds an output. Outputs reach the function's environment under their names.
    pub fn output(&mut self, name: impl Into<String>, output: Output) -> &mut Self {
        self.outputs.push((name.into(), output));
        self
    }

    /// Adds all parts of another template, under their own names.
    pub(crate) fn append(&mut self, other: Template) {
        self.parameters.extend(other.parameters);
        self.conditions.extend(other.conditions);
        self.resources.extend(other.resources);
        self.outputs.extend(other.outputs);
    }

    /// Leaves out conditions that nothing names, then parameters that nothing refers to.
    pub(crate) fn drop_unused(&mut self) {
        let (_, conditions) = validation::named(self);
        self.conditions.retain(|(name, _)| conditions.contains(name));
        let (names, _) = validation::named(self);
        self.parameters.retain(|(name, _)| names.contains(name));
    }

    /// Checks the whole and seals it.
    ///
    /// # Errors
    ///
    /// Says which two parts do not fit: see [`TemplateError`].
    pub fn build(self) -> Result<Document, TemplateError> {
        validation::check(&self)?;
        Ok(Document(self))
    }
}

/// A template that was found sound. Serialized it is the JSON that CloudFormation takes, the same
/// every time; shown, it is that JSON indented, with a newline at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Document(Template);

impl fmt::Display for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
        writeln!(formatter, "{json}")
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Document(template) = self;
        let mut sections = serializer.serialize_map(None)?;
        sections.serialize_entry("AWSTemplateFormatVersion", "2010-09-09")?;
        if let Some(description) = &template.description {
            sections.serialize_entry("Description", description)?;
        }
        if !template.metadata.is_empty() {
            sections.serialize_entry("Metadata", &template.metadata)?;
        }
        serialize_section(&mut sections, "Parameters", &template.parameters)?;
        serialize_section(&mut sections, "Conditions", &template.conditions)?;
        serialize_section(&mut sections, "Resources", &template.resources)?;
        serialize_section(&mut sections, "Outputs", &template.outputs)?;
        sections.end()
    }
}

fn serialize_section<M: SerializeMap, T: Serialize>(
    sections: &mut M,
    name: &'static str,
    entries: &[(String, T)],
) -> Result<(), M::Error> {
    if entries.is_empty() {
        return Ok(());
    }
    sections.serialize_entry(name, &InOrder(entries))
}

/// Entries as a JSON object, in the order they were added.
struct InOrder<'a, T>(&'a [(String, T)]);

impl<T: Serialize> Serialize for InOrder<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, entry)| (name, entry)))
    }
}

/// A value asked for when the stack is made or updated.
///
/// See
/// [Parameters](https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html).
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Parameter {
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_value: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_value: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_values: Vec<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    constraint_description: Option<String>,
}

impl Parameter {
    /// A parameter of one of CloudFormation's types, such as `AWS::SSM::Parameter::Value<String>`.
    pub fn new(parameter_type: impl Into<String>) -> Self {
        Self {
            r#type: parameter_type.into(),
            description: None,
            default: None,
            min_value: None,
            max_value: None,
            allowed_values: Vec::new(),
            allowed_pattern: None,
            constraint_description: None,
        }
    }

    /// A parameter of type `String`.
    pub fn string() -> Self {
        Self::new("String")
    }

    /// A parameter of type `Number`.
    pub fn number() -> Self {
        Self::new("Number")
    }

    /// Sets what is said to whoever fills it in.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Sets the value taken where none is given; without a default the parameter is required.
    #[must_use]
    pub fn default(mut self, default: impl Into<Json>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// Sets the smallest number that is accepted.
    #[must_use]
    pub fn min_value(mut self, minimum: u64) -> Self {
        self.min_value = Some(minimum);
        self
    }

    /// Sets the largest number that is accepted.
    #[must_use]
    pub fn max_value(mut self, maximum: u64) -> Self {
        self.max_value = Some(maximum);
        self
    }

    /// Sets the only values that are accepted.
    #[must_use]
    pub fn allowed_values(mut self, values: impl IntoIterator<Item = impl Into<Json>>) -> Self {
        self.allowed_values = values.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the regular expression that the whole value must match, and what is said where it does
    /// not.
    #[must_use]
    pub fn allowed_pattern(
        mut self,
        pattern: impl Into<String>,
        otherwise: impl Into<String>,
    ) -> Self {
        self.allowed_pattern = Some(pattern.into());
        self.constraint_description = Some(otherwise.into());
        self
    }
}

/// Something that holds or does not when the stack is made or updated. It may look at parameters
/// only.
///
/// ```
/// use streambot_infra::{Condition, Parameter, Resource, Template};
///
/// let mut template = Template::new();
/// template
///     .parameter("Address", Parameter::string().default(""))
///     .condition("HasAddress", Condition::not_empty("Address"))
///     .resource("Topic", Resource::new("AWS::SNS::Topic").condition("HasAddress"));
/// # template.build()?;
/// # Ok::<(), streambot_infra::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Condition(pub(crate) Json);

impl Condition {
    /// Holds where both sides are the same.
    pub fn equals(left: impl Into<Json>, right: impl Into<Json>) -> Self {
        Self(json!({ "Fn::Equals": [left.into(), right.into()] }))
    }

    /// Holds where the parameter is empty: an optional one that nobody filled in.
    pub fn empty(parameter: impl Into<String>) -> Self {
        Self::equals(reference(parameter), "")
    }

    /// Holds where the parameter is not empty: an optional one that was filled in.
    pub fn not_empty(parameter: impl Into<String>) -> Self {
        !Self::empty(parameter)
    }
}

/// `Fn::Not`: holds where the condition does not.
impl Not for Condition {
    type Output = Self;

    fn not(self) -> Self {
        Self(json!({ "Fn::Not": [self] }))
    }
}

/// A resource of any type, its properties as AWS names them.
///
/// ```
/// use serde_json::json;
/// use streambot_infra::Resource;
///
/// let table = Resource::new("AWS::DynamoDB::Table")
///     .property("BillingMode", "PAY_PER_REQUEST")
///     .property("AttributeDefinitions", json!([{ "AttributeName": "id", "AttributeType": "S" }]))
///     .property("KeySchema", json!([{ "AttributeName": "id", "KeyType": "HASH" }]))
///     .retain();
/// # drop(table);
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
#[must_use = "a resource does nothing until it is added to a template"]
pub struct Resource {
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) depends_on: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_replace_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Json>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) properties: Map<String, Json>,
    #[serde(skip)]
    name_property: Option<&'static str>,
}

impl Resource {
    /// A resource of a type such as `AWS::S3::Bucket`, with no properties yet.
    pub fn new(resource_type: impl Into<String>) -> Self {
        Self {
            r#type: resource_type.into(),
            condition: None,
            depends_on: Vec::new(),
            deletion_policy: None,
            update_replace_policy: None,
            metadata: Map::new(),
            properties: Map::new(),
            name_property: None,
        }
    }

    /// Sets a property: a literal, a [`Value`], an [`Intrinsic`](crate::Intrinsic) or any JSON.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Sets a property where there is a value for it.
    pub(crate) fn optional_property(self, name: &'static str, value: Option<Json>) -> Self {
        match value {
            Some(value) => self.property(name, value),
            None => self,
        }
    }

    /// Adds a tag, for a type whose property `Tags` is a list of `Key` and `Value`, as most types
    /// have it.
    ///
    /// ```
    /// use streambot_infra::{Resource, stack_name};
    ///
    /// let queue = Resource::new("AWS::SQS::Queue").tag("team", "orders").tag("stack", stack_name());
    /// # drop(queue);
    /// ```
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<Value<String>>) -> Self {
        let tag = json!({ "Key": key.into(), "Value": value.into() });
        match self.properties.get_mut("Tags").and_then(Json::as_array_mut) {
            Some(tags) => tags.push(tag),
            None => {
                self.properties.insert("Tags".to_owned(), json!([tag]));
            }
        }
        self
    }

    /// Sets a piece of metadata: what tools or people should know about the resource.
    /// CloudFormation itself ignores most.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Makes the resource only where the template's condition holds.
    pub fn condition(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    /// Makes the resource after another one that none of its properties refers to.
    pub fn depends_on(mut self, logical_id: impl Into<String>) -> Self {
        self.depends_on.push(logical_id.into());
        self
    }

    /// Keeps the resource and its data when the stack is deleted, or when an update replaces the
    /// resource.
    ///
    /// A resource that was made by a failed creation is still cleaned up: it is new and holds
    /// nothing.
    pub fn retain(mut self) -> Self {
        self.deletion_policy = Some("RetainExceptOnCreate");
        self.update_replace_policy = Some("Retain");
        self
    }

    /// Deletes the resource and its data with the stack, or when an update replaces it. Most types
    /// do so when nothing is said; for one that may hold data, saying so shows that it is meant.
    pub fn delete_with_stack(mut self) -> Self {
        self.deletion_policy = Some("Delete");
        self.update_replace_policy = Some("Delete");
        self
    }

    /// Has `property` filled with the logical id, so that two such resources cannot share a name by
    /// accident.
    pub(crate) fn named_after_logical_id(mut self, property: &'static str) -> Self {
        self.name_property = Some(property);
        self
    }

    fn placed_at(mut self, logical_id: &str) -> Self {
        if let Some(property) = self.name_property.take() {
            self.properties.shift_insert(0, property.to_owned(), logical_id.into());
        }
        self
    }
}

/// A value that the stack shows to the outside, and that a deploy hands to the function.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<String>,
    pub(crate) value: Value<String>,
}

impl Output {
    /// An output of this value.
    pub fn new(value: impl Into<Value<String>>) -> Self {
        Self { description: None, condition: None, value: value.into() }
    }

    /// Sets what the value is, as the console shows it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Shows the output only where the template's condition holds.
    #[must_use]
    pub fn condition(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }
}
