//! Compiling one source for several instruction sets.

/// Defines `fn $name(level, args...)` that runs `$body` compiled for `level`. The body must be an
/// `#[inline(always)]` function of plain Rust, so that each copy does the same arithmetic.
macro_rules! for_each_level {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path) => {
        $(#[$doc])*
        $vis fn $name(level: $crate::kernels::Level, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { $body($($arg),*) }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { $body($($arg),*) }
                match level.min($crate::kernels::Level::detected()) {
                    // SAFETY: `min` with the detected level: this processor has the features.
                    $crate::kernels::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::Level::Portable => {}
                }
            }
            let _ = level;
            $body($($arg),*)
        }
    };
}

pub(crate) use for_each_level;
