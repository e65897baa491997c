//! Decodes JSON a second time to find the value that does not fit. It is slow, and it sees which
//! names a type declares.

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde_json::value::RawValue;

use super::mismatch::{Mismatch, Segment};

/// serde_json's own bound for values within values.
const MAX_DEPTH: usize = 128;

/// The name by which serde_json knows that a type wants a value's text.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// The value of a document that does not fit `T`; `None` if all of them do, or if it is not JSON.
pub(crate) fn find_mismatch<'de, T: Deserialize<'de>>(document: &'de str) -> Option<Mismatch> {
    let text = serde_json::from_str::<&RawValue>(document).ok()?.get();
    let node = Node { text, depth: 0 };
    T::deserialize(node).err().map(|mismatch| mismatch.unless_known("another value", node.kind()))
}

/// One value of the document.
#[derive(Clone, Copy)]
struct Node<'de> {
    text: &'de str,
    depth: usize,
}

impl<'de> Node<'de> {
    fn kind(self) -> &'static str {
        match self.text.as_bytes().first() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "text",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ if self.text.contains(['.', 'e', 'E']) => "a number with decimals",
            _ => "an integer",
        }
    }

    fn mismatch(self, expected: &'static str) -> Mismatch {
        let found = match self.kind() {
            "an integer" if expected.starts_with("an integer") => "an integer out of range",
            "text" if expected == "text" => "text that the type does not accept",
            kind => kind,
        };
        Mismatch::kinds(expected, found)
    }

    /// Leaves a value without values within it to serde_json.
    fn scalar<T>(
        self,
        expected: &'static str,
        read: impl FnOnce(
            &mut serde_json::Deserializer<serde_json::de::StrRead<'de>>,
        ) -> serde_json::Result<T>,
    ) -> Result<T, Mismatch> {
        read(&mut serde_json::Deserializer::from_str(self.text))
            .map_err(|_| self.mismatch(expected))
    }

    fn within(self, text: &'de str) -> Result<Self, Mismatch> {
        let depth = self.depth + 1;
        if depth >= MAX_DEPTH {
            return Err(Mismatch::kinds("fewer levels of values within values", self.kind()));
        }
        Ok(Self { text, depth })
    }

    fn elements(self) -> Result<Elements<'de>, Mismatch> {
        let elements: Vec<&RawValue> = serde_json::from_str(self.text).map_err(Mismatch::custom)?;
        Ok(Elements { array: self, index: 0, left: elements.into_iter() })
    }

    fn fields(self, declared: &'static [&'static str]) -> Result<Fields<'de>, Mismatch> {
        let Entries(entries) = serde_json::from_str(self.text).map_err(Mismatch::custom)?;
        Ok(Fields { object: self, declared, left: entries.into_iter(), value: None })
    }

    fn array<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if !self.text.starts_with('[') {
            return Err(self.mismatch("an array"));
        }
        let mut elements = self.elements()?;
        let value = visitor
            .visit_seq(&mut elements)
            .map_err(|mismatch| mismatch.unless_known("an array of another length", "an array"))?;
        let is_whole = elements.left.len() == 0;
        is_whole.then_some(value).ok_or(Mismatch::kinds("an array of another length", "an array"))
    }

    fn object<V: Visitor<'de>>(
        self,
        declared: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        if !self.text.starts_with('{') {
            return Err(self.mismatch("an object"));
        }
        let refused = |mismatch: Mismatch| mismatch.unless_known("another object", "an object");
        visitor.visit_map(self.fields(declared)?).map_err(refused)
    }
}

macro_rules! scalars {
    ($($method:ident: $expected:literal,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            self.scalar($expected, |json| json.$method(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Mismatch;

    scalars! {
        deserialize_bool: "a boolean",
        deserialize_i8: "an integer (i8)",
        deserialize_i16: "an integer (i16)",
        deserialize_i32: "an integer (i32)",
        deserialize_i64: "an integer (i64)",
        deserialize_i128: "an integer (i128)",
        deserialize_u8: "an integer (u8)",
        deserialize_u16: "an integer (u16)",
        deserialize_u32: "an integer (u32)",
        deserialize_u64: "an integer (u64)",
        deserialize_u128: "an integer (u128)",
        deserialize_f32: "a number (f32)",
        deserialize_f64: "a number (f64)",
        deserialize_char: "a character",
        deserialize_str: "text",
        deserialize_string: "text",
        deserialize_bytes: "bytes",
        deserialize_byte_buf: "bytes",
        deserialize_unit: "null",
        deserialize_identifier: "text",
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.text.as_bytes().first() {
            Some(b'{') => self.object(&[], visitor),
            Some(b'[') => self.array(visitor),
            _ => self.scalar("another value", |json| json.deserialize_any(visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.text == "null" { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        if name == RAW_VALUE {
            return self
                .scalar("another value", |json| json.deserialize_newtype_struct(name, visitor));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.array(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.array(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.array(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.object(&[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        // Serde reads a struct from an array, too.
        if self.text.starts_with('[') { self.array(visitor) } else { self.object(fields, visitor) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let mismatch = || self.mismatch("a variant of the type");
        let (name, content) = match self.text.as_bytes().first() {
            Some(b'"') => (self.text.to_owned(), None),
            Some(b'{') => match <[(String, &RawValue); 1]>::try_from(
                serde_json::from_str::<Entries<'de>>(self.text).map_err(|_| mismatch())?.0,
            ) {
                Ok([(name, content)]) => (name, Some(self.within(content.get())?)),
                Err(_) => return Err(mismatch()),
            },
            _ => return Err(mismatch()),
        };
        let segment = segment(&name, variants);
        visitor
            .visit_enum(Variant { name, segment, content })
            .map_err(|refused| refused.unless_known("a variant of the type", self.kind()))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }
}

/// The step to a value by its name, which is a JSON text.
fn segment(name: &str, declared: &'static [&'static str]) -> Segment {
    let name: String = serde_json::from_str(name).unwrap_or_default();
    let known = declared.iter().find(|declared| **declared == name);
    known.map_or(Segment::Undeclared, |known| Segment::Declared(known))
}

/// The elements of an array that are not read yet.
struct Elements<'de> {
    array: Node<'de>,
    index: usize,
    left: std::vec::IntoIter<&'de RawValue>,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let Some(element) = self.left.next() else { return Ok(None) };
        let node = self.array.within(element.get())?;
        let segment = Segment::Index(self.index);
        self.index += 1;
        seed.deserialize(node).map(Some).map_err(|mismatch| mismatch.within(segment, node.kind()))
    }
}

/// The names of an object, as JSON texts, and its values, in their order.
struct Entries<'de>(Vec<(String, &'de RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    entries.push((serde_json::Value::from(name).to_string(), value));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// The fields of an object that are not read yet.
struct Fields<'de> {
    object: Node<'de>,
    declared: &'static [&'static str],
    left: std::vec::IntoIter<(String, &'de RawValue)>,
    value: Option<(Segment, &'de RawValue)>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        let Some((name, value)) = self.left.next() else { return Ok(None) };
        let segment = segment(&name, self.declared);
        self.value = Some((segment, value));
        let expected = if self.declared.is_empty() { "another key" } else { "a field of the type" };
        let refused = |_| Mismatch::kinds(expected, "another name").within(segment, "text");
        read_key(&name, seed).map(Some).map_err(refused)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let (segment, value) =
            self.value.take().ok_or_else(|| Mismatch::custom("no key was read"))?;
        let node = self.object.within(value.get())?;
        seed.deserialize(node).map_err(|mismatch| mismatch.within(segment, node.kind()))
    }
}

/// Reads a key as serde_json does, which takes numbers for keys, too.
fn read_key<'de, K: DeserializeSeed<'de>>(name: &str, seed: K) -> serde_json::Result<K::Value> {
    struct KeyVisitor<K>(K);

    impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for KeyVisitor<K> {
        type Value = Option<K::Value>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let key = map.next_key_seed(self.0)?;
            map.next_value::<IgnoredAny>()?;
            Ok(key)
        }
    }

    let object = format!("{{{name}:null}}");
    let mut json = serde_json::Deserializer::from_reader(object.as_bytes());
    let key = json.deserialize_map(KeyVisitor(seed))?;
    key.ok_or_else(|| serde_json::Error::custom("no key"))
}

/// A variant of an enum, with its content if it has any.
struct Variant<'de> {
    name: String,
    segment: Segment,
    content: Option<Node<'de>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Mismatch;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Mismatch> {
        let unknown = |_| Mismatch::kinds("a variant of the type", "another name");
        let variant = read_key(&self.name, seed).map_err(unknown)?;
        Ok((variant, self))
    }
}

impl<'de> Variant<'de> {
    fn read<T>(self, read: impl FnOnce(Node<'de>) -> Result<T, Mismatch>) -> Result<T, Mismatch> {
        let Some(node) = self.content else {
            return Err(Mismatch::kinds("a variant with content", "the name of a variant"));
        };
        read(node).map_err(|mismatch| mismatch.within(self.segment, node.kind()))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Mismatch;

    fn unit_variant(self) -> Result<(), Mismatch> {
        if self.content.is_none() { Ok(()) } else { self.read(<()>::deserialize) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mismatch> {
        self.read(|node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.read(|node| node.array(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.read(|node| node.deserialize_struct("", fields, visitor))
    }
}
