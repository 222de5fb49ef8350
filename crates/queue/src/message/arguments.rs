//! Reads positional and keyword arguments together, as a call of a Python function would.

use serde::{
    Deserializer,
    de::{DeserializeOwned, Error as _, IntoDeserializer, Visitor, value::MapDeserializer},
    forward_to_deserialize_any,
};
use serde_json::{Error, Map, Value};

/// Reads the arguments as `T`.
///
/// A struct takes positional arguments by the order of its fields and keyword ones by name. What
/// is not a struct takes either the positional ones as a list or the keyword ones as a map; a lone
/// positional argument is also tried as it is.
pub(super) fn read<T: DeserializeOwned>(
    args: Vec<Value>,
    kwargs: Map<String, Value>,
) -> Result<T, Error> {
    let lone = match args.as_slice() {
        [lone] if kwargs.is_empty() => Some(lone.clone()),
        _ => None,
    };
    let together = T::deserialize(Call { args, kwargs });
    match (together, lone) {
        (Err(error), Some(lone)) => T::deserialize(lone).map_err(|_| error),
        (read, _) => read,
    }
}

struct Call {
    args: Vec<Value>,
    kwargs: Map<String, Value>,
}

impl<'de> Deserializer<'de> for Call {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (self.args.is_empty(), self.kwargs.is_empty()) {
            (true, true) => visitor.visit_unit(),
            (true, false) => Value::Object(self.kwargs).deserialize_any(visitor),
            (false, true) => Value::Array(self.args).deserialize_any(visitor),
            (false, false) => {
                Err(Error::custom("positional and keyword arguments do not mix here"))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self { args, mut kwargs } = self;
        if args.len() > fields.len() {
            let text = format!("`{name}` takes {} arguments, {} came", fields.len(), args.len());
            return Err(Error::custom(text));
        }
        for (field, value) in fields.iter().zip(args) {
            if kwargs.insert((*field).into(), value).is_some() {
                return Err(Error::custom(format!("argument `{field}` came twice")));
            }
        }
        visitor.visit_map(MapDeserializer::new(kwargs.into_iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if !self.args.is_empty() {
            return Err(Error::custom("only keyword arguments are taken"));
        }
        visitor.visit_map(MapDeserializer::new(self.kwargs.into_iter()))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if !self.kwargs.is_empty() {
            return Err(Error::custom("only positional arguments are taken"));
        }
        Value::Array(self.args).deserialize_seq(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if !self.args.is_empty() || !self.kwargs.is_empty() {
            return Err(Error::custom("no arguments are taken"));
        }
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf enum
        identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Call {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Mail {
        to: String,
        #[serde(default)]
        copies: u32,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Nothing;

    fn check<T: DeserializeOwned>(args: Value, kwargs: Value) -> Result<T, String> {
        let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else { panic!() };
        read(args, kwargs).map_err(|error| error.to_string())
    }

    #[test]
    fn a_struct_takes_arguments_like_a_python_function() {
        let mail = |copies| Ok(Mail { to: "a".into(), copies });
        assert_eq!(check(json!(["a"]), json!({})), mail(0));
        assert_eq!(check(json!(["a"]), json!({"copies": 2})), mail(2));
        assert_eq!(check(json!(["a", 2]), json!({})), mail(2));
        assert_eq!(check(json!([]), json!({"to": "a", "copies": 2})), mail(2));
        assert_eq!(check(json!([{"to": "a", "copies": 2}]), json!({})), mail(2));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |args, kwargs| check::<Mail>(args, kwargs).unwrap_err();
        assert!(wrong(json!([]), json!({})).contains("missing field `to`"));
        assert!(wrong(json!(["a", 1, 2]), json!({})).contains("takes 2 arguments, 3 came"));
        assert!(wrong(json!(["a"]), json!({"to": "b"})).contains("`to` came twice"));
        assert!(wrong(json!([1]), json!({})).contains("expected a string"));
        assert!(check::<Nothing>(json!([1]), json!({})).is_err());
    }

    #[test]
    fn what_is_not_a_struct_is_read_too() {
        assert_eq!(check::<(i64, i64)>(json!([1, 2]), json!({})), Ok((1, 2)));
        assert_eq!(check::<Vec<i64>>(json!([1, 2]), json!({})), Ok(vec![1, 2]));
        assert_eq!(check::<i64>(json!([7]), json!({})), Ok(7));
        assert_eq!(check::<()>(json!([]), json!({})), Ok(()));
        assert_eq!(check::<Nothing>(json!([]), json!({})), Ok(Nothing));
        assert_eq!(check::<Value>(json!([]), json!({"a": 1})), Ok(json!({"a": 1})));
    }
}
