//! Finds numbers that JSON cannot represent.

use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

/// Returns whether every floating-point number in `value` is finite. `value` must be serializable. serde_json
/// writes other numbers as `null`, and an optional number would then be read as absent.
pub(crate) fn is_finite<T: Serialize + ?Sized>(value: &T) -> bool {
    value.serialize(Finite).is_ok()
}

/// A serializer without output. Fails at a number that is not finite.
#[derive(Clone, Copy, Default)]
struct Finite;

macro_rules! accept {
    ($returned:ty: $($method:ident($($argument:ty),*);)+) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$returned, fmt::Error> {
            Ok(<$returned>::default())
        }
    )+};
}

impl Serializer for Finite {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn serialize_f32(self, value: f32) -> fmt::Result {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> fmt::Result {
        if value.is_finite() { Ok(()) } else { Err(fmt::Error) }
    }

    accept! {
        ():
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> fmt::Result {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> fmt::Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> fmt::Result {
        value.serialize(self)
    }

    accept! {
        Self:
        serialize_seq(Option<usize>);
        serialize_tuple(usize);
        serialize_tuple_struct(&'static str, usize);
        serialize_tuple_variant(&'static str, u32, &'static str, usize);
        serialize_map(Option<usize>);
        serialize_struct(&'static str, usize);
        serialize_struct_variant(&'static str, u32, &'static str, usize);
    }

    // The default would format the value first, for no use.
    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> fmt::Result {
        Ok(())
    }
}

macro_rules! compound {
    ($($compound:ident: $($method:ident($($name:ty)?)),+;)+) => {$(
        impl $compound for Finite {
            type Ok = ();
            type Error = fmt::Error;

            $(
                fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> fmt::Result {
                    value.serialize(*self)
                }
            )+

            fn end(self) -> fmt::Result {
                Ok(())
            }
        }
    )+};
}

compound! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(&'static str);
    SerializeStructVariant: serialize_field(&'static str);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_found_anywhere() {
        #[derive(Serialize)]
        enum Shape {
            Point(f64),
            Line(f64, f32),
            Box { width: Option<f64> },
            Nothing,
        }
        assert!(is_finite(&(1.5, "NaN", Shape::Nothing, 1_u128, [0_u8; 3], None::<f64>, ())));
        assert!(is_finite(&f64::MAX));
        assert!(!is_finite(&f32::NEG_INFINITY));
        for shape in
            [Shape::Point(f64::NAN), Shape::Line(1.0, f32::NAN), Shape::Box { width: Some(f64::INFINITY) }]
        {
            assert!(!is_finite(&BTreeMap::from([("shapes", vec![&shape])])));
        }
    }
}
