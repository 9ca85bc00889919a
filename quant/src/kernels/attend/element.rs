//! The types that keys and values are kept in.

use half::{bf16, f16};

use crate::kernels::register::Register;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A type that keys and values are kept in. Arithmetic is in float32 for all of them.
pub trait Element: Copy + Send + Sync + 'static + sealed::Sealed {
    /// Rounded to the nearest; of equals, the even one.
    fn from_f32(value: f32) -> Self;

    /// Exact.
    fn to_f32(self) -> f32;

    /// Sixteen values.
    ///
    /// # Safety
    /// That of [`Register`].
    #[doc(hidden)]
    #[allow(private_bounds)]
    unsafe fn load<V: Register>(at: *const Self) -> V;
}

impl Element for f32 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    #[allow(private_bounds)]
    unsafe fn load<V: Register>(at: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(at) }
    }
}

impl Element for f16 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    #[inline(always)]
    #[allow(private_bounds)]
    unsafe fn load<V: Register>(at: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f16(at) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }

    #[inline(always)]
    #[allow(private_bounds)]
    unsafe fn load<V: Register>(at: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_bf16(at) }
    }
}
