//! Where in its file a value was written.

use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_saphyr::{Location, Spanned};

/// A spot in a scenario file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters from there that are meant; 0 if not known.
    pub length: usize,
}

impl Place {
    /// Nothing for a location that the reader could not tell.
    pub(super) fn of(location: Location) -> Option<Place> {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        (location != Location::UNKNOWN).then(|| Place {
            line: number(location.line()),
            column: number(location.column()),
            length: number(location.span().len()),
        })
    }
}

/// A value, and where it was written if it came from a file.
///
/// Two of them are equal if their values are: a scenario that was written out and read back is the same scenario.
/// It derefs to the value.
#[derive(Debug, Clone, Copy)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    place: Option<Place>,
}

impl<T> Placed<T> {
    /// Where it was written; nothing for a default.
    pub fn place(&self) -> Option<Place> {
        self.place
    }
}

impl<T> From<T> for Placed<T> {
    fn from(value: T) -> Self {
        Self { value, place: None }
    }
}

impl<T: Default> Default for Placed<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Serialize> Serialize for Placed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        Ok(Self {
            value: spanned.value,
            place: Place::of(spanned.referenced),
        })
    }
}
