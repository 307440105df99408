//! Keys: what a setting is called, what it takes, and how it is read and written, so that files, environment
//! variables, flags, checks and documentation speak of the same list. Nothing here knows a file format.

use std::fmt;

/// A value as people write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// On or off.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// A word or a text.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Switch(value) => value.fmt(f),
            Value::Number(value) => value.fmt(f),
            Value::Text(value) => write!(f, "{value:?}"),
        }
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number, both ends included.
    Number {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text of a form that is named here.
    Text(&'static str),
}

impl Kind {
    /// Numbers cut to a range; other kinds have none.
    const fn within(self, range: Option<(i64, i64)>) -> Kind {
        match (self, range) {
            (Kind::Number { .. }, Some((min, max))) => Kind::Number { min, max },
            _ => self,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Switch => f.write_str("true or false"),
            Kind::Number { min, max } => write!(f, "a whole number from {min} to {max}"),
            Kind::Word(words) => {
                f.write_str("one of ")?;
                for (index, word) in words.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}\"{word}\"")?;
                }
                Ok(())
            }
            Kind::Text(form) => f.write_str(form),
        }
    }
}

/// A type that a setting can have.
pub trait Field: Sized {
    /// What it takes, at most.
    const KIND: Kind;

    /// Its value; None if it is not of the kind.
    fn read(value: &Value) -> Option<Self>;

    /// The way it is written.
    fn write(&self) -> Value;
}

impl Field for bool {
    const KIND: Kind = Kind::Switch;

    fn read(value: &Value) -> Option<bool> {
        match value {
            Value::Switch(value) => Some(*value),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Switch(*self)
    }
}

macro_rules! number_field {
    ($($type:ty: $max:expr),+) => {
        $(impl Field for $type {
            const KIND: Kind = Kind::Number { min: 0, max: $max };

            fn read(value: &Value) -> Option<$type> {
                match value {
                    Value::Number(value) => <$type>::try_from(*value).ok(),
                    _ => None,
                }
            }

            fn write(&self) -> Value {
                Value::Number(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        })+
    };
}

number_field!(u16: u16::MAX as i64, u32: u32::MAX as i64, u64: i64::MAX);

/// One setting of a `T`.
pub struct Key<T: 'static> {
    /// Its name: the field's.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    get: fn(&T) -> Value,
    set: fn(&mut T, &Value) -> bool,
}

impl<T> Key<T> {
    /// See [`keys!`](crate::keys), which makes them.
    #[doc(hidden)]
    #[must_use]
    pub const fn new<F: Field>(
        name: &'static str,
        _field: fn(&T) -> &F,
        range: Option<(i64, i64)>,
        get: fn(&T) -> Value,
        set: fn(&mut T, &Value) -> bool,
    ) -> Key<T> {
        Key { name, kind: F::KIND.within(range), get, set }
    }

    /// The value that `of` has.
    #[must_use]
    pub fn get(&self, of: &T) -> Value {
        (self.get)(of)
    }

    /// Sets the value. False, and nothing is changed, if it is not what the key takes.
    #[must_use]
    pub fn set(&self, of: &mut T, value: &Value) -> bool {
        self.admits(value) && (self.set)(of, value)
    }

    /// Whether the value is in the key's range, if it is a number.
    fn admits(&self, value: &Value) -> bool {
        match (self.kind, value) {
            (Kind::Number { min, max }, Value::Number(number)) => (min..=max).contains(number),
            _ => true,
        }
    }

    /// The first of the keys whose value is out of range.
    pub(super) fn out_of_range(keys: &'static [Key<T>], of: &T) -> Option<&'static Key<T>> {
        keys.iter().find(|key| !key.admits(&key.get(of)))
    }
}

/// The keys of a struct, from the names of its fields, with ranges of numbers that are narrower than their
/// types'. Fields that are no keys are named behind `beside`; none can be forgotten, for that does not compile.
///
/// ```
/// # use broker_core::config::Key;
/// struct Limits { level: u16, switched: bool, inner: Vec<u8> }
/// const KEYS: &[Key<Limits>] = broker_core::keys!(Limits { level in 1..=9, switched } beside { inner });
/// ```
#[macro_export]
macro_rules! keys {
    ($of:ty { $($name:ident $(in $min:literal..=$max:literal)?),* $(,)? } beside { $($beside:ident),* $(,)? }) => {{
        type Of = $of;
        const _: fn(Of) = |of| {
            let Of { $($name: _,)* $($beside: _,)* } = of;
        };
        &[$($crate::config::Key::new(
            stringify!($name),
            |of: &Of| &of.$name,
            $crate::keys!(@range $($min..=$max)?),
            |of: &Of| $crate::config::Field::write(&of.$name),
            |of: &mut Of, value: &$crate::config::Value| match $crate::config::Field::read(value) {
                Some(value) => {
                    of.$name = value;
                    true
                }
                None => false,
            },
        )),*]
    }};
    (@range) => { None };
    (@range $min:literal..=$max:literal) => { Some(($min, $max)) };
}
