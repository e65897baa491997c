//! The shape of a pattern: objects of fields, each with the values it may have, and `$or`. It
//! refuses to know what the operators do with a value (`operator.rs`) and where the values come
//! from.

use serde_json::{Map, Value};

use super::operator::{Operator, described};

/// The most characters Lambda takes for one pattern.
/// <https://docs.aws.amazon.com/lambda/latest/api/API_Filter.html>
const LONGEST: usize = 4096;
/// The key that takes alternatives instead of values.
const OR: &str = "$or";

/// A pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    fields: Fields,
    keys: Vec<String>,
}

/// What an object has to be like: all fields and one of each list of alternatives hold.
#[derive(Clone, Debug)]
struct Fields {
    fields: Vec<(String, Field)>,
    alternatives: Vec<Vec<Fields>>,
}

#[derive(Clone, Debug)]
enum Field {
    /// It is an object like this.
    Object(Fields),
    /// One of these holds.
    Values(Vec<Operator>),
}

impl Pattern {
    /// Reads a pattern; an error says what is wrong and where.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        if text.chars().count() > LONGEST {
            return Err(format!("it has more than {LONGEST} characters"));
        }
        let pattern: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))?;
        let fields = Fields::parse(&pattern, "")?;
        let mut keys = Vec::new();
        fields.collect_keys(&mut keys);
        fields.check_data()?;
        Ok(Pattern { fields, keys })
    }

    /// The keys of a record it looks at.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// Whether it looks at a record's data.
    pub(super) fn names_data(&self) -> bool {
        self.keys().any(|key| key == "data")
    }

    /// Whether a record, as an object of its keys, is like this.
    pub(super) fn matches(&self, record: &Value) -> bool {
        self.fields.matches(Some(record))
    }
}

impl Fields {
    fn parse(object: &Map<String, Value>, path: &str) -> Result<Fields, String> {
        if object.is_empty() {
            return Err(format!("{} is an empty object", place(path)));
        }
        let (mut fields, mut alternatives) = (Vec::new(), Vec::new());
        for (key, value) in object {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                Value::Array(list) if key == OR => {
                    alternatives.push(Fields::parse_alternatives(list, &path)?)
                }
                Value::Object(inner) if key != OR => {
                    fields.push((key.clone(), Field::Object(Fields::parse(inner, &path)?)));
                }
                Value::Array(list) if list.is_empty() => {
                    return Err(format!("{} is an empty list", place(&path)));
                }
                Value::Array(list) => {
                    let values = list
                        .iter()
                        .map(|value| {
                            Operator::parse(value)
                                .map_err(|problem| format!("{}: {problem}", place(&path)))
                        })
                        .collect::<Result<Vec<Operator>, String>>()?;
                    fields.push((key.clone(), Field::Values(values)));
                }
                other => {
                    let is = described(other);
                    return Err(format!(
                        "{} is {is}; it must be a list of values or an object",
                        place(&path)
                    ));
                }
            }
        }
        Ok(Fields { fields, alternatives })
    }

    fn parse_alternatives(list: &[Value], path: &str) -> Result<Vec<Fields>, String> {
        if list.len() < 2 {
            return Err(format!("{} needs at least two objects", place(path)));
        }
        let object = |value: &Value| match value {
            Value::Object(object) => Fields::parse(object, path),
            other => Err(format!(
                "{} holds {}; each of its items must be an object",
                place(path),
                described(other)
            )),
        };
        list.iter().map(object).collect()
    }

    /// The keys of this level, with those of the alternatives.
    fn collect_keys(&self, keys: &mut Vec<String>) {
        keys.extend(self.fields.iter().map(|(key, _)| key.clone()));
        self.alternatives.iter().flatten().for_each(|fields| fields.collect_keys(keys));
    }

    /// Lambda takes no other pattern for the data of a Kinesis record, for it is always read as
    /// JSON.
    fn check_data(&self) -> Result<(), String> {
        for (key, field) in &self.fields {
            if key == "data" && matches!(field, Field::Values(_)) {
                return Err("`data` must be an object: a record's data is read as JSON".to_owned());
            }
        }
        self.alternatives.iter().flatten().try_for_each(Fields::check_data)
    }

    /// In a list one element has to be like this as a whole. What is no object has none of the
    /// fields.
    fn matches(&self, value: Option<&Value>) -> bool {
        match value {
            Some(Value::Array(list))
                if list.iter().any(|item| item.is_object() || item.is_array()) =>
            {
                list.iter().any(|item| self.matches(Some(item)))
            }
            Some(Value::Object(object)) => self.match_fields(Some(object)),
            _ => self.match_fields(None),
        }
    }

    fn match_fields(&self, object: Option<&Map<String, Value>>) -> bool {
        let field_matches = |(key, field): &(String, Field)| {
            let value = object.and_then(|object| object.get(key));
            match field {
                Field::Object(fields) => fields.matches(value),
                Field::Values(operators) => {
                    let mut leaves = Vec::new();
                    value.inspect(|value| collect_leaves(value, &mut leaves));
                    operators.iter().any(|operator| operator.matches(&leaves))
                }
            }
        };
        self.fields.iter().all(field_matches)
            && self
                .alternatives
                .iter()
                .all(|fields| fields.iter().any(|fields| fields.match_fields(object)))
    }
}

/// The values of a field: itself, or those of its list. An object is none, for a pattern would name
/// its fields.
fn collect_leaves<'a>(value: &'a Value, leaves: &mut Vec<&'a Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|item| collect_leaves(item, leaves)),
        Value::Object(_) => {}
        leaf => leaves.push(leaf),
    }
}

fn place(path: &str) -> String {
    if path.is_empty() { "the pattern".to_owned() } else { format!("`{path}`") }
}
