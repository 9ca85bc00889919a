//! Reading numbers, text and values of a GGUF file, in order, from bytes that nobody vouches for.
//!
//! Every count is compared with the bytes that are left before anything is allocated, and what the
//! values take in memory is bounded. This module knows GGUF's primitive types and must not know
//! what any key means.

use super::{error::quoted, gguf::GgufValue};

/// What the metadata of one file may take in memory.
const METADATA_LIMIT: usize = 512 << 20;
/// Longest key.
const KEY_LIMIT: usize = 64 << 10;
/// Longest tensor name: ggml keeps them in 64 bytes with a closing zero.
const TENSOR_NAME_LIMIT: usize = 63;
/// Arrays may hold arrays, which hold scalars.
const DEPTH_LIMIT: usize = 2;

/// What is wrong, and where; the reader adds the file.
pub(super) type CursorResult<T> = Result<T, String>;

/// A place in a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Bytes of memory that values may still take.
    budget: usize,
}

/// Type numbers of metadata values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    fn from_number(number: u32) -> Option<Self> {
        use ValueType::*;
        const BY_NUMBER: [ValueType; 13] =
            [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64];
        BY_NUMBER.get(usize::try_from(number).ok()?).copied()
    }

    /// The fewest bytes that one value can have in the file.
    fn least_bytes(self) -> usize {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 | ValueType::String => 8,
            ValueType::Array => 12,
        }
    }

    /// What one element of an array takes in memory, before any text.
    fn memory_bytes(self) -> usize {
        match self {
            ValueType::Bool => 1,
            ValueType::F32 => 4,
            ValueType::String => size_of::<String>(),
            ValueType::Array => size_of::<GgufValue>(),
            _ => 8,
        }
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, budget: METADATA_LIMIT }
    }

    /// The byte that is read next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes up to the end of the file.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn u32(&mut self, what: &str) -> CursorResult<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> CursorResult<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things of at least `least_bytes` each, which must fit into the rest of the file.
    pub(super) fn count(&mut self, what: &str, least_bytes: usize) -> CursorResult<usize> {
        let at = self.at;
        let count = self.u64(what)?;
        match usize::try_from(count) {
            Ok(count) if count <= self.remaining() / least_bytes => Ok(count),
            _ => Err(format!(
                "byte {at}: {what} is {count}, which does not fit into the {} bytes that follow",
                self.remaining()
            )),
        }
    }

    /// A metadata key.
    pub(super) fn key(&mut self) -> CursorResult<String> {
        self.name("a metadata key", KEY_LIMIT)
    }

    /// A tensor's name.
    pub(super) fn tensor_name(&mut self) -> CursorResult<String> {
        self.name("a tensor's name", TENSOR_NAME_LIMIT)
    }

    /// A value with its type in front.
    pub(super) fn value(&mut self, key: &str) -> CursorResult<(ValueType, GgufValue)> {
        let value_type = self.value_type(key)?;
        let value = match value_type {
            ValueType::Array => self.array_value(key, 1)?,
            _ => self.scalar(key, value_type)?,
        };
        Ok((value_type, value))
    }

    fn value_type(&mut self, key: &str) -> CursorResult<ValueType> {
        let at = self.at;
        let number = self.u32("a value's type")?;
        ValueType::from_number(number).ok_or_else(|| {
            format!("byte {at}: {} has value type {number}, which does not exist", quoted(key))
        })
    }

    fn scalar(&mut self, key: &str, value_type: ValueType) -> CursorResult<GgufValue> {
        let value = match value_type {
            ValueType::U8 => GgufValue::Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            ValueType::U16 => GgufValue::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            ValueType::U32 => GgufValue::Unsigned(u32::from_le_bytes(self.array(key)?).into()),
            ValueType::U64 => GgufValue::Unsigned(u64::from_le_bytes(self.array(key)?)),
            ValueType::I8 => GgufValue::Signed(i8::from_le_bytes(self.array(key)?).into()),
            ValueType::I16 => GgufValue::Signed(i16::from_le_bytes(self.array(key)?).into()),
            ValueType::I32 => GgufValue::Signed(i32::from_le_bytes(self.array(key)?).into()),
            ValueType::I64 => GgufValue::Signed(i64::from_le_bytes(self.array(key)?)),
            ValueType::F32 => GgufValue::F32(f32::from_le_bytes(self.array(key)?)),
            ValueType::F64 => GgufValue::F64(f64::from_le_bytes(self.array(key)?)),
            ValueType::Bool => GgufValue::Bool(self.bool(key)?),
            ValueType::String => GgufValue::String(self.text(key)?),
            ValueType::Array => self.array_value(key, 1)?,
        };
        Ok(value)
    }

    fn array_value(&mut self, key: &str, depth: usize) -> CursorResult<GgufValue> {
        if depth > DEPTH_LIMIT {
            return Err(format!(
                "byte {}: {} nests arrays more than {DEPTH_LIMIT} deep",
                self.at,
                quoted(key)
            ));
        }
        let element = self.value_type(key)?;
        let len = self.count("an array's length", element.least_bytes())?;
        self.charge(len.saturating_mul(element.memory_bytes()))?;
        let value = match element {
            ValueType::U8 => GgufValue::Integers(
                self.repeat(len, |it| Ok(u8::from_le_bytes(it.array(key)?).into()))?,
            ),
            ValueType::I8 => GgufValue::Integers(
                self.repeat(len, |it| Ok(i8::from_le_bytes(it.array(key)?).into()))?,
            ),
            ValueType::U16 => GgufValue::Integers(
                self.repeat(len, |it| Ok(u16::from_le_bytes(it.array(key)?).into()))?,
            ),
            ValueType::I16 => GgufValue::Integers(
                self.repeat(len, |it| Ok(i16::from_le_bytes(it.array(key)?).into()))?,
            ),
            ValueType::U32 => GgufValue::Integers(
                self.repeat(len, |it| Ok(u32::from_le_bytes(it.array(key)?).into()))?,
            ),
            ValueType::I32 => GgufValue::Integers(
                self.repeat(len, |it| Ok(i32::from_le_bytes(it.array(key)?).into()))?,
            ),
            ValueType::I64 => {
                GgufValue::Integers(self.repeat(len, |it| Ok(i64::from_le_bytes(it.array(key)?)))?)
            }
            ValueType::U64 => GgufValue::Unsigneds(self.repeat(len, |it| it.u64(key))?),
            ValueType::F32 => {
                GgufValue::F32s(self.repeat(len, |it| Ok(f32::from_le_bytes(it.array(key)?)))?)
            }
            ValueType::F64 => {
                GgufValue::F64s(self.repeat(len, |it| Ok(f64::from_le_bytes(it.array(key)?)))?)
            }
            ValueType::Bool => GgufValue::Bools(self.repeat(len, |it| it.bool(key))?),
            ValueType::String => GgufValue::Strings(self.repeat(len, |it| it.text(key))?),
            ValueType::Array => {
                GgufValue::Nested(self.repeat(len, |it| it.array_value(key, depth + 1))?)
            }
        };
        Ok(value)
    }

    fn repeat<T>(
        &mut self,
        len: usize,
        read: impl Fn(&mut Self) -> CursorResult<T>,
    ) -> CursorResult<Vec<T>> {
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            values.push(read(self)?);
        }
        Ok(values)
    }

    fn bool(&mut self, key: &str) -> CursorResult<bool> {
        match self.array(key)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!(
                "byte {}: {} is a bool with the value {other}",
                self.at - 1,
                quoted(key)
            )),
        }
    }

    fn name(&mut self, what: &str, limit: usize) -> CursorResult<String> {
        let at = self.at;
        let name = self.text_of(what, limit)?;
        if name.is_empty() {
            return Err(format!("byte {at}: {what} is empty"));
        }
        if name.chars().any(char::is_control) {
            return Err(format!("byte {at}: {what} has control characters: {}", quoted(&name)));
        }
        Ok(name)
    }

    fn text(&mut self, key: &str) -> CursorResult<String> {
        self.text_of(key, METADATA_LIMIT)
    }

    fn text_of(&mut self, what: &str, limit: usize) -> CursorResult<String> {
        let at = self.at;
        let len = self.count("a text's length", 1)?;
        if len > limit {
            return Err(format!("byte {at}: {} has {len} bytes, more than {limit}", quoted(what)));
        }
        self.charge(len)?;
        // The copy comes before the check, so that a file that changes under us can't make the
        // checked text differ from the kept one.
        let bytes = self.take(what, len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| format!("byte {at}: {} is not UTF-8", quoted(what)))
    }

    fn charge(&mut self, bytes: usize) -> CursorResult<()> {
        match self.budget.checked_sub(bytes) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(format!(
                "byte {}: metadata need more than {} MiB of memory",
                self.at,
                METADATA_LIMIT >> 20
            )),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> CursorResult<[u8; N]> {
        let taken = self.take(what, N)?;
        Ok(taken.try_into().expect("invariant: `take` gives as many bytes as it is asked for"))
    }

    fn take(&mut self, what: &str, len: usize) -> CursorResult<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match rest.get(..len) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(format!(
                "byte {}: the file ends inside {}, which needs {len} bytes where {} are left",
                self.at,
                quoted(what),
                rest.len()
            )),
        }
    }
}
