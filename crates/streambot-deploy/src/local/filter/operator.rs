//! What a single value has to be like: an exact value, or one of the operators. It refuses to know
//! where in a record the value stands.

use serde_json::{Map, Value};

/// One entry of a field's list.
#[derive(Clone, Debug)]
pub(super) enum Operator {
    /// The field has a value, or has none.
    Exists(bool),
    /// One of the field's values is like this.
    Value(Test),
    /// One of the field's values is like none of these.
    AnythingBut(Vec<Test>),
}

/// What a value is held against.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// It is this one; numbers are equal however they are written.
    Equals(Value),
    /// It is a text like this.
    Text(TextTest),
    /// It is a number for which all of these comparisons hold.
    Numeric(Vec<(Comparison, f64)>),
}

/// What a text is held against.
#[derive(Clone, Debug)]
pub(super) enum TextTest {
    /// It is this one but for upper and lower case.
    EqualsIgnoreCase(String),
    /// It begins with this.
    Prefix(String),
    /// It begins with this but for upper and lower case.
    PrefixIgnoreCase(String),
    /// It ends with this.
    Suffix(String),
    /// It ends with this but for upper and lower case.
    SuffixIgnoreCase(String),
    /// It is made of these pieces, in order, with anything between them.
    Wildcard(Vec<String>),
}

/// How a number is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Operator {
    /// Reads an entry; an error says what is wrong with it.
    pub(super) fn parse(value: &Value) -> Result<Operator, String> {
        let (name, argument) = match value {
            Value::Object(operator) => only_entry(operator)?,
            Value::Array(_) => {
                return Err("a list stands in a list; only values and operators may".to_owned());
            }
            exact => return Ok(Operator::Value(Test::Equals(exact.clone()))),
        };
        match (name, argument) {
            ("exists", Value::Bool(exists)) => Ok(Operator::Exists(*exists)),
            ("exists", other) => {
                Err(format!("`exists` is {}; it must be true or false", described(other)))
            }
            ("anything-but", argument) => parse_anything_but(argument).map(Operator::AnythingBut),
            ("numeric", argument) => {
                parse_numeric(argument).map(|ranges| Operator::Value(Test::Numeric(ranges)))
            }
            (name, argument) => {
                TextTest::parse(name, argument).map(|test| Operator::Value(Test::Text(test)))
            }
        }
    }

    /// Whether it holds for a field with these values.
    pub(super) fn matches(&self, values: &[&Value]) -> bool {
        match self {
            Operator::Exists(exists) => *exists != values.is_empty(),
            Operator::Value(test) => values.iter().any(|value| test.matches(value)),
            Operator::AnythingBut(tests) => {
                values.iter().any(|value| !tests.iter().any(|test| test.matches(value)))
            }
        }
    }
}

impl Test {
    fn matches(&self, value: &Value) -> bool {
        match (self, value) {
            (Test::Equals(Value::Number(left)), Value::Number(right)) => {
                left == right
                    || left.as_f64() == right.as_f64() && !(left.is_u64() && right.is_u64())
            }
            (Test::Equals(expected), value) => expected == value,
            (Test::Text(test), Value::String(text)) => test.matches(text),
            (Test::Numeric(ranges), Value::Number(number)) => {
                number.as_f64().is_some_and(|number| {
                    ranges.iter().all(|(comparison, limit)| comparison.holds(number, *limit))
                })
            }
            (Test::Text(_) | Test::Numeric(_), _) => false,
        }
    }
}

impl TextTest {
    fn parse(name: &str, argument: &Value) -> Result<TextTest, String> {
        let ignoring_case = match argument {
            Value::Object(inner) if matches!(name, "prefix" | "suffix") => match only_entry(inner)?
            {
                ("equals-ignore-case", text) => Some(text),
                (other, _) => {
                    return Err(format!(
                        "`{name}` takes a text or `equals-ignore-case`, not `{other}`"
                    ));
                }
            },
            _ => None,
        };
        let Value::String(text) = ignoring_case.unwrap_or(argument) else {
            let known = matches!(name, "prefix" | "suffix" | "equals-ignore-case" | "wildcard");
            return Err(if known {
                format!("`{name}` is {}; it must be a text", described(argument))
            } else {
                unknown(name)
            });
        };
        match name {
            "equals-ignore-case" => Ok(TextTest::EqualsIgnoreCase(text.to_lowercase())),
            "prefix" if ignoring_case.is_some() => {
                Ok(TextTest::PrefixIgnoreCase(text.to_lowercase()))
            }
            "prefix" => Ok(TextTest::Prefix(text.clone())),
            "suffix" if ignoring_case.is_some() => {
                Ok(TextTest::SuffixIgnoreCase(text.to_lowercase()))
            }
            "suffix" => Ok(TextTest::Suffix(text.clone())),
            "wildcard" => parse_wildcard(text).map(TextTest::Wildcard),
            other => Err(unknown(other)),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            TextTest::EqualsIgnoreCase(expected) => text.to_lowercase() == *expected,
            TextTest::Prefix(prefix) => text.starts_with(prefix.as_str()),
            TextTest::PrefixIgnoreCase(prefix) => text.to_lowercase().starts_with(prefix.as_str()),
            TextTest::Suffix(suffix) => text.ends_with(suffix.as_str()),
            TextTest::SuffixIgnoreCase(suffix) => text.to_lowercase().ends_with(suffix.as_str()),
            TextTest::Wildcard(pieces) => wildcard_matches(pieces, text),
        }
    }
}

impl Comparison {
    fn parse(sign: &Value) -> Option<Comparison> {
        Some(match sign.as_str()? {
            "=" => Comparison::Equal,
            "<" => Comparison::Below,
            "<=" => Comparison::AtMost,
            ">" => Comparison::Above,
            ">=" => Comparison::AtLeast,
            _ => return None,
        })
    }

    fn holds(self, number: f64, limit: f64) -> bool {
        match self {
            Comparison::Equal => number == limit,
            Comparison::Below => number < limit,
            Comparison::AtMost => number <= limit,
            Comparison::Above => number > limit,
            Comparison::AtLeast => number >= limit,
        }
    }
}

/// What a value is, in an error's words.
pub(super) fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn only_entry(operator: &Map<String, Value>) -> Result<(&str, &Value), String> {
    let mut entries = operator.iter();
    match (entries.next(), entries.next()) {
        (Some((name, argument)), None) => Ok((name, argument)),
        _ => Err("an operator is an object with exactly one key".to_owned()),
    }
}

fn unknown(operator: &str) -> String {
    format!(
        "`{operator}` is no operator; there are prefix, suffix, equals-ignore-case, wildcard, anything-but, numeric and exists"
    )
}

fn parse_anything_but(argument: &Value) -> Result<Vec<Test>, String> {
    let exact = |value: &Value| Test::Equals(value.clone());
    match argument {
        Value::String(_) | Value::Number(_) => Ok(vec![exact(argument)]),
        Value::Array(list) if !list.is_empty() => {
            if list.iter().all(Value::is_string) || list.iter().all(Value::is_number) {
                Ok(list.iter().map(exact).collect())
            } else {
                Err("the list of `anything-but` must hold texts only or numbers only".to_owned())
            }
        }
        Value::Object(inner) => {
            let (name, texts) = only_entry(inner)?;
            let texts = match texts {
                Value::Array(list) if !list.is_empty() => list.as_slice(),
                single => std::slice::from_ref(single),
            };
            texts.iter().map(|text| TextTest::parse(name, text).map(Test::Text)).collect()
        }
        other => Err(format!(
            "`anything-but` is {}; it takes a text, a number, a list or an operator",
            described(other)
        )),
    }
}

fn parse_numeric(argument: &Value) -> Result<Vec<(Comparison, f64)>, String> {
    const FORM: &str = "`numeric` takes a comparison and a number, such as [\">=\", 4.5], or two of them for a range, such as \
                        [\">\", 0, \"<=\", 5]";
    let parts = argument.as_array().filter(|parts| matches!(parts.len(), 2 | 4)).ok_or(FORM)?;
    let comparisons = parts
        .chunks(2)
        .map(|pair| Some((Comparison::parse(&pair[0])?, pair[1].as_f64()?)))
        .collect::<Option<Vec<_>>>()
        .ok_or(FORM)?;
    if let [(low, from), (high, to)] = comparisons[..] {
        let is_range = matches!(low, Comparison::Above | Comparison::AtLeast)
            && matches!(high, Comparison::Below | Comparison::AtMost)
            && from < to;
        if !is_range {
            return Err(
                "a range of `numeric` goes from a lower limit up to a higher one".to_owned()
            );
        }
    }
    Ok(comparisons)
}

/// Cuts a wildcard into the pieces between its asterisks; a backslash makes an asterisk or a
/// backslash an ordinary one.
fn parse_wildcard(text: &str) -> Result<Vec<String>, String> {
    let mut pieces = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let ordinary = match character {
            '*' if characters.peek() == Some(&'*') => {
                return Err("`wildcard` has two asterisks in a row".to_owned());
            }
            '*' => {
                pieces.push(String::new());
                continue;
            }
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '\\')) => escaped,
                _ => {
                    return Err(
                        "a backslash of `wildcard` stands before neither * nor another one"
                            .to_owned(),
                    );
                }
            },
            other => other,
        };
        if let Some(piece) = pieces.last_mut() {
            piece.push(ordinary);
        }
    }
    Ok(pieces)
}

fn wildcard_matches(pieces: &[String], text: &str) -> bool {
    let Some((first, rest)) = pieces.split_first() else {
        return false;
    };
    let Some((last, middle)) = rest.split_last() else {
        return text == first;
    };
    let Some(mut text) = text.strip_prefix(first.as_str()) else {
        return false;
    };
    // The earliest place of each piece leaves the most for the pieces after it.
    for piece in middle {
        match text.find(piece.as_str()) {
            Some(start) => text = &text[start + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(last.as_str())
}
